"""Failures: one table from reason to gRPC code, and the `google.rpc.Status` of each."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import DOMAIN, WireError
from gradwire_engine.errors import EngineError

_MAX_MESSAGE: Final = 2000
"""Characters of a message. A status travels in a trailer, of which gRPC admits 8 KiB."""

_MAX_VALUE: Final = 256
"""Characters of one value of the metadata."""

_REASONS: Final[Mapping[int, str]] = {
    code_pb2.INVALID_ARGUMENT: """
        MALFORMED_REQUEST HANDLE_IN_USE HANDLE_ABSENT BAD_PAGE_TOKEN UNKNOWN_OP WRONG_ARITY
        BAD_ATTRIBUTE BAD_VALUE SHAPE_MISMATCH DTYPE_MISMATCH DIM_OUT_OF_RANGE
        INDEX_OUT_OF_RANGE UNKNOWN_DTYPE PAYLOAD_MISMATCH NON_SCALAR_ROOT GRADIENT_SHAPE
        GRADIENT_DTYPE INPUT_NO_GRAD NO_INPUTS LEAF_IN_PLACE NON_LEAF_FLAG DTYPE_NO_GRAD
        NO_GRAD_TO_RETAIN IN_PLACE_SHAPE IN_PLACE_DTYPE BAD_GRAD_ASSIGNMENT MULTI_VIEW_IN_PLACE
        NO_GRAD_VIEW_IN_PLACE INFERENCE_TENSOR HOOK_SHAPE HOOK_NO_GRAD HOOK_NON_LEAF
        HOOK_IN_PLACE HOOKS_DISABLED PROGRAM_SIGNATURE
        NOTHING_TO_CHECK
    """,
    code_pb2.NOT_FOUND: """
        SESSION_NOT_FOUND HANDLE_NOT_FOUND NODE_NOT_FOUND PROGRAM_NOT_FOUND TRANSFER_NOT_FOUND
    """,
    code_pb2.ALREADY_EXISTS: "PROGRAM_NAME_IN_USE",
    code_pb2.FAILED_PRECONDITION: """
        SEQUENCE_GAP SEQUENCE_FORGOTTEN NO_GRAPH GRAPH_FREED SAVED_MODIFIED UNUSED_INPUT
        ANOMALY ONCE_DIFFERENTIABLE TRANSFER_INCOMPLETE
    """,
    code_pb2.ABORTED: "SEQUENCE_CONFLICT HOOK_FAILED",
    code_pb2.CANCELLED: "CANCELLED",
    code_pb2.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    code_pb2.UNAVAILABLE: "SHUTTING_DOWN WORKER_UNREACHABLE STREAM_UNREAD",
    code_pb2.RESOURCE_EXHAUSTED: """
        MESSAGE_TOO_LARGE LIMIT_EXCEEDED QUEUE_FULL TOO_MANY_SESSIONS
    """,
    code_pb2.DATA_LOSS: "CHECKSUM_MISMATCH",
    code_pb2.INTERNAL: "INTERNAL",
}

CODES: Final[Mapping[str, int]] = {
    reason: code for code, reasons in _REASONS.items() for reason in reasons.split()
}
"""The canonical gRPC code of each reason."""

_GRPC_CODES: Final[Mapping[int, grpc.StatusCode]] = {
    code.value[0]: code for code in grpc.StatusCode
}


class ServiceError(Exception):
    """Why a call or a step failed, as it will be told to the client.

    Attributes:
        reason: name of an `ErrorReason` without its prefix.
        message: what was wrong with which values, and what to do.
        field: path of the field at fault (`steps[3].op.name`); empty where there is none.
        metadata: every dynamic part of the message.
        retry_after: seconds after which to try again; None where waiting does not help.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        field: str = "",
        metadata: Mapping[str, object] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.metadata: dict[str, str] = {k: str(v) for k, v in (metadata or {}).items()}
        self.retry_after = retry_after

    @property
    def code(self) -> int:
        """The canonical code, a `google.rpc.Code`."""
        return CODES[self.reason]

    @property
    def grpc_code(self) -> grpc.StatusCode:
        """The same for grpcio."""
        return _GRPC_CODES[self.code]

    def at(self, step: int, number: int) -> ServiceError:
        """The failure as one of a step: its path and metadata say which step of which sequence."""
        path = f"steps[{step}]"
        self.field = f"{path}.{self.field}" if self.field else path
        self.metadata |= {"step": str(step), "sequence": str(number)}
        return self

    def of_poisoned(self, handle: int) -> ServiceError:
        """The failure for naming `handle`, which this one kept from being made.

        It tells the step that failed as `root_step` and `root_sequence`.
        """
        metadata = dict(self.metadata)
        for key in ("step", "call", "sequence"):
            if key in metadata:
                metadata.setdefault(f"root_{key}", metadata.pop(key))
        metadata["poisoned_handle"] = str(handle)
        text = (
            self.message
            if "poisoned_handle" in self.metadata
            else (f"tensor {handle} was never made: {self.message}")
        )
        return ServiceError(self.reason, text, metadata=metadata)

    def status(self) -> status_pb2.Status:
        """The whole failure as a `google.rpc.Status`."""
        message = _cut(self.message, _MAX_MESSAGE)
        info = error_details_pb2.ErrorInfo(
            reason=self.reason,
            domain=DOMAIN,
            metadata={key: _cut(value, _MAX_VALUE) for key, value in self.metadata.items()},
        )
        details: list[Message] = [info]
        if self.field:
            bad = error_details_pb2.BadRequest.FieldViolation(
                field=self.field, description=message, reason=self.reason
            )
            details.append(error_details_pb2.BadRequest(field_violations=[bad]))
        if self.code == code_pb2.FAILED_PRECONDITION:
            violation = error_details_pb2.PreconditionFailure.Violation(
                type=self.reason, subject=self.field, description=message
            )
            details.append(error_details_pb2.PreconditionFailure(violations=[violation]))
        elif self.code == code_pb2.RESOURCE_EXHAUSTED:
            quota = error_details_pb2.QuotaFailure.Violation(
                subject=self.metadata.get("limit", ""), description=message
            )
            details.append(error_details_pb2.QuotaFailure(violations=[quota]))
        if self.retry_after is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(self.retry_after * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        status = status_pb2.Status(code=self.code, message=message)
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return status

    def error(self) -> pb.Error:
        """The whole failure as it travels in a `SequenceResult`."""
        return pb.Error.FromString(self.status().SerializeToString())


def failure_of(error: BaseException) -> ServiceError:
    """The failure that an exception amounts to.

    What nobody foresaw becomes INTERNAL with an `error_id`; the exception hangs on as
    `__cause__`, for the log alone.
    """
    match error:
        case ServiceError():
            return error
        case EngineError() if error.reason in CODES:
            return ServiceError(error.reason, error.message, metadata=error.metadata)
        case WireError():
            return ServiceError(error.reason, error.message, metadata=error.metadata)
        case MemoryError():
            return ServiceError(
                "LIMIT_EXCEEDED",
                "the server has not enough memory for this step; use smaller tensors, or "
                "release some",
                metadata={"limit": "memory"},
            )
        case _:
            return internal(error)


def internal(error: BaseException) -> ServiceError:
    """A fault of the server, with the number under which its log has the traceback."""
    error_id = secrets.token_hex(8)
    failure = ServiceError(
        "INTERNAL",
        f"the server failed; its log has the cause under error_id {error_id}",
        metadata={"error_id": error_id},
    )
    failure.__cause__ = error
    return failure


def session_not_found(session_id: str) -> ServiceError:
    """The failure for a session that was never there, was deleted, or expired."""
    return ServiceError(
        "SESSION_NOT_FOUND",
        f"there is no session '{_cut(session_id, 80)}'; it was deleted, it expired, or it never "
        "was. Open one with CreateSession",
        field="session_id",
        metadata={"session_id": session_id},
    )


def shutting_down() -> ServiceError:
    """The failure for work that comes after the server began to drain."""
    return ServiceError(
        "SHUTTING_DOWN",
        "the server is shutting down and takes no new work; try again, on another server",
        retry_after=1.0,
    )


def worker_unreachable(worker: int) -> ServiceError:
    """The failure for a call that another worker was to answer, which does not."""
    return ServiceError(
        "WORKER_UNREACHABLE",
        f"worker {worker} of this server, which owns the session, cannot be reached; try again. "
        "If it had to be restarted, its sessions are gone",
        metadata={"worker": worker},
        retry_after=1.0,
    )


def cancelled(message: str) -> ServiceError:
    """The failure of a sequence that was stopped."""
    return ServiceError("CANCELLED", message)


def stream_unread(seconds: float) -> ServiceError:
    """The failure for a stream whose client leaves too many answers unread."""
    return ServiceError(
        "STREAM_UNREAD",
        f"the client read none of many waiting answers for {seconds:g} s; read answers while "
        "sending, open another stream, and send what has no answer again under its number",
        metadata={"seconds": seconds},
    )


async def abort(context: grpc.aio.ServicerContext[bytes, bytes], failure: ServiceError) -> bytes:
    """End a call with a failure.

    Raises:
        grpc.aio.AbortError: always, as gRPC will have it.
    """
    status = failure.status()
    await context.abort(
        failure.grpc_code,
        status.message,
        (("grpc-status-details-bin", status.SerializeToString()),),
    )
    raise AssertionError("abort raises")


def malformed(message: str, field: str = "") -> ServiceError:
    """The failure for a message that lacks something, or is not one."""
    return ServiceError("MALFORMED_REQUEST", message, field=field)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
