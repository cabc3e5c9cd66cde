"""Random numbers follow their distributions, and autograd passes them by as PyTorch's does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats as stats
import torch

import gradwire as gw
from tests.service.sdk import session

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

COUNT = 4000

# How a filling is called, and the distribution function of a continuous one.
CONTINUOUS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "normal_": (lambda x: x.normal_(1.0, 2.0), stats.norm(1.0, 2.0)),
    "uniform_": (lambda x: x.uniform_(-1.0, 3.0), stats.uniform(-1.0, 4.0)),
    "exponential_": (lambda x: x.exponential_(2.5), stats.expon(scale=1 / 2.5)),
    "cauchy_": (lambda x: x.cauchy_(1.0, 2.0), stats.cauchy(1.0, 2.0)),
    "log_normal_": (lambda x: x.log_normal_(0.5, 0.25), stats.lognorm(0.25, scale=np.exp(0.5))),
    "normal": (lambda x: gw.normal(x + 1.0, x * 0 + 2.0), stats.norm(1.0, 2.0)),
    "normal, numbers": (lambda x: gw.normal(1.0, 2.0, tuple(x.shape)), stats.norm(1.0, 2.0)),
}

# The same for integers.
DISCRETE: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "bernoulli_": (lambda x: x.bernoulli_(0.3), stats.bernoulli(0.3)),
    "bernoulli_ of a tensor": (lambda x: x.bernoulli_(x + 0.3), stats.bernoulli(0.3)),
    "bernoulli": (lambda x: gw.bernoulli(x + 0.3), stats.bernoulli(0.3)),
    "geometric_": (lambda x: x.geometric_(0.4), stats.geom(0.4)),
    "random_": (lambda x: x.random_(2, 6), stats.randint(2, 6)),
    "random_ from zero": (lambda x: x.random_(4), stats.randint(0, 4)),
    "randint_like": (lambda x: gw.randint_like(x, 2, 6), stats.randint(2, 6)),
    "poisson": (lambda x: gw.poisson(x + 3.0), stats.poisson(3.0)),
    "binomial": (lambda x: gw.binomial(x + 5.0, x + 0.3), stats.binom(5, 0.3)),
    "multinomial": (
        lambda x: gw.multinomial(gw.tensor([0.0, 1.0, 3.0]), COUNT, True),
        stats.rv_discrete(values=([1, 2], [0.25, 0.75])),
    ),
    "multinomial without replacement": (
        lambda x: gw.multinomial(gw.tensor([[0.0, 1.0, 3.0]]).expand(COUNT, 3), 1),
        stats.rv_discrete(values=([1, 2], [0.25, 0.75])),
    ),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_real_numbers_follow_their_distribution(name: str) -> None:
    gw.manual_seed(0)
    draw, distribution = CONTINUOUS[name]
    values = draw(gw.zeros(COUNT)).numpy()
    assert values.dtype == np.float32
    assert stats.kstest(values, distribution.cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", DISCRETE)
def test_integers_follow_their_distribution(name: str) -> None:
    gw.manual_seed(0)
    draw, distribution = DISCRETE[name]
    values = draw(gw.zeros(COUNT)).numpy().ravel()
    assert len(values) == COUNT
    for value in np.unique(values):
        chance = float(distribution.pmf(value))
        spread = np.sqrt(COUNT * chance * (1 - chance))
        assert abs(np.count_nonzero(values == value) - COUNT * chance) < 4 * spread + 2


@pytest.mark.parametrize("name", [*CONTINUOUS, *DISCRETE])
def test_a_seed_says_what_comes(name: str) -> None:
    draw, _ = {**CONTINUOUS, **DISCRETE}[name]
    gw.manual_seed(3)
    first, second = draw(gw.zeros(50)), draw(gw.zeros(50))
    gw.manual_seed(3)
    again = draw(gw.zeros(50))
    assert again.tolist() == first.tolist() != second.tolist()


def test_samples_without_replacement_are_different_ones() -> None:
    gw.manual_seed(0)
    rows = gw.multinomial(gw.ones(100, 8), 8).numpy()
    assert (np.sort(rows, axis=1) == np.arange(8)).all()
    assert len(np.unique(rows, axis=0)) > 90
    order = gw.randperm(50)
    assert order.dtype is gw.int64
    assert sorted(order.tolist()) == list(range(50)) != order.tolist()


FILLINGS: dict[str, tuple[Any, ...]] = {
    "normal_": (0.0, 1.0),
    "uniform_": (0.0, 1.0),
    "exponential_": (),
    "cauchy_": (),
    "log_normal_": (),
    "geometric_": (0.5,),
    "bernoulli_": (0.5,),
    "random_": (),
}


@pytest.mark.parametrize("name", FILLINGS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "complex64", "int64", "uint8", "bool"])
def test_dtypes_that_can_be_filled_are_those_of_torch(name: str, dtype: str) -> None:
    arguments = FILLINGS[name]
    try:
        getattr(torch.zeros(4, dtype=getattr(torch, dtype)), name)(*arguments)
    except RuntimeError:
        with pytest.raises((RuntimeError, TypeError)):
            getattr(gw.zeros(4, dtype=getattr(gw, dtype)), name)(*arguments).tolist()
        return
    if (name, dtype) == ("uniform_", "complex64"):
        # Not documented there: it fills a square of the plane.
        return
    assert getattr(gw.zeros(4, dtype=getattr(gw, dtype)), name)(*arguments).numpy().dtype == dtype


@pytest.mark.parametrize(
    "call",
    [
        *(lambda x, name=name: getattr(x, name)(*FILLINGS[name]) for name in FILLINGS),
        lambda x: x.bernoulli_(x.detach()),
        lambda x: x.random_(5),
        lambda x: x.random_(2, 5),
        lambda x: x.bernoulli(),
    ],
)
def test_no_gradient_passes_a_filling(call: Callable[[Any], Any]) -> None:
    names: list[str] = []
    modules: tuple[Any, ...] = (gw, torch)
    for module in modules:
        x = module.full((3,), 0.5, requires_grad=True)
        y = call(x.clone())
        assert y.grad_fn is not None
        name = y.grad_fn.name
        names.append(name() if callable(name) else name)
        y.backward(module.ones(3))
        assert x.grad.tolist() == [0.0, 0.0, 0.0]
    assert names[0] == names[1]


REFUSED: list[Callable[[Any], Any]] = [
    lambda m: m.zeros(3).normal_(0.0, -1.0),
    lambda m: m.zeros(3).uniform_(2.0, 1.0),
    lambda m: m.zeros(3).bernoulli_(1.5),
    lambda m: m.zeros(3).exponential_(0.0),
    lambda m: m.zeros(3).geometric_(1.0),
    lambda m: m.zeros(3).cauchy_(0.0, 0.0),
    lambda m: m.zeros(3).log_normal_(0.0, 0.0),
    lambda m: m.zeros(3).random_(5, 5),
    lambda m: m.zeros(3, dtype=m.uint8).random_(300),
    lambda m: m.zeros(3, dtype=m.uint8).random_(-3, 4),
    lambda m: m.zeros(3, requires_grad=True).normal_(),
    lambda m: m.bernoulli(m.tensor([2.0])),
    lambda m: m.poisson(m.tensor([-1.0])),
    lambda m: m.poisson(m.tensor([1])),
    lambda m: m.normal(m.zeros(3), -m.ones(3)),
    lambda m: m.normal(0.0, 1.0),
    lambda m: m.randperm(-1),
    lambda m: m.randperm(300, dtype=m.uint8),
    lambda m: m.multinomial(m.tensor([-1.0, 2.0]), 1),
    lambda m: m.multinomial(m.tensor([0.0, 0.0]), 1),
    lambda m: m.multinomial(m.ones(2), 3),
    lambda m: m.multinomial(m.ones(2), 0),
]


@pytest.mark.parametrize("call", REFUSED)
@pytest.mark.parametrize("module", [gw, torch])
def test_parameters_that_no_distribution_has_are_refused(
    call: Callable[[Any], Any], module: Any
) -> None:
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        call(module).tolist()


def test_compiled_functions_draw_anew_each_time() -> None:
    gw.manual_seed(0)

    @gw.compile
    def noisy(x: gw.Tensor) -> gw.Tensor:
        return gw.empty_like(x).normal_() + gw.bernoulli(x) + gw.randperm(3)

    x = gw.full((3,), 0.5)
    drawn = {tuple(noisy(x).tolist()) for _ in range(4)}
    assert len(drawn) == 4


def test_new_tensors_take_the_dtype_of_another() -> None:
    x = gw.zeros(2, dtype=gw.float64)
    assert x.new_zeros(2, 3).shape == (2, 3)
    assert [each.dtype for each in (x.new_ones(2), x.new_full((2,), 5), x.new_empty(2))] == (
        [gw.float64] * 3
    )
    assert x.new_full((2,), 5).tolist() == [5.0, 5.0]
    assert gw.empty(2, 3, dtype=gw.int64).shape == (2, 3)
