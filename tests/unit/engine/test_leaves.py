"""Leaves and flags: requires_grad, is_leaf, grad, retain_grad, detach, grad mode."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradwire_engine import EngineError, Tensor
from tests.unit.engine.sides import Side, refused, same


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_cannot_require_grad(dtype: str) -> None:
    refused(lambda m: m.tensor([1], grad=True, dtype=dtype), "DTYPE_NO_GRAD")


def test_a_result_cannot_stop_requiring_grad() -> None:
    refused(lambda m: m.set_requires_grad(m.exp(m.tensor(1.0, grad=True)), False), "NON_LEAF_FLAG")


def test_a_result_may_be_told_to_require_grad_again() -> None:
    def case(m: Side) -> Any:
        y = m.exp(m.tensor(1.0, grad=True))
        m.set_requires_grad(y, True)
        return [y.requires_grad, y.is_leaf]

    same(case)


def test_a_leaf_may_change_its_mind() -> None:
    def case(m: Side) -> Any:
        x = m.tensor(1.0, grad=True)
        m.set_requires_grad(x, False)
        y = m.exp(x)
        m.set_requires_grad(x, True)
        return [y.requires_grad, x.requires_grad, m.exp(x).requires_grad]

    same(case)


@pytest.mark.parametrize(
    "make",
    [
        lambda m, x: x,
        lambda m, x: m.exp(x),
        lambda m, x: m.detach(x),
        lambda m, x: m.detach(m.exp(x)),
        lambda m, x: m.gt(x, 0.5),
        lambda m, x: m.argmax(x),
        lambda m, x: m.clone(x),
        lambda m, x: m.ones_like(x),
        lambda m, x: m.floor(x),
        lambda m, x: m.to(x, x.dtype),
    ],
    ids="leaf exp detach detach-of-result gt argmax clone ones_like floor to-the-same".split(),
)
@pytest.mark.parametrize("grad", [True, False])
def test_flags_of_results(make: Callable[[Side, Any], Any], grad: bool) -> None:
    def case(m: Side) -> Any:
        y = make(m, m.tensor([1.0, 2.0], grad=grad))
        return [y.requires_grad, y.is_leaf, m.name(y), y.output_nr]

    same(case)


def test_nothing_is_recorded_under_no_grad() -> None:
    def case(m: Side) -> Any:
        x = m.tensor(1.0, grad=True)
        with m.no_grad():
            y = m.exp(x)
        return [y.requires_grad, y.is_leaf, m.name(y)]

    same(case)


def test_only_leaves_keep_gradients() -> None:
    def case(m: Side) -> Any:
        x = m.tensor(2.0, grad=True)
        y = m.mul(x, x)
        kept = m.mul(y, 3.0)
        kept.retain_grad()
        m.backward(m.mul(kept, kept))
        return [m.array(x.grad), y.grad, m.array(kept.grad), y.retains_grad, kept.retains_grad]

    same(case)


def test_a_retained_gradient_accumulates() -> None:
    def case(m: Side) -> Any:
        y = m.mul(m.tensor(2.0, grad=True), 3.0)
        y.retain_grad()
        z = m.mul(y, y)
        m.backward(z, retain_graph=True)
        m.backward(z)
        return m.array(y.grad)

    same(case)


def test_retaining_the_gradient_of_a_leaf_does_nothing() -> None:
    def case(m: Side) -> Any:
        x = m.tensor(2.0, grad=True)
        x.retain_grad()
        return x.retains_grad

    same(case)


def test_nothing_to_retain() -> None:
    refused(lambda m: m.tensor(1.0).retain_grad(), "NO_GRAD_TO_RETAIN")


def test_the_root_may_retain() -> None:
    def case(m: Side) -> Any:
        y = m.exp(m.tensor([1.0, 2.0], grad=True))
        y.retain_grad()
        m.backward(y, m.tensor([3.0, 4.0]))
        return m.array(y.grad)

    same(case)


@pytest.mark.parametrize(
    "value",
    [
        lambda m, x: m.tensor([1.0]),
        lambda m, x: m.tensor([1.0, 2.0], dtype="float64"),
        lambda m, x: x,
    ],
    ids=["shape", "dtype", "itself"],
)
def test_gradients_that_cannot_be_assigned(value: Callable[[Side, Any], Any]) -> None:
    def case(m: Side) -> None:
        x = m.tensor([1.0, 2.0], grad=True)
        m.set_grad(x, value(m, x))

    refused(case, "BAD_GRAD_ASSIGNMENT")


def test_an_assigned_gradient_is_added_to() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.0, 2.0], grad=True)
        m.set_grad(x, m.tensor([10.0, 20.0]))
        m.backward(m.sum(m.mul(x, x)))
        found = m.array(x.grad)
        m.set_grad(x, None)
        m.backward(m.sum(x))
        return [found, m.array(x.grad)]

    same(case)


def test_detach_shares_storage_and_version() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.0, 2.0])
        y = m.detach(x)
        m.add_(y, 1.0)
        return [m.array(x), m.version(x), m.version(y)]

    same(case)


def test_a_leaf_and_its_accumulator_are_one_node_in_every_graph() -> None:
    x = Tensor.from_array(np.ones(2), requires_grad=True)
    y, z = x * 2.0, x * 3.0
    assert y.grad_fn is not None and z.grad_fn is not None
    (first, _), *_ = y.grad_fn.next_functions
    (second, _), *_ = z.grad_fn.next_functions
    assert first is second
    assert first is not None and first.variable is x


def test_the_error_for_an_integer_that_requires_grad_names_its_dtype() -> None:
    with pytest.raises(EngineError, match="int64") as refusal:
        Tensor.from_array(np.array([1]), requires_grad=True)
    assert refusal.value.metadata["dtype"] == "int64"
