"""Opening sessions of an event loop: `gw.aio.connect`."""

import asyncio
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from gradwire import embedded, memory, wire
from gradwire.aio.session import Session
from gradwire.aio.transport import unary
from gradwire.errors import DeadlineError
from gradwire.opening import Terms, keep, nobody_at, pairs_of, request_for
from gradwire.transport import CHANNEL_OPTIONS, Retry
from gradwire.v1 import autograd_pb2 as pb


class Connecting:
    """A session that is to be opened: `async with` it, or await it."""

    def __init__(self, opening: Callable[[], Coroutine[Any, Any, Session]]) -> None:
        self._opening = opening
        self._session: Session | None = None

    def __await__(self) -> Generator[Any, Any, Session]:
        return self._opening().__await__()

    async def __aenter__(self) -> Session:
        self._session = await self._opening()
        return self._session

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.__aexit__(kind, error, trace)


def connect(
    address: str | None = None,
    *,
    ttl: float | None = None,
    name: str = "",
    seed: int | None = None,
    timeout: float | None = None,
    connect_timeout: float = 10.0,
    retry_timeout: float = 30.0,
    credentials: grpc.ChannelCredentials | None = None,
    metadata: Mapping[str, str] | None = None,
    options: Sequence[tuple[str, str | int]] = (),
) -> Connecting:
    """Open a session of the running event loop and make it the current one of this task.

    `async with gw.aio.connect() as session:`, or `session = await gw.aio.connect()`. Tasks started
    afterwards inherit it.

    Args:
        address: As of `gradwire.connect`, and so are all others.
        ttl: Seconds that the session may be idle before the server ends it.
        name: A name for people.
        seed: Seed of the session's random generator.
        timeout: Seconds that a sequence of steps may take, waiting included.
        connect_timeout: Seconds to wait for the server to answer.
        retry_timeout: Seconds during which a lost connection is tried again.
        credentials: For TLS.
        metadata: Sent with each call.
        options: More gRPC channel options.

    Raises:
        UnavailableError: no server answers there.
        OverloadedError: the server has as many sessions as it admits.
        ImportError: no address is given, and the server's packages are not installed.
    """

    async def opening() -> Session:
        memory.retain_as_told()
        is_embedded = address is None
        target = await asyncio.to_thread(embedded.acquire) if address is None else address
        all_options = [*CHANNEL_OPTIONS, *options]
        channel = (
            grpc.aio.secure_channel(target, credentials, options=all_options)
            if credentials is not None
            else grpc.aio.insecure_channel(target, options=all_options)
        )
        pairs = pairs_of(metadata)
        try:
            created = await unary(
                channel,
                wire.CREATE_SESSION,
                request_for(name, ttl, seed),
                pb.CreateSessionResponse,
                connect_timeout,
                pairs,
                target,
                wait_for_ready=True,
            )
        except BaseException as error:
            await channel.close()
            if is_embedded:
                await asyncio.to_thread(embedded.release)
            if isinstance(error, DeadlineError):
                raise nobody_at(target, connect_timeout) from None
            raise
        terms = Terms(target, pairs, Retry(timeout=retry_timeout), timeout, is_embedded)
        session = Session(channel, created, terms)
        keep(session)
        return session

    return Connecting(opening)
