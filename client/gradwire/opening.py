"""What it takes to open a session, however it waits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwire import current, lease
from gradwire.errors import UnavailableError
from gradwire.transport import Metadata, Retry
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.core import SessionCore


@dataclass(frozen=True, slots=True)
class Terms:
    """What a session is opened with.

    Attributes:
        address: Where the server is.
        metadata: Sent with each call.
        retry: How long and how often a lost connection is tried again.
        timeout: Seconds that a sequence may take; None for no such bound.
        is_embedded: Whether the server is the one inside this process.
    """

    address: str
    metadata: Metadata
    retry: Retry
    timeout: float | None
    is_embedded: bool


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


def keep(session: "SessionCore") -> None:
    """Make a session that was opened the current one, and keep its lease."""
    current.opened(session)
    lease.keeper.add(session)
