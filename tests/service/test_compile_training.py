"""Training steps in compiled functions: the gradients that they leave, optimizers, repetition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradwire as gw
import gradwire.nn.functional as F
from tests.service.sdk import leaf, runs, session

__all__ = ["session"]


class Network:
    """A small regression, of parameters that are the same each time."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.parameters = [
            gw.tensor(generator.standard_normal(shape), requires_grad=True)
            for shape in ((3, 4), (4,), (4, 1))
        ]
        self.x = gw.tensor(generator.standard_normal((8, 3)))
        self.y = gw.tensor(generator.standard_normal((8, 1)))

    def loss(self, x: gw.Tensor, y: gw.Tensor) -> gw.Tensor:
        first, bias, second = self.parameters
        return F.mse_loss((x @ first + bias).tanh() @ second, y)


OPTIMIZERS: list[Callable[[list[gw.Tensor]], Any]] = [
    lambda p: gw.optim.SGD(p, lr=0.1),
    lambda p: gw.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    lambda p: gw.optim.Adam(p, lr=0.05, weight_decay=0.1),
]


def training(
    network: Network, optimizer: Any, set_to_none: bool = True
) -> Callable[[gw.Tensor, gw.Tensor], gw.Tensor]:
    def step(x: gw.Tensor, y: gw.Tensor) -> gw.Tensor:
        optimizer.zero_grad(set_to_none=set_to_none)
        loss = network.loss(x, y)
        loss.backward()
        optimizer.step()
        return loss

    return step


@pytest.mark.parametrize("make", OPTIMIZERS, ids=["sgd", "momentum", "adam"])
@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_training_step_is_one_program(
    session: gw.Session, make: Callable[..., Any], set_to_none: bool
) -> None:
    found = []
    for is_compiled in (False, True):
        network = Network()
        optimizer = make(network.parameters)
        step = training(network, optimizer, set_to_none)
        called = gw.compile(step) if is_compiled else step
        losses = []
        for turn in range(8):
            if turn == 5:
                optimizer.lr /= 2
            losses.append(called(network.x, network.y).detach())
        grads = [each.grad.numpy() for each in network.parameters if each.grad is not None]
        found.append([*gw.fetch(*losses), *gw.fetch(*network.parameters), *grads])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert sum(runs(session)) >= 6
    assert len(runs(session)) <= 2


def test_a_training_loop_takes_no_round_trips(session: gw.Session) -> None:
    network = Network()
    step = gw.compile(training(network, gw.optim.Adam(network.parameters)))
    step(network.x, network.y).item()
    before = session.traffic.sequences
    losses = [step(network.x, network.y) for _ in range(20)]
    assert session.traffic.sequences == before
    assert len(gw.fetch(*losses)) == 20
    assert session.traffic.sequences == before + 1
    assert runs(session) == [20]


def test_an_optimizers_setting_that_changes_is_seen(session: gw.Session) -> None:
    weight = leaf(1.0)
    optimizer = gw.optim.SGD([weight], lr=1.0, momentum=0.5)

    @gw.compile
    def step() -> None:
        optimizer.zero_grad()
        (weight * 2).sum().backward()
        optimizer.step()

    found = []
    for lr, momentum in ((1.0, 0.5), (0.5, 0.5), (0.5, 0.25), (0.25, 0.25)):
        optimizer.lr, optimizer.momentum = lr, momentum
        step()
        found.append(weight.item())
    # v: 2, 3, 2.75, 2.6875
    np.testing.assert_allclose(found, [-1.0, -2.5, -3.875, -4.546875])
    assert len(runs(session)) == 2


def test_gradients_are_accumulated(session: gw.Session) -> None:
    weight = leaf(1.0)

    @gw.compile
    def accumulate(x: gw.Tensor) -> None:
        (weight * x).sum().backward()

    for _ in range(2):
        weight.grad = None
        for turn in range(1, 5):
            accumulate(leaf(2.0).detach())
            assert weight.grad is not None
            assert weight.grad.item() == 2.0 * turn
    assert len(runs(session)) == 2


def test_gradients_are_read_set_and_taken_away(session: gw.Session) -> None:
    weight = leaf(1.0, 2.0)

    @gw.compile
    def clipped(x: gw.Tensor) -> gw.Tensor:
        weight.grad = None
        (weight * x).sum().backward()
        assert weight.grad is not None
        size = weight.grad.abs().sum()
        weight.grad = weight.grad / size
        with gw.no_grad():
            weight.sub_(weight.grad)
        return size

    x = gw.tensor([1.0, 3.0], dtype=gw.float64)
    assert [clipped(x).item() for _ in range(3)] == [4.0] * 3
    assert weight.tolist() == [0.25, -0.25]
    assert weight.grad is not None
    assert weight.grad.tolist() == [0.25, 0.75]

    @gw.compile
    def cleared() -> None:
        weight.grad = None

    for _ in range(2):
        weight.grad = weight.detach()
        cleared()
        assert weight.grad is None


