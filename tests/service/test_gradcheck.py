"""gradcheck: a step that any client can send, and gw.autograd.gradcheck, which sends it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
import torch

import gradwire as gw
from gradwire.autograd.gradcheck import GradcheckError
from gradwire.v1 import autograd_pb2 as pb
from tests.service.harness import (
    Client,
    Data,
    Refusal,
    Step,
    grad,
    op,
    put,
    refusal_of_call,
    refusal_of_error,
    sequence,
)
from tests.service.sdk import session

__all__ = ["session"]

X, Y, C = 1, 2, 3
FORWARD, REVERSE = pb.DERIVATIVE_MODE_FORWARD, pb.DERIVATIVE_MODE_REVERSE


def program(inputs: Sequence[int], outputs: Sequence[int], *steps: pb.Step) -> pb.Program:
    return pb.Program(inputs=inputs, outputs=outputs, steps=steps)


def gradcheck(function: pb.Program, inputs: Sequence[int], **fields: Any) -> pb.Step:
    return pb.Step(gradcheck=pb.Gradcheck(program=function, inputs=inputs, **fields))


def checked(client: Client, *steps: Step, **fields: Any) -> pb.GradcheckResult:
    client.number += 1
    message, payloads = sequence(client.number, *steps, **fields)
    request = pb.RunRequest(session_id=client.id, sequence=message, payloads=payloads)
    (found,) = client.stub.Run(request, timeout=60).result.gradchecks
    return found


def described(client: Client) -> pb.Session:
    return client.stub.GetSession(pb.GetSessionRequest(session_id=client.id)).session


def double(handle: int, values: Any, *, requires_grad: bool = True) -> Data:
    kind = "c16" if np.iscomplexobj(values) else "f8"
    return put(handle, values, dtype=kind, requires_grad=requires_grad)


SINE = program([1], [2], op("sin", [1], 2))
SQUARE_WITHOUT_GRADIENT = program(
    [1], [4], op("detach", [1], 2), op("mul", [2, 2], 3), op("add", [1, 3], 4)
)
"""x + x.detach() ** 2: derivative 1 + 2x, gradient 1."""


def test_derivatives_that_agree(client: Client) -> None:
    found = checked(client, double(X, [1.0, 2.0, 3.0]), gradcheck(SINE, [X]))
    assert found.agrees
    assert found.compared == 9
    assert 0 <= found.worst.excess <= 1
    assert found.worst.numerical == pytest.approx(found.worst.analytical, abs=1e-5)
    assert not found.coarse_inputs


@pytest.mark.parametrize("modes", [[], [REVERSE], [FORWARD], [REVERSE, FORWARD]])
def test_the_worst_disagreement_is_told(client: Client, modes: list[pb.DerivativeMode]) -> None:
    check = gradcheck(SQUARE_WITHOUT_GRADIENT, [X], modes=modes)
    found = checked(client, double(X, [1.0, 2.0]), check)
    worst = found.worst
    assert not found.agrees
    assert found.compared == 4 * max(1, len(modes))
    assert (worst.output, worst.input, worst.row, worst.column) == (0, 0, 1, 1)
    assert (worst.numerical, worst.analytical) == pytest.approx((5.0, 1.0))
    assert worst.excess == pytest.approx(4 / (1e-5 + 1e-3 * 5), rel=1e-3)
    assert worst.mode == (FORWARD if modes == [FORWARD] else REVERSE)
    assert (worst.rows, worst.columns) == (2, 2)
    assert list(worst.numerical_jacobian) == pytest.approx([3, 0, 0, 5], abs=1e-6)
    assert list(worst.analytical_jacobian) == [1, 0, 0, 1]


def test_one_call_checks_a_function_without_a_session(client: Client) -> None:
    message, payloads = sequence(0, double(X, [0.5]), gradcheck(SINE, [X]))
    response = client.stub.Run(pb.RunRequest(sequence=message, payloads=payloads))
    assert [each.agrees for each in response.result.gradchecks] == [True]


def test_several_inputs_outputs_and_constants(client: Client) -> None:
    function = program(
        [1, 2, 3],
        [4, 6, 7],
        op("mul", [1, 2], 4),
        op("detach", [2], 5),
        op("mul", [4, 5], 6),
        op("sum", [3], 7),
    )
    found = checked(
        client,
        double(X, [1.0, 2.0]),
        double(Y, [3.0, 4.0]),
        double(C, [5.0, 6.0]),
        gradcheck(function, [X, Y], constants=[C]),
    )
    # The second output hides one of its factors. The third requires no grad, as others do.
    assert not found.agrees
    assert (found.worst.output, found.worst.input) == (1, 1)
    assert found.compared == 2 * 2 * 4


def test_complex_elements_count_as_two(client: Client) -> None:
    conjugate = program([1], [3], op("conj", [1], 2), op("mul", [1, 2], 3))
    found = checked(
        client, double(X, [1.0 + 2.0j, -0.5j]), gradcheck(conjugate, [X], modes=[REVERSE, FORWARD])
    )
    assert found.agrees
    assert found.compared == 2 * 4 * 4
    hidden = program([1], [3], op("detach", [1], 2), op("mul", [1, 2], 3))
    found = checked(client, gradcheck(hidden, [X]))
    assert not found.agrees
    assert (found.worst.rows, found.worst.columns) == (4, 4)


def test_second_derivatives(client: Client) -> None:
    cube = program([1], [2], op("pow", [1], 2, exponent=3.0))
    found = checked(
        client,
        double(X, [1.0, 2.0]),
        gradcheck(cube, [X], second_order=True, modes=[REVERSE, FORWARD]),
    )
    assert found.agrees
    # By x and by the directions, both ways.
    assert found.compared == 2 * (4 + 4)
    hidden = program([1], [3], op("detach", [1], 2), op("mul", [1, 2], 3))
    assert not checked(client, gradcheck(hidden, [X], second_order=True)).agrees
    given = checked(
        client,
        double(Y, [1.0, 1.0], requires_grad=False),
        gradcheck(cube, [X], second_order=True, grad_outputs=[Y]),
    )
    assert (given.agrees, given.compared) == (True, 4)


def test_a_function_may_differentiate_within_itself(client: Client) -> None:
    gradient_of_cube = program(
        [1],
        [4],
        op("pow", [1], 2, exponent=3.0),
        op("sum", [2], 3),
        grad([3], [1], 4, create_graph=True),
    )
    found = checked(client, double(X, [1.0, 2.0]), gradcheck(gradient_of_cube, [X]))
    assert found.agrees
    assert list(found.worst.numerical_jacobian) == pytest.approx([6, 0, 0, 12], abs=1e-4)


def test_tolerances(client: Client) -> None:
    client.run(double(X, [1.0, 2.0]))
    assert checked(client, gradcheck(SQUARE_WITHOUT_GRADIENT, [X], rtol=1.0)).agrees
    assert checked(client, gradcheck(SQUARE_WITHOUT_GRADIENT, [X], atol=10.0)).agrees
    assert not checked(client, gradcheck(SINE, [X], eps=0.1, atol=0.0, rtol=1e-6)).agrees


def test_single_precision_is_told(client: Client) -> None:
    found = checked(client, put(X, [1.0], requires_grad=True), gradcheck(SINE, [X]))
    assert list(found.coarse_inputs) == [0]


def test_a_large_jacobian_is_not_told_whole(client: Client) -> None:
    found = checked(client, double(X, np.ones(33)), gradcheck(SINE, [X]))
    assert (found.worst.rows, found.worst.columns) == (33, 33)
    assert not found.worst.numerical_jacobian


def test_a_check_changes_nothing(client: Client) -> None:
    doubling = program([1, 2], [3], op("mul_", [2], other=2.0), op("mul", [1, 2], 3))
    client.run(double(X, [1.0]), double(C, [3.0], requires_grad=False))
    before = described(client)
    found = checked(client, gradcheck(doubling, [X], constants=[C]))
    assert found.agrees
    assert [value.tolist() for value in client.values(X, C)] == [[1.0], [3.0]]
    assert client.info(C).version == 0
    after = described(client)
    assert (after.tensor_count, after.tensor_bytes) == (before.tensor_count, before.tensor_bytes)


def test_nan_disagrees(client: Client) -> None:
    root = program([1], [2], op("sqrt", [1], 2))
    found = checked(client, double(X, [0.0]), gradcheck(root, [X]))
    assert not found.agrees
    assert found.worst.excess == np.inf


CASES: list[tuple[str, dict[str, Any], tuple[str, str]]] = [
    ("no input requires grad", {"inputs": [Y]}, ("NOTHING_TO_CHECK", "inputs")),
    ("no gradient", {"inputs": [Y], "second_order": True}, ("NOTHING_TO_CHECK", "inputs")),
    ("too few inputs", {"inputs": []}, ("WRONG_ARITY", "program.inputs")),
    ("no outputs", {"program": program([1], [])}, ("BAD_VALUE", "program.outputs")),
    ("an output of none", {"program": program([1], [0])}, ("BAD_VALUE", "program.outputs")),
    ("an unknown handle", {"inputs": [99]}, ("HANDLE_NOT_FOUND", "inputs[0]")),
    ("eps of 0", {"eps": 0.0}, ("BAD_VALUE", "eps")),
    ("eps that is NaN", {"eps": float("nan")}, ("BAD_VALUE", "eps")),
    ("a negative tolerance", {"atol": -1.0}, ("BAD_VALUE", "atol")),
    ("an unknown mode", {"modes": [7]}, ("BAD_VALUE", "modes")),
    ("directions of nothing", {"grad_outputs": [X]}, ("BAD_VALUE", "grad_outputs")),
    (
        "too many directions",
        {"grad_outputs": [X, X], "second_order": True},
        ("WRONG_ARITY", "grad_outputs"),
    ),
    (
        "a function that fails",
        {"program": program([1], [2], op("mm", [1, 1], 2))},
        ("SHAPE_MISMATCH", "program"),
    ),
    (
        "a function that changes its input",
        {"program": program([1], [1], op("mul_", [1], other=2.0))},
        ("LEAF_IN_PLACE", "program"),
    ),
]


@pytest.mark.parametrize(
    ("fields", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_bad_input(client: Client, fields: dict[str, Any], expected: tuple[str, str]) -> None:
    client.run(double(X, [1.0, 2.0]), double(Y, [1.0], requires_grad=False))
    refusal = client.refused(gradcheck(**{"function": SINE, "inputs": [X]} | renamed(fields)))
    assert (refusal.reason, refusal.field) == (expected[0], f"steps[0].gradcheck.{expected[1]}")
    assert client.still_works()


def renamed(fields: dict[str, Any]) -> dict[str, Any]:
    return {"function" if name == "program" else name: value for name, value in fields.items()}


def test_a_check_that_is_too_much_work_is_refused(start_server: Callable[..., Any]) -> None:
    client = Client.open(start_server(max_sequence_flops=10**7))
    refusal = client.refused(double(X, np.ones(1000)), gradcheck(SINE, [X]))
    assert (refusal.reason, refusal.metadata["limit"]) == ("LIMIT_EXCEEDED", "max_sequence_flops")
    assert refusal.field == "steps[1].gradcheck"


def test_a_check_is_stopped_between_evaluations(client: Client) -> None:
    def refusal_of(response: pb.RunStreamResponse) -> Refusal:
        return refusal_of_error(response.result.error)

    big = double(X, np.ones(2000))
    with client.stream() as stream:
        number = stream.start(big, gradcheck(SINE, [X]))
        stream.cancel(number)
        assert refusal_of(next(stream.call)).reason == "CANCELLED"
    with pytest.raises(grpc.RpcError) as caught:
        checked(client, gradcheck(SINE, [X]), timeout={"nanos": 50_000_000})
    assert refusal_of_call(caught.value).reason == "DEADLINE_EXCEEDED"
    assert client.still_works()


@pytest.fixture(params=["by the server", "from this side"])
def way(request: pytest.FixtureRequest, session: gw.Session) -> str:
    """Both must come to the same."""
    if request.param == "from this side":
        session.features = frozenset()
    return str(request.param)


def test_agrees_for_real_and_complex_functions(way: str) -> None:
    x = gw.tensor([1.0, 2.0, 3.0], dtype=gw.float64, requires_grad=True)
    z = gw.tensor([1.0 + 2.0j, -0.5j], dtype=gw.complex128, requires_grad=True)
    everything: dict[str, Any] = {
        "check_forward_ad": True,
        "check_batched_grad": True,
        "check_grad_dtypes": True,
    }
    assert gw.autograd.gradcheck(lambda x: (x**3, x.sum()), x, **everything)
    assert gw.autograd.gradcheck(lambda z: z * z * z.conj(), (z,), **everything)
    assert gw.autograd.gradcheck(
        lambda z, x, n: (gw.real(z * z), x[:2] * z * n), (z, x, 2), **everything
    )


def test_checks_second_derivatives(way: str) -> None:
    x = gw.tensor([1.0, 2.0], dtype=gw.float64, requires_grad=True)
    z = gw.tensor([1.0 + 2.0j, -0.5j], dtype=gw.complex128, requires_grad=True)
    assert gw.autograd.gradgradcheck(lambda x: (x**3, x.sum()), x, check_fwd_over_rev=True)
    assert gw.autograd.gradgradcheck(lambda z: z * z * z, z, check_fwd_over_rev=True)
    cotangent = gw.ones(2, dtype=gw.float64, requires_grad=True)
    assert gw.autograd.gradgradcheck(lambda x: x.exp(), x, cotangent)


def test_shows_both_jacobians_where_they_differ(way: str) -> None:
    x = gw.tensor([1.0, 2.0], dtype=gw.float64, requires_grad=True)
    with pytest.raises(gw.autograd.GradcheckError) as caught:
        gw.autograd.gradcheck(lambda x: x + x.detach() ** 2, x)
    assert isinstance(caught.value, RuntimeError)
    text = str(caught.value)
    assert "row 1, column 1: central differences give 5, analytical 1" in text
    assert "numerical:\n[[3. 0.]\n [0. 5.]]" in text
    assert "analytical:\n[[1. 0.]\n [0. 1.]]" in text
    wrong = {"raise_exception": False}
    assert not gw.autograd.gradcheck(lambda x: x + x.detach() ** 2, x, **wrong)
    assert not gw.autograd.gradcheck(lambda x: x.detach(), x, **wrong)
    assert gw.autograd.gradcheck(lambda x: x.detach() * 0, x, **wrong)
    assert not gw.autograd.gradgradcheck(lambda x: x * x.detach(), x, **wrong)


def test_a_function_of_operators_takes_one_request(session: gw.Session) -> None:
    x = gw.tensor(np.arange(1.0, 31.0), requires_grad=True)
    weight = gw.ones(30, dtype=gw.float64)
    before = session.traffic
    assert gw.autograd.gradcheck(lambda x: (x * weight).sin(), x, check_forward_ad=True)
    assert gw.autograd.gradgradcheck(lambda x: (x * weight).sin(), x)
    assert (session.traffic - before).sequences == 2


def test_from_this_side_many_calls_travel_together(session: gw.Session) -> None:
    session.features = frozenset()
    x = gw.tensor(np.arange(1.0, 31.0), requires_grad=True)
    before = session.traffic
    assert gw.autograd.gradcheck(lambda x: x.sin(), x)
    assert (session.traffic - before).sequences <= 4


class Doubled(gw.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient * 2


def point() -> gw.Tensor:
    return gw.tensor([1.0, 2.0], dtype=gw.float64, requires_grad=True)


SEEN_ONLY_FROM_THIS_SIDE: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "reads a value": (lambda x: x * 3 if x.sum().item() > 0 else x, True),
    "reads a shape": (lambda x: x * x.shape[0], True),
    "differentiates": (
        lambda x: gw.autograd.grad((x**3).sum(), x, create_graph=True)[0],
        True,
    ),
    "has a backward of its own": (lambda x: Doubled.apply(x), True),
    "differs each time": (lambda x: x * gw.rand(2, dtype=gw.float64), False),
    "makes a constant each time": (lambda x: x * gw.tensor([2.0, 3.0], dtype=gw.float64), True),
}


@pytest.mark.parametrize("name", SEEN_ONLY_FROM_THIS_SIDE)
def test_what_is_more_than_operators_is_checked_from_this_side(
    session: gw.Session, name: str
) -> None:
    function, agrees = SEEN_ONLY_FROM_THIS_SIDE[name]
    assert gw.autograd.gradcheck(function, point(), raise_exception=False) == agrees


def test_an_argument_that_the_function_also_knows_from_elsewhere(way: str) -> None:
    x = point()
    assert not gw.autograd.gradcheck(lambda y: x * y, x, raise_exception=False)


def test_an_argument_that_is_given_twice(way: str) -> None:
    x, y = point(), point()
    assert gw.autograd.gradcheck(lambda a, b: a * b.sin(), (x, y))


def test_the_line_in_the_function_is_to_blame_for_what_fails_there(way: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        gw.autograd.gradcheck(lambda x: x.mm(x), point())  # here
    assert "# here" in str(caught.value)


@pytest.mark.parametrize("seed", range(3))
def test_both_ways_and_torch_say_the_same(session: gw.Session, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(2, 3))

    def right(x: Any) -> Any:
        return (x.exp() * x).sum(0), x.tanh().mean()

    def wrong(x: Any) -> Any:
        return (x.detach().exp() * x).sum(0)

    served = session.features
    for function, agrees in ((right, True), (wrong, False)):
        theirs = torch.tensor(values, requires_grad=True)
        assert torch.autograd.gradcheck(function, theirs, raise_exception=False) == agrees
        ours = gw.tensor(values, requires_grad=True)
        texts = []
        for features in (served, frozenset[str]()):
            session.features = features
            try:
                texts.append(str(gw.autograd.gradcheck(function, ours)))
            except GradcheckError as error:
                texts.append(re.sub(r"\.\d+|e-\d+", "", str(error)))
        assert texts[0] == texts[1]
        assert (texts[0] == "True") == agrees
        session.features = served


def test_warns_of_single_precision(way: str) -> None:
    x = gw.tensor([1.0], requires_grad=True)
    with pytest.warns(UserWarning, match="float32: central differences are too coarse") as log:
        gw.autograd.gradcheck(lambda x: x * 1, x, raise_exception=False)
    assert log[0].filename == __file__


def test_refuses_what_has_nothing_to_check(way: str) -> None:
    with pytest.raises(ValueError, match="requires_grad=True"):
        gw.autograd.gradcheck(lambda x: x, gw.ones(2))
    with pytest.raises(ValueError, match="must give tensors, not float"):
        gw.autograd.gradcheck(lambda x: 1.0, gw.ones(2, dtype=gw.float64, requires_grad=True))
