"""Every reason of the contract has its exception, and errors of the wire become them."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2

from gradwire import errors, wire
from gradwire.location import Location
from gradwire.v1 import autograd_pb2 as pb

REASONS = [
    name.removeprefix("ERROR_REASON_")
    for name in pb.ErrorReason.keys()  # noqa: SIM118 (an enum's wrapper, not a mapping)
    if name != "ERROR_REASON_UNSPECIFIED"
]

BUILT_IN = {
    "DIM_OUT_OF_RANGE": IndexError,
    "INDEX_OUT_OF_RANGE": IndexError,
    "WRONG_ARITY": TypeError,
    "BAD_ATTRIBUTE": TypeError,
    "UNKNOWN_DTYPE": TypeError,
    "DTYPE_MISMATCH": TypeError,
    "UNKNOWN_OP": NotImplementedError,
    "BAD_VALUE": ValueError,
    "DEADLINE_EXCEEDED": TimeoutError,
    "SHUTTING_DOWN": ConnectionError,
    "WORKER_UNREACHABLE": ConnectionError,
    "STREAM_UNREAD": ConnectionError,
}
"""The built-in exception where it is not a RuntimeError."""


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_of_the_contract_has_its_exception(reason: str) -> None:
    made = errors.CLASSES[reason]
    assert issubclass(made, errors.GradwireError)
    assert issubclass(made, BUILT_IN.get(reason, RuntimeError))
    assert made("message", reason=reason).reason == reason


def test_no_exception_is_for_a_reason_that_the_contract_lacks() -> None:
    assert set(errors.CLASSES) == set(REASONS)


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_an_unknown_reason_becomes_the_exception_of_its_code(code: grpc.StatusCode) -> None:
    made = errors.error_class("A_REASON_OF_THE_FUTURE", code.name)
    assert issubclass(made, errors.GradwireError)
    if code is grpc.StatusCode.OUT_OF_RANGE:
        assert issubclass(made, IndexError)


def packed(*details: object) -> list[any_pb2.Any]:
    found = []
    for detail in details:
        found.append(any_pb2.Any())
        found[-1].Pack(detail)
    return found


def test_an_error_of_the_wire_becomes_its_exception() -> None:
    error = errors.from_status(
        pb.Error(
            code=8,
            message="too much",
            details=packed(
                error_details_pb2.ErrorInfo(
                    reason="QUEUE_FULL", domain="gradwire", metadata={"value": "9"}
                ),
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(field="steps[3].op")
                    ]
                ),
                error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=500_000_000)),
                error_details_pb2.QuotaFailure(),
            ),
        )
    )
    assert type(error) is errors.OverloadedError
    assert str(error) == "too much"
    assert (error.reason, error.code, error.field) == (
        "QUEUE_FULL", "RESOURCE_EXHAUSTED", "steps[3].op",
    )  # fmt: skip
    assert error.metadata == {"value": "9"}
    assert error.retry_after == 0.5


def test_an_error_that_points_at_a_line_shows_it() -> None:
    error = errors.ShapeError("do not fit", reason="SHAPE_MISMATCH", metadata={"a": "b"})
    assert error.at(None) is error
    at = error.at(Location(__file__, 1))
    assert type(at) is errors.ShapeError
    assert str(at).startswith("do not fit\n  at ")
    assert "test_errors.py:1: " in str(at)
    assert (at.message, at.reason, at.metadata) == ("do not fit", "SHAPE_MISMATCH", {"a": "b"})


def test_a_line_whose_source_is_not_at_hand_is_still_named() -> None:
    assert str(Location("<stdin>", 3)) == "<stdin>:3"


def test_wire_errors_become_exceptions() -> None:
    error = errors.from_wire_error(wire.WireError("PAYLOAD_MISMATCH", "too short", {"found": "3"}))
    assert isinstance(error, errors.BadValueError)
    assert (error.reason, error.metadata) == ("PAYLOAD_MISMATCH", {"found": "3"})


def test_exceptions_of_system_calls_work_as_such() -> None:
    with pytest.raises(TimeoutError, match="late"):
        raise errors.DeadlineError("late", reason="DEADLINE_EXCEEDED")
    with pytest.raises(OSError, match="away"):
        raise errors.UnavailableError("away")
