"""Changes in place: what they refuse, what they count, and the history they leave, as in torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradwire_engine import EngineError, Tensor, grad_mode, operators
from tests.unit.engine.sides import ENGINE, Side, refused, same


def leaf(m: Side) -> Any:
    return m.tensor([1.0, 2.0], grad=True)


def result(m: Side) -> Any:
    return m.mul(leaf(m), 1.0)


IN_PLACE: dict[str, Callable[[Side, Any], Any]] = {
    "add_": lambda m, y: m.add_(y, 1.0),
    "add_ a tensor": lambda m, y: m.add_(y, m.tensor([1.0, 2.0])),
    "sub_": lambda m, y: m.sub_(y, 1.0),
    "mul_": lambda m, y: m.mul_(y, 3.0),
    "mul_ a tensor": lambda m, y: m.mul_(y, m.tensor([3.0, 4.0], grad=True)),
    "div_": lambda m, y: m.div_(y, 2.0),
    "pow_": lambda m, y: m.pow_(y, 3),
    "exp_": lambda m, y: m.exp_(y),
    "sin_": lambda m, y: m.sin_(y),
    "tanh_": lambda m, y: m.tanh_(y),
    "relu_": lambda m, y: m.relu_(y),
    "sqrt_": lambda m, y: m.sqrt_(y),
    "clamp_": lambda m, y: m.clamp_(y, 0.5, 1.5),
    "neg_": lambda m, y: m.neg_(y),
    "zero_": lambda m, y: m.zero_(y),
    "fill_": lambda m, y: m.fill_(y, 3.0),
    "fill_ a tensor": lambda m, y: m.fill_(y, m.tensor(3.0, grad=True)),
    "copy_": lambda m, y: m.copy_(y, m.tensor([5.0, 6.0], grad=True)),
    "copy_ broadcast": lambda m, y: m.copy_(y, m.tensor(5.0, grad=True)),
    "masked_fill_": lambda m, y: m.masked_fill_(y, m.tensor([True, False], dtype="bool"), 0.0),
    "index_put_": lambda m, y: m.index_put_(
        y, [m.tensor([1], dtype="int64")], m.tensor([9.0], grad=True)
    ),
}

per_operator = pytest.mark.parametrize("change", IN_PLACE.values(), ids=IN_PLACE)


@per_operator
def test_values_history_and_gradient(change: Callable[[Side, Any], Any]) -> None:
    def case(m: Side) -> Any:
        x = leaf(m)
        y = m.mul(x, 1.0)
        before = m.version(y)
        returned = change(m, y)
        names = m.names(y)
        m.backward(m.sum(m.mul(y, m.tensor([1.0, 10.0]))))
        return [returned is y, m.version(y) - before, m.array(y), names, m.array(x.grad)]

    same(case)


@per_operator
def test_a_leaf_that_requires_grad_is_refused(change: Callable[[Side, Any], Any]) -> None:
    refused(lambda m: change(m, leaf(m)), "LEAF_IN_PLACE")


@per_operator
def test_a_leaf_may_be_changed_under_no_grad(change: Callable[[Side, Any], Any]) -> None:
    def case(m: Side) -> Any:
        x = leaf(m)
        with m.no_grad():
            change(m, x)
        return [m.array(x), m.version(x), x.requires_grad, x.is_leaf]

    same(case)


def test_a_view_of_a_leaf_is_refused() -> None:
    refused(lambda m: m.add_(m.select(leaf(m), 0, 0), 1.0), "LEAF_IN_PLACE")


def test_a_refused_change_changes_nothing() -> None:
    x = leaf(ENGINE)
    with pytest.raises(EngineError):
        ENGINE.add_(x, 1.0)
    assert x.data.tolist() == [1.0, 2.0]
    assert x.version == [0]


def test_a_tensor_without_grad_joins_the_graph() -> None:
    def case(m: Side) -> Any:
        x, w = m.tensor([1.0, 2.0]), m.tensor([3.0, 4.0], grad=True)
        m.mul_(x, w)
        m.backward(m.sum(x))
        return [x.requires_grad, x.is_leaf, m.names(x), m.array(w.grad)]

    same(case)


SAVED: dict[str, Callable[[Side, Any], Any]] = {
    "result of exp": lambda m, x: m.exp(x),
    "result of tanh": lambda m, x: m.tanh(x),
    "result of sigmoid": lambda m, x: m.sigmoid(x),
    "result of sqrt": lambda m, x: m.sqrt(x),
    "result of relu": lambda m, x: m.relu(x),
}


@pytest.mark.parametrize("make", SAVED.values(), ids=SAVED)
def test_a_saved_result_that_changed_is_refused(make: Callable[[Side, Any], Any]) -> None:
    def case(m: Side) -> None:
        y = make(m, leaf(m))
        m.add_(y, 1.0)
        m.backward(m.sum(y))

    refused(case, "SAVED_MODIFIED")


def test_a_saved_argument_that_changed_is_refused() -> None:
    def case(m: Side) -> None:
        y = m.mul(leaf(m), 1.0)
        z = m.mul(y, y)
        m.add_(y, 1.0)
        m.backward(m.sum(z))

    refused(case, "SAVED_MODIFIED")


def test_a_saved_leaf_that_changed_under_no_grad_is_refused() -> None:
    def case(m: Side) -> None:
        x = leaf(m)
        y = m.pow(x, 2)
        with m.no_grad():
            m.zero_(x)
        m.backward(m.sum(y))

    refused(case, "SAVED_MODIFIED")


def test_a_change_through_detach_is_seen() -> None:
    def case(m: Side) -> None:
        y = m.exp(leaf(m))
        m.zero_(m.detach(y))
        m.backward(m.sum(y))

    refused(case, "SAVED_MODIFIED")


def test_a_change_through_a_view_is_seen() -> None:
    def case(m: Side) -> None:
        y = m.exp(leaf(m))
        m.zero_(m.select(m.detach(y), 0, 0))
        m.backward(m.sum(y))

    refused(case, "SAVED_MODIFIED")


def test_a_change_of_what_was_not_saved_is_not_refused() -> None:
    def case(m: Side) -> Any:
        x = leaf(m)
        y = m.mul(x, 1.0)
        z = m.add(y, 1.0)
        m.zero_(y)
        m.backward(m.sum(z))
        return m.array(x.grad)

    same(case)


def test_the_refusal_says_which_tensor_and_which_versions() -> None:
    y = ENGINE.exp(leaf(ENGINE))
    ENGINE.add_(y, 1.0)
    ENGINE.add_(y, 1.0)
    with pytest.raises(EngineError, match="version 2, expected version 0") as refusal:
        ENGINE.backward(ENGINE.sum(y))
    assert refusal.value.metadata["grad_fn"] == "ExpBackward0"
    assert refusal.value.metadata["version"] == "2"
    assert refusal.value.metadata["expected_version"] == "0"
    assert "float32[2]" in refusal.value.message


REFUSALS: dict[str, tuple[Callable[[Side], Any], str]] = {
    "a result that would broadcast the target": (
        lambda m: m.add_(m.tensor([1.0, 2.0]), m.tensor([[1.0], [2.0]])),
        "IN_PLACE_SHAPE",
    ),
    "a target of one element": (
        lambda m: m.mul_(m.tensor([1.0]), m.tensor([1.0, 2.0])),
        "IN_PLACE_SHAPE",
    ),
    "floats into integers": (
        lambda m: m.add_(m.tensor([1], dtype="int64"), 1.5),
        "IN_PLACE_DTYPE",
    ),
    "complex into floats": (
        lambda m: m.mul_(m.tensor([1.0]), m.tensor([1j], dtype="complex64")),
        "IN_PLACE_DTYPE",
    ),
    "integers divided": (lambda m: m.div_(m.tensor([1], dtype="int64"), 2), "IN_PLACE_DTYPE"),
    "integers into bools": (
        lambda m: m.add_(m.tensor([True], dtype="bool"), m.tensor([1], dtype="int64")),
        "IN_PLACE_DTYPE",
    ),
}


@pytest.mark.parametrize(("case", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(case: Callable[[Side], Any], reason: str) -> None:
    refused(case, reason)


def test_a_narrower_target_keeps_its_dtype() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.0, 2.0])
        m.add_(x, m.tensor([0.5, 0.25], dtype="float64"))
        return m.array(x)

    same(case)


def test_copy_converts_whatever_comes() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1, 2], dtype="int64")
        m.copy_(x, m.tensor([1.9, -2.9]))
        return m.array(x)

    same(case)


def test_one_version_for_a_base_its_views_and_its_detached() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([[1.0, 2.0], [3.0, 4.0]])
        row, turned, detached = m.select(x, 0, 0), m.t(x), m.detach(x)
        m.add_(row, 10.0)
        m.mul_(turned, 2.0)
        m.add_(detached, 1.0)
        tensors = (x, row, turned, detached, m.select(turned, 0, 1))
        return [[m.version(each), m.array(each)] for each in tensors]

    same(case)


def test_a_copy_has_a_version_of_its_own() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.0, 2.0])
        m.add_(x, 1.0)
        y = m.clone(x)
        return [m.version(x), m.version(y), m.version(m.add(x, 1.0))]

    same(case)


def test_versions_count_every_change() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.0, 2.0])
        for _ in range(3):
            m.mul_(m.add_(x, 1.0), 2.0)
        return [m.version(x), m.array(x)]

    same(case)


def test_a_view_changed_under_no_grad_is_read_there_and_refused_outside() -> None:
    x = Tensor.from_array(np.ones(3, np.float32), requires_grad=True)
    with grad_mode(False):
        view = operators["view"](x, (3,))
        operators["add_"](view, 1.0)
        np.testing.assert_array_equal(operators["mul"](view, 2.0).data, [4.0, 4.0, 4.0])
    with pytest.raises(EngineError) as refusal:
        operators["mul"](view, 2.0)
    assert refusal.value.reason == "NO_GRAD_VIEW_IN_PLACE"
