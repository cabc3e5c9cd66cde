"""Sessions: apart from one another, side by side, leased, listed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import grpc
import numpy as np
import pytest

from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from gradwire_server.pages import make_numbers
from tests.service.harness import (
    Client,
    Step,
    backward,
    fetch,
    get_grad,
    op,
    put,
    refusal_of_call,
    release,
)

X, Y, G, BIG, LAST = 1, 2, 3, 4, 1_000

StartServer = Callable[..., AutogradServiceStub]


def slow_steps() -> list[Step]:
    steps: list[Step] = []
    for handle in range(LAST, LAST + 4000):
        steps += [op("mm", [BIG, BIG], handle), release(handle)]
    return steps


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return refusal_of_call(caught.value).reason


def test_two_sessions_never_see_each_other(stub: AutogradServiceStub) -> None:
    one, other = Client.open(stub), Client.open(stub)
    for client, start in ((one, 2.0), (other, 5.0)):
        client.run(put(X, [start], requires_grad=True), op("pow", [X], Y, exponent=2))
    one.run(backward(Y))
    found = [client.run(get_grad(X, G), fetch(Y, G)) for client in (one, other)]
    assert [(y.value, g.value) for y, g in found] == [([4.0], [4.0]), ([25.0], None)]
    one.run(put(LAST, [1.0]))
    assert other.refused(fetch(LAST)).reason == "HANDLE_NOT_FOUND"
    stub.DeleteSession(pb.DeleteSessionRequest(session_id=one.id))
    assert other.still_works()


def test_sessions_side_by_side_under_load_keep_their_own_numbers(
    stub: AutogradServiceStub,
) -> None:
    faults: list[object] = []

    def work(start: float) -> None:
        client = Client.open(stub)
        client.run(put(X, np.full(2000, start)))
        for round_ in range(1, 51):
            (x,) = client.run(op("add_", [X], other=1), fetch(X))
            if x.value is None or not (x.value == start + round_).all():
                faults.append((start, round_, x.value))

    threads = [threading.Thread(target=work, args=(1000.0 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_a_slow_sequence_in_one_session_does_not_hold_up_another(
    stub: AutogradServiceStub,
) -> None:
    slow, fast = Client.open(stub), Client.open(stub)
    with slow.stream() as stream:
        stream.run(put(BIG, np.ones((500, 500))))
        number = stream.start(*slow_steps())
        assert fast.still_works()
        # That it can still be cancelled shows that it had not ended when the other was answered.
        stream.cancel(number)
        refusal = stream.receive().refusal
        assert refusal is not None
        assert refusal.reason == "CANCELLED"


def test_a_long_sequence_of_small_steps_does_not_hold_up_another_session(
    stub: AutogradServiceStub,
) -> None:
    long, fast = Client.open(stub), Client.open(stub)
    with long.stream() as stream:
        stream.run(put(X, [0.0]))
        numbers = [
            stream.start(*[op("add_", [X], other=1)] * 50_000, acknowledged=index)
            for index in range(20)
        ]
        assert fast.still_works()
        for number in reversed(numbers):
            stream.cancel(number)
        refusals = [stream.receive().refusal for _ in numbers]
        assert refusals[-1] is not None
        assert refusals[-1].reason == "CANCELLED"


def test_a_session_is_described(client: Client) -> None:
    client.run(put(X, np.ones(1000)), op("reshape", [X], Y, shape=(10, 100)), put(G, [1.0, 2.0]))
    session = client.stub.GetSession(pb.GetSessionRequest(session_id=client.id)).session
    assert session.id == client.id
    assert session.last_number == 1
    assert session.tensor_count == 3
    assert session.tensor_bytes == 4008  # a view shares the storage of its base
    assert session.expire_time.ToSeconds() > session.create_time.ToSeconds()


def test_sessions_are_listed_in_pages_oldest_first(start_server: StartServer) -> None:
    stub = start_server()
    names = [f"session {index}" for index in range(5)]
    for name in names:
        Client.open(stub, display_name=name)
    found, token = [], ""
    while True:
        page = stub.ListSessions(pb.ListSessionsRequest(page_size=2, page_token=token))
        found += [each.display_name for each in page.sessions]
        token = page.next_page_token
        if not token:
            break
    assert found == names
    assert len(stub.ListSessions(pb.ListSessionsRequest()).sessions) == 5


@pytest.mark.parametrize("token", ["nonsense", "bm9uc2Vuc2U=", "é"])
def test_a_page_token_of_ones_own_making_is_refused(stub: AutogradServiceStub, token: str) -> None:
    for call in (
        lambda: stub.ListSessions(pb.ListSessionsRequest(page_token=token)),
        lambda: stub.ListOperators(pb.ListOperatorsRequest(page_token=token)),
    ):
        assert refused(call) == "BAD_PAGE_TOKEN"


def test_a_page_token_of_a_server_with_more_workers_is_refused(stub: AutogradServiceStub) -> None:
    token = make_numbers(b"ListSessions", 7, 0)
    request = pb.ListSessionsRequest(page_token=token)
    assert refused(lambda: stub.ListSessions(request)) == "BAD_PAGE_TOKEN"


def test_a_deleted_session_is_gone_for_good(client: Client) -> None:
    with client.stream() as stream:
        assert stream.run(put(X, [1.0])).refusal is None
        client.stub.DeleteSession(pb.DeleteSessionRequest(session_id=client.id))
        stream.start(fetch(X))
        assert refused(stream.receive) == "SESSION_NOT_FOUND"
    again = pb.DeleteSessionRequest(session_id=client.id)
    assert refused(lambda: client.stub.DeleteSession(again)) == "SESSION_NOT_FOUND"


def test_deleting_a_session_ends_what_runs_and_waits_in_it(client: Client) -> None:
    with client.stream() as stream:
        stream.run(put(BIG, np.ones((500, 500))))
        stream.start(*slow_steps())
        stream.start(put(X, [1.0]))
        client.until_taken_in()
        client.stub.DeleteSession(pb.DeleteSessionRequest(session_id=client.id))
        answers = [stream.receive() for _ in range(2)]
    assert [each.refusal and each.refusal.reason for each in answers] == ["SESSION_NOT_FOUND"] * 2


def test_an_idle_session_expires(stub: AutogradServiceStub) -> None:
    client = Client.open(stub, ttl={"nanos": 300_000_000})
    client.run(put(X, [1.0]))

    def describe_until_it_is_gone() -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            stub.GetSession(pb.GetSessionRequest(session_id=client.id))
            time.sleep(0.05)

    # Describing a session does not renew its lease, or this would not end with an error.
    assert refused(describe_until_it_is_gone) == "SESSION_NOT_FOUND"


def test_a_session_that_is_used_or_kept_alive_does_not_expire(stub: AutogradServiceStub) -> None:
    ttl = 2.0
    used, kept = (Client.open(stub, ttl={"seconds": int(ttl)}) for _ in range(2))
    used.run(put(X, [1.0]))
    end = time.monotonic() + 1.5 * ttl
    while time.monotonic() < end:
        used.run(fetch(X))
        stub.KeepAlive(pb.KeepAliveRequest(session_id=kept.id))
        time.sleep(0.1)
    for client in (used, kept):
        stub.GetSession(pb.GetSessionRequest(session_id=client.id))


def test_a_session_does_not_expire_while_it_works(stub: AutogradServiceStub) -> None:
    steps = [put(BIG, np.ones((500, 500))), put(X, [1.0]), *slow_steps()]
    client = Client.open(stub, ttl={"seconds": 1})
    with client.stream() as stream:
        stream.start(*steps, timeout={"seconds": 2})
        refusal = stream.receive().refusal
        assert refusal is not None
        assert refusal.reason == "DEADLINE_EXCEEDED"
        assert stream.run(fetch(X)).refusal is None


def test_the_time_to_live_is_granted_up_to_the_maximum(start_server: StartServer) -> None:
    stub = start_server(default_ttl_seconds=60, max_ttl_seconds=100)
    granted = [
        stub.CreateSession(pb.CreateSessionRequest(ttl=ttl))
        .session.ttl.ToTimedelta()
        .total_seconds()
        for ttl in (None, {"seconds": 30}, {"seconds": 1000})
    ]
    assert granted == [60, 30, 100]


def test_a_seed_makes_random_tensors_repeatable(stub: AutogradServiceStub) -> None:
    drawn = []
    for seed in (7, 7, 8):
        client = Client.open(stub, seed=seed)
        (x,) = client.run(op("randn", [], X, size=(4,)), fetch(X))
        drawn.append(x.value)
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).all()


def test_a_connection_that_breaks_does_not_end_the_session(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        client = Client.open(AutogradServiceStub(channel))
        client.run(put(X, [4.0]))
    with grpc.insecure_channel(address) as channel:
        client.stub = AutogradServiceStub(channel)
        assert client.values(X) == [[4.0]]
