"""The other workers of a server: each session is owned by one, which its id names.

A request that reaches another worker is handed on to the owner over a unix socket, as the bytes
that came, and so are the answers. So it matters for speed alone which worker a client reaches.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, Final

import grpc

from gradwire.wire import SERVICE
from gradwire_server.errors import abort, worker_unreachable

Context = grpc.aio.ServicerContext[bytes, bytes]

_PATIENCE: Final = 10.0
"""Seconds for another worker to answer a short call."""

_DETAILS: Final = "grpc-status-details-bin"

_OPTIONS: Final = (
    # Whoever takes the message decides, and says so in a way that can be understood.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class ElsewhereError(Exception):
    """Another worker owns the session.

    Attributes:
        worker: which one.
    """

    def __init__(self, worker: int) -> None:
        super().__init__(worker)
        self.worker = worker


class Peers:
    """The workers of a server, as one of them sees them.

    Attributes:
        mine: the number of this one, from 0.
        count: how many there are.
    """

    def __init__(self, mine: int = 0, count: int = 1, directory: Path | None = None) -> None:
        """One of so many workers, whose sockets are in a directory."""
        self.mine = mine
        self.count = count
        self._directory = directory
        self._channels: dict[int, grpc.aio.Channel] = {}
        self._handing_on: set[asyncio.Task[Any]] = set()

    def new_session_id(self) -> str:
        """Unguessable, not reused, and naming this worker as the owner."""
        return f"{self.mine:02x}{secrets.token_hex(15)}"

    def require_mine(self, session_id: str) -> None:
        """Pass if no other worker can own the session.

        Raises:
            ElsewhereError: another one owns it, if it is there.
        """
        if self.count == 1:
            return
        try:
            owner = int(session_id[:2], 16)
        except ValueError:
            return
        if owner != self.mine and owner < self.count:
            raise ElsewhereError(owner)

    def socket(self, worker: int) -> str:
        """Where a worker listens for the others."""
        assert self._directory is not None
        return f"unix:{self._directory / f'worker-{worker}.sock'}"

    def _channel(self, worker: int) -> grpc.aio.Channel:
        channel = self._channels.get(worker)
        if channel is None:
            channel = grpc.aio.insecure_channel(self.socket(worker), options=_OPTIONS)
            self._channels[worker] = channel
        return channel

    async def drained(self, seconds: float) -> None:
        """Wait until all calls that were handed on have ended, as their owners let them."""
        if self._handing_on:
            await asyncio.wait(list(self._handing_on), timeout=seconds)

    async def close(self) -> None:
        """Hang up."""
        for channel in self._channels.values():
            await channel.close()

    async def unary(self, worker: int, method: str, data: bytes, context: Context) -> bytes:
        """Hand on a unary call."""
        call: Any = self._channel(worker).unary_unary(f"/{SERVICE}/{method}")
        made = call(data, timeout=context.time_remaining())
        answer: bytes = await self._passed_on(made, worker, context)
        return answer

    async def ask(self, worker: int, method: str, data: bytes) -> bytes:
        """Call another worker on one's own behalf.

        Raises:
            ServiceError: WORKER_UNREACHABLE.
        """
        call: Any = self._channel(worker).unary_unary(f"/{SERVICE}/{method}")
        try:
            answer: bytes = await call(data, timeout=_PATIENCE)
        except grpc.aio.AioRpcError:
            raise worker_unreachable(worker) from None
        return answer

    async def upload(
        self, worker: int, first: bytes, rest: AsyncIterator[bytes], context: Context
    ) -> bytes:
        """Hand on an Upload, of which a first message has come."""

        async def requests() -> AsyncIterator[bytes]:
            yield first
            async for each in rest:
                yield each

        call: Any = self._channel(worker).stream_unary(f"/{SERVICE}/Upload")
        made = call(requests(), timeout=context.time_remaining())
        answer: bytes = await self._passed_on(made, worker, context)
        return answer

    async def download(self, worker: int, data: bytes, context: Context) -> None:
        """Hand on a Download."""
        call: Any = self._channel(worker).unary_stream(f"/{SERVICE}/Download")
        made = call(data, timeout=context.time_remaining())
        await self._passed_on(_answered(made, context), worker, context)

    async def run_stream(self, worker: int, first: bytes, context: Context) -> None:
        """Hand on a RunStream, of which a first message has come."""
        call: Any = self._channel(worker).stream_stream(f"/{SERVICE}/RunStream")
        made = call(timeout=context.time_remaining())

        async def ask() -> None:
            message: Any = first
            # A call that has ended takes no more; how it ended is told by its answers.
            with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
                while message is not grpc.aio.EOF:
                    await made.write(message)
                    message = await context.read()
                await made.done_writing()

        asking = asyncio.create_task(ask())
        try:
            await self._passed_on(_answered(made, context), worker, context)
        finally:
            asking.cancel()
            made.cancel()

    async def _passed_on(self, answer: Awaitable[Any], worker: int, context: Context) -> Any:
        """The answer of a call; its failure becomes that of the call that was handed on."""
        task = asyncio.current_task()
        assert task is not None
        self._handing_on.add(task)
        try:
            return await answer
        except grpc.aio.AioRpcError as error:
            ending = _failed_alike(error, worker, context)
        finally:
            self._handing_on.discard(task)
        return await ending


async def _answered(call: Any, context: Context) -> None:
    """Pass on the answers of a call."""
    async for each in call:
        await context.write(each)


async def _failed_alike(error: grpc.aio.AioRpcError, worker: int, context: Context) -> None:
    metadata = tuple(error.trailing_metadata() or ())
    if error.code() is grpc.StatusCode.UNAVAILABLE and _DETAILS not in dict(metadata):
        await abort(context, worker_unreachable(worker))
    await context.abort(error.code(), error.details() or "", metadata)
