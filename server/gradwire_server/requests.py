"""Requests that carry a sequence: taken apart, with as little work as their bytes allow."""

from __future__ import annotations

from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import payloads_from, split_message, varint_at
from gradwire_server.errors import malformed
from gradwire_server.sequences import MAX_KEPT_BYTES, StepSequence, repeated_sequence

_SESSION: Final = pb.RunRequest.SESSION_ID_FIELD_NUMBER << 3 | 2
_SEQUENCE: Final = pb.RunRequest.SEQUENCE_FIELD_NUMBER << 3 | 2
_NUMBER: Final = pb.Sequence.NUMBER_FIELD_NUMBER << 3
"""The bytes before these fields."""


class Request(NamedTuple):
    """A RunRequest, or a RunStreamRequest with a sequence.

    Attributes:
        session_id: empty where none is named.
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
    found = read_usual(data)
    if found is not None:
        return found
    message, payloads = split_message(pb.RunRequest, data)
    if not message.HasField("sequence"):
        raise malformed("the request has no sequence", "sequence")
    return Request(message.session_id, StepSequence.read(message.sequence), payloads)


def read_usual(data: bytes) -> Request | None:
    """Take a request apart that has a sequence and is written as writers write it.

    Then only the sequence has to go through protobuf, and a short one without a number not even
    that: it is found by its bytes. None for other requests, and for whatever may be wrong.

    Raises:
        WireError: MALFORMED_REQUEST.
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
        length, at = varint_at(data, at + 1)
        end = at + length
        if end > len(data):
            return None
        payloads = payloads_from(data, end)
        if payloads is None:
            return None
        if length <= MAX_KEPT_BYTES and data[at] != _NUMBER:
            sequence = repeated_sequence(data[at:end])
            if not sequence.number:
                return Request(session_id, sequence, payloads)
        sequence = StepSequence.read(pb.Sequence.FromString(data[at:end]))
    except (IndexError, UnicodeDecodeError, DecodeError):
        return None
    return Request(session_id, sequence, payloads)
