"""What the server admits, and the refusal of more."""

from __future__ import annotations

from gradwire.v1 import autograd_pb2 as pb
from gradwire_server.errors import ServiceError
from gradwire_server.settings import Settings

RETRY_SECONDS = 0.1
"""When to try again after a full queue: some sequences later."""


def limits_message(settings: Settings) -> pb.Limits:
    """The limits as a client is told them."""
    return pb.Limits(
        max_message_bytes=settings.max_message_bytes,
        max_steps=settings.max_steps,
        max_tensor_elements=settings.max_tensor_elements,
        max_rank=settings.max_rank,
        max_session_bytes=settings.max_session_bytes,
        max_session_tensors=settings.max_session_tensors,
        max_session_nodes=settings.max_session_nodes,
        max_sequence_flops=settings.max_sequence_flops,
        max_queued_sequences=settings.max_queued_sequences,
        max_queued_bytes=settings.max_queued_bytes,
        max_transfers=settings.max_transfers,
        transfer_seconds=settings.transfer_seconds,
        max_programs=settings.max_programs,
        max_program_bytes=settings.max_program_bytes,
    )


def exceeded(limit: str, value: int, maximum: int, what: str, *, field: str = "") -> ServiceError:
    """LIMIT_EXCEEDED: `limit` is a field of `Limits`, `what` says who wanted `value`."""
    return ServiceError(
        "LIMIT_EXCEEDED",
        f"{what}: {value:,}, where {limit} is {maximum:,}",
        field=field,
        metadata={"limit": limit, "value": value, "maximum": maximum},
    )


def message_too_large(size: int, maximum: int, what: str) -> ServiceError:
    """MESSAGE_TOO_LARGE: `what` says which message."""
    return ServiceError(
        "MESSAGE_TOO_LARGE",
        f"{what} has {size:,} bytes, where max_message_bytes is {maximum:,}; send or fetch less "
        "in one sequence",
        metadata={"limit": "max_message_bytes", "value": size, "maximum": maximum},
    )


def queue_full(limit: str, value: int, maximum: int) -> ServiceError:
    """QUEUE_FULL, with the time after which to try again."""
    return ServiceError(
        "QUEUE_FULL",
        f"too much waits to run: {value:,}, where {limit} is {maximum:,}; read answers before "
        "sending more, and send this sequence again",
        metadata={"limit": limit, "value": value, "maximum": maximum},
        retry_after=RETRY_SECONDS,
    )


class Admission:
    """Bytes of requests that wait or run, over all sessions of the server."""

    __slots__ = ("maximum", "pending")

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.pending = 0

    def admit(self, size: int) -> None:
        """Count a request in.

        Raises:
            ServiceError: QUEUE_FULL. A request that meets an idle server is always let in.
        """
        total = self.pending + size
        if self.pending and total > self.maximum:
            raise queue_full("max_pending_bytes", total, self.maximum)
        self.pending = total

    def release(self, size: int) -> None:
        """Count a request out that was answered."""
        self.pending -= size
