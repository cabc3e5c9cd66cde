"""Calls: how arguments find their places, and what is said of those that do not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradwire_engine import EngineError, Tensor, lookup, operators
from gradwire_engine.operator import TensorHandles

X = Tensor(np.arange(6.0).reshape(2, 3))


def test_positions_keywords_and_defaults() -> None:
    total = operators["sum"]
    np.testing.assert_array_equal(total(X).data, 15.0)
    np.testing.assert_array_equal(total(X, 1).data, [3.0, 12.0])
    np.testing.assert_array_equal(total(X, [1], True).data, [[3.0], [12.0]])
    np.testing.assert_array_equal(total(X, keepdim=True, dim=(0,)).data, [[3.0, 5.0, 7.0]])
    np.testing.assert_array_equal(total(self=X).data, 15.0)


REFUSED_CALLS: dict[str, tuple[Callable[[], Any], str, str | None]] = {
    "too many": (lambda: operators["exp"](X, 1), "WRONG_ARITY", None),
    "too few": (lambda: operators["mm"](X), "WRONG_ARITY", "mat2"),
    "an unknown name": (lambda: operators["exp"](X, wat=1), "BAD_ATTRIBUTE", "wat"),
    "another type": (lambda: operators["sum"](X, dim=1.5), "BAD_ATTRIBUTE", "dim"),
    "no tensor at all": (lambda: operators["add"](1, 2), "WRONG_ARITY", None),
}


@pytest.mark.parametrize(("call", "reason", "argument"), REFUSED_CALLS.values(), ids=REFUSED_CALLS)
def test_refused_calls(call: Callable[[], Any], reason: str, argument: str | None) -> None:
    with pytest.raises(EngineError) as refusal:
        call()
    assert (refusal.value.reason, refusal.value.argument) == (reason, argument)


def test_handles_take_the_places_of_tensors() -> None:
    bound = operators["addmm"].bind([7, 8, 9], {"beta": 2})
    assert bound.slots == ((0, 7), (1, 8), (2, 9))
    assert bound.template == (None, None, None, 2, 1)


def test_numbers_stand_for_tensors_by_name() -> None:
    bound = operators["add"].bind([7], {"other": 2.0})
    assert bound.slots == ((0, 7),)
    assert bound.template == (None, 2.0, 1)
    assert operators["pow"].bind([0, 7], {"self": 2}).slots == ((1, 7),)


def test_optional_tensors_may_be_absent() -> None:
    bound = operators["layer_norm"].bind([7, 0, 8], {"normalized_shape": [3]})
    assert bound.slots == ((0, 7), (3, 8))
    assert bound.template == (None, (3,), None, None, 1e-5)


def test_lists_of_handles() -> None:
    bound = operators["cat"].bind([], {"tensors": TensorHandles((3, 4)), "dim": 1})
    assert bound.lists == ((0, (3, 4)),)
    assert bound.template == (None, 1)


def test_operators_without_tensors() -> None:
    assert operators["zeros"].bind([], {"size": [2]}).template == ((2,), None)


REFUSED_BINDINGS: dict[str, tuple[str, list[int], dict[str, Any], str, str | None]] = {
    "too many tensors": ("exp", [1, 2], {}, "WRONG_ARITY", None),
    "a missing tensor": ("mm", [1], {}, "WRONG_ARITY", "mat2"),
    "a missing tensor in the middle": ("addmm", [1, 0, 2], {}, "WRONG_ARITY", "mat1"),
    "a missing argument": ("select", [1], {"dim": 0}, "WRONG_ARITY", "index"),
    "an unknown argument": ("exp", [1], {"wat": 1}, "BAD_ATTRIBUTE", "wat"),
    "an argument given twice": ("add", [1, 2], {"other": 1.0}, "WRONG_ARITY", "other"),
    "another type": ("sum", [1], {"dim": "x"}, "BAD_ATTRIBUTE", "dim"),
    "text for a tensor": ("add", [1], {"other": "x"}, "BAD_ATTRIBUTE", "other"),
    "a list for a tensor": ("add", [1], {"other": TensorHandles((1,))}, "BAD_ATTRIBUTE", "other"),
    "a number for a list of tensors": ("cat", [], {"tensors": 1}, "BAD_ATTRIBUTE", "tensors"),
    "only numbers": ("add", [], {"self": 1, "other": 2}, "WRONG_ARITY", None),
    "a number for a matrix": ("mm", [1], {"mat2": 2.0}, "BAD_ATTRIBUTE", "mat2"),
    "a number to change in place": ("add_", [0, 1], {"self": 2.0}, "BAD_ATTRIBUTE", "self"),
}


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "reason", "argument"),
    REFUSED_BINDINGS.values(),
    ids=REFUSED_BINDINGS,
)
def test_refused_bindings(
    name: str, inputs: list[int], attributes: dict[str, Any], reason: str, argument: str | None
) -> None:
    with pytest.raises(EngineError) as refusal:
        operators[name].bind(inputs, attributes)
    assert (refusal.value.reason, refusal.value.argument) == (reason, argument)


def test_an_unknown_operator_names_its_neighbours() -> None:
    with pytest.raises(EngineError, match="softmax") as refusal:
        lookup("softmaxx")
    assert refusal.value.reason == "UNKNOWN_OP"
    assert "softmax" in refusal.value.metadata["near"]


def test_a_refusal_by_numpy_is_told_in_the_engine_s_words() -> None:
    with pytest.raises(EngineError) as refusal:
        operators["index_put"](X, [Tensor(np.array([0]))], Tensor(np.ones(7)))
    assert refusal.value.reason == "SHAPE_MISMATCH"
    assert "index_put" in refusal.value.message and "float64[2, 3]" in refusal.value.message
