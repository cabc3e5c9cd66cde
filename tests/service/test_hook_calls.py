"""Hooks on the wire: calls and answers; and clients that stall, die or break."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from tests.service.harness import (
    Client,
    Step,
    Stream,
    backward,
    fetch,
    fetched_of,
    get_grad,
    grad,
    op,
    put,
    refusal_of_error,
    release,
)

X, Y, Z, G = 1, 2, 3, 4
SETUP: tuple[Step, ...] = (
    put(X, [1.0, 2.0], requires_grad=True),
    op("mul", [X], Y, other=3.0),
    op("sum", [Y], Z),
)


def register(hook: int, **fields: Any) -> pb.Step:
    fields.setdefault("kind", pb.HOOK_KIND_TENSOR)
    return pb.Step(register_hook=pb.RegisterHook(hook=hook, **fields))


def call_of(stream: Stream) -> pb.HookCall:
    response = next(stream.call)
    assert response.HasField("hook_call")
    call: pb.HookCall = response.hook_call
    return call


def answer(stream: Stream, call: pb.HookCall, **fields: Any) -> None:
    stream.write(
        pb.RunStreamRequest(
            session_id=stream.session_id, hook_answer=pb.HookAnswer(call=call.call, **fields)
        )
    )


def test_any_client_can_run_a_hook_with_values_alone(client: Client) -> None:
    with client.stream() as stream:
        stream.start(*SETUP, register(1, tensor=Y), backward(Z), get_grad(X, G), fetch(G))
        response = next(stream.call)
        call = response.hook_call
        assert (call.hook, call.replaceable, call.create_graph) == (1, 1, False)
        (gradient,) = fetched_of(pb.SequenceResult(fetched=call.gradients), response.payloads)
        assert gradient.value is not None and gradient.value.tolist() == [1.0, 1.0]
        step = pb.Step(put=pb.Put(output=50, dtype=pb.DTYPE_FLOAT32, shape=[2], payload=0))
        stream.write(
            pb.RunStreamRequest(
                hook_answer=pb.HookAnswer(call=call.call, steps=[step], replacements=[50]),
                payloads=[np.asarray([5.0, 6.0], "f4").tobytes()],
            )
        )
        (found,) = stream.receive().fetched
        assert found.value is not None and found.value.tolist() == [15.0, 18.0]


def test_steps_in_the_midst_of_a_backward(client: Client) -> None:
    with client.stream() as stream:
        stream.start(*SETUP, register(1, tensor=Y), backward(Z), get_grad(X, G), fetch(G))
        call = call_of(stream)
        double = op("mul", [50], 51, other=2.0)
        answer(stream, call, gradients=[50], steps=[double, fetch(51)], open=True)
        response = next(stream.call)
        assert response.hook_result.call == call.call
        answer(stream, call, steps=[op("bogus", [50], 52)], open=True)
        refused = refusal_of_error(next(stream.call).hook_result.error)
        assert (refused.reason, refused.field) == ("UNKNOWN_OP", "hook_answer.steps[0].op.name")
        answer(stream, call, replacements=[51])
        (found,) = stream.receive().fetched
        assert found.value is not None and found.value.tolist() == [6.0, 6.0]
    assert client.still_works()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"error": "KeyError: 'k'"}, "HOOK_FAILED"),
        ({"replacements": [X, X]}, "HOOK_SHAPE"),
        ({"replacements": [Z]}, "HOOK_SHAPE"),
        ({"replacements": [99]}, "HANDLE_NOT_FOUND"),
        ({"gradients": [Y]}, "HANDLE_IN_USE"),
        ({"gradients": [60, 61]}, "HOOK_SHAPE"),
        ({"steps": [op("bogus", [X], 60)]}, "UNKNOWN_OP"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_an_answer_that_will_not_do_fails_its_backward(
    client: Client, fields: dict[str, Any], reason: str
) -> None:
    with client.stream() as stream:
        stream.start(*SETUP, register(1, tensor=Y), backward(Z), fetch(X))
        answer(stream, call_of(stream), **fields)
        answered = stream.receive()
        assert answered.refusal is not None
        assert answered.refusal.reason == reason
        assert answered.refusal.metadata["step"] == "4"
        assert [each.value.tolist() for each in stream.run(fetch(X)).fetched] == [[1.0, 2.0]]  # type: ignore[union-attr]
    assert client.still_works()


def test_a_unary_call_cannot_carry_hooks_and_says_what_can(client: Client) -> None:
    refused = client.refused(*SETUP, register(1, tensor=Y), backward(Z))
    assert refused.reason == "HOOK_FAILED"
    assert refused.code_name == "ABORTED"
    assert "RunStream" in refused.message
    assert client.still_works()


def test_a_hook_that_is_a_program_runs_without_a_call(client: Client) -> None:
    program = pb.Program(inputs=[1], steps=[op("mul", [1], 2, other=10.0)], outputs=[2])
    found = client.run(
        *SETUP, register(1, tensor=Y, program=program), backward(Z), get_grad(X, G), fetch(G)
    )
    assert found[0].value is not None and found[0].value.tolist() == [30.0, 30.0]
    grown = grad([Z], [X], 10, create_graph=True)
    again = client.run(op("mul", [X], 6, other=3.0), op("sum", [Y], 7))
    assert again == [] and grown.HasField("grad")


def test_a_long_program_in_the_midst_of_a_backward_lets_it_run_once(client: Client) -> None:
    steps = [op("mul", [n], n + 1, other=1.0) for n in range(1, 1501)]
    program = pb.Program(inputs=[1], steps=steps, outputs=[1501])
    client.run(
        *SETUP,
        register(1, tensor=Y, program=program),
        put(5, [1.0], requires_grad=True),
        op("exp", [5], 6),
        op("add", [Z, 6], 7),
    )
    found = client.run(backward(7), get_grad(5, 8), get_grad(X, G), fetch(8, G))
    assert [each.value.tolist() for each in found if each.value is not None] == [
        [pytest.approx(2.7182818)],
        [3.0, 3.0],
    ]


def test_hooks_are_told_of_when_they_end(client: Client) -> None:
    with client.stream() as stream:
        stream.start(*SETUP, register(1, tensor=Y), register(2, tensor=X), release(Y, Z), fetch(X))
        result = next(stream.call).result
        assert list(result.ended_hooks) == [1]


def test_removing_a_hook_that_is_not_there_is_fine(client: Client) -> None:
    remove = pb.Step(remove_hook=pb.RemoveHook(hook=7))
    assert client.run(*SETUP, remove, register(7, tensor=Y), remove, backward(Z)) == []


@pytest.mark.parametrize(
    ("step", "reason", "field"),
    [
        (register(0, tensor=Y), "HANDLE_IN_USE", "register_hook.hook"),
        (register(1, tensor=9), "HANDLE_NOT_FOUND", "register_hook.tensor"),
        (register(1), "MALFORMED_REQUEST", "register_hook.target"),
        (register(1, grad_fn_of=Y), "MALFORMED_REQUEST", "register_hook.kind"),
        (
            register(1, kind=pb.HOOK_KIND_NODE_PRE, node=999),
            "NODE_NOT_FOUND",
            "register_hook.node[0]",
        ),
    ],
    ids=["number", "tensor", "target", "kind", "node"],
)
def test_registrations_that_are_refused(
    client: Client, step: pb.Step, reason: str, field: str
) -> None:
    refused = client.refused(*SETUP, step)
    assert (refused.reason, refused.field) == (reason, f"steps[3].{field}")


def test_a_client_that_stalls_fails_its_backward_and_nothing_else(
    start_server: Callable[..., AutogradServiceStub],
) -> None:
    stub = start_server(hook_seconds=0.3, threads=1)
    stalling, other = Client.open(stub), Client.open(stub)
    with stalling.stream() as stream:
        stream.start(*SETUP, register(1, tensor=Y), backward(Z))
        call_of(stream)
        assert other.still_works()
        answered = stream.receive()
        assert answered.refusal is not None
        assert answered.refusal.reason == "HOOK_FAILED"
        assert "hook_seconds" in answered.refusal.message
    assert stalling.still_works()


def test_stalling_clients_take_no_threads_from_others(
    start_server: Callable[..., AutogradServiceStub],
) -> None:
    stub = start_server(threads=1)
    streams = []
    for _ in range(8):
        stream = Client.open(stub).stream()
        stream.start(*SETUP, register(1, tensor=Y), backward(Z))
        call_of(stream)
        streams.append(stream)
    heavy = Client.open(stub)
    n = 200
    values = np.ones((n, n))
    found = heavy.run(
        put(X, values, requires_grad=True), op("matmul", [X, X], Y), op("sum", [Y], Z), fetch(Z)
    )
    assert found[0].value is not None and found[0].value == n**3
    for stream in streams:
        stream.close()
        stream.call.cancel()


def test_the_deadline_of_a_sequence_ends_its_wait(client: Client) -> None:
    with client.stream() as stream:
        message = pb.Sequence()
        message.timeout.FromMilliseconds(300)
        stream.start(*SETUP, register(1, tensor=Y), backward(Z), timeout=message.timeout)
        call = call_of(stream)
        answered = stream.receive()
        assert answered.refusal is not None
        assert answered.refusal.reason == "DEADLINE_EXCEEDED"
        answer(stream, call)
        assert stream.run(fetch(X)).refusal is None
    assert client.still_works()


def test_a_cancel_ends_the_wait(client: Client) -> None:
    with client.stream() as stream:
        number = stream.start(*SETUP, register(1, tensor=Y), backward(Z))
        call_of(stream)
        stream.cancel(number)
        answered = stream.receive()
        assert answered.refusal is not None
        assert answered.refusal.reason == "CANCELLED"
    assert client.still_works()


@pytest.mark.parametrize("how", ["cancelled", "half-closed"])
def test_a_client_that_goes_away_fails_its_backward(client: Client, how: str) -> None:
    stream = client.stream()
    number = stream.start(*SETUP, register(1, tensor=Y), backward(Z))
    call_of(stream)
    if how == "cancelled":
        stream.call.cancel()
    else:
        stream.close()
        answered = stream.receive()
        assert answered.refusal is not None and answered.refusal.reason == "HOOK_FAILED"
    # The number was used; asked for again, it has the answer that nobody could be given.
    with client.stream() as again:
        assert client.number == number
        client.number -= 1
        again.start(*SETUP, register(1, tensor=Y), backward(Z))
        answered = again.receive()
        assert answered.refusal is not None and answered.refusal.reason == "HOOK_FAILED"
    assert client.still_works()


def test_a_session_that_is_deleted_wakes_its_hooks(client: Client) -> None:
    with client.stream() as stream:
        stream.start(*SETUP, register(1, tensor=Y), backward(Z))
        call_of(stream)
        client.stub.DeleteSession(pb.DeleteSessionRequest(session_id=client.id))
        answered = stream.receive()
        assert answered.refusal is not None
        assert answered.refusal.reason == "SESSION_NOT_FOUND"


def test_the_hooks_of_one_session_do_not_slow_the_sequences_of_another(client: Client) -> None:
    other = Client.open(client.stub)
    with client.stream() as stream:
        stream.start(*SETUP, register(1, tensor=Y), backward(Z))
        call = call_of(stream)
        for _ in range(3):
            assert other.still_works()
        answer(stream, call)
        assert stream.receive().refusal is None


def test_a_message_of_unknown_kind_still_ends_the_stream(client: Client) -> None:
    with client.stream() as stream:
        stream.write(pb.RunStreamRequest())
        with pytest.raises(grpc.RpcError):
            stream.receive()
