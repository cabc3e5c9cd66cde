"""Opening sessions: `gw.connect`."""

import atexit
from collections.abc import Mapping, Sequence

import grpc

from gradwire import current, embedded, memory, wire
from gradwire.errors import DeadlineError
from gradwire.opening import Terms, keep, nobody_at, pairs_of, request_for
from gradwire.session import Session
from gradwire.transport import CHANNEL_OPTIONS, Retry, unary
from gradwire.v1 import autograd_pb2 as pb


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
) -> Session:
    """Open a session and make it the current one.

    Args:
        address: `"host:port"` or `"unix:/path"`. None: a server inside this process, started with
            the first such session and stopped with the last.
        ttl: Seconds that the session may be idle before the server ends it, should this process
            vanish; while it lives, the lease is kept. None: the server's default.
        name: A name for people.
        seed: Seed of the session's random generator. None: seeded by the server's system.
        timeout: Seconds that a sequence of steps may take, waiting included. None: no such bound.
        connect_timeout: Seconds to wait for the server to answer.
        retry_timeout: Seconds during which a lost connection is tried again.
        credentials: For TLS: `grpc.ssl_channel_credentials()`. None: plain text.
        metadata: Sent with each call; for authentication, say.
        options: More gRPC channel options.

    Raises:
        UnavailableError: no server answers there.
        OverloadedError: the server has as many sessions as it admits.
        ImportError: no address is given, and the server's packages are not installed.
    """
    memory.retain_as_told()
    is_embedded = address is None
    target = embedded.acquire() if address is None else address
    all_options = [*CHANNEL_OPTIONS, *options]
    channel = (
        grpc.secure_channel(target, credentials, options=all_options)
        if credentials is not None
        else grpc.insecure_channel(target, options=all_options)
    )
    pairs = pairs_of(metadata)
    request = request_for(name, ttl, seed)
    try:
        created = unary(
            channel,
            wire.CREATE_SESSION,
            request,
            pb.CreateSessionResponse,
            connect_timeout,
            pairs,
            target,
            wait_for_ready=True,
        )
    except BaseException as error:
        channel.close()
        if is_embedded:
            embedded.release()
        if isinstance(error, DeadlineError):
            raise nobody_at(target, connect_timeout) from None
        raise
    terms = Terms(target, pairs, Retry(timeout=retry_timeout), timeout, is_embedded)
    session = Session(channel, created, terms)
    keep(session)
    return session


@atexit.register
def _close_all() -> None:
    for session in current.open_sessions():
        session.leave()
