"""Written-out call paths do what `Operator.run` does, and leave the rest to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradwire_engine import EngineError, Tensor, backward, operators
from gradwire_engine.context import current, grad_mode, inference_mode
from gradwire_engine.numbers import number_array

FLOATS = [np.float32, np.float64]


def leaf(shape: tuple[int, ...], dtype: Any, requires_grad: bool = True) -> Tensor:
    values = np.linspace(0.5, 2.0, math.prod(shape)).reshape(shape).astype(dtype)
    return Tensor.from_array(values, requires_grad=requires_grad)


def matrix(dtype: Any) -> Tensor:
    tensor: Tensor = operators["reshape"].apply(leaf((6,), dtype) * 1, (2, 3))
    return tensor


def read_only(dtype: Any) -> Tensor:
    tensor = leaf((3,), dtype)
    tensor.data.flags.writeable = False
    return tensor


def described(result: Tensor) -> tuple[object, ...]:
    """A result and what it left in the graph."""
    node = result.grad_fn
    if node is None:
        return (result.data.tolist(), result.dtype, None)
    return (
        result.data.tolist(),
        result.dtype,
        node.name,
        [None if each is None else (each.name, nr) for each, nr in node.next_functions],
        node.outputs,
        node.attributes,
        node.saved and [kept and [str(each) for each in kept] for kept in node.saved],
        (node.only, node.versions, node.id == current.context.last_id),
        result.view and [step.op.name for step in result.view.path],
    )


CALLS: dict[str, Callable[[Any], tuple[str, tuple[Any, ...]]]] = {
    "two tensors": lambda t: ("mul", (leaf((3,), t), leaf((3,), t))),
    "one of two requires grad": lambda t: ("mul", (leaf((3,), t), leaf((3,), t, False))),
    "the other of two": lambda t: ("mul", (leaf((3,), t, False), leaf((3,), t))),
    "none requires grad": lambda t: ("add", (leaf((3,), t, False), leaf((3,), t, False))),
    "a number": lambda t: ("mul", (leaf((3,), t), 1.5)),
    "a number first": lambda t: ("pow", (2.0, leaf((3,), t))),
    "an integer": lambda t: ("add", (leaf((3,), t), 2)),
    "a bool": lambda t: ("add", (leaf((3,), t), True)),
    "a complex number": lambda t: ("mul", (leaf((3,), t), 1j)),
    "zero": lambda t: ("mul", (leaf((3,), t), 0.0)),
    "minus zero": lambda t: ("add", (Tensor.from_array(np.zeros(2, t)), -0.0)),
    "infinity": lambda t: ("add", (leaf((3,), t), math.inf)),
    "alpha": lambda t: ("add", (leaf((3,), t), leaf((3,), t), 2)),
    "shapes that broadcast": lambda t: ("add", (leaf((2, 3), t), leaf((3,), t))),
    "shapes that broadcast to the second": lambda t: ("mul", (leaf((3,), t), leaf((2, 3), t))),
    "shapes that broadcast to a third": lambda t: ("mul", (leaf((2, 1), t), leaf((1, 3), t))),
    "a 0-d tensor and more": lambda t: ("div", (leaf((2, 3), t), leaf((), t))),
    "three tensors": lambda t: ("addcmul", (leaf((3,), t), leaf((3,), t, False), leaf((3,), t))),
    "the last of three": lambda t: (
        "addcmul",
        (leaf((3,), t, False), leaf((3,), t, False), leaf((3,), t)),
    ),
    "0-d": lambda t: ("div", (leaf((), t), leaf((), t))),
    "two dtypes": lambda t: ("sub", (leaf((3,), t), leaf((3,), np.float64))),
    "integers": lambda t: ("add", (Tensor.from_array(np.arange(3)), 2)),
    "a number and an edge less": lambda t: ("rsub", (leaf((3,), t), 1.0)),
    "one tensor": lambda t: ("exp", (leaf((3,), t),)),
    "a plain argument": lambda t: ("sum.dim", (leaf((2, 3), t), (0,))),
    "a comparison": lambda t: ("gt", (leaf((3,), t), 1.0)),
    "a view": lambda t: ("reshape", (leaf((2, 3), t), (3, 2))),
    "a view of a view": lambda t: ("t", (leaf((2, 3), t) * 1,)),
    "a view of a leaf that is read-only": lambda t: ("unsqueeze", (read_only(t), 0)),
    "a product of views": lambda t: ("mm", (matrix(t), operators["t"].apply(matrix(t)))),
    "three, of which a number": lambda t: (
        "where",
        (Tensor(np.array([True, False, True])), leaf((3,), t), 0.5),
    ),
    "a choice of two": lambda t: (
        "where",
        (Tensor(np.array([True, False, True])), leaf((3,), t), leaf((3,), t)),
    ),
    "a product and its bias": lambda t: (
        "addmm",
        (leaf((2,), t), leaf((2, 3), t), leaf((3, 2), t)),
    ),
    "gradients that come together": lambda t: (
        "layer_norm",
        (leaf((2, 3), t), (3,), leaf((3,), t), leaf((3,), t)),
    ),
    "a tensor twice": lambda t: ("mul", (x := leaf((3,), t), x)),
    "a product of matrices": lambda t: ("mm", (leaf((2, 3), t), leaf((3, 2), t))),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CALLS)
def test_a_path_does_what_run_does(case: str, dtype: Any) -> None:
    name, args = CALLS[case](dtype)
    op = operators[name] if name in operators else operators[name.partition(".")[0]]
    assert described(op.apply(*args)) == described(op(*args)) == described(op.run(*args))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CALLS)
def test_gradients_are_those_of_run(case: str, dtype: Any, monkeypatch: Any) -> None:
    """Also in a pass that looks at what each rule gives, which goes through every node one way."""
    found = []
    for way, looks in (("apply", False), ("run", False), ("apply", True)):
        monkeypatch.setattr(current.context, "detect_anomaly", looks)
        name, args = CALLS[case](dtype)
        op = operators[name] if name in operators else operators[name.partition(".")[0]]
        result = getattr(op, way)(*args)
        node = result.grad_fn
        if result.requires_grad:
            backward([result], [Tensor(np.ones(result.shape, result.dtype))])
        grads = [each.grad for each in args if isinstance(each, Tensor)]
        found.append(
            [None if g is None else (g.data.tolist(), g.dtype, g.shape) for g in grads]
            + [node and (node.released, node.versions)]
        )
    assert found[0] == found[1] == found[2]


def test_minus_zero_is_not_zero() -> None:
    x = Tensor.from_array(np.array([-0.0], np.float32))
    assert math.copysign(1, (x + 0.0).data[0]) == 1
    assert math.copysign(1, (x + -0.0).data[0]) == -1


def test_a_number_is_one_array_for_each_dtype() -> None:
    one, other = number_array(1.5, np.dtype(np.float32)), number_array(1.5, np.dtype(np.float64))
    assert (one.dtype, other.dtype) == (np.float32, np.float64)
    assert number_array(1.5, np.dtype(np.float32)) is one
    assert not one.flags.writeable
    assert number_array(10**400, np.dtype(np.float64)) == 10**400
    assert math.isnan(number_array(math.nan, np.dtype(np.float32)))
    assert number_array(1.5, np.dtype(np.complex64)) == 1.5


def test_no_grad_records_nothing() -> None:
    with grad_mode(False):
        assert (leaf((3,), np.float32) * 2).grad_fn is None


def test_inference_mode_makes_tensors_without_a_version() -> None:
    with inference_mode():
        assert (leaf((3,), np.float32) * 2).is_inference


def test_a_view_that_was_changed_is_brought_up_to_date() -> None:
    base = leaf((3,), np.float32) * 1
    view = operators["reshape"].apply(base, (3,))
    operators["mul_"].apply(base, 2.0)
    result = view * 3
    node, _ = result.edge or (None, 0)
    assert node is not None
    assert [each.name for each, _ in node.next_functions if each] == ["AsStridedBackward0"]


def test_a_pointwise_node_shares_the_types_of_what_it_came_from() -> None:
    y = leaf((3,), np.float32) * 2
    z = y.__add__(1)
    assert y.edge is not None and z.edge is not None
    assert z.edge[0].outputs is y.edge[0].outputs


def test_a_tensor_that_no_gradient_reaches_makes_no_node() -> None:
    """Neither on the written-out path nor on the one of all calls."""
    x, weight = leaf((2, 3), np.float32, requires_grad=False), leaf((3,), np.float32)
    target = Tensor(np.array([0, 2]))
    for op in (operators["_nll_loss"], operators["_rrelu"]):
        args = (x, target, weight) if op.name == "_nll_loss" else (x, leaf((2, 3), np.float32))
        for call in (op.apply, op.run):
            result = call(*args)
            first = result[0] if isinstance(result, tuple) else result
            assert not first.requires_grad
    x = leaf((2, 3), np.float32, requires_grad=False)
    operators["_rrelu_"].apply(x, leaf((2, 3), np.float32))
    assert not x.requires_grad


def test_what_a_kernel_refuses_is_refused_on_its_path() -> None:
    truth = Tensor(np.array([True]))
    for call in (operators["neg"].apply, operators["neg"].run):
        with pytest.raises(EngineError, match="use logical_not"):
            call(truth)


def test_what_is_real_refuses_complex_numbers_on_every_path() -> None:
    z = Tensor(np.array([1 + 1j]))
    for name in ("relu", "relu_", "hardtanh", "gelu", "signbit"):
        for call in (operators[name].apply, operators[name].run):
            with pytest.raises(EngineError) as refusal:
                call(z)
            assert refusal.value.reason == "DTYPE_MISMATCH"
