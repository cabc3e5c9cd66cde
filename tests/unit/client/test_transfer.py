"""Transfers in pieces: what is sent, what is taken in, and how they survive what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradwire import transfer, wire
from gradwire.core import SessionCore
from gradwire.errors import GradwireError, LimitError, TransferError, UnavailableError
from gradwire.transport import Retry
from gradwire.v1 import autograd_pb2 as pb

DATA = np.random.default_rng(0).bytes(10_000)
MESSAGE = 2048
RESULT = pb.TensorValue(dtype=pb.DTYPE_UINT8, shape=[100, 100], download=3)


class Server:
    """A server, and the session that reaches it, whose calls go wrong as they are told to."""

    id = "s"
    limits = pb.Limits(max_message_bytes=MESSAGE)

    def __init__(self, *faults: Callable[[int, bytes], bytes]) -> None:
        self.retry = Retry(timeout=5.0, first=0.0)
        self.received = bytearray()
        self.calls = 0
        self._faults = list(faults)
        self._sent = 0

    def _pass_on(self, message: bytes) -> bytes:
        self._sent += 1
        return self._faults[0](self._sent, message) if self._faults else message

    def _begin(self) -> None:
        self.calls += 1
        self._sent = 0
        assert self.calls < 20

    async def send_pieces(self, pieces: Iterator[bytes], timeout: float) -> bytes:
        self._begin()
        try:
            for at, message in enumerate(pieces):
                assert len(message) <= MESSAGE
                request, piece = wire.split_piece(pb.UploadRequest, self._pass_on(message))
                assert bool(request.session_id) == (at == 0)
                if piece and wire.checksum(piece) != request.checksum:
                    raise TransferError("changed", reason="CHECKSUM_MISMATCH", code="DATA_LOSS")
                assert request.offset <= len(self.received)
                self.received[request.offset :] = piece or self.received[request.offset :]
        except GradwireError:
            del self._faults[:1]
            raise
        return pb.UploadResponse(received_bytes=len(self.received)).SerializeToString()

    async def receive_pieces(
        self, request: bytes, take: Callable[[bytes], None], timeout: float
    ) -> None:
        self._begin()
        start = pb.DownloadRequest.FromString(request).offset
        try:
            for at in range(start, len(DATA), 1000):
                piece = DATA[at : at + 1000]
                header = pb.DownloadResponse(offset=at, checksum=wire.checksum(piece))
                take(self._pass_on(wire.encode_message(header, [piece])))
        except GradwireError:
            del self._faults[:1]
            raise

    async def pause(self, seconds: float) -> None:
        pass

    @property
    def session(self) -> SessionCore:
        return cast(SessionCore, self)

    def upload(self, data: bytes = DATA) -> None:
        asyncio.run(transfer.upload(self.session, transfer.Upload(self.session, 1, data)))

    def download(self, value: pb.TensorValue = RESULT) -> np.ndarray:
        return asyncio.run(transfer.download(self.session, value))


def after(count: int, fault: Callable[[bytes], bytes]) -> Callable[[int, bytes], bytes]:
    """A fault of the message that comes after so many."""
    return lambda sent, message: fault(message) if sent > count else message


def lost(message: bytes) -> bytes:
    raise UnavailableError("lost", code="UNAVAILABLE")


def broken_off(message: bytes) -> bytes:
    raise GradwireError("reset", code="INTERNAL")


def changed(message: bytes) -> bytes:
    return message[:-1] + bytes((message[-1] ^ 1,))


FAULTS = [
    (after(0, lost),),
    (after(3, lost), after(2, lost)),
    (after(4, broken_off),),
    (after(2, changed), after(0, changed), after(5, lost)),
]


@pytest.mark.parametrize("faults", FAULTS)
def test_an_upload_survives_what_goes_wrong(faults: Any) -> None:
    server = Server(*faults)
    server.upload()
    assert bytes(server.received) == DATA


@pytest.mark.parametrize("faults", FAULTS)
def test_a_download_survives_what_goes_wrong(faults: Any) -> None:
    found = Server(*faults).download()
    assert found.tobytes() == DATA
    assert found.shape == (100, 100)
    assert not found.flags.writeable


def test_what_cannot_be_mended_is_not_tried_again() -> None:
    def refuse(message: bytes) -> bytes:
        raise LimitError("no", reason="LIMIT_EXCEEDED", code="RESOURCE_EXHAUSTED")

    server = Server(after(1, refuse))
    with pytest.raises(LimitError):
        server.upload()
    assert server.calls == 1


def test_without_progress_it_is_given_up() -> None:
    server = Server(*[after(0, lost)] * 10)
    server.retry = Retry(timeout=0.0)
    with pytest.raises(UnavailableError, match="lost"):
        server.download()
    assert server.calls == 1


def test_a_piece_that_was_not_due_is_refused() -> None:
    def skip(message: bytes) -> bytes:
        header, piece = wire.split_piece(pb.DownloadResponse, message)
        header.offset += 1
        return wire.encode_message(header, [piece])

    with pytest.raises(GradwireError, match="those from 2000 were due") as caught:
        Server(after(2, skip)).download()
    assert caught.value.reason == "MALFORMED_REQUEST"


def test_more_than_was_described_is_refused() -> None:
    with pytest.raises(GradwireError, match="of 3000"):
        Server().download(pb.TensorValue(dtype=pb.DTYPE_UINT8, shape=[3000], download=3))


@pytest.mark.parametrize(
    "value",
    [
        pb.TensorValue(dtype=pb.DTYPE_UINT8, shape=[-1], download=3),
        pb.TensorValue(shape=[3], download=3),
    ],
)
def test_a_description_of_no_array_is_refused(value: pb.TensorValue) -> None:
    with pytest.raises(GradwireError, match="the server described no array"):
        Server().download(value)


@given(st.binary(min_size=1, max_size=3 * MESSAGE))
def test_any_data_is_sent_whole(data: bytes) -> None:
    server = Server()
    server.upload(data)
    assert bytes(server.received) == data


def test_the_checksum_is_crc_32c() -> None:
    assert wire.checksum(b"123456789") == 0xE3069283
    assert wire.checksum(memoryview(b"x123456789")[1:]) == 0xE3069283
    assert wire.checksum(np.frombuffer(b"123456789", np.uint8).copy().data) == 0xE3069283
