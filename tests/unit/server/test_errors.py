"""The table of failures against the contract, and the statuses that it makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.errors import EngineError
from gradwire_server.errors import CODES, ServiceError, failure_of

ROOT = Path(__file__).parents[3]
PROTO = ROOT / "proto/gradwire/v1/autograd.proto"
OPERATIONS = ROOT / "docs/operations.md"


def reasons_of_the_contract() -> dict[str, str]:
    """Each reason with the code that its comment names."""
    pattern = r"// \[(\w+)\](?:(?!// \[).)*?ERROR_REASON_(\w+) = \d+;"
    found = re.findall(pattern, PROTO.read_text(), re.DOTALL)
    return {reason: code for code, reason in found}


def test_every_reason_has_the_code_that_the_contract_says() -> None:
    contract = reasons_of_the_contract()
    assert set(contract) == {
        name.removeprefix("ERROR_REASON_") for name in pb.ErrorReason.keys()[1:]
    }
    assert {reason: code_pb2.Code.Name(code) for reason, code in CODES.items()} == contract


def test_the_documentation_has_each_reason_with_its_code() -> None:
    rows = re.findall(r"^\| ([A-Z_]+) \| `([A-Z_]+)` \|", OPERATIONS.read_text(), re.MULTILINE)
    assert {reason: code for code, reason in rows} == reasons_of_the_contract()


def details(failure: ServiceError) -> list[str]:
    return [each.type_url.rpartition(".")[2] for each in failure.status().details]


@pytest.mark.parametrize(
    ("failure", "kinds"),
    [
        (ServiceError("SHAPE_MISMATCH", "m", field="f"), ["ErrorInfo", "BadRequest"]),
        (ServiceError("MALFORMED_REQUEST", "m"), ["ErrorInfo"]),
        (ServiceError("GRAPH_FREED", "m"), ["ErrorInfo", "PreconditionFailure"]),
        (ServiceError("LIMIT_EXCEEDED", "m"), ["ErrorInfo", "QuotaFailure"]),
        (
            ServiceError("QUEUE_FULL", "m", retry_after=0.5),
            ["ErrorInfo", "QuotaFailure", "RetryInfo"],
        ),
    ],
)
def test_each_code_brings_its_details(failure: ServiceError, kinds: list[str]) -> None:
    assert details(failure) == kinds


def test_the_error_of_the_wire_is_a_status() -> None:
    failure = ServiceError("HANDLE_IN_USE", "m", field="op.output", metadata={"handle": 7}).at(3, 9)
    status = status_pb2.Status.FromString(failure.error().SerializeToString())
    assert status == failure.status()
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert dict(info.metadata) == {"handle": "7", "step": "3", "sequence": "9"}


def test_a_status_stays_small_enough_for_a_trailer() -> None:
    long = "x" * 100_000
    failure = ServiceError("BAD_VALUE", long, field="f", metadata={"value": long, "other": long})
    assert failure.status().ByteSize() < 8192


def test_what_nobody_foresaw_is_internal_and_tells_nothing() -> None:
    failure = failure_of(ZeroDivisionError("secret"))
    assert failure.reason == "INTERNAL"
    assert "secret" not in str(failure.status())
    assert failure.metadata["error_id"] in failure.message
    assert isinstance(failure.__cause__, ZeroDivisionError)


def test_a_reason_that_the_contract_does_not_know_is_internal() -> None:
    assert failure_of(EngineError("NO_SUCH_REASON", "m")).reason == "INTERNAL"


def test_poison_of_poison_keeps_the_first_cause() -> None:
    root = ServiceError("UNKNOWN_OP", "no such op").at(4, 2)
    first = root.of_poisoned(10).at(0, 3)
    second = first.of_poisoned(11).at(1, 5)
    assert second.metadata == {
        "root_step": "4",
        "root_sequence": "2",
        "poisoned_handle": "11",
        "step": "1",
        "sequence": "5",
    }
    assert second.message == first.message
