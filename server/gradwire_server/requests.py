"""Requests that carry a sequence: taken apart, with as little work as their bytes allow."""

from __future__ import annotations

from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import payloads_from, split_message
from gradwire_server.errors import malformed
from gradwire_server.sequences import MAX_KEPT_BYTES, StepSequence, repeated_sequence

_SESSION: Final = pb.RunRequest.SESSION_ID_FIELD_NUMBER << 3 | 2
_SEQUENCE: Final = pb.RunRequest.SEQUENCE_FIELD_NUMBER << 3 | 2
_NUMBER: Final = pb.Sequence.NUMBER_FIELD_NUMBER << 3
"""The bytes before these fields."""


class Request(NamedTuple):
    """A RunRequest.

    Attributes:
        session_id: empty for a session of its own.
        sequence: what it is to run.
        payloads: views of the message.
    """

    session_id: str
    sequence: StepSequence
    payloads: list[memoryview]


def read_request(data: bytes) -> Request:
    """Take a RunRequest apart.

    Raises:
        ServiceError: MALFORMED_REQUEST.
        WireError: MALFORMED_REQUEST.
    """
    return _read_short(data) or _read_any(data)


def _read_any(data: bytes) -> Request:
    message, payloads = split_message(pb.RunRequest, data)
    if not message.HasField("sequence"):
        raise malformed("the request has no sequence", "sequence")
    return Request(message.session_id, StepSequence.read(message.sequence), payloads)


def _read_short(data: bytes) -> Request | None:
    """The same for a short sequence without a number, in the form that writers give it.

    Such a sequence is found by its bytes, and protobuf need not see it again. None for others, and
    for whatever may be wrong.
    """
    try:
        session_id = ""
        at = 0
        if data[0] == _SESSION:
            at = 2 + data[1]
            if at >= 2 + 0x80:
                return None
            session_id = data[2:at].decode()
        if data[at] != _SEQUENCE:
            return None
        length = data[at + 1]
        at += 2
        if length >= 0x80:
            length += (data[at] << 7) - 0x80
            at += 1
        end = at + length
        if length > MAX_KEPT_BYTES or end > len(data) or data[at] == _NUMBER:
            return None
        payloads = payloads_from(data, end)
        if payloads is None:
            return None
        sequence = repeated_sequence(data[at:end])
    except (IndexError, UnicodeDecodeError, DecodeError):
        return None
    return None if sequence.number else Request(session_id, sequence, payloads)
