"""Exceptions: what the service refuses, as the built-in that PyTorch raises, with the user's line.

Every exception is a `GradwireError` and, besides, the built-in exception that PyTorch raises for
the same mistake, so `except RuntimeError` around a `backward()` catches what it should.
"""

from collections.abc import Iterable, Mapping
from typing import Final, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2

from gradwire import notebook, wire
from gradwire.location import PACKAGE, Location, locate, mark
from gradwire.v1 import autograd_pb2 as pb


class GradwireError(Exception):
    """Whatever the service or the SDK refuses.

    Attributes:
        reason: Name of an `ErrorReason` of the contract: `"SHAPE_MISMATCH"`. Empty for failures
            that bear none, such as a lost connection.
        code: Canonical gRPC code: `"INVALID_ARGUMENT"`.
        metadata: Each dynamic part of the message.
        field: Path of the offending field of the request, where one is to blame.
        location: The line of the user's program that recorded the step; None if none did.
        retry_after: Seconds after which trying again makes sense; None where it does not.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: str = "",
        metadata: Mapping[str, str] | None = None,
        field: str = "",
        location: Location | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.message = message
        self.reason = reason
        self.code = code
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.field = field
        self.location = location
        self.retry_after = retry_after
        super().__init__(message if location is None else f"{message}\n  at {location}")

    def __str__(self) -> str:
        return str(self.args[0])

    def _render_traceback_(self) -> list[str]:
        # IPython asks for this. Its reader is shown the cell, and not how this package waits.
        return notebook.traceback_of(self, PACKAGE)

    def at(self, location: Location | None) -> "GradwireError":
        """The same, pointing at a line."""
        if location is None:
            return self
        return type(self)(
            self.message,
            reason=self.reason,
            code=self.code,
            metadata=self.metadata,
            field=self.field,
            location=location,
            retry_after=self.retry_after,
        )


class AutogradError(GradwireError, RuntimeError):
    """The graph or its flags do not admit a backward, a gradient or an in-place change."""


class ShapeError(GradwireError, RuntimeError, ValueError):
    """Shapes that do not fit the operator or one another."""


class DtypeError(GradwireError, TypeError, RuntimeError):
    """Dtypes that the operator does not take, or that do not fit one another."""


class ArgumentError(GradwireError, TypeError):
    """Missing or surplus arguments, or one of the wrong type."""


class BadValueError(GradwireError, RuntimeError, ValueError):
    """An argument of the right type whose value is not admissible."""


class OutOfRangeError(GradwireError, IndexError):
    """A dimension or an index out of range."""


class UnknownOperatorError(GradwireError, NotImplementedError, AttributeError):
    """The server has no operator of that name."""


class HandleError(GradwireError, RuntimeError):
    """A tensor or a node that the server does not hold, or not any more."""


class SessionError(GradwireError, RuntimeError):
    """The session is closed, has expired, belongs to another process, or is not to be used so."""


class ProtocolError(GradwireError, RuntimeError):
    """Client and server disagree about the contract: a request that does not parse or number."""


class CancelledError(GradwireError, RuntimeError):
    """The sequence was cancelled."""


class DeadlineError(GradwireError, TimeoutError):
    """The sequence took longer than its timeout."""


class UnavailableError(GradwireError, ConnectionError):
    """The server cannot be reached, or is shutting down."""


class PermissionDeniedError(GradwireError, PermissionError):
    """The server does not let this client do that."""


class LimitError(GradwireError, RuntimeError):
    """A limit of the server is reached; `metadata` has `limit`, `value` and `maximum`."""


class OverloadedError(LimitError):
    """The server has no room now; `retry_after` says when to try again."""


class TransferError(GradwireError, RuntimeError):
    """A tensor or a value that travels in pieces did not arrive whole."""


class TraceError(GradwireError, RuntimeError):
    """A function that is compiled does what no program can: it reads a value, for example."""


class ServerError(GradwireError, RuntimeError):
    """A fault of the server; `metadata["error_id"]` is in its log too."""


CLASSES: Final[Mapping[str, type[GradwireError]]] = {
    "SESSION_NOT_FOUND": SessionError,
    "SEQUENCE_GAP": ProtocolError,
    "SEQUENCE_CONFLICT": ProtocolError,
    "SEQUENCE_FORGOTTEN": ProtocolError,
    "MALFORMED_REQUEST": ProtocolError,
    "CANCELLED": CancelledError,
    "DEADLINE_EXCEEDED": DeadlineError,
    "SHUTTING_DOWN": UnavailableError,
    "WORKER_UNREACHABLE": UnavailableError,
    "STREAM_UNREAD": UnavailableError,
    "INTERNAL": ServerError,
    "HANDLE_NOT_FOUND": HandleError,
    "HANDLE_IN_USE": HandleError,
    "HANDLE_ABSENT": HandleError,
    "BAD_PAGE_TOKEN": BadValueError,
    "NODE_NOT_FOUND": HandleError,
    "UNKNOWN_OP": UnknownOperatorError,
    "WRONG_ARITY": ArgumentError,
    "BAD_ATTRIBUTE": ArgumentError,
    "BAD_VALUE": BadValueError,
    "SHAPE_MISMATCH": ShapeError,
    "DTYPE_MISMATCH": DtypeError,
    "DIM_OUT_OF_RANGE": OutOfRangeError,
    "INDEX_OUT_OF_RANGE": OutOfRangeError,
    "UNKNOWN_DTYPE": DtypeError,
    "PAYLOAD_MISMATCH": BadValueError,
    "NON_SCALAR_ROOT": AutogradError,
    "GRADIENT_SHAPE": AutogradError,
    "GRADIENT_DTYPE": AutogradError,
    "NO_GRAPH": AutogradError,
    "GRAPH_FREED": AutogradError,
    "SAVED_MODIFIED": AutogradError,
    "UNUSED_INPUT": AutogradError,
    "INPUT_NO_GRAD": AutogradError,
    "NO_INPUTS": AutogradError,
    "LEAF_IN_PLACE": AutogradError,
    "NON_LEAF_FLAG": AutogradError,
    "DTYPE_NO_GRAD": AutogradError,
    "NO_GRAD_TO_RETAIN": AutogradError,
    "IN_PLACE_SHAPE": AutogradError,
    "IN_PLACE_DTYPE": AutogradError,
    "MULTI_VIEW_IN_PLACE": AutogradError,
    "NO_GRAD_VIEW_IN_PLACE": AutogradError,
    "INFERENCE_TENSOR": AutogradError,
    "ANOMALY": AutogradError,
    "ONCE_DIFFERENTIABLE": AutogradError,
    "HOOK_SHAPE": AutogradError,
    "HOOK_NO_GRAD": AutogradError,
    "HOOK_NON_LEAF": AutogradError,
    "HOOK_IN_PLACE": AutogradError,
    "HOOKS_DISABLED": AutogradError,
    "HOOK_FAILED": AutogradError,
    "BAD_GRAD_ASSIGNMENT": AutogradError,
    "NOTHING_TO_CHECK": BadValueError,
    "MESSAGE_TOO_LARGE": LimitError,
    "LIMIT_EXCEEDED": LimitError,
    "QUEUE_FULL": OverloadedError,
    "TOO_MANY_SESSIONS": OverloadedError,
    "TRANSFER_NOT_FOUND": TransferError,
    "TRANSFER_INCOMPLETE": TransferError,
    "CHECKSUM_MISMATCH": TransferError,
    "PROGRAM_NOT_FOUND": HandleError,
    "PROGRAM_NAME_IN_USE": BadValueError,
    "PROGRAM_SIGNATURE": BadValueError,
}
"""The class for each reason of the contract."""

_BY_CODE: Final[Mapping[str, type[GradwireError]]] = {
    "CANCELLED": CancelledError,
    "INVALID_ARGUMENT": BadValueError,
    "DEADLINE_EXCEEDED": DeadlineError,
    "NOT_FOUND": HandleError,
    "ALREADY_EXISTS": HandleError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "RESOURCE_EXHAUSTED": LimitError,
    "FAILED_PRECONDITION": AutogradError,
    "ABORTED": ProtocolError,
    "OUT_OF_RANGE": OutOfRangeError,
    "UNIMPLEMENTED": UnknownOperatorError,
    "INTERNAL": ServerError,
    "UNAVAILABLE": UnavailableError,
    "DATA_LOSS": ServerError,
    "UNAUTHENTICATED": PermissionDeniedError,
}
"""The class for a reason that a newer server has and this client does not know."""

_CODE_NAMES: Final[Mapping[int, str]] = {code.value[0]: code.name for code in grpc.StatusCode}

_DETAILS_KEY: Final = "grpc-status-details-bin"


def error_class(reason: str, code: str) -> type[GradwireError]:
    """The class for a reason, or for its code where the reason is unknown."""
    return CLASSES.get(reason) or _BY_CODE.get(code, GradwireError)


def refused(reason: str, message: str, **metadata: object) -> GradwireError:
    """The exception for what the SDK itself refuses, before anything is sent."""
    return error_class(reason, "")(
        message,
        reason=reason,
        code="INVALID_ARGUMENT",
        metadata={key: str(value) for key, value in metadata.items()},
        location=locate(mark()),
    )


def from_wire_error(error: wire.WireError) -> GradwireError:
    """The exception for bytes or metadata that do not make an array or a message."""
    return error_class(error.reason, "INVALID_ARGUMENT")(
        error.message, reason=error.reason, code="INVALID_ARGUMENT", metadata=error.metadata
    )


def from_status(error: pb.Error) -> GradwireError:
    """The exception for an error of the wire."""
    code = _CODE_NAMES.get(error.code, "UNKNOWN")
    reason, field = "", ""
    metadata: dict[str, str] = {}
    retry_after: float | None = None
    for detail in error.details:
        info, bad, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad) and bad.field_violations:
            field = bad.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    return error_class(reason, code)(
        error.message,
        reason=reason,
        code=code,
        metadata=metadata,
        field=field,
        retry_after=retry_after,
    )


def from_call(error: grpc.RpcError, address: str = "") -> GradwireError:
    """The exception for a call or a stream that ended with a status."""
    # Failed calls are both, which their types do not say.
    call = cast(grpc.Call, error)
    code, text = call.code(), call.details()
    status = _rich_status(call.trailing_metadata() or ())
    if status is not None:
        return from_status(status)
    where = f" at {address}" if address else ""
    message = text or f"the call failed with {code.name}"
    if code is grpc.StatusCode.UNAVAILABLE:
        message = f"the server{where} cannot be reached: {text}"
    return error_class("", code.name)(message, code=code.name)


def _rich_status(trailing: Iterable[tuple[str, str | bytes]]) -> pb.Error | None:
    for key, value in trailing:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return pb.Error.FromString(value)
            except DecodeError:
                return None
    return None
