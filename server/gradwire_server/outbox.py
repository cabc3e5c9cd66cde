"""The answers of one stream, on their way to the client in the order of the requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import grpc

from gradwire_server.encode import Answer
from gradwire_server.jobs import Work

Outcome = Answer | Work | asyncio.Future[Answer]

_MAX_BYTES: Final = 64 << 20
"""Answers of this many bytes may wait for a client that reads slowly; then its requests wait, those
that are queued already too."""


class Outbox:
    """Writes answers in order.

    An answer that is there while nothing is before it is written at once; what must wait is
    written by a task that ends when all is written.

    Attributes:
        is_given_up: the client leaves too much unread for too long.
    """

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        max_waiting: int,
        hang_up: Callable[[], object],
    ) -> None:
        """Write by calling `write`; `hang_up` ends the stream."""
        self._hang_up = hang_up
        self._write = write
        self._max_waiting = max_waiting
        self._waiting: deque[Outcome] = deque()
        self._bytes = 0
        self._is_over = False
        self.is_given_up = False
        self._writer: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._interjections: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    async def put(self, outcome: Outcome, *, at_once: bool = True) -> None:
        """Hand in the next answer, or what will become it. Waits while too much is unwritten.

        Args:
            at_once: wait until an answer that is there is written, which saves a task.
        """
        if at_once and self._writer is None and isinstance(outcome, Answer):
            await self._write(outcome.data)
            return
        self._waiting.append(outcome)
        match outcome:
            case Answer():
                self._bytes += len(outcome.data)
            case Work() if outcome.waiting is not None:
                outcome.waiting.add_done_callback(self._count)
            case asyncio.Future():
                outcome.add_done_callback(self._count)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())
        # Twice the length of a queue: sequences that wait to run are counted here too.
        while len(self._waiting) > 2 * self._max_waiting or self._bytes > _MAX_BYTES:
            await asyncio.wait([self._more_room()])

    def hang_up(self) -> None:
        """End the stream, as its client does not read: after what is being written.

        gRPC cannot end a call whose write was broken off.
        """
        self.is_given_up = self._is_over = True
        while len(self._waiting) > 1:
            outcome = self._waiting.pop()
            if isinstance(outcome, Work):
                outcome.abandon()
        self._make_room()
        self._hang_up()

    def room(self) -> asyncio.Future[None] | None:
        """What is done when more of the answers is written; None while there is room for more."""
        return self._more_room() if self._bytes > _MAX_BYTES and not self._is_over else None

    def _more_room(self) -> asyncio.Future[None]:
        if self._room is None or self._room.done():
            self._room = asyncio.get_running_loop().create_future()
        return self._room

    def interject(self, data: bytes) -> None:
        """Write a message before the answer that is due: what its sequence asks the client."""
        task = asyncio.create_task(self._interject(data))
        self._interjections.add(task)
        task.add_done_callback(self._interjections.discard)

    async def _interject(self, data: bytes) -> None:
        async with self._turn:
            # With its answer gone, the question is void.
            if self._writer is not None:
                with contextlib.suppress(grpc.aio.UsageError):
                    await self._write(data)

    async def drained(self) -> None:
        """Wait until all is written."""
        while self._writer is not None:
            await asyncio.wait([self._writer])

    def close(self) -> None:
        """Write no more: the client is gone. Sequences that it can ask for again run on."""
        self._is_over = True
        for outcome in self._waiting:
            if isinstance(outcome, Work):
                outcome.abandon()
        for task in self._interjections:
            task.cancel()
        if self._writer is not None:
            self._writer.cancel()

    def _count(self, answered: asyncio.Future[Answer]) -> None:
        if not answered.cancelled():
            self._bytes += len(answered.result().data)

    async def _write_all(self) -> None:
        waiting = self._waiting
        try:
            while waiting:
                answer = await answer_of(waiting[0])
                async with self._turn:
                    await self._write(answer.data)
                    waiting.popleft()
                self._bytes -= len(answer.data)
                self._make_room()
        except grpc.aio.UsageError:
            pass  # The client is gone; the handler of the stream learns it by itself.
        finally:
            waiting.clear()
            self._bytes = 0
            self._writer = None
            self._make_room()

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


async def answer_of(outcome: Outcome) -> Answer:
    """The answer, once it is there. Giving up on it does not stop what makes it."""
    match outcome:
        case Answer():
            return outcome
        case Work():
            assert outcome.waiting is not None
            return await asyncio.shield(outcome.waiting)
        case _:
            return await asyncio.shield(outcome)
