"""Tensors that are too large for a message travel in pieces: by contract, and in the SDK unseen."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import google_crc32c
import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

import gradwire as gw
from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from gradwire_server.embedded import EmbeddedServer
from tests.service.harness import (
    TIMEOUT,
    Client,
    Refusal,
    fetch,
    op,
    put,
    refusal_of_call,
    release,
    sequence,
)
from tests.service.sdk import Proxy
from tests.service.test_mutated_bytes import mutated
from tests.service.test_sdk_interrupt import interrupted

StartServer = Callable[..., AutogradServiceStub]

X, Y, Z = 1, 2, 3
VALUES = np.random.default_rng(0).standard_normal((300, 50))
DATA = VALUES.tobytes()
SMALL_MESSAGES = 16 << 10


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """A server whose messages are small, so that tensors of 120 kB travel in pieces."""
    settings: dict[str, Any] = {"address": "127.0.0.1:0", "max_message_bytes": SMALL_MESSAGES}
    with EmbeddedServer.start(**settings) as running:
        yield running


@pytest.fixture
def small(server: EmbeddedServer) -> Iterator[Client]:
    with grpc.insecure_channel(server.address) as channel:
        yield Client.open(AutogradServiceStub(channel))


def piece(offset: int, data: bytes, **fields: Any) -> pb.UploadRequest:
    checksum = google_crc32c.value(data)
    return pb.UploadRequest(**{"offset": offset, "data": data, "checksum": checksum, **fields})


def pieces(
    client: Client,
    number: int = 1,
    start: int = 0,
    end: int = len(DATA),
    data: bytes = DATA,
    size: int = 10_000,
) -> list[pb.UploadRequest]:
    """The messages that bring a part of the data."""
    found = [piece(at, data[at : min(at + size, end)]) for at in range(start, end, size)]
    found = found or [pb.UploadRequest()]
    found[0].session_id = client.id
    found[0].upload = number
    found[0].total_bytes = len(data)
    return found


def upload(client: Client, *requests: pb.UploadRequest) -> int:
    response = client.stub.Upload(iter(requests), timeout=TIMEOUT)
    return int(response.received_bytes)


def refused(call: Callable[[], object]) -> Refusal:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return refusal_of_call(caught.value)


def put_upload(handle: int, number: int = 1, **fields: Any) -> pb.Step:
    message = pb.Put(output=handle, dtype=pb.DTYPE_FLOAT64, shape=VALUES.shape, upload=number)
    message.MergeFrom(pb.Put(**fields))
    return pb.Step(put=message)


def fetch_any(*tensors: int) -> pb.Step:
    return pb.Step(fetch=pb.Fetch(tensors=tensors, values=True, downloads=True))


def numbers(client: Client, *tensors: int) -> list[int]:
    """The downloads of tensors that are fetched; 0 where the value was in the answer."""
    client.number += 1
    message, _ = sequence(client.number, fetch_any(*tensors))
    response = client.stub.Run(pb.RunRequest(session_id=client.id, sequence=message))
    return [each.value.download for each in response.result.fetched]


def download(client: Client, number: int, offset: int = 0) -> bytes:
    request = pb.DownloadRequest(session_id=client.id, download=number, offset=offset)
    found = b""
    for each in client.stub.Download(request, timeout=TIMEOUT):
        assert each.offset == offset + len(found)
        assert each.checksum == google_crc32c.value(each.data)
        assert each.ByteSize() <= SMALL_MESSAGES
        found += each.data
    return found


def total(client: Client, handle: int) -> float:
    """The sum of a tensor."""
    (found,) = client.run(op("sum", [handle], 900), fetch(900), release(900))
    assert found.value is not None
    return float(found.value)


def test_an_upload_becomes_a_tensor_in_the_order_of_the_steps(small: Client) -> None:
    assert upload(small, *pieces(small)) == len(DATA)
    small.run(
        put(Z, np.ones(50), dtype="f8"),
        put_upload(X, requires_grad=True),
        op("mul", [X, Z], Y),
        op("sum", [Y], 4),
        pb.Step(backward=pb.Backward(tensors=[4])),
        pb.Step(get_grad=pb.GetGrad(tensors=[X], outputs=[5])),
    )
    assert total(small, X) == pytest.approx(VALUES.sum())
    assert total(small, 5) == VALUES.size
    # It is used up.
    assert small.refused(put_upload(6)).reason == "TRANSFER_NOT_FOUND"


def test_what_was_uploaded_may_be_changed_in_place(small: Client) -> None:
    upload(small, *pieces(small))
    small.run(put_upload(X), op("mul_", [X], other=2))
    assert total(small, X) == pytest.approx(2 * VALUES.sum())


def test_an_upload_goes_on_where_it_ended(small: Client) -> None:
    assert upload(small, *pieces(small, end=35_000)) == 35_000
    assert upload(small, *pieces(small, end=0)) == 35_000
    refusal = small.refused(put_upload(X))
    assert (refusal.code_name, refusal.reason) == ("FAILED_PRECONDITION", "TRANSFER_INCOMPLETE")
    assert refusal.metadata["received_bytes"] == "35000"
    assert refusal.field == "steps[0].put.upload"
    assert upload(small, *pieces(small, start=35_000)) == len(DATA)
    assert upload(small, *pieces(small, end=0)) == len(DATA)
    small.run(put_upload(Y))
    assert total(small, Y) == pytest.approx(VALUES.sum())


def test_pieces_may_come_twice(small: Client) -> None:
    assert upload(small, *pieces(small, end=35_000), piece(20_000, DATA[20_000:30_000])) == 35_000
    assert upload(small, *pieces(small, start=10_000)) == len(DATA)
    assert upload(small, *pieces(small)) == len(DATA)
    small.run(put_upload(X))
    assert total(small, X) == pytest.approx(VALUES.sum())


def test_a_put_that_fails_leaves_the_upload(small: Client) -> None:
    upload(small, *pieces(small))
    wrong = pb.Step(put=pb.Put(output=X, dtype=pb.DTYPE_FLOAT64, shape=[3], upload=1))
    assert small.refused(wrong).reason == "PAYLOAD_MISMATCH"
    small.run(put_upload(Y))
    assert total(small, Y) == pytest.approx(VALUES.sum())


@pytest.mark.parametrize(
    ("reason", "field", "make"),
    [
        ("CHECKSUM_MISMATCH", "checksum", lambda: piece(1000, b"abc", checksum=7)),
        ("TRANSFER_INCOMPLETE", "offset", lambda: piece(1001, b"abc")),
        ("PAYLOAD_MISMATCH", "data", lambda: piece(1000, bytes(len(DATA)))),
        ("MESSAGE_TOO_LARGE", "", lambda: piece(1000, bytes(SMALL_MESSAGES))),
    ],
)
def test_a_piece_that_does_not_fit_is_refused_and_nothing_of_it_taken(
    server: EmbeddedServer,
    small: Client,
    reason: str,
    field: str,
    make: Callable[[], pb.UploadRequest],
) -> None:
    if reason == "PAYLOAD_MISMATCH":
        tail = piece(1000, DATA[1000:2000] + b"more than there is")
        first = pieces(small, end=1000, data=DATA[:2000])
        refusal = refused(lambda: upload(small, *first, tail))
        rest = pieces(small, end=0, data=DATA[:2000])
    else:
        refusal = refused(lambda: upload(small, *pieces(small, end=1000), make()))
        rest = pieces(small, end=0)
    assert (refusal.reason, refusal.field) == (reason, field)
    assert upload(small, *rest) == 1000


def test_a_wrong_checksum_is_a_loss_of_data(small: Client) -> None:
    wrong = pieces(small, end=1000)
    wrong[0].checksum ^= 1
    assert refused(lambda: upload(small, *wrong)).code_name == "DATA_LOSS"


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"upload": 0}, "BAD_VALUE", "upload"),
        ({"total_bytes": 0}, "BAD_VALUE", "total_bytes"),
        ({"total_bytes": 1 << 62}, "LIMIT_EXCEEDED", "total_bytes"),
        ({"session_id": "nobody"}, "SESSION_NOT_FOUND", "session_id"),
        ({"session_id": ""}, "SESSION_NOT_FOUND", "session_id"),
    ],
)
def test_an_upload_that_cannot_be_is_refused(
    small: Client, fields: dict[str, Any], reason: str, field: str
) -> None:
    (first,) = pieces(small, end=0)
    for name, value in fields.items():
        setattr(first, name, value)
    refusal = refused(lambda: upload(small, first))
    assert (refusal.reason, refusal.field) == (reason, field)
    assert small.still_works()


def test_an_upload_keeps_its_length(small: Client) -> None:
    upload(small, *pieces(small, end=10_000))
    other = pieces(small, end=10_000)
    other[0].total_bytes += 8
    refusal = refused(lambda: upload(small, *other))
    assert (refusal.reason, refusal.field) == ("BAD_VALUE", "total_bytes")


def test_a_call_without_a_request_is_refused(small: Client) -> None:
    assert refused(lambda: upload(small)).reason == "MALFORMED_REQUEST"


def test_memory_of_an_upload_counts_before_it_is_taken(start_server: StartServer) -> None:
    client = Client.open(start_server(max_session_bytes=300_000))
    upload(client, *pieces(client, 1, end=0))
    upload(client, *pieces(client, 2, end=0))
    refusal = refused(lambda: upload(client, *pieces(client, 3, end=0)))
    assert (refusal.reason, refusal.metadata["limit"]) == ("LIMIT_EXCEEDED", "max_session_bytes")
    refusal = client.refused(op("zeros", [], X, size=(20_000,)))
    assert refusal.metadata["limit"] == "max_session_bytes"
    client.run(pb.Step(release=pb.Release(uploads=[1, 77])))
    upload(client, *pieces(client, 3))
    client.run(put_upload(Y, 3), release(Y))
    upload(client, *pieces(client, 4))


def test_there_is_a_limit_of_transfers(start_server: StartServer) -> None:
    client = Client.open(start_server(max_transfers=2, max_message_bytes=SMALL_MESSAGES))
    upload(client, *pieces(client, 1))
    client.run(put_upload(X))
    upload(client, *pieces(client, 2, end=0))
    assert numbers(client, X) != [0]
    for refusal in (
        refused(lambda: upload(client, *pieces(client, 3, end=0))),
        client.refused(fetch_any(X)),
    ):
        assert (refusal.reason, refusal.metadata["limit"]) == ("LIMIT_EXCEEDED", "max_transfers")


def test_uploads_of_all_sessions_count_among_what_waits(start_server: StartServer) -> None:
    stub = start_server(max_pending_bytes=200_000)
    first, second = Client.open(stub), Client.open(stub)
    upload(first, *pieces(first, end=0))
    refusal = refused(lambda: upload(second, *pieces(second, end=0)))
    assert (refusal.reason, refusal.metadata["limit"]) == ("QUEUE_FULL", "max_pending_bytes")
    assert refusal.detail(error_details_pb2.RetryInfo)
    stub.DeleteSession(pb.DeleteSessionRequest(session_id=first.id))
    assert upload(second, *pieces(second)) == len(DATA)
    second.run(put_upload(X))
    upload(second, *pieces(second, 2))


def test_what_nobody_goes_on_with_is_dropped(start_server: StartServer) -> None:
    stub = start_server(
        transfer_seconds=0.2, max_message_bytes=SMALL_MESSAGES, max_pending_bytes=200_000
    )
    client, other = Client.open(stub), Client.open(stub)
    upload(client, *pieces(client, 1))
    client.run(put_upload(X))
    (number,) = numbers(client, X)
    upload(client, *pieces(client, 2, end=10_000))
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        with suppress(grpc.RpcError):
            upload(other, *pieces(other, end=0))
            break
        time.sleep(0.05)
    assert client.refused(put_upload(Y, 2)).reason == "TRANSFER_NOT_FOUND"
    refusal = refused(lambda: download(client, number))
    assert (refusal.code_name, refusal.reason) == ("NOT_FOUND", "TRANSFER_NOT_FOUND")


def test_a_value_that_does_not_fit_is_downloaded(small: Client) -> None:
    upload(small, *pieces(small))
    small.run(put_upload(X), op("sum", [X], Y))
    number, inline = numbers(small, X, Y)
    assert inline == 0
    assert download(small, number) == DATA
    assert download(small, number, offset=33_333) == DATA[33_333:]
    assert download(small, number, offset=len(DATA)) == b""


def test_values_that_fit_stay_in_the_answer(small: Client) -> None:
    small.run(op("zeros", [], X, size=(600,)), op("ones", [], Y, size=(4000,)), op("neg", [X], Z))
    assert [number != 0 for number in numbers(small, X, Y, Z)] == [False, True, False]


def test_a_download_is_the_value_as_it_was_fetched(small: Client) -> None:
    upload(small, *pieces(small))
    small.run(put_upload(X))
    small.number += 1
    message, _ = sequence(
        small.number,
        fetch_any(X),
        op("mul_", [X], other=2),
        fetch_any(X, X),
        op("mul_", [X], other=2),
        release(X),
    )
    response = small.stub.Run(pb.RunRequest(session_id=small.id, sequence=message))
    before, after, again = [each.value.download for each in response.result.fetched]
    assert download(small, before) == DATA
    assert download(small, after) == download(small, again) == (VALUES * 2).tobytes()


def test_copies_for_downloads_count(start_server: StartServer) -> None:
    client = Client.open(start_server(max_session_bytes=300_000, max_message_bytes=SMALL_MESSAGES))
    for number in (1, 2):
        upload(client, *pieces(client, number))
        client.run(put_upload(number, number))
    numbers(client, X)
    refusal = client.refused(op("mul_", [X], other=2))
    assert (refusal.reason, refusal.metadata["limit"]) == ("LIMIT_EXCEEDED", "max_session_bytes")
    client.run(pb.Step(release=pb.Release(downloads=[1])), op("mul_", [X], other=2))


def test_any_layout_is_downloaded_contiguous(small: Client) -> None:
    upload(small, *pieces(small))
    small.run(put_upload(X), op("t", [X], Y))
    (number,) = numbers(small, Y)
    assert download(small, number) == VALUES.T.tobytes()


def test_a_repeated_fetch_names_the_same_download(small: Client) -> None:
    upload(small, *pieces(small))
    small.run(put_upload(X))
    first = numbers(small, X)
    small.number -= 1
    assert numbers(small, X) == first


def test_a_released_download_is_gone(small: Client) -> None:
    upload(small, *pieces(small))
    small.run(put_upload(X))
    (number,) = numbers(small, X)
    small.run(pb.Step(release=pb.Release(downloads=[number, 99])))
    assert refused(lambda: download(small, number)).reason == "TRANSFER_NOT_FOUND"


def test_an_offset_behind_the_end_is_refused(small: Client) -> None:
    upload(small, *pieces(small))
    small.run(put_upload(X))
    (number,) = numbers(small, X)
    refusal = refused(lambda: download(small, number, offset=len(DATA) + 1))
    assert (refusal.reason, refusal.field) == ("BAD_VALUE", "offset")


def test_an_ephemeral_session_has_no_downloads(small: Client) -> None:
    message, payloads = sequence(0, op("zeros", [], X, size=(9000,)), fetch_any(X))
    request = pb.RunRequest(sequence=message, payloads=payloads)
    assert refused(lambda: small.stub.Run(request)).reason == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize("seed", range(2))
def test_messages_with_changed_bytes_are_answered_or_refused(
    server: EmbeddedServer, small: Client, seed: int
) -> None:
    upload(small, *pieces(small))
    small.run(put_upload(X))
    (number,) = numbers(small, X)
    piece = pieces(small, 2, data=DATA[:3000])[0].SerializeToString()
    asked = pb.DownloadRequest(session_id=small.id, download=number, offset=110_000)
    rng = random.Random(seed)
    with grpc.insecure_channel(server.address) as channel:
        send = channel.stream_unary("/gradwire.v1.AutogradService/Upload")
        read = channel.unary_stream("/gradwire.v1.AutogradService/Download")
        calls: list[Callable[[], object]] = [
            lambda: send(iter([mutated(piece, rng)]), timeout=TIMEOUT),
            lambda: list(read(mutated(asked.SerializeToString(), rng), timeout=TIMEOUT)),
        ]
        reasons = {reason_of(call) for _ in range(100) for call in calls}
    assert "CHECKSUM_MISMATCH" in reasons
    assert "MALFORMED_REQUEST" in reasons
    assert "INTERNAL" not in reasons
    assert download(small, number) == DATA


def reason_of(call: Callable[[], object]) -> str:
    """Why a call was refused; empty where it was not."""
    try:
        call()
    except grpc.RpcError as error:
        return refusal_of_call(error).reason
    return ""


# The SDK: nothing of this is seen.


@pytest.fixture
def session(server: EmbeddedServer) -> Iterator[gw.Session]:
    with gw.connect(server.address) as opened:
        yield opened


@pytest.mark.parametrize("code", ["?", "i1", "i8", "f4", "f8", "c16"])
def test_large_tensors_go_and_come(session: gw.Session, code: str) -> None:
    array = (VALUES * 3).astype(code)
    tensor = gw.tensor(array)
    np.testing.assert_array_equal(tensor.numpy(), array)
    np.testing.assert_array_equal(gw.fetch(tensor.T, tensor)[0], array.T)
    assert tensor.numpy().dtype == array.dtype
    assert not tensor.numpy().flags.writeable


def test_large_gradients(session: gw.Session) -> None:
    x = gw.tensor(VALUES, requires_grad=True)
    ((x + 2) ** 2).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), 2 * (VALUES + 2))


def test_what_is_read_is_forgotten_at_the_server() -> None:
    with (
        EmbeddedServer.start(
            address="127.0.0.1:0", max_message_bytes=SMALL_MESSAGES, max_transfers=2
        ) as server,
        gw.connect(server.address),
    ):
        tensor = gw.tensor(VALUES)
        for _ in range(5):
            np.testing.assert_array_equal(tensor.numpy(), VALUES)


def test_memory_that_is_released_may_be_used_by_the_next_tensor() -> None:
    with (
        EmbeddedServer.start(
            address="127.0.0.1:0", max_message_bytes=SMALL_MESSAGES, max_session_bytes=200_000
        ) as server,
        gw.connect(server.address),
    ):
        for _ in range(3):
            tensor = gw.tensor(VALUES)
            del tensor
        kept = gw.tensor(VALUES)
        with pytest.raises(gw.errors.LimitError, match="max_session_bytes") as caught:
            gw.tensor(VALUES)
        assert caught.value.metadata["limit"] == "max_session_bytes"
        np.testing.assert_array_equal(kept.numpy(), VALUES)


def test_a_hook_may_use_large_tensors(session: gw.Session) -> None:
    x = gw.tensor(VALUES, requires_grad=True)
    seen: list[np.ndarray] = []

    def hook(grad: gw.Tensor) -> gw.Tensor:
        seen.append(grad.numpy())
        return grad * gw.tensor(VALUES)

    x.register_hook(hook)
    (x * 3).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), 3 * VALUES)
    np.testing.assert_array_equal(seen[0], np.full(VALUES.shape, 3.0))


LARGE = np.random.default_rng(1).standard_normal(100_000)


@pytest.mark.parametrize("awaited", [False, True], ids=["blocking", "awaited"])
def test_a_lost_connection_is_taken_up_where_it_broke(
    server: EmbeddedServer, awaited: bool
) -> None:
    proxy = Proxy(server.address)

    def break_twice() -> None:
        proxy.cut_after(600_000, 150_000)

    def blocking() -> None:
        with gw.connect(proxy.address) as session:
            break_twice()
            tensor = session.tensor(LARGE)
            session.synchronize()
            check()
            break_twice()
            np.testing.assert_array_equal(tensor.numpy(), LARGE)
            check()

    async def awaiting() -> None:
        async with await gw.aio.connect(proxy.address) as session:
            break_twice()
            tensor = session.tensor(LARGE)
            await session.synchronize()
            check()
            break_twice()
            found, _ = await gw.aio.fetch(tensor, tensor.sum())
            np.testing.assert_array_equal(found, LARGE)
            check()

    def check() -> None:
        assert proxy.cuts_left == 0
        # Had it begun anew each time, 600 kB and 750 kB more would have gone over.
        assert LARGE.nbytes < proxy.forwarded < LARGE.nbytes + 1_000_000

    if awaited:
        asyncio.run(awaiting())
    else:
        blocking()


def test_a_refused_upload_is_reported_where_its_tensor_was_made(server: EmbeddedServer) -> None:
    async def run() -> None:
        async with await gw.aio.connect(small.address) as session:
            kept = session.tensor(VALUES)
            refused = session.tensor(VALUES)  # here
            with pytest.raises(gw.errors.LimitError, match="max_session_bytes") as caught:
                await (refused * 2).item()
            assert caught.value.location is not None
            assert "# here" in caught.value.location.source
            np.testing.assert_array_equal(await gw.aio.fetch(kept), VALUES)

    with EmbeddedServer.start(
        address="127.0.0.1:0", max_message_bytes=SMALL_MESSAGES, max_session_bytes=200_000
    ) as small:
        asyncio.run(run())


def test_what_is_recorded_behind_uploads_waits_for_them(server: EmbeddedServer) -> None:
    async def run() -> None:
        async with await gw.aio.connect(server.address) as session:
            array = VALUES.copy()
            made = [session.tensor(array + i, requires_grad=True) for i in range(3)]
            aside = session.tensor(array)
            array[:] = 0  # recording has taken a copy
            loss = sum((t.sum() for t in made), aside.sum())
            loss.backward()
            assert await loss.item() == pytest.approx(4 * VALUES.sum() + 3 * VALUES.size)
            in_thread = await asyncio.to_thread(lambda: gw.fetch(session.tensor(VALUES)))
            np.testing.assert_array_equal(in_thread, VALUES)

    asyncio.run(run())


def test_a_session_may_be_closed_while_tensors_are_on_their_way(server: EmbeddedServer) -> None:
    async def run() -> None:
        session = await gw.aio.connect(server.address)
        session.tensor(LARGE)
        await session.close()

    asyncio.run(run())


def test_a_server_without_transfers_is_told_apart(session: gw.Session) -> None:
    session.features -= {"transfers"}
    with pytest.raises(gw.errors.LimitError, match="does not fit into one message"):
        gw.tensor(VALUES)


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_an_interrupted_transfer_is_over(server: EmbeddedServer, direction: str) -> None:
    proxy = Proxy(server.address)
    with gw.connect(proxy.address) as session:
        made = session.tensor(LARGE)
        assert made.sum().item() == pytest.approx(LARGE.sum())
        with interrupted():
            proxy.flowing.clear()
            made.numpy() if direction == "download" else session.tensor(LARGE)
        proxy.flowing.set()
        np.testing.assert_array_equal(made.numpy(), LARGE)
        np.testing.assert_array_equal(session.tensor(LARGE + 1).numpy(), LARGE + 1)
