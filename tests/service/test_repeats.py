"""Clients that send the same sequence again and again, in sessions and without."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import numpy as np
import pytest

from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from gradwire_server import repeats
from gradwire_server.sequences import repeated_sequence
from tests.service.harness import (
    TIMEOUT,
    Client,
    Step,
    backward,
    fetch,
    get_grad,
    op,
    put,
    refusal_of_call,
    release,
    sequence,
)

X, W, Y, Z, G = 1, 2, 3, 4, 5


def steps(x: np.ndarray) -> list[Step]:
    """The sum of tanh(x·w), and its gradient by x."""
    return [
        put(X, x, requires_grad=True, dtype="f8"),
        put(W, [0.5, -1.0, 2.0], dtype="f8"),
        op("mul", [X, W], Y),
        op("tanh", [Y], Z),
        op("sum", [Z], Y + 10),
        backward(Y + 10),
        get_grad(X, G),
        fetch(Y + 10, G),
        release(X, W, Y, Z, Y + 10, G),
    ]


def expected(x: np.ndarray) -> tuple[float, np.ndarray]:
    w = np.array([0.5, -1.0, 2.0])
    y = np.tanh(x * w)
    return y.sum(), (1 - y * y) * w


@pytest.fixture
def by_plan(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each answer that plans could give was given by one."""
    repeated_sequence.cache_clear()
    seen: list[bool] = []
    answer = repeats.Repeats.answer

    def watched(self: repeats.Repeats, *args: object) -> object:
        found = answer(self, *args)  # type: ignore[arg-type]
        seen.append(found is not None)
        return found

    monkeypatch.setattr(repeats.Repeats, "answer", watched)
    return seen


@pytest.mark.parametrize("in_session", [True, False], ids=["in a session", "without"])
def test_answers_stay_the_same_when_a_sequence_is_compiled(
    start_server: Callable[..., AutogradServiceStub], by_plan: list[bool], in_session: bool
) -> None:
    stub = start_server(compile_after=5)
    session = Client.open(stub).id if in_session else ""
    rng = np.random.default_rng(1)
    for _ in range(200):
        x = rng.standard_normal(3)
        message, payloads = sequence(0, *steps(x))
        request = pb.RunRequest(session_id=session, sequence=message, payloads=payloads)
        answer = stub.Run(request, timeout=TIMEOUT)
        value, gradient = (np.frombuffer(each) for each in answer.payloads)
        np.testing.assert_allclose(value[0], expected(x)[0], 1e-12)
        np.testing.assert_allclose(gradient, expected(x)[1], 1e-12)
        if len(by_plan) > 50 and all(by_plan[-5:]):
            break
    assert all(by_plan[-5:])
    assert not any(by_plan[:5])


def test_a_session_that_uses_one_of_its_handles_is_told_so(
    start_server: Callable[..., AutogradServiceStub], by_plan: list[bool]
) -> None:
    stub = start_server(compile_after=5)
    client = Client.open(stub)
    message, payloads = sequence(0, *steps(np.ones(3)))
    request = pb.RunRequest(session_id=client.id, sequence=message, payloads=payloads)
    while not by_plan or not by_plan[-1]:
        stub.Run(request, timeout=TIMEOUT)
        assert len(by_plan) < 5000
    client.run(put(Z, [1.0]))
    with pytest.raises(grpc.RpcError) as raised:
        stub.Run(request, timeout=TIMEOUT)
    refusal = refusal_of_call(raised.value)
    assert (refusal.reason, refusal.field) == ("HANDLE_IN_USE", "steps[3].op.output")
    assert client.still_works()
