"""A server that has no room is waited for; what was sent to it meanwhile runs, and runs once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import numpy as np
import pytest

import gradwire as gw
from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from gradwire_server.embedded import EmbeddedServer
from tests.service.harness import (
    TIMEOUT,
    Client,
    Stream,
    fetch,
    op,
    put,
    refusal_of_call,
    sequence,
)

PART = np.ones(12_500)
"""100 kB: one has room on the server, two have not."""


@contextmanager
def busy_server() -> Iterator[tuple[str, Callable[[], None]]]:
    """A server full of one client's backward, until it is told to go on."""
    held, go_on = threading.Event(), threading.Event()

    def hook(grad: gw.Tensor) -> None:
        held.set()
        assert go_on.wait(TIMEOUT)

    def hold(address: str) -> None:
        with gw.connect(address, name="holds"):
            x = gw.tensor(PART, requires_grad=True)
            x.register_hook(hook)
            x.sum().backward()

    with EmbeddedServer.start(address="127.0.0.1:0", max_pending_bytes=150_000) as server:
        holding = threading.Thread(target=hold, args=(server.address,))
        holding.start()
        try:
            assert held.wait(TIMEOUT)
            message, payloads = sequence(0, put(1, PART, dtype="f8"))
            request = pb.RunRequest(sequence=message, payloads=payloads)
            with grpc.insecure_channel(server.address) as channel:
                run = AutogradServiceStub(channel).Run
                with pytest.raises(grpc.RpcError) as caught:
                    run(request, timeout=TIMEOUT)
            assert refusal_of_call(caught.value).reason == "QUEUE_FULL"
            yield server.address, go_on.set
        finally:
            go_on.set()
            holding.join()


def work(session: gw.Session | gw.aio.Session) -> gw.Tensor:
    """Several sequences, sent one behind the other; the gradient shows how often they ran."""
    x = session.tensor([1.0], requires_grad=True)
    for _ in range(3):
        y = x * session.tensor(PART, dtype=gw.float32).sum()
        y.sum().backward()
    return x


def test_a_client_waits_for_room_unseen() -> None:
    with busy_server() as (address, go_on), gw.connect(address) as session:
        timer = threading.Timer(0.3, go_on)
        timer.start()
        x = work(session)
        assert x.grad is not None
        assert x.grad.item() == 3 * len(PART)
        timer.join()


def test_a_client_that_awaits_waits_for_room_unseen() -> None:
    async def run(address: str, go_on: Callable[[], None]) -> None:
        async with await gw.aio.connect(address) as session:
            asyncio.get_running_loop().call_later(0.3, go_on)
            x = work(session)
            grad = await x.get_grad()
            assert await grad.item() == 3 * len(PART)

    with busy_server() as (address, go_on):
        asyncio.run(run(address, go_on))


def test_a_large_tensor_waits_for_room_too() -> None:
    with (
        busy_server() as (address, go_on),
        gw.connect(address) as session,
    ):
        session.limits.max_message_bytes = 50_000
        timer = threading.Timer(0.3, go_on)
        timer.start()
        assert session.tensor(PART).sum().item() == len(PART)
        timer.join()


def test_a_client_does_not_wait_for_ever() -> None:
    with busy_server() as (address, go_on):
        session = gw.connect(address, retry_timeout=0.3)
        x = work(session)
        started = time.monotonic()
        with pytest.raises(gw.errors.OverloadedError, match="max_pending_bytes") as caught:
            x.sum().item()
        assert time.monotonic() - started < TIMEOUT
        assert caught.value.retry_after is not None
        # Nothing is lost: it runs as soon as there is room.
        go_on()
        assert x.grad is not None
        assert x.grad.item() == 3 * len(PART)
        session.close()


def unread(stub: AutogradServiceStub, count: int) -> tuple[Client, Stream]:
    """A stream that has asked for a tensor of 4 MB so often, and reads nothing of it."""
    client = Client.open(stub)
    client.run(put(1, np.zeros(1_000_000)))
    stream = client.stream()
    # What is too much for the event loop comes first, so that the others queue up behind it.
    stream.start(op("cumsum", [1], 2, dim=0), fetch(2))
    for _ in range(count - 1):
        stream.start(fetch(1))
    return client, stream


def ran(client: Client) -> int:
    request = pb.GetSessionRequest(session_id=client.id)
    return int(client.stub.GetSession(request, timeout=TIMEOUT).session.last_number)


def test_a_session_does_not_run_ahead_of_a_client_that_does_not_read(
    start_server: Callable[..., AutogradServiceStub],
) -> None:
    client, stream = unread(start_server(), 60)
    with stream:
        before = -1
        while before != (before := ran(client)):
            time.sleep(0.5)
        assert before < 40
        numbers = [stream.receive().number for _ in range(60)]
        assert numbers == list(range(2, 62))
        assert stream.run(fetch(1)).number == 62


def test_a_client_that_never_reads_is_taken_for_gone(
    start_server: Callable[..., AutogradServiceStub],
) -> None:
    client, stream = unread(start_server(transfer_seconds=0.2), 60)
    with stream:
        time.sleep(1)
        with pytest.raises(grpc.RpcError) as raised:
            list(stream.call)
        assert refusal_of_call(raised.value).reason == "STREAM_UNREAD"
        # What had not been taken in is to be sent again, and goes on from there.
        client.number = ran(client)
        assert client.still_works()


def test_a_session_that_waits_for_its_client_can_be_deleted(
    start_server: Callable[..., AutogradServiceStub],
) -> None:
    stub = start_server()
    client, stream = unread(stub, 60)
    with stream:
        before = -1
        while before != (before := ran(client)):
            time.sleep(0.5)
        stub.DeleteSession(pb.DeleteSessionRequest(session_id=client.id), timeout=TIMEOUT)
        stream.start(fetch(1))
        with pytest.raises(grpc.RpcError) as raised:
            list(stream.call)
        assert refusal_of_call(raised.value).reason == "SESSION_NOT_FOUND"
