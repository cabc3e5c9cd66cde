"""Programs over the wire, with generated stubs alone: kept, called, repeated, listed, dropped."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
import pytest

from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from tests.service.harness import (
    TIMEOUT,
    Client,
    Refusal,
    backward,
    fetch,
    get_grad,
    grad,
    no_grad,
    op,
    put,
    refusal_of_call,
    refusal_of_error,
    release,
    sequence,
)


def program(inputs: Sequence[int], steps: Sequence[pb.Step], outputs: Sequence[int]) -> pb.Program:
    return pb.Program(inputs=inputs, steps=steps, outputs=outputs)


SQUARE = program([1], [op("add", [1], 2, other=2), op("pow", [2], 3, exponent=2)], [3])
"""y = (x + 2)²"""

DESCENT = program(
    [1, 2],
    [
        op("mul", [1, 2], 3),
        op("square", [3], 4),
        op("sum", [4], 5),
        grad([5], [1], 6),
        no_grad(op("sub_", [1, 6], alpha=0.1)),
    ],
    [5],
)
"""loss = Σ(wx)², and w -= 0.1 dloss/dw"""


def create(client: Client, wanted: pb.Program, **fields: Any) -> pb.StoredProgram:
    request = pb.CreateProgramRequest(session_id=client.id, program=wanted, **fields)
    return client.stub.CreateProgram(request, timeout=TIMEOUT).program


def not_created(client: Client, wanted: pb.Program, **fields: Any) -> Refusal:
    with pytest.raises(grpc.RpcError) as caught:
        create(client, wanted, **fields)
    return refusal_of_call(caught.value)


def call(key: str, inputs: Sequence[int] = (), output: int = 0, /, **fields: Any) -> pb.Step:
    return pb.Step(call_program=pb.CallProgram(program=key, inputs=inputs, output=output, **fields))


def repeat(count: int, stacked: Sequence[int] = (), **fields: Any) -> pb.Repeat:
    return pb.Repeat(count=count, stacked=stacked, **fields)


def listed(client: Client, **fields: Any) -> pb.ListProgramsResponse:
    request = pb.ListProgramsRequest(session_id=client.id, **fields)
    return client.stub.ListPrograms(request, timeout=TIMEOUT)


def test_servers_say_that_they_keep_programs(stub: AutogradServiceStub) -> None:
    response = stub.CreateSession(pb.CreateSessionRequest(), timeout=TIMEOUT)
    assert "programs" in response.features
    assert response.limits.max_programs and response.limits.max_program_bytes


def test_a_call_is_part_of_the_graph(client: Client) -> None:
    made = create(client, SQUARE, name="square")
    y, slope = client.run(
        put(1, [3.0], requires_grad=True),
        call(made.id, [1], 2),
        backward(2),
        get_grad(1, 3),
        fetch(2, 3),
    )
    assert y.value == [25.0]
    assert slope.value == [10.0]


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("", "CompiledBackward"),
        ("square", "SquareBackward"),
        ("models.my_step-2", "My_stepBackward"),
        ("f.<locals>.<lambda>-1", "LambdaBackward"),
        ("7", "CompiledBackward"),
    ],
)
def test_a_call_is_one_node_named_as_its_program(client: Client, name: str, node: str) -> None:
    made = create(client, SQUARE, name=name)
    client.run(put(1, [3.0], requires_grad=True), call(made.id, [1], 2))
    assert client.info(2).grad_fn.name == node


def test_a_call_can_be_differentiated_twice(client: Client) -> None:
    cube = program([1], [op("pow", [1], 2, exponent=3), op("sum", [2], 3)], [3])
    made = create(client, cube)
    (second,) = client.run(
        put(1, [2.0], requires_grad=True),
        call(made.id, [1], 2),
        grad([2], [1], 3, create_graph=True),
        grad([3], [1], 4),
        fetch(4),
    )
    assert second.value == [12.0]


def test_a_model_is_kept_and_called_by_name_with_unary_calls_alone(client: Client) -> None:
    """What a client in any language does: no stream, no SDK, parameters left on the server."""
    client.run(put(1, [[2.0, 0.0], [0.0, 3.0]]), put(2, [1.0, 1.0]))
    model = program([1, 2, 3], [op("matmul", [3, 1], 4), op("add", [4, 2], 5)], [5])
    made = create(
        client,
        model,
        name="models.affine-v1",
        bindings=[pb.Binding(input=1, tensor=1), pb.Binding(input=2, tensor=2)],
    )
    assert (made.input_count, made.bound_count, made.output_count, made.step_count) == (1, 2, 1, 2)
    client.run(release(1, 2))
    (y,) = client.run(put(3, [5.0, 7.0]), call("models.affine-v1", [3], 4), fetch(4))
    np.testing.assert_array_equal(y.value, [11.0, 22.0])


def test_a_whole_training_step_is_one_program(client: Client) -> None:
    made = create(client, DESCENT)
    losses = []
    for output in (3, 4):
        steps = [put(1, [1.0, 2.0], requires_grad=True), put(2, [3.0, 1.0])] if output == 3 else []
        (loss, w) = client.run(*steps, call(made.id, [1, 2], output), fetch(output, 1))
        losses.append(float(loss.value))
    assert losses[0] == 13.0 > losses[1]
    np.testing.assert_allclose(w.value, [0.64, 1.28], rtol=1e-5)


def test_gradients_are_left_in_grad(client: Client) -> None:
    steps = [op("square", [1], 2), op("sum", [2], 3), grad([3], [1], 4)]
    made = create(client, program([1], steps, [3]), grads=[pb.LeftGrad(input=1, grad=4)])
    first, _ = client.run(
        put(1, [1.0, 2.0], requires_grad=True),
        call(made.id, [1], 2),
        get_grad(1, 3),
        fetch(3, 2),
    )
    np.testing.assert_array_equal(first.value, [2.0, 4.0])
    cleared = create(client, program([1], [], []), grads=[pb.LeftGrad(input=1)])
    (none,) = client.run(call(cleared.id, [1]), get_grad(1, 4), fetch(4))
    assert none.absent


def test_gradients_are_left_in_leaves_only(client: Client) -> None:
    steps = [op("square", [1], 2), op("sum", [2], 3), grad([3], [1], 4)]
    made = create(client, program([1], steps, [3]), grads=[pb.LeftGrad(input=1, grad=4)])
    refusal = client.refused(
        put(1, [1.0], requires_grad=True), op("exp", [1], 2), call(made.id, [2], 3)
    )
    assert (refusal.reason, refusal.field) == (
        "PROGRAM_SIGNATURE",
        "steps[2].call_program.inputs",
    )


def test_an_unused_gradient_leaves_its_handle_holding_none(client: Client) -> None:
    steps = [op("sum", [1], 3), grad([3], [1, 2], 4, allow_unused=True)]
    made = create(client, program([1, 2], steps, [4, 5]))
    there, absent = client.run(
        put(1, [1.0, 2.0], requires_grad=True),
        put(2, [1.0], requires_grad=True),
        call(made.id, [1, 2], 3),
        fetch(3, 4),
    )
    np.testing.assert_array_equal(there.value, [1.0, 1.0])
    assert absent.absent


def test_a_call_may_be_skipped_where_an_input_is_none(client: Client) -> None:
    made = create(client, DESCENT)
    start = (put(1, [1.0], requires_grad=True), get_grad(1, 2))
    (loss,) = client.run(*start, call(made.id, [1, 2], 3, skip_absent=True), fetch(3))
    assert loss.absent
    assert client.refused(call(made.id, [1, 2], 4)).reason == "HANDLE_ABSENT"


def test_the_same_request_gives_the_same_program(client: Client) -> None:
    one = create(client, SQUARE, name="square")
    assert create(client, SQUARE, name="square").id == one.id
    assert create(client, SQUARE, request_id="another").id != one.id
    assert len(listed(client).programs) == 2


def test_a_repeated_sequence_calls_no_second_time(client: Client) -> None:
    made = create(client, DESCENT)
    client.run(put(1, [1.0], requires_grad=True), put(2, [1.0]))
    client.number += 1
    message = sequence(client.number, call(made.id, [1, 2], 3), fetch(1))
    (first,), (again,) = client.send(*message), client.send(*message)
    np.testing.assert_array_equal(first.value, again.value)
    (w,) = client.values(1)
    np.testing.assert_array_equal(w, first.value)
    assert [each.run_count for each in listed(client).programs] == [1]


def test_programs_are_listed_in_pages(client: Client) -> None:
    types = [pb.InputType(dtype=pb.DTYPE_FLOAT32, shape=[2])]
    for name in "abc":
        create(client, SQUARE, name=name, input_types=types)
    first = listed(client, page_size=2)
    rest = listed(client, page_size=2, page_token=first.next_page_token)
    found = [*first.programs, *rest.programs]
    assert [each.name for each in found] == ["a", "b", "c"]
    assert not rest.next_page_token
    assert list(found[0].input_types) == types
    assert found[0].create_time.seconds


def test_a_page_token_belongs_to_its_session(client: Client, stub: AutogradServiceStub) -> None:
    for name in "ab":
        create(client, SQUARE, name=name)
    token = listed(client, page_size=1).next_page_token
    for other, kept in ((Client.open(stub), token), (client, "nonsense")):
        with pytest.raises(grpc.RpcError) as caught:
            listed(other, page_size=1, page_token=kept)
        assert refusal_of_call(caught.value).reason == "BAD_PAGE_TOKEN"


def test_a_program_is_deleted_by_id_by_name_and_by_release(client: Client) -> None:
    one, _, three = (create(client, SQUARE, name=name) for name in "abc")

    def delete(key: str) -> None:
        request = pb.DeleteProgramRequest(session_id=client.id, program=key)
        client.stub.DeleteProgram(request, timeout=TIMEOUT)

    (y,) = client.run(put(1, [3.0], requires_grad=True), call(one.id, [1], 2), fetch(2))
    delete(one.id)
    delete("b")
    client.run(pb.Step(release=pb.Release(programs=[three.id, three.id])))
    assert not listed(client).programs
    with pytest.raises(grpc.RpcError) as caught:
        delete(one.id)
    assert refusal_of_call(caught.value).reason == "PROGRAM_NOT_FOUND"
    # The graph of its call lives on.
    (slope,) = client.run(backward(2), get_grad(1, 3), fetch(3))
    assert (y.value, slope.value) == ([25.0], [10.0])


def test_sessions_do_not_see_each_others_programs(
    client: Client, stub: AutogradServiceStub
) -> None:
    create(client, SQUARE, name="square")
    other = Client.open(stub)
    assert not listed(other).programs
    assert other.refused(put(1, [1.0]), call("square", [1], 2)).reason == "PROGRAM_NOT_FOUND"


def test_a_repetition_walks_through_stacked_minibatches(client: Client) -> None:
    made = create(client, DESCENT)
    batches = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 1.0]], np.float32)
    losses, w = client.run(
        put(1, [1.0, 2.0], requires_grad=True),
        put(2, batches),
        call(made.id, [1, 2], 3, repeat=repeat(5, [1])),
        fetch(3, 1),
    )
    expected, at = [], np.array([1.0, 2.0])
    for turn in range(5):
        x = batches[turn % 3]
        expected.append(np.sum((at * x) ** 2))
        at = at - 0.1 * 2 * at * x * x
    np.testing.assert_allclose(losses.value, expected, rtol=1e-5)
    np.testing.assert_allclose(w.value, at, rtol=1e-5)


def test_a_repetition_feeds_outputs_back(client: Client) -> None:
    body = [op("mul", [1], 2, other=0.5), op("add", [2, 3], 4), op("sum", [4], 5)]
    made = create(client, program([1, 3], body, [4, 5]))
    last, sums, start = client.run(
        put(1, [8.0, 0.0]),
        put(2, [1.0, 1.0]),
        call(made.id, [1, 2], 3, repeat=repeat(3, feedback=[pb.Feedback(output=0, input=0)])),
        fetch(3, 4, 1),
    )
    np.testing.assert_allclose(last.value, [2.75, 1.75])
    np.testing.assert_allclose(sums.value, [6.0, 5.0, 4.5])
    np.testing.assert_allclose(start.value, [8.0, 0.0])


def test_a_repetition_draws_new_numbers_each_time(client: Client) -> None:
    body = [op("rand_like", [1], 2), op("sum", [2], 3)]
    made = create(client, program([1], body, [3]))
    (drawn,) = client.run(put(1, [0.0]), call(made.id, [1], 2, repeat=repeat(8)), fetch(2))
    assert len(set(drawn.value.tolist())) == 8


def test_results_of_a_repetition_are_outside_of_the_graph(client: Client) -> None:
    made = create(client, program([1], [op("mul", [1], 2, other=3)], [1, 2]))
    client.run(put(1, [1.0], requires_grad=True), call(made.id, [1], 2, repeat=repeat(2)))
    assert not client.info(2).requires_grad
    assert not client.info(3).requires_grad


SLOW = program([1], [op("matmul", [1, 1], 2), op("sum", [2], 3)], [3])


def test_a_repetition_tells_how_far_it_got(client: Client) -> None:
    made = create(client, DESCENT)
    with client.stream() as stream:
        stream.run(put(1, [1.0, 2.0], requires_grad=True), put(2, [0.1, 0.1]))
        number = stream.start(
            call(made.id, [1, 2], 3, repeat=repeat(3000, progress=True)), fetch(3)
        )
        told = []
        while not (response := next(stream.call)).HasField("result"):
            told.append(response.progress)
        assert response.result.number == number
        losses = np.frombuffer(response.payloads[0], np.float32)
    assert [each.done for each in told] == sorted({each.done for each in told})
    assert told[-1].done == told[-1].count == 3000
    for each in told:
        assert (each.number, each.step) == (number, 0)
        assert list(each.values) == [losses[each.done - 1]]


def test_a_repetition_can_be_cancelled_between_two_runs(client: Client) -> None:
    made = create(client, SLOW)
    with client.stream() as stream:
        stream.run(put(1, np.ones((64, 64))))
        number = stream.start(call(made.id, [1], 2, repeat=repeat(10_000_000, progress=True)))
        assert next(stream.call).HasField("progress")
        stream.cancel(number)
        while not (response := next(stream.call)).HasField("result"):
            pass
        assert refusal_of_error(response.result.error).reason == "CANCELLED"
    (found,) = listed(client).programs
    assert 0 < found.run_count < 10_000_000
    assert client.refused(fetch(2)).reason == "CANCELLED"
    assert client.still_works()


def test_a_repetition_ends_with_its_timeout(client: Client) -> None:
    made = create(client, SLOW)
    client.run(put(1, np.ones((64, 64))))
    message, payloads = sequence(2, call(made.id, [1], 2, repeat=repeat(10_000_000)))
    message.timeout.FromMilliseconds(100)
    with pytest.raises(grpc.RpcError) as caught:
        client.send(message, payloads)
    assert refusal_of_call(caught.value).reason == "DEADLINE_EXCEEDED"
    client.number = 2
    assert client.still_works()


def test_others_are_served_during_a_repetition(client: Client, stub: AutogradServiceStub) -> None:
    made = create(client, SLOW)
    with client.stream() as stream:
        stream.run(put(1, np.ones((64, 64))))
        number = stream.start(call(made.id, [1], 2, repeat=repeat(10_000_000)))
        client.until_taken_in()
        assert Client.open(stub).still_works()
        stream.cancel(number)
        assert stream.receive().refusal is not None


def many(count: int) -> pb.Program:
    return program([1], [op("add", [1], at + 2, other=1) for at in range(count)], [count + 1])


@pytest.mark.parametrize(
    ("wanted", "fields", "reason", "field"),
    [
        (many(3), {"name": "no spaces"}, "BAD_VALUE", "name"),
        (many(3), {"name": "x" * 101}, "BAD_VALUE", "name"),
        (
            program([1, 1], [], []),
            {},
            "HANDLE_IN_USE",
            "program.inputs[1]",
        ),
        (program([1], [], [2]), {}, "HANDLE_NOT_FOUND", "program.outputs[0]"),
        (
            program([1], [op("nonsense", [1], 2)], [2]),
            {},
            "UNKNOWN_OP",
            "program.steps[0].op.name",
        ),
        (
            program([1], [op("add", [1, 7], 2)], [2]),
            {},
            "HANDLE_NOT_FOUND",
            "program.steps[0].op.inputs[1]",
        ),
        (program([1], [backward(1)], []), {}, "MALFORMED_REQUEST", "program.steps[0].backward"),
        (program([1], [pb.Step()], []), {}, "MALFORMED_REQUEST", "program.steps[0].kind"),
        (
            program([1], [grad([], [1], 2)], []),
            {},
            "WRONG_ARITY",
            "program.steps[0].grad.outputs",
        ),
        (
            program([1], [grad([1], [], 2)], []),
            {},
            "WRONG_ARITY",
            "program.steps[0].grad.inputs",
        ),
        (
            program([1], [grad([1], [1], 2, is_jacobian=True)], []),
            {},
            "BAD_VALUE",
            "program.steps[0].grad.is_jacobian",
        ),
        (
            program([1], [grad([1], [1], 2, grad_outputs=[1, 1])], []),
            {},
            "WRONG_ARITY",
            "program.steps[0].grad.grad_outputs",
        ),
        (
            program([1], [grad([1], [1], 1)], []),
            {},
            "HANDLE_IN_USE",
            "program.steps[0].grad.output",
        ),
        (
            program([1], [pb.Step(op=op("exp", [1], 2).op, grad_mode=pb.GRAD_MODE_INFERENCE)], []),
            {},
            "BAD_VALUE",
            "program.steps[0].grad_mode",
        ),
        (
            program([1], [op("split", [1], 2, split_size=1)], []),
            {},
            "BAD_VALUE",
            "program.steps[0].op.results",
        ),
        (
            SQUARE,
            {"bindings": [pb.Binding(input=9, tensor=1)]},
            "HANDLE_NOT_FOUND",
            "bindings[0].input",
        ),
        (
            SQUARE,
            {"bindings": [pb.Binding(input=1, tensor=99)]},
            "HANDLE_NOT_FOUND",
            "bindings[0].tensor",
        ),
        (SQUARE, {"grads": [pb.LeftGrad(input=2)]}, "HANDLE_NOT_FOUND", "grads[0].input"),
        (
            SQUARE,
            {"grads": [pb.LeftGrad(input=1, grad=99)]},
            "HANDLE_NOT_FOUND",
            "program.outputs[1]",
        ),
        (SQUARE, {"input_types": [pb.InputType()] * 2}, "WRONG_ARITY", "input_types"),
        (SQUARE, {"input_types": [pb.InputType()]}, "UNKNOWN_DTYPE", "input_types[0].dtype"),
        (
            SQUARE,
            {
                "input_types": [pb.InputType(dtype=pb.DTYPE_FLOAT32, shape=[3])],
                "bindings": [pb.Binding(input=1, tensor=1)],
            },
            "PROGRAM_SIGNATURE",
            "input_types[0]",
        ),
    ],
)
def test_bad_programs_are_refused(
    client: Client, wanted: pb.Program, fields: dict[str, Any], reason: str, field: str
) -> None:
    client.run(put(1, [1.0]))
    refusal = not_created(client, wanted, **fields)
    assert (refusal.reason, refusal.field) == (reason, field)
    assert len(refusal.message) > 20
    assert not listed(client).programs
    assert client.still_works()


def test_a_name_belongs_to_one_program(client: Client) -> None:
    create(client, SQUARE, name="square")
    refusal = not_created(client, DESCENT, name="square")
    assert (refusal.reason, refusal.code_name) == ("PROGRAM_NAME_IN_USE", "ALREADY_EXISTS")
    assert refusal.metadata == {"name": "square"}


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({"max_programs": 1}, "max_programs"),
        ({"max_program_bytes": 100}, "max_program_bytes"),
        ({"max_steps": 2}, "max_steps"),
    ],
)
def test_programs_are_bounded(
    start_server: Callable[..., AutogradServiceStub], settings: dict[str, int], limit: str
) -> None:
    client = Client.open(start_server(**settings))
    create(client, many(1))
    refusal = not_created(client, many(3))
    assert (refusal.reason, refusal.metadata["limit"]) == ("LIMIT_EXCEEDED", limit)
    assert len(listed(client).programs) == 1


def test_bound_tensors_count_as_the_sessions(
    start_server: Callable[..., AutogradServiceStub],
) -> None:
    client = Client.open(start_server(max_session_bytes=1 << 16))
    for handle in (1, 2, 3):
        client.run(put(handle, np.zeros(4000)))
        binding = pb.Binding(input=1, tensor=handle)
        create(client, program([1], [], [1]), bindings=[binding])
        client.run(release(handle))
    refusal = client.refused(put(5, np.zeros(8000)))
    assert refusal.metadata["limit"] == "max_session_bytes"


def test_all_runs_count_against_the_sequences_operations(
    start_server: Callable[..., AutogradServiceStub],
) -> None:
    client = Client.open(start_server(max_sequence_flops=1_000_000))
    made = create(client, SQUARE)
    client.run(put(1, [1.0]), call(made.id, [1], 2, repeat=repeat(10)))
    refusal = client.refused(call(made.id, [1], 3, repeat=repeat(1_000_000)))
    assert (refusal.reason, refusal.metadata["limit"]) == ("LIMIT_EXCEEDED", "max_sequence_flops")
    assert [each.run_count for each in listed(client).programs] == [10]


TYPED = [pb.InputType(dtype=pb.DTYPE_FLOAT32, shape=[2], requires_grad=True)]


@pytest.mark.parametrize(
    ("step", "reason", "field"),
    [
        (call("missing", [1], 9), "PROGRAM_NOT_FOUND", "program"),
        (call("", [1], 9), "PROGRAM_NOT_FOUND", "program"),
        (call("square", [], 9), "WRONG_ARITY", "inputs"),
        (call("square", [1, 1], 9), "WRONG_ARITY", "inputs"),
        (call("square", [7], 9), "HANDLE_NOT_FOUND", "inputs[0]"),
        (call("square", [1], 1), "HANDLE_IN_USE", "output"),
        (call("square", [1], 0), "HANDLE_IN_USE", "output"),
        (call("typed", [1], 9), "PROGRAM_SIGNATURE", "inputs"),
        (call("square", [1], 9, repeat=repeat(0)), "BAD_VALUE", "repeat.count"),
        (call("square", [1], 9, repeat=repeat(1 << 60)), "BAD_VALUE", "repeat.count"),
        (call("square", [1], 9, repeat=repeat(1, [1])), "BAD_VALUE", "repeat.stacked[0]"),
        (call("square", [2], 9, repeat=repeat(1, [0])), "SHAPE_MISMATCH", "repeat.stacked[0]"),
        (call("square", [1], 9, repeat=repeat(1, [0, 0])), "BAD_VALUE", "repeat.stacked"),
        (
            call("square", [1], 9, repeat=repeat(1, feedback=[pb.Feedback()] * 2)),
            "BAD_VALUE",
            "repeat.feedback",
        ),
        (call("square", [1], 9, output_count=2), "WRONG_ARITY", "output_count"),
        (
            call("square", [1], 9, repeat=repeat(1, feedback=[pb.Feedback(output=1)])),
            "BAD_VALUE",
            "repeat.feedback[0].output",
        ),
        (
            call("square", [1], 9, repeat=repeat(1, feedback=[pb.Feedback(input=1)])),
            "BAD_VALUE",
            "repeat.feedback[0].input",
        ),
    ],
)
def test_bad_calls_are_refused(client: Client, step: pb.Step, reason: str, field: str) -> None:
    create(client, SQUARE, name="square")
    create(client, SQUARE, name="typed", input_types=TYPED)
    client.run(put(1, [1.0]), put(2, 1.0))
    refusal = client.refused(step)
    assert (refusal.reason, refusal.field) == (reason, f"steps[0].call_program.{field}")
    assert len(refusal.message) > 20
    assert client.still_works()


def test_a_failure_within_a_program_names_its_step(client: Client) -> None:
    steps = [op("add", [1], 2, other=1), op("matmul", [2, 2], 3)]
    made = create(client, program([1], steps, [3]))
    refusal = client.refused(put(1, [[1.0, 2.0, 3.0]]), call(made.id, [1], 2))
    assert (refusal.reason, refusal.field) == ("SHAPE_MISMATCH", "steps[1].call_program")
    assert refusal.metadata["program_step"] == "1"
    assert client.refused(op("exp", [2], 5)).metadata["poisoned_handle"] == "2"


def test_what_fed_back_must_be_there(client: Client) -> None:
    steps = [op("sum", [1], 3), grad([3], [1, 2], 4, allow_unused=True)]
    made = create(client, program([1, 2], steps, [5]))
    feedback = [pb.Feedback(output=0, input=1)]
    refusal = client.refused(
        put(1, [1.0], requires_grad=True),
        put(2, [1.0], requires_grad=True),
        call(made.id, [1, 2], 3, repeat=repeat(2, feedback=feedback)),
    )
    assert (refusal.reason, refusal.metadata["run"]) == ("HANDLE_ABSENT", "1")


def test_programs_are_explained(client: Client) -> None:
    create(client, SQUARE, name="square")
    client.run(put(1, [1.0]))
    request = pb.ExplainProgramRequest(session_id=client.id, program="square", inputs=[1])
    text = client.stub.ExplainProgram(request, timeout=TIMEOUT).text
    assert re.search(r"\b2 steps\b", text)
    request.inputs.append(1)
    with pytest.raises(grpc.RpcError) as caught:
        client.stub.ExplainProgram(request, timeout=TIMEOUT)
    assert refusal_of_call(caught.value).reason == "WRONG_ARITY"
