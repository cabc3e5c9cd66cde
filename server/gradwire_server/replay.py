"""Exactly once: which numbers of a session ran, of what content, and with what answer."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import split_message
from gradwire_server.encode import Answer
from gradwire_server.errors import ServiceError


@dataclass(slots=True, eq=False)
class Entry:
    """One accepted sequence.

    Attributes:
        request: the message as it came, to compare a repetition with.
        answer: once it ran.
        waiting: for those who repeat it before it ran.
    """

    request: bytes
    answer: Answer | None = None
    waiting: asyncio.Future[Answer] | None = None

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return len(self.request) + (0 if self.answer is None else len(self.answer.data))


class Replay:
    """The accepted sequences of one session, by number, until they are acknowledged.

    Attributes:
        last: the highest number that was accepted.
    """

    __slots__ = ("_bytes", "_entries", "_max_bytes", "_max_entries", "last")

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.last = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[int, Entry] = OrderedDict()

    def find(self, number: int, request: bytes) -> Entry | None:
        """The entry that a request repeats; None if it is the next one.

        Raises:
            ServiceError: SEQUENCE_GAP, SEQUENCE_CONFLICT, SEQUENCE_FORGOTTEN.
        """
        following = self.last + 1
        if number == following:
            return None
        if number > following:
            raise ServiceError(
                "SEQUENCE_GAP",
                f"sequence {number} came where {following} is the next; send those between first",
                field="sequence.number",
                metadata={"number": number, "expected": following},
            )
        entry = self._entries.get(number)
        if entry is None:
            raise ServiceError(
                "SEQUENCE_FORGOTTEN",
                f"sequence {number} ran, and its answer is no longer stored: it was acknowledged, "
                "or more came after it than is kept",
                field="sequence.number",
                metadata={"number": number, "last": self.last},
            )
        if entry.request != request and _content(entry.request) != _content(request):
            raise ServiceError(
                "SEQUENCE_CONFLICT",
                f"number {number} was used for a sequence of other content; each sequence takes a "
                "number of its own, one more than the last",
                field="sequence.number",
                metadata={"number": number, "expected": following},
            )
        return entry

    def accept(self, number: int, request: bytes) -> Entry:
        """Take the next number for a request."""
        entry = Entry(request)
        self.last = number
        self._entries[number] = entry
        self._bytes += entry.size
        return entry

    def answered(self, entry: Entry, answer: Answer) -> None:
        """Keep an answer; drop the oldest ones beyond the bounds, but never the newest."""
        entry.answer = answer
        self._bytes += len(answer.data)
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            number, oldest = next(iter(self._entries.items()))
            if oldest.answer is None or oldest is entry:
                return
            self._drop(number)

    def forget(self, acknowledged: int) -> None:
        """Drop the answers up to a number that the client has."""
        while self._entries:
            number, entry = next(iter(self._entries.items()))
            if number > acknowledged or entry.answer is None:
                return
            self._drop(number)

    def _drop(self, number: int) -> None:
        self._bytes -= self._entries.pop(number).size


def _content(request: bytes) -> tuple[bytes, list[memoryview]]:
    """What a request asks for, apart from how it came: unary or streamed, acknowledging or not."""
    header, payloads = split_message(pb.RunStreamRequest, request)
    sequence = header.sequence
    sequence.ClearField("acknowledged")
    sequence.ClearField("timeout")
    return sequence.SerializeToString(deterministic=True), payloads