def test_gradients_of_arguments_are_left_in_each(session: gw.Session) -> None:
    compiled = gw.compile(lambda x: (x**2).sum().backward())
    for number in (1.0, 2.0, 3.0):
        x = leaf(number)
        compiled(x)
        assert x.grad is not None
        assert x.grad.item() == 2 * number
    assert runs(session) == [2]


def test_an_unused_parameter_has_no_gradient(session: gw.Session) -> None:
    used, unused = leaf(1.0), leaf(1.0)

    @gw.compile
    def step() -> gw.Tensor:
        (used * 3).sum().backward()
        return unused * 2

    for _ in range(2):
        used.grad = None
        step()
        assert used.grad is not None
        assert unused.grad is None


def test_a_backward_ends_with_what_the_function_uses(session: gw.Session) -> None:
    behind = leaf(1.0) * 2
    compiled = gw.compile(lambda x: (x * 3).sum().backward())
    with pytest.raises(gw.errors.TraceError, match="computed outside"):
        compiled(behind)


def minibatches(count: int) -> tuple[gw.Tensor, gw.Tensor]:
    generator = np.random.default_rng(1)
    return (
        gw.tensor(generator.standard_normal((count, 8, 3))),
        gw.tensor(generator.standard_normal((count, 8, 1))),
    )


@pytest.mark.parametrize("make", OPTIMIZERS, ids=["sgd", "momentum", "adam"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_repetition_is_as_many_calls(
    session: gw.Session, make: Callable[..., Any], count: int
) -> None:
    x, y = minibatches(3)
    one, other = Network(), Network()
    step = training(one, make(one.parameters))
    expected = [step(x[nr % 3], y[nr % 3]).item() for nr in range(count)]
    losses = gw.compile(training(other, make(other.parameters))).repeat(count, x, y)
    assert losses.shape == (count,)
    assert not losses.requires_grad
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-12)
    for mine, theirs in zip(one.parameters, other.parameters, strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=1e-12)
        assert mine.grad is not None
        assert theirs.grad is not None
        np.testing.assert_allclose(mine.grad.numpy(), theirs.grad.numpy(), rtol=1e-12)


def test_a_repetition_takes_no_round_trips(session: gw.Session) -> None:
    x, y = minibatches(4)
    network = Network()
    step = gw.compile(training(network, gw.optim.SGD(network.parameters, lr=0.1)))
    step.repeat(4, x, y).tolist()
    before = session.traffic.sequences
    losses = step.repeat(100, x, y)
    assert session.traffic.sequences == before
    assert losses.shape == (100,)
    assert len(losses.tolist()) == 100
    assert session.traffic.sequences == before + 1


def test_a_repetition_gives_what_else_there_is_of_the_last_run(session: gw.Session) -> None:
    compiled = gw.compile(lambda x: {"double": x * 2, "sum": x.sum(), "name": "kept"})
    found = compiled.repeat(5, gw.tensor([[1.0, 1.0], [2.0, 2.0]]))
    assert found["double"].tolist() == [2.0, 2.0]
    assert found["sum"].tolist() == [2.0, 4.0, 2.0, 4.0, 2.0]
    assert found["name"] == "kept"


def test_gradients_accumulate_over_a_repetition(session: gw.Session) -> None:
    weight = leaf(1.0)
    compiled = gw.compile(lambda x: (weight * x).sum().backward())
    compiled.repeat(6, gw.tensor([[1.0], [2.0], [3.0]], dtype=gw.float64))
    assert weight.grad is not None
    assert weight.grad.item() == 12.0


def test_the_progress_of_a_repetition_is_told(session: gw.Session) -> None:
    x, y = minibatches(4)
    network = Network()
    step = gw.compile(training(network, gw.optim.SGD(network.parameters, lr=0.1)))
    told: list[tuple[int, int, tuple[float, ...]]] = []
    losses = step.repeat(500, x, y, on_progress=lambda *each: told.append(each)).tolist()
    assert told[-1][:2] == (500, 500)
    for done, count, (loss,) in told:
        assert count == 500
        assert loss == losses[done - 1]


def test_what_hears_of_progress_may_end_it(session: gw.Session) -> None:
    network = Network()
    step = gw.compile(training(network, gw.optim.SGD(network.parameters, lr=0.1)))

    def enough(done: int, count: int, values: tuple[float, ...]) -> None:
        raise StopAsyncIteration("low enough")

    with pytest.raises(StopAsyncIteration, match="low enough"):
        step.repeat(100_000_000, *minibatches(4), on_progress=enough)
    assert 0 < sum(runs(session)) < 100_000_000
    assert step(network.x, network.y).item() > 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (lambda: (0, gw.ones(1)), ValueError),
        (lambda: (1, gw.ones(())), RuntimeError),
        (lambda: (1, gw.ones(0, 2)), RuntimeError),
        (lambda: (1, 2.0), RuntimeError),
    ],
)
def test_bad_repetitions_are_refused(
    session: gw.Session, arguments: Callable[[], tuple[Any, ...]], error: type[Exception]
) -> None:
    count, *stacked = arguments()
    with pytest.raises(error, match=r"count|minibatch"):
        gw.compile(lambda x: x).repeat(count, *stacked)
