"""Jacobians, JVPs and batches of directions as steps, for a client of any language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from tests.service.harness import (
    Client,
    Step,
    fetch,
    get_grad,
    grad,
    op,
    put,
    requires_grad,
)

X, W, Y, Z, T, V, OUT = 1, 2, 3, 4, 5, 6, 10
"""x = [1, 2, 3] and w of shape (2, 3) require grad, y = w @ x², z = sum(y), t like x, v like y."""

WEIGHT = [[1.0, 2.0, 3.0], [0.0, -1.0, 2.0]]

SETUP = (
    put(X, [1.0, 2.0, 3.0], requires_grad=True),
    put(W, WEIGHT, requires_grad=True),
    op("pow", [X], 7, exponent=2),
    op("mv", [W, 7], Y),
    op("sum", [Y], Z),
    put(T, [1.0, -1.0, 0.5]),
    put(V, [[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]),
)

JACOBIAN = np.array(WEIGHT) * 2 * np.array([1.0, 2.0, 3.0])


def jvp(
    outputs: Sequence[int],
    inputs: Sequence[int],
    tangents: Sequence[int],
    output: int,
    **flags: Any,
) -> pb.Step:
    return pb.Step(
        jvp=pb.Jvp(outputs=outputs, inputs=inputs, tangents=tangents, output=output, **flags)
    )


def test_a_jacobian_is_one_step_by_rows_or_by_columns(client: Client) -> None:
    by_rows, by_weight, by_columns, of_sum = client.run(
        *SETUP,
        grad([Y], [X, W], OUT, is_jacobian=True, retain_graph=True),
        jvp([Y, Z], [X], [], OUT + 2, is_jacobian=True),
        fetch(OUT, OUT + 1, OUT + 2, OUT + 3),
    )
    np.testing.assert_allclose(by_rows.value, JACOBIAN)
    np.testing.assert_allclose(by_columns.value, JACOBIAN)
    np.testing.assert_allclose(of_sum.value, JACOBIAN.sum(0))
    assert by_weight.value is not None and by_weight.value.shape == (2, 2, 3)


def test_a_hessian_is_a_jacobian_of_a_recorded_one(client: Client) -> None:
    (hessian,) = client.run(
        *SETUP,
        grad([Z], [X], OUT, create_graph=True),
        jvp([OUT], [X], [], OUT + 1, is_jacobian=True),
        fetch(OUT + 1),
    )
    np.testing.assert_allclose(hessian.value, np.diag(2 * np.array(WEIGHT).sum(0)))


def test_a_jvp_keeps_the_graph_and_can_be_recorded(client: Client) -> None:
    tangent, of_sum, again = client.run(
        *SETUP,
        jvp([Y, Z], [X], [T], OUT, create_graph=True),
        jvp([Y], [X], [T], OUT + 2),
        fetch(OUT, OUT + 1, OUT + 2),
    )
    pushed = JACOBIAN @ [1.0, -1.0, 0.5]
    np.testing.assert_allclose(tangent.value, pushed)
    np.testing.assert_allclose(again.value, pushed)
    np.testing.assert_allclose(of_sum.value, pushed.sum())
    (second,) = client.run(grad([OUT + 1], [X], 20), fetch(20))
    np.testing.assert_allclose(second.value, 2 * np.array(WEIGHT).sum(0) * [1.0, -1.0, 0.5])


def test_a_batch_of_directions_is_stacked(client: Client) -> None:
    stacked, empty = client.run(
        *SETUP,
        op("zeros", [], 8, size=(0, 2)),
        grad([Y], [X], OUT, grad_outputs=[V], is_grads_batched=True, retain_graph=True),
        grad([Y], [X], OUT + 1, grad_outputs=[8], is_grads_batched=True, retain_graph=True),
        fetch(OUT, OUT + 1),
    )
    np.testing.assert_allclose(stacked.value, [[1, 0], [1, 1], [0, 2]] @ JACOBIAN)
    assert empty.value is not None and empty.value.shape == (0, 3)


def test_the_last_direction_frees_the_graph(client: Client) -> None:
    refusal = client.refused(
        *SETUP,
        grad([Y], [X], OUT, grad_outputs=[V], is_grads_batched=True),
        grad([Y], [X], OUT + 1, is_jacobian=True),
    )
    assert refusal.reason == "GRAPH_FREED"
    assert refusal.field.startswith("steps[8].grad")


def test_variables_of_a_transform_leave_no_trace(client: Client) -> None:
    """What depends on them alone is a plain value; what depends on a leaf besides, is not."""
    own = pb.TensorList(tensors=[W])
    alone, besides, constant = client.run(
        put(W, [1.0, 2.0]),
        requires_grad(W, True),
        put(X, [3.0, 4.0], requires_grad=True),
        op("pow", [W], Y, exponent=2),
        op("sum", [Y], Z),
        op("mul", [Y, X], 7),
        op("sum", [7], 8),
        put(9, 5.0),
        grad([Z], [W], OUT, create_graph=True, retain_graph=True, variables=own),
        grad([8], [W], OUT + 1, create_graph=True, variables=own),
        grad([9], [W], OUT + 2, materialize_grads=True, variables=own),
        op("_detach_from", [Z], OUT + 3, variables=[W]),
        op("_detach_from", [8], OUT + 4, variables=[W]),
        fetch(OUT, OUT + 1, OUT + 2, info=True),
    )
    assert alone.info is not None and not alone.info.requires_grad
    assert besides.info is not None and besides.info.requires_grad
    np.testing.assert_array_equal(constant.value, [0, 0])
    assert not client.info(OUT + 3).requires_grad
    assert client.info(OUT + 4).requires_grad
    (pulled,) = client.run(op("sum", [OUT + 1], 20), grad([20], [X], 21), fetch(21))
    np.testing.assert_allclose(pulled.value, [2.0, 4.0])


@pytest.mark.parametrize(
    ("step", "reason", "field"),
    [
        (grad([Y, Z], [X], OUT, is_jacobian=True), "WRONG_ARITY", "grad.outputs"),
        (grad([Y], [], OUT, is_jacobian=True), "NO_INPUTS", "grad.inputs"),
        (grad([Y], [T], OUT, is_jacobian=True), "INPUT_NO_GRAD", "grad.inputs[0]"),
        (grad([T], [X], OUT, is_jacobian=True), "NO_GRAPH", "grad.outputs[0]"),
        (
            grad([Y], [X], OUT, is_jacobian=True, grad_outputs=[V]),
            "BAD_VALUE",
            "grad.grad_outputs",
        ),
        (grad([Y], [X], OUT, is_grads_batched=True), "BAD_VALUE", "grad.grad_outputs"),
        (
            grad([Y], [X], OUT, is_grads_batched=True, grad_outputs=[T]),
            "GRADIENT_SHAPE",
            "grad.grad_outputs",
        ),
        (
            grad([Y, Y], [X], OUT, is_grads_batched=True, grad_outputs=[V, W]),
            "GRADIENT_SHAPE",
            "grad.grad_outputs",
        ),
        (jvp([], [X], [T], OUT), "WRONG_ARITY", "jvp.outputs"),
        (jvp([Y], [], [], OUT), "NO_INPUTS", "jvp.inputs"),
        (jvp([Y], [X], [], OUT), "WRONG_ARITY", "jvp.tangents"),
        (jvp([Y], [X], [Y], OUT), "GRADIENT_SHAPE", "jvp.tangents"),
        (jvp([Y], [T], [T], OUT), "INPUT_NO_GRAD", "jvp.inputs[0]"),
        (jvp([Y], [X, W], [], OUT, is_jacobian=True), "WRONG_ARITY", "jvp.inputs"),
        (jvp([Y], [X], [T], OUT, is_jacobian=True), "BAD_VALUE", "jvp.tangents"),
        (jvp([Y], [99], [T], OUT), "HANDLE_NOT_FOUND", "jvp.inputs[0]"),
        (jvp([Y], [X], [T], Y), "HANDLE_IN_USE", "jvp.output"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_refused(client: Client, step: Step, reason: str, field: str) -> None:
    refusal = client.refused(*SETUP, step)
    assert refusal.reason == reason
    assert refusal.field == f"steps[{len(SETUP)}].{field}"
    assert client.still_works()


def test_what_a_failed_jvp_was_to_make_is_poisoned(client: Client) -> None:
    client.refused(*SETUP, jvp([Y, Z], [X], [Y], OUT))
    assert client.refused(fetch(OUT + 1)).reason == "GRADIENT_SHAPE"


@pytest.mark.parametrize(
    "step",
    [
        grad([Y], [X], OUT, is_jacobian=True),
        jvp([Y], [X], [], OUT, is_jacobian=True),
    ],
    ids=["rows", "columns"],
)
def test_a_jacobian_beyond_the_limits_is_refused_before_it_is_made(
    start_server: Callable[..., AutogradServiceStub], step: Step
) -> None:
    client = Client.open(start_server(max_tensor_elements=1000))
    setup = (put(X, np.ones(100), requires_grad=True), op("exp", [X], Y))
    refusal = client.refused(*setup, step)
    assert refusal.reason == "LIMIT_EXCEEDED"
    assert refusal.metadata["limit"] == "max_tensor_elements"
    assert refusal.metadata["value"] == "10000"
    (gradient,) = client.run(
        op("sum", [Y], Z), pb.Step(backward=pb.Backward(tensors=[Z])), get_grad(X, T), fetch(T)
    )
    np.testing.assert_allclose(gradient.value, np.full(100, np.e), 1e-6)


def test_the_work_of_a_jacobian_counts_every_pass(
    start_server: Callable[..., AutogradServiceStub],
) -> None:
    client = Client.open(start_server(max_sequence_flops=100_000))
    setup = (put(X, np.ones(100), requires_grad=True), op("exp", [X], Y))
    client.run(*setup, op("sum", [Y], Z), grad([Z], [X], OUT, retain_graph=True))
    refusal = client.refused(grad([Y], [X], OUT + 1, is_jacobian=True))
    assert refusal.reason == "LIMIT_EXCEEDED"
    assert refusal.metadata["limit"] == "max_sequence_flops"
