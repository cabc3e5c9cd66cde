"""Sequences: what of them happens, how often, in which order, and what a failed step leaves."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from tests.service.harness import (
    Client,
    Refusal,
    Step,
    Stream,
    backward,
    fetch,
    get_grad,
    no_grad,
    op,
    put,
    refusal_of_call,
    release,
    sequence,
    set_grad,
)

X, Y, Z, G, BIG, W, LAST = 1, 2, 3, 4, 5, 6, 1_000


@pytest.fixture
def stream(client: Client) -> Iterator[Stream]:
    with client.stream() as stream:
        yield stream


def slow_steps(first: int = LAST) -> list[Step]:
    """Far more work than any test takes; BIG must be a large matrix."""
    steps: list[Step] = []
    for handle in range(first, first + 4000):
        steps += [op("mm", [BIG, BIG], handle), release(handle)]
    return steps


def big() -> Step:
    return put(BIG, np.ones((500, 500)))


def refusal_of(stream: Stream) -> Refusal:
    refusal = stream.receive().refusal
    assert refusal is not None
    return refusal


def test_a_failed_step_leaves_the_steps_before_it_and_none_after(client: Client) -> None:
    refusal = client.refused(
        put(X, [2.0], requires_grad=True),
        op("mul", [X], Y, other=3),
        op("exp", [99], Z),
        backward(Y),
    )
    assert refusal.field == "steps[2].op.inputs[0]"
    y, g = client.run(get_grad(X, G), fetch(Y, G))
    assert y.value == [6.0]
    assert g.absent


def test_what_was_fetched_before_a_failed_step_is_answered_with_the_error(stream: Stream) -> None:
    answer = stream.run(put(X, [2.0]), fetch(X), op("exp", [99], Y), fetch(X))
    assert [each.value for each in answer.fetched] == [[2.0]]
    assert answer.refusal is not None
    assert answer.refusal.reason == "HANDLE_NOT_FOUND"


def test_a_failed_step_changes_nothing(client: Client) -> None:
    client.run(put(X, [1.0]), put(Y, [2.0]))
    client.refused(release(X, 99))
    client.refused(op("add_", [X], Y, other=1))  # its output is in use, so x must not change
    client.refused(pb.Step(get_grad=pb.GetGrad(tensors=[X, Y], outputs=[Z, Y])))
    x, y = client.run(fetch(X, Y))
    assert (x.value, y.value) == ([1.0], [2.0])
    assert client.refused(fetch(Z)).metadata["poisoned_handle"] == str(Z)


def test_a_fetched_value_is_that_of_its_step_though_the_tensor_changes_later(
    client: Client,
) -> None:
    before, after = client.run(
        put(X, np.zeros(100_000)), fetch(X), op("add_", [X], other=1), fetch(X)
    )
    assert before.value is not None
    assert after.value is not None
    assert not before.value.any()
    assert after.value.all()


def test_later_sequences_meet_the_root_cause(stream: Stream) -> None:
    stream.start(put(X, [1.0, 2.0]), put(Y, [1.0, 2.0, 3.0]))
    failed = stream.start(op("add", [X, Y], Z), op("exp", [X], G))
    stream.start(op("exp", [Z], 20), op("neg", [Z], 21))
    stream.start(fetch(20))
    stream.start(fetch(G))
    assert stream.receive().refusal is None
    root = refusal_of(stream)
    for handle in (Z, 20, G):
        refusal = refusal_of(stream)
        assert (refusal.code, refusal.reason) == (root.code, root.reason) == (3, "SHAPE_MISMATCH")
        assert refusal.metadata["poisoned_handle"] == str(handle)
        assert refusal.metadata["root_step"] == "0"
        assert refusal.metadata["root_sequence"] == str(failed)
        assert refusal.metadata["shapes"] == root.metadata["shapes"]
        assert root.message in refusal.message
    assert "poisoned_handle" not in root.metadata
    assert stream.run(fetch(X)).refusal is None


def test_a_poisoned_handle_is_in_use_until_it_is_released(client: Client) -> None:
    client.refused(op("exp", [99], Y))
    assert client.refused(put(Y, [1.0])).reason == "HANDLE_IN_USE"
    client.run(release(Y), put(Y, [1.0]))
    assert client.values(Y) == [[1.0]]


@pytest.mark.parametrize(
    ("step", "handles"),
    [
        (op("max.dim", [99], 10, dim=0), [10, 11]),
        (op("split", [99], 10, split_size=1), [10, 11, 12]),
        (pb.Step(grad=pb.Grad(outputs=[99], inputs=[X, Y], output=10)), [10, 11]),
        (pb.Step(get_grad=pb.GetGrad(tensors=[99, X], outputs=[10, 11])), [10, 11]),
        (put(10, [1], dtype="i8", requires_grad=True), [10]),
    ],
    ids=["several results", "as many results as the data says", "grad", "get_grad", "put"],
)
def test_every_handle_that_a_step_was_to_make_is_poisoned(
    client: Client, step: Step, handles: list[int]
) -> None:
    root = client.refused(step, put(20, [1.0]))
    for handle in [*handles, 20]:
        refusal = client.refused(fetch(handle))
        assert (refusal.reason, refusal.metadata["poisoned_handle"]) == (root.reason, str(handle))
    client.run(release(20, *reversed(handles)))
    assert client.refused(fetch(10)).reason == "HANDLE_NOT_FOUND"
    assert client.still_works()


def test_a_handle_in_use_keeps_its_tensor_when_a_step_fails_to_make_it(client: Client) -> None:
    client.run(put(X, [5.0]))
    client.refused(put(X, [6.0]), op("neg", [X], Y))
    assert client.values(X) == [[5.0]]


def accumulating(client: Client) -> None:
    client.run(put(X, [1.0], requires_grad=True), op("mul", [X], Y, other=3))


def gradient(client: Client) -> float:
    (found,) = client.run(get_grad(X, LAST), fetch(LAST), release(LAST))
    assert found.value is not None
    return float(found.value[0])


def test_the_same_number_with_the_same_content_runs_once(client: Client) -> None:
    accumulating(client)
    message, payloads = sequence(2, backward(Y, retain_graph=True), get_grad(X, G), fetch(G))
    answers = [client.send(message, payloads) for _ in range(3)]
    # However it comes: acknowledging more, with another timeout, or over a stream.
    again, _ = sequence(2, *message.steps, acknowledged=1)
    again.timeout.seconds = 50
    answers.append(client.send(again, []))
    with client.stream() as stream:
        stream.send(message)
        answers.append(stream.receive().fetched)
    assert [[each.value for each in fetched] for fetched in answers] == [[[3.0]]] * 5
    client.number = 2
    assert gradient(client) == 3.0


def test_the_same_number_with_other_content_is_a_conflict(client: Client) -> None:
    accumulating(client)
    client.number = 0
    refusal = client.refused(put(X, [2.0], requires_grad=True), op("mul", [X], Y, other=3))
    assert (refusal.code_name, refusal.reason) == ("ABORTED", "SEQUENCE_CONFLICT")
    assert refusal.metadata == {"number": "1", "expected": "2"}
    assert client.still_works()


def test_other_payloads_are_other_content(client: Client) -> None:
    client.run(put(X, [1.0]))
    client.number = 0
    assert client.refused(put(X, [2.0])).reason == "SEQUENCE_CONFLICT"


def test_a_gap_is_refused_and_takes_no_number(client: Client) -> None:
    client.number = 4
    refusal = client.refused(put(X, [1.0]))
    assert (refusal.code_name, refusal.reason) == ("FAILED_PRECONDITION", "SEQUENCE_GAP")
    assert refusal.metadata == {"number": "5", "expected": "1"}
    client.number = 0
    client.run(put(X, [1.0]))
    assert client.values(X) == [[1.0]]


def test_a_failed_sequence_gets_the_same_failure_again(client: Client) -> None:
    first = client.refused(put(X, [1.0]), op("exp", [99], Y))
    client.number = 0
    second = client.refused(put(X, [1.0]), op("exp", [99], Y))
    assert first.error == second.error
    assert client.values(X) == [[1.0]]


def test_an_acknowledged_answer_is_forgotten(client: Client) -> None:
    client.run(put(X, [1.0]))
    client.run(op("neg", [X], Y), acknowledged=1)
    client.number = 0
    refusal = client.refused(put(X, [1.0]))
    assert (refusal.code_name, refusal.reason) == ("FAILED_PRECONDITION", "SEQUENCE_FORGOTTEN")
    client.number = 1
    client.run(op("neg", [X], Y), acknowledged=1)  # the second is still stored


def test_sequences_without_a_number_run_as_often_as_they_come(client: Client) -> None:
    accumulating(client)
    message, payloads = sequence(0, backward(Y, retain_graph=True))
    for _ in range(3):
        client.send(message, payloads)
    assert gradient(client) == 9.0


def test_a_repetition_of_what_still_runs_waits_for_its_answer(client: Client) -> None:
    with client.stream() as first, client.stream() as second:
        first.run(big())
        message, payloads = sequence(2, put(X, [1.0]), *slow_steps())
        first.send(message, payloads)
        second.send(message, payloads)
        second.cancel(2)
        one, other = first.receive(), second.receive()
    assert one.refusal is not None
    assert other.refusal is not None
    assert one.refusal.error == other.refusal.error
    client.number = 2
    assert client.values(X) == [[1.0]]


def test_a_client_that_reconnects_finds_its_session_and_its_answers(client: Client) -> None:
    accumulating(client)
    message, _ = sequence(2, backward(Y), get_grad(X, G), fetch(G))
    with client.stream() as lost:
        lost.send(message)
    with client.stream() as stream:
        stream.send(message)
        assert [each.value for each in stream.receive().fetched] == [[3.0]]
    client.number = 2
    assert gradient(client) == 3.0


def test_pipelined_sequences_are_answered_in_order(stream: Stream) -> None:
    stream.run(put(X, [0.0]), big())
    expected = {}
    for index in range(200):
        # Every tenth is heavy and leaves the event loop; the others must not overtake it.
        heavy = [op("mm", [BIG, BIG], 100), release(100)] * (index % 10 == 0) * 10
        expected[stream.start(*heavy, op("add_", [X], other=1), fetch(X))] = index + 1.0
    answers = [stream.receive() for _ in expected]
    assert {each.number: float(each.fetched[0].value[0]) for each in answers} == expected
    assert [each.number for each in answers] == list(expected)


def test_the_stream_ends_when_the_client_has_said_all(stream: Stream) -> None:
    stream.start(big())
    stream.start(*[op("mm", [BIG, BIG], 100), release(100)] * 20, fetch(BIG))
    stream.close()
    assert stream.receive().refusal is None
    assert stream.receive().fetched[0].value is not None
    with pytest.raises(StopIteration):
        stream.receive()


def test_a_running_sequence_is_cancelled_between_steps(stream: Stream) -> None:
    stream.run(big())
    number = stream.start(put(X, [7.0]), *slow_steps(), put(Y, [1.0]))
    stream.cancel(number)
    refusal = refusal_of(stream)
    assert (refusal.code_name, refusal.reason) == ("CANCELLED", "CANCELLED")
    assert stream.run(fetch(X)).fetched[0].value == [7.0]
    poisoned = stream.run(fetch(Y)).refusal
    assert poisoned is not None
    assert poisoned.reason == "CANCELLED"


def test_a_waiting_sequence_is_cancelled_before_it_starts(stream: Stream) -> None:
    stream.run(big())
    running = stream.start(*slow_steps())
    waiting = stream.start(put(X, [1.0]))
    after = stream.start(put(Y, [2.0]))
    stream.cancel(waiting)
    stream.cancel(running)
    answers = [stream.receive() for _ in range(3)]
    assert [each.number for each in answers] == [running, waiting, after]
    assert [each.refusal and each.refusal.reason for each in answers] == [
        "CANCELLED",
        "CANCELLED",
        None,
    ]


def test_cancelling_what_has_ended_or_never_was_is_ignored(stream: Stream) -> None:
    number = stream.start(put(X, [1.0]))
    assert stream.receive().refusal is None
    stream.cancel(number)
    stream.cancel(900)
    stream.cancel(0)
    assert stream.run(fetch(X)).fetched[0].value == [1.0]


def test_a_sequence_ends_at_its_timeout(client: Client) -> None:
    client.run(big())
    refusal = client.refused(put(X, [7.0]), *slow_steps(), timeout={"nanos": 200_000_000})
    assert (refusal.code_name, refusal.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    assert client.values(X) == [[7.0]]


def test_waiting_counts_towards_the_timeout(stream: Stream) -> None:
    stream.run(big())
    running = stream.start(*slow_steps(), timeout={"nanos": 400_000_000})
    stream.start(put(X, [1.0]), timeout={"nanos": 1})
    assert [refusal_of(stream).reason for _ in range(2)] == ["DEADLINE_EXCEEDED"] * 2
    assert running


def test_a_backward_ends_at_the_timeout_between_its_nodes(client: Client) -> None:
    client.run(big(), put(LAST, np.ones((500, 500)), requires_grad=True))
    steps = [op("mm", [handle, BIG], handle + 1) for handle in range(LAST, LAST + 100)]
    client.run(*steps, op("sum", [LAST + 100], Y))
    refusal = client.refused(backward(Y), timeout={"nanos": 50_000_000})
    assert refusal.reason == "DEADLINE_EXCEEDED"
    assert client.still_works()


def test_the_deadline_of_a_unary_call_ends_its_sequence(client: Client) -> None:
    client.run(big())
    message, payloads = sequence(2, *slow_steps())
    request = pb.RunRequest(session_id=client.id, sequence=message, payloads=payloads)
    with pytest.raises(grpc.RpcError) as caught:
        client.stub.Run(request, timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    client.number = 2
    # It waits for the sequence to end, which is far away but for the deadline.
    assert client.still_works()


def test_a_client_that_is_gone_stops_what_it_cannot_ask_for_again(client: Client) -> None:
    client.run(big())
    message, payloads = sequence(0, *slow_steps())
    request = pb.RunRequest(session_id=client.id, sequence=message, payloads=payloads)
    call = client.stub.Run.future(request)
    call.cancel()
    assert client.still_works()


def test_a_step_under_no_grad_records_nothing(client: Client) -> None:
    client.run(put(X, [1.0], requires_grad=True), no_grad(op("exp", [X], Y)), op("exp", [X], Z))
    assert not client.info(Y).requires_grad
    assert client.info(Z).grad_fn.name == "ExpBackward0"


def test_an_in_place_op_may_name_its_tensor_once_more(client: Client) -> None:
    client.run(put(X, [1.0]), op("add_", [X], Y, other=1), op("mul_", [Y], other=5))
    assert client.values(X, Y) == [[10.0], [10.0]]
    assert client.info(X).version == 2


def test_a_refused_call_names_its_sequence_and_step(client: Client) -> None:
    message, payloads = sequence(1, put(X, [1.0]), op("exp", [99], Y))
    request = pb.RunRequest(session_id=client.id, sequence=message, payloads=payloads)
    with pytest.raises(grpc.RpcError) as caught:
        client.stub.Run(request)
    refusal = refusal_of_call(caught.value)
    assert refusal.metadata == {"handle": "99", "step": "1", "sequence": "1"}


def test_a_sequence_that_comes_again_with_other_data_gives_other_values(
    stub: AutogradServiceStub,
) -> None:
    clients = [Client.open(stub) for _ in range(2)]
    for value in (1.0, 2.0, 3.0):
        for each in clients:
            steps = (
                put(X, [value], requires_grad=True),
                op("pow", [X], Y, exponent=2),
                backward(Y),
                get_grad(X, Z),
                fetch(Y, Z),
                release(X, Y, Z),
            )
            found = each.send(*sequence(0, *steps))
            assert [fetched.value for fetched in found] == [[value**2], [2 * value]]


def test_a_sequence_that_comes_again_fails_in_the_same_place(client: Client) -> None:
    message, payloads = sequence(0, put(X, [1.0]), op("nonsense", [X], Y), release(X))
    for _ in range(3):
        with pytest.raises(grpc.RpcError) as raised:
            client.send(message, payloads)
        refusal = refusal_of_call(raised.value)
        assert (refusal.reason, refusal.field) == ("UNKNOWN_OP", "steps[1].op.name")
        assert refusal.metadata["step"] == "1"
        client.send(*sequence(0, release(X, Y)))


@pytest.mark.parametrize("also", [(), (W,)])
def test_a_fetch_that_comes_again_answers_what_is_there_by_then(
    client: Client, also: tuple[int, ...]
) -> None:
    arrays = [
        np.array([1.0, 2.0], np.float32),
        np.array([3.0, 4.0], np.float32),
        np.array([5.0, 6.0], np.float32),
        np.array([5.0, 6.0], np.float64),
        np.array([[5.0], [6.0]], np.float64),
        np.array(True),
        np.arange(12, dtype=np.int32).reshape(3, 4),
        np.zeros((0, 2), np.float32),
        np.ones(2000, np.float32),
        np.ones(2000, np.float32),
        np.array(1 + 2j, np.complex64),
    ]
    client.send(*sequence(0, put(W, [7.0]), put(Y, [8.0])))
    again = [fetch(*also), fetch(Y, X, Y), fetch(X, most=20), fetch(X, info=True)]
    for array in [*arrays, *arrays[::-1]]:
        client.send(*sequence(0, put(X, array, dtype=array.dtype.str)))
        for _ in range(2):
            found = client.send(*sequence(0, *again))
            assert [each.tensor for each in found] == [*also, Y, X, Y, X, X]
            _, whole, _, short, _ = found[len(also) :]
            assert whole.value is not None
            assert whole.value.dtype == array.dtype
            np.testing.assert_array_equal(whole.value, array, strict=True)
            assert (short.value is None) == (array.nbytes > 20)
        client.send(*sequence(0, release(X)))


def test_a_fetch_that_comes_again_finds_gradients_come_and_go(client: Client) -> None:
    client.send(*sequence(0, put(X, [3.0], requires_grad=True)))
    steps = (op("pow", [X], Y, exponent=2), get_grad(X, G), fetch(Y, G), release(Y, G))
    for turn in range(6):
        _, found = client.send(*sequence(0, *steps))
        assert found.absent == (turn % 2 == 0)
        if turn % 2:
            client.send(*sequence(0, set_grad(X, 0)))
        else:
            client.send(*sequence(0, op("pow", [X], Y, exponent=2), backward(Y), release(Y)))
