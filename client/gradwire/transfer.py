"""Tensors that are too large for a message: in pieces, resumed where the connection is lost.

Pure but for the last functions, which run on whatever transport the session has.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from gradwire import wire
from gradwire.codec import Fetched, decode_fetched
from gradwire.errors import GradwireError, UnavailableError, from_wire_error, refused
from gradwire.pipeline import Request
from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import Array, Payload

if TYPE_CHECKING:
    from gradwire.core import SessionCore

_CALL_SECONDS: Final = 30.0
_SLOWEST: Final = 1 << 20
"""Bytes a second below which a transfer is given up."""

_AGAIN: Final = frozenset({"QUEUE_FULL", "CHECKSUM_MISMATCH"})
"""Failures that another try may not meet."""


class Upload:
    """Data on its way to the server.

    Attributes:
        number: Its name in the session.
        data: What is sent.
        at: Bytes that the server is known to have.
        after: The last request that was sent before it; it may free the memory that this needs.
    """

    def __init__(self, session: "SessionCore", number: int, data: Payload) -> None:
        self.number = number
        self.data = data
        self.at = 0
        self.after: Request | None = None
        self._session_id = session.id
        self._piece = wire.piece_bytes(session.limits.max_message_bytes)

    @property
    def total(self) -> int:
        """Bytes of the whole."""
        return len(self.data)

    def question(self) -> Iterator[bytes]:
        """What asks how much the server has."""
        yield self._first().SerializeToString()

    def pieces(self) -> Iterator[bytes]:
        """What brings the server all that it does not have."""
        request = self._first()
        data = memoryview(self.data)
        for start in range(self.at, self.total, self._piece):
            piece = data[start : start + self._piece]
            request.offset = start
            request.checksum = wire.checksum(piece)
            yield wire.encode_message(request, [piece])
            request.Clear()

    def answered(self, data: bytes) -> None:
        """Note how much the server has."""
        self.at = pb.UploadResponse.FromString(data).received_bytes

    def _first(self) -> pb.UploadRequest:
        return pb.UploadRequest(
            session_id=self._session_id, upload=self.number, total_bytes=self.total
        )


class Download:
    """A value on its way from the server.

    Attributes:
        number: The server's name for it.
        value: The array, which fills.
        at: Bytes that are there.
    """

    def __init__(self, session: "SessionCore", value: pb.TensorValue) -> None:
        """Begin with nothing.

        Raises:
            GradwireError: the server described a value that cannot be.
        """
        self.number = value.download
        self.at = 0
        self._session_id = session.id
        try:
            self.value: Array = np.empty(tuple(value.shape), wire.dtype_from_wire(value.dtype))
        except ValueError as error:
            raise refused("BAD_VALUE", f"the server described no array: {error}") from None
        self._bytes = self.value.reshape(-1).view(np.uint8)

    @property
    def total(self) -> int:
        """Bytes of the whole."""
        return self.value.nbytes

    def request(self) -> bytes:
        """What asks for all that is not there."""
        return pb.DownloadRequest(
            session_id=self._session_id, download=self.number, offset=self.at
        ).SerializeToString()

    def take(self, data: bytes) -> None:
        """Take in a piece.

        Raises:
            GradwireError: it is not whole, or not the one that was due.
        """
        try:
            header, piece = wire.split_piece(pb.DownloadResponse, data)
        except wire.WireError as error:
            raise from_wire_error(error) from None
        end = self.at + len(piece)
        if header.offset != self.at or end > self.total:
            raise refused(
                "MALFORMED_REQUEST",
                f"the server sent bytes {header.offset} to {header.offset + len(piece)} of "
                f"{self.total}, where those from {self.at} were due",
            )
        if wire.checksum(piece) != header.checksum:
            raise refused(
                "CHECKSUM_MISMATCH",
                f"the bytes from {self.at} of a value did not arrive as they were sent",
                offset=self.at,
            )
        self._bytes[self.at : end] = np.frombuffer(piece, np.uint8)
        self.at = end


async def upload(session: "SessionCore", sent: Upload) -> None:
    """Send data until the server has all of it.

    Raises:
        GradwireError: it has no room, or cannot be reached any more.
    """
    begun = False

    async def attempt() -> None:
        nonlocal begun
        timeout = _timeout(sent.total - sent.at)
        if begun:
            sent.answered(await session.send_pieces(sent.question(), timeout))
        begun = True
        if sent.at < sent.total:
            sent.answered(await session.send_pieces(sent.pieces(), timeout))

    try:
        await _persist(session, sent, attempt)
    except GradwireError as error:
        if sent.after is None or error.reason != "LIMIT_EXCEEDED":
            raise
        # What was recorded before may free what this takes, once it has run.
        await session.answer_to(sent.after)
        await _persist(session, sent, attempt)


async def download(session: "SessionCore", value: pb.TensorValue) -> Array:
    """Read a value that did not fit into the answer to its fetch; read-only.

    Raises:
        GradwireError: the server does not have it any more, or cannot be reached any more.
    """
    read = Download(session, value)

    async def attempt() -> None:
        if read.at < read.total:
            await session.receive_pieces(read.request(), read.take, _timeout(read.total - read.at))

    await _persist(session, read, attempt)
    read.value.flags.writeable = False
    return read.value


async def values_in(
    session: "SessionCore", fetched: Sequence[pb.FetchedTensor], payloads: Sequence[Payload]
) -> list[Fetched]:
    """What fetches answered; what did not fit into the answer is read now.

    Raises:
        GradwireError: a value does not fit its description, or cannot be read any more.
    """
    downloaded = {}
    for each in fetched:
        if number := each.value.download:
            downloaded[number] = await download(session, each.value)
    if downloaded:
        _release(session, downloaded)
    try:
        return decode_fetched(fetched, payloads, downloaded)
    except wire.WireError as malformed:
        raise from_wire_error(malformed) from None


def _release(session: "SessionCore", numbers: Iterable[int]) -> None:
    """Let the server forget values that were read."""
    step = pb.Step(release=pb.Release(downloads=numbers))
    if (hook := session.hook_here()) is not None:
        hook.recorder.step(step)
        return
    with session.lock:
        session.recorder.step(step)
        session.send_recorded()


async def _persist(
    session: "SessionCore", transfer: Upload | Download, attempt: Callable[[], Awaitable[None]]
) -> None:
    """Try until all is over there; as long as there is progress, or a retry makes sense."""
    waits = session.retry.waits()
    furthest = -1
    while True:
        try:
            await attempt()
            if transfer.at >= transfer.total:
                return
            failure: GradwireError = UnavailableError(
                "the server ended the transfer of a tensor early", code="UNAVAILABLE"
            )
        except GradwireError as error:
            # gRPC calls it INTERNAL where a connection breaks while it writes. Faults of the
            # server come with a reason.
            is_lost = error.code == "UNAVAILABLE" or (error.code == "INTERNAL" and not error.reason)
            if not is_lost and error.reason not in _AGAIN:
                raise
            failure = error
        if transfer.at > furthest:
            furthest = transfer.at
            waits = session.retry.waits()
        wait = next(waits, math.inf)
        if wait == math.inf:
            raise failure
        await session.pause(max(wait, failure.retry_after or 0))


def _timeout(size: int) -> float:
    return _CALL_SECONDS + size / _SLOWEST
