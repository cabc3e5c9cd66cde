"""Limits: each is told to the client, checked before anything is done, and survived."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from tests.service.harness import (
    Client,
    Refusal,
    Step,
    backward,
    fetch,
    grad,
    op,
    put,
    refusal_of_call,
    release,
    sequence,
)

X, Y, BIG, LAST = 1, 2, 3, 1_000

StartServer = Callable[..., AutogradServiceStub]


def assert_exceeded(refusal: Refusal, limit: str, maximum: int) -> None:
    assert refusal.code_name == "RESOURCE_EXHAUSTED"
    assert refusal.reason == "LIMIT_EXCEEDED"
    assert refusal.metadata["limit"] == limit
    assert refusal.metadata["maximum"] == str(maximum)
    assert int(refusal.metadata["value"]) > maximum
    assert refusal.detail(error_details_pb2.QuotaFailure).violations[0].subject == limit


def test_a_client_is_told_the_limits(start_server: StartServer) -> None:
    stub = start_server(max_steps=7, max_rank=5, max_session_bytes=12345)
    limits = stub.CreateSession(pb.CreateSessionRequest()).limits
    assert (limits.max_steps, limits.max_rank, limits.max_session_bytes) == (7, 5, 12345)
    assert all(getattr(limits, field.name) > 0 for field in limits.DESCRIPTOR.fields)


@pytest.mark.parametrize(
    ("limit", "maximum", "steps"),
    [
        ("max_tensor_elements", 100, [put(Y, np.ones(101))]),
        ("max_tensor_elements", 100, [op("zeros", [], Y, size=(1 << 30, 1 << 30))]),
        ("max_tensor_elements", 100, [put(X + 10, np.ones((60, 1))), op("mul", [X, X + 10], Y)]),
        ("max_rank", 3, [put(Y, np.ones((1, 1, 1, 1)))]),
        ("max_session_tensors", 4, [put(handle, [1.0]) for handle in range(10, 14)]),
        ("max_session_bytes", 1000, [put(Y, np.ones(300))]),
        ("max_session_bytes", 1000, [op("zeros", [], Y, size=(1 << 10, 1 << 10))]),
        ("max_session_nodes", 5, [op("neg", [X], handle) for handle in range(10, 17)]),
        ("max_sequence_flops", 2000, [op("mm", [BIG, BIG], 10), op("mm", [BIG, BIG], 11)]),
    ],
)
def test_what_is_beyond_a_limit_is_refused(
    start_server: StartServer, limit: str, maximum: int, steps: list[Step]
) -> None:
    client = Client.open(start_server(**{limit: maximum}))
    client.run(put(X, [1.0, 2.0], requires_grad=True), put(BIG, np.ones((9, 9))))
    refusal = client.refused(*steps)
    assert_exceeded(refusal, limit, maximum)
    assert client.values(X)[0].tolist() == [1.0, 2.0]


def test_steps_beyond_the_limit_take_no_number(start_server: StartServer) -> None:
    client = Client.open(start_server(max_steps=3))
    refusal = client.refused(*[put(handle, [1.0]) for handle in range(1, 5)])
    assert_exceeded(refusal, "max_steps", 3)
    assert refusal.field == "sequence.steps"
    client.number = 0
    client.run(put(X, [1.0]))
    assert client.values(X) == [[1.0]]


def test_released_bytes_may_be_used_again(start_server: StartServer) -> None:
    client = Client.open(start_server(max_session_bytes=10_000))
    for _ in range(20):
        client.run(put(X, np.ones(2000)), release(X))
    client.run(put(X, np.ones(2000)))
    assert_exceeded(client.refused(put(Y, np.ones(2000))), "max_session_bytes", 10_000)


def test_what_a_graph_keeps_counts_until_backward_frees_it(start_server: StartServer) -> None:
    client = Client.open(start_server(max_session_bytes=15_000))
    client.run(put(X, np.ones(1000), requires_grad=True), op("exp", [X], 10))
    client.run(op("exp", [10], 11), release(10), op("exp", [11], 12), release(11))
    assert_exceeded(client.refused(op("exp", [12], 13)), "max_session_bytes", 15_000)
    client.run(grad([12], [X], 21, grad_outputs=[X]), release(12, 13, 21))
    client.run(put(14, np.ones(2000)))


def test_training_goes_on_for_ever_under_a_limit_of_nodes(start_server: StartServer) -> None:
    client = Client.open(start_server(max_session_nodes=10))
    client.run(put(X, [1.0], requires_grad=True))
    for _ in range(30):
        client.run(op("mul", [X], 10, other=2), op("sum", [10], 11), backward(11), release(10, 11))
    assert client.still_works()


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
def test_a_message_that_is_too_large_is_refused_with_a_reason(
    start_server: StartServer, streamed: bool
) -> None:
    client = Client.open(start_server(max_message_bytes=4096))
    steps = [put(X, np.ones(1100))]
    if streamed:
        with client.stream() as stream:
            refusal = stream.run(*steps).refusal
            client.number = 0
            assert stream.run(put(X, [1.0])).refusal is None
    else:
        refusal = client.refused(*steps)
        client.number = 0
    assert refusal is not None
    assert (refusal.code_name, refusal.reason) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    assert refusal.metadata["limit"] == "max_message_bytes"
    assert int(refusal.metadata["value"]) > 4400
    assert client.still_works()


def test_a_message_far_too_large_is_refused_unread(start_server: StartServer) -> None:
    client = Client.open(start_server(max_message_bytes=4096))
    message, payloads = sequence(1, put(X, np.ones(100_000)))
    with pytest.raises(grpc.RpcError) as caught:
        client.send(message, payloads)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert client.still_works()


def test_an_answer_that_would_be_too_large_is_refused(start_server: StartServer) -> None:
    client = Client.open(start_server(max_message_bytes=4096))
    client.run(put(X, np.ones(900)), op("cat", [], Y, tensors=[X, X]))
    refusal = client.refused(fetch(Y))
    assert (refusal.reason, refusal.field) == ("MESSAGE_TOO_LARGE", "steps[0].fetch.tensors")
    (left_out,) = client.run(fetch(Y, info=True, most=4000))
    assert left_out.value is None
    assert left_out.info is not None
    assert left_out.info.shape == [1800]


def test_sessions_beyond_the_limit_are_refused_until_one_ends(start_server: StartServer) -> None:
    stub = start_server(max_sessions=2)
    first, second = Client.open(stub), Client.open(stub)
    with pytest.raises(grpc.RpcError) as caught:
        Client.open(stub)
    refusal = refusal_of_call(caught.value)
    assert (refusal.code_name, refusal.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_SESSIONS")
    assert refusal.detail(error_details_pb2.RetryInfo)
    stub.DeleteSession(pb.DeleteSessionRequest(session_id=first.id))
    assert Client.open(stub).still_works()
    assert second.still_works()


@pytest.mark.parametrize(
    ("limit", "maximum"),
    [("max_queued_sequences", 2), ("max_queued_bytes", 9000), ("max_pending_bytes", None)],
)
def test_a_full_queue_says_when_to_try_again(
    start_server: StartServer, limit: str, maximum: int | None
) -> None:
    slow: list[Step] = []
    for handle in range(LAST, LAST + 4000):
        slow += [op("mm", [BIG, BIG], handle), release(handle)]
    running = sequence(2, *slow)[0]
    # The bytes that run count among those that pend on the server, not among those that wait.
    client = Client.open(start_server(**{limit: maximum or running.ByteSize() + 9000}))
    with client.stream() as stream:
        # In pieces, for a server of few bytes.
        stream.run(put(X, np.ones((1, 500))), put(Y, np.ones((500, 1))), op("mm", [Y, X], BIG))
        client.number = stream.send(running)
        waiting = [stream.start(put(handle, np.zeros(1000))) for handle in (10, 11)]
        refused = stream.start(put(12, np.zeros(1000)))
        stream.cancel(running.number)
        answers = [stream.receive() for _ in range(4)]
        assert [each.number for each in answers] == [running.number, *waiting, refused]
        reasons = [each.refusal and each.refusal.reason for each in answers]
        assert reasons == ["CANCELLED", None, None, "QUEUE_FULL"]
        refusal = answers[-1].refusal
        assert refusal is not None
        assert refusal.code_name == "RESOURCE_EXHAUSTED"
        assert refusal.metadata["limit"] == limit
        delay = refusal.detail(error_details_pb2.RetryInfo).retry_delay
        assert 0 < delay.ToTimedelta().total_seconds() <= 5
        # It was not taken in, so the same number is still free.
        client.number -= 1
        assert stream.run(put(12, np.zeros(1000))).refusal is None
