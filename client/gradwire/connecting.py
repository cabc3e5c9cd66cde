"""Opening sessions: `gw.connect`."""

import atexit
from collections.abc import Mapping, Sequence

import grpc

from gradwire import current, embedded, lease, memory, wire
from gradwire.core import Terms
from gradwire.errors import DeadlineError, UnavailableError
from gradwire.session import Session
from gradwire.transport import CHANNEL_OPTIONS, Metadata, Retry, unary
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
    current.opened(session)
    lease.keeper.add(session)
    return session


def pairs_of(metadata: Mapping[str, str] | None) -> Metadata:
    """The metadata of calls, as gRPC takes it."""
    return tuple((key.lower(), value) for key, value in (metadata or {}).items())


def request_for(name: str, ttl: float | None, seed: int | None) -> pb.CreateSessionRequest:
    """The request for a session, as `connect` describes it."""
    request = pb.CreateSessionRequest(display_name=name)
    if ttl is not None:
        request.ttl.FromNanoseconds(round(ttl * 1e9))
    if seed is not None:
        request.seed = seed
    return request


def nobody_at(target: str, seconds: float) -> UnavailableError:
    """What is said where no server answers."""
    return UnavailableError(
        f"no gradwire server answers at {target} within {seconds:g} s; "
        "start one with: gradwire serve",
        code="UNAVAILABLE",
    )


@atexit.register
def _close_all() -> None:
    for session in current.open_sessions():
        session.leave()
