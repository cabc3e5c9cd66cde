"""Requests are taken apart as protobuf would, and those that repeat only once."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import WireError, encode_message
from gradwire_server.errors import ServiceError
from gradwire_server.requests import Request, read_request, read_usual
from gradwire_server.sequences import MAX_KEPT_BYTES, repeated_sequence
from tests.service.harness import Step, backward, fetch, op, put, release, sequence

X, Y = 1, 2
SESSION = "0123456789abcdef" * 2

STEPS: tuple[Step, ...] = (
    put(X, [3.0], requires_grad=True),
    op("exp", [X], Y),
    backward(Y),
    fetch(Y),
    release(X, Y),
)


def encoded(number: int, *steps: Step, session_id: str = "", **fields: object) -> bytes:
    message, payloads = sequence(number, *steps, **fields)
    return encode_message(pb.RunRequest(session_id=session_id, sequence=message), payloads)


def swapped(data: bytes) -> bytes:
    """The session after the sequence: the same message in unusual order."""
    message = pb.RunRequest.FromString(data)
    parts = [
        pb.RunRequest(sequence=message.sequence),
        pb.RunRequest(session_id=message.session_id, payloads=message.payloads),
    ]
    return b"".join(part.SerializeToString() for part in parts)


REQUESTS = {
    "short": encoded(0, *STEPS, session_id=SESSION),
    "without a session": encoded(0, *STEPS),
    "numbered": encoded(7, *STEPS, session_id=SESSION, acknowledged=6),
    "without steps": encoded(0, session_id=SESSION),
    "without payloads": encoded(0, op("exp", [X], Y)),
    "with a timeout": encoded(0, *STEPS, timeout={"seconds": 2, "nanos": 500_000_000}),
    "with flags": encoded(0, *STEPS, profile=True, detect_anomaly=True, note_origins=True),
    "one byte of length": encoded(0, *[release(X)] * 10),
    "two bytes of length": encoded(0, *[release(X)] * 100),
    "long": encoded(0, *[release(X)] * 1000),
    "very long": encoded(0, *[release(X)] * 10_000),
    "a large payload": encoded(0, put(X, [1.0] * 2000)),
    "a long session": encoded(0, *STEPS, session_id="0" * 127),
    "a session too long": encoded(0, *STEPS, session_id="0" * 128),
    "a session far too long": encoded(0, *STEPS, session_id="\x12\x01" * 200),
    "a number that comes last": encoded(0, *STEPS)
    + pb.RunRequest(sequence=pb.Sequence(number=3)).SerializeToString(),
    "an unusual order": swapped(encoded(0, *STEPS, session_id=SESSION)),
    "a session that comes last": encoded(0, *STEPS)
    + pb.RunRequest(session_id=SESSION).SerializeToString(),
}


@pytest.mark.parametrize("data", REQUESTS.values(), ids=REQUESTS)
def test_a_request_is_what_protobuf_says(data: bytes) -> None:
    for _ in range(2):
        found = read_request(data)
        expected = pb.RunRequest.FromString(data)
        run = expected.sequence
        assert found.session_id == expected.session_id
        assert [bytes(each) for each in found.payloads] == list(expected.payloads)
        read = found.sequence
        assert (read.number, read.acknowledged) == (run.number, run.acknowledged)
        assert read.timeout == (2.5 if run.HasField("timeout") else None)
        assert read.profile is run.profile
        assert read.detect_anomaly is run.detect_anomaly
        assert read.note_origins is run.note_origins
        assert list(read.steps.messages) == list(run.steps)


@pytest.mark.parametrize("end", range(len(REQUESTS["short"])))
def test_what_ends_early_is_refused_as_protobuf_would_refuse_it(end: int) -> None:
    data = REQUESTS["short"][:end]
    try:
        is_message = pb.RunRequest.FromString(data).HasField("sequence")
    except DecodeError:
        is_message = False
    if is_message:
        read_request(data)
        return
    with pytest.raises((ServiceError, WireError)) as raised:
        read_request(data)
    assert raised.value.reason == "MALFORMED_REQUEST"


@pytest.mark.parametrize("byte", [0x00, 0x0A, 0x12, 0x7A, 0x80, 0xFF])
def test_a_byte_that_is_another_changes_no_more_than_protobuf_says(byte: int) -> None:
    data = REQUESTS["short"]
    for at in range(len(data)):
        changed = data[:at] + bytes((byte,)) + data[at + 1 :]
        try:
            expected = pb.RunRequest.FromString(changed)
        except DecodeError:
            expected = pb.RunRequest()
        if not expected.HasField("sequence"):
            with pytest.raises((ServiceError, WireError)):
                read_request(changed)
            continue
        found = read_request(changed)
        assert found.session_id == expected.session_id
        assert list(found.sequence.steps.messages) == list(expected.sequence.steps)
        assert [bytes(each) for each in found.payloads] == list(expected.payloads)


def stream(**fields: object) -> bytes:
    return pb.RunStreamRequest(**fields).SerializeToString()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        stream(session_id=SESSION, cancel=pb.Cancel(number=1)),
        stream(hook_answer=pb.HookAnswer(call=1)),
        stream(session_id=SESSION),
        b"",
        encoded(0, *STEPS) + stream(cancel=pb.Cancel(number=1)),
        encoded(1, *STEPS) + stream(hook_answer=pb.HookAnswer(call=1)),
    ],
)
def test_what_is_not_plainly_a_sequence_is_left_to_protobuf(data: bytes) -> None:
    assert read_usual(data) is None


def test_the_header_of_a_message_without_payloads_ends_where_it_says() -> None:
    message = pb.RunStreamRequest(session_id=SESSION, sequence=sequence(300, *STEPS[1:])[0])
    found = read_usual(message.SerializeToString())
    assert found is not None
    assert found.payloads == []
    assert list(found.sequence.steps.messages) == list(message.sequence.steps)


def is_kept(*requests: bytes) -> bool:
    first, *others = [read_request(data) for data in requests]
    return all(each.sequence is first.sequence for each in others)


def test_a_repeated_sequence_is_taken_apart_once_whoever_sends_it_with_whatever_data() -> None:
    other = (put(X, [4.0], requires_grad=True), *STEPS[1:])
    first = read_request(encoded(0, *STEPS, session_id=SESSION))
    second = read_request(encoded(0, *other, session_id="1" * 32))
    assert second.sequence is first.sequence
    assert second.sequence.steps[1] is first.sequence.steps[1]
    assert second.session_id != first.session_id
    assert second.payloads != first.payloads


def test_a_sequence_with_a_number_is_not_kept() -> None:
    data = encoded(1, *STEPS)
    before = repeated_sequence.cache_info().misses
    assert not is_kept(data, data)
    assert repeated_sequence.cache_info().misses == before


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_long_sequence_is_not_kept(beyond: int) -> None:
    name_bytes = 2000
    steps = [op("x" * name_bytes, [X], Y)] * 2
    size = pb.Sequence(steps=steps).ByteSize()
    steps[0] = op("x" * (name_bytes + MAX_KEPT_BYTES - size + beyond), [X], Y)
    data = encoded(0, *steps)
    assert pb.RunRequest.FromString(data).sequence.ByteSize() == MAX_KEPT_BYTES + beyond
    assert is_kept(data, data) == (not beyond)


def test_the_number_of_kept_sequences_is_bounded() -> None:
    first = encoded(0, *STEPS)
    kept = read_request(first)
    for handle in range(1, 300):
        read_request(encoded(0, release(handle)))
    info = repeated_sequence.cache_info()
    assert info.maxsize is not None
    assert info.currsize <= info.maxsize
    assert read_request(first).sequence is not kept.sequence


def test_what_is_wrong_with_a_step_is_said_when_it_is_to_run_as_often_as_it_is() -> None:
    data = encoded(0, op("exp", [X], Y), op("nonsense", [X], Y))
    requests: list[Request] = [read_request(data) for _ in range(2)]
    for request in requests:
        assert request.sequence.steps[0].kind == "op"
        with pytest.raises(ServiceError) as raised:
            request.sequence.steps[1]
        assert (raised.value.reason, raised.value.field) == ("UNKNOWN_OP", "op.name")
