"""The store that makes sequences run exactly once."""

from __future__ import annotations

import pytest

from gradwire.v1 import autograd_pb2 as pb
from gradwire_server.encode import Answer
from gradwire_server.errors import ServiceError
from gradwire_server.replay import Replay


def request(number: int, op: str = "exp", **fields: object) -> bytes:
    sequence = pb.Sequence(number=number, steps=[pb.Step(op=pb.Op(name=op))], **fields)
    return pb.RunStreamRequest(sequence=sequence).SerializeToString()


def run(replay: Replay, number: int, size: int = 10) -> None:
    data = request(number)
    assert replay.find(number, data) is None
    replay.answered(replay.accept(number, data), Answer(b"x" * size, None))


def reason(replay: Replay, number: int, data: bytes) -> str:
    with pytest.raises(ServiceError) as caught:
        replay.find(number, data)
    return caught.value.reason


def test_a_repetition_finds_its_answer() -> None:
    replay = Replay(10, 10_000)
    run(replay, 1)
    entry = replay.find(1, request(1))
    assert entry is not None
    assert entry.answer is not None


def test_acknowledging_and_timeouts_are_not_content() -> None:
    replay = Replay(10, 10_000)
    run(replay, 1)
    assert replay.find(1, request(1, acknowledged=5, timeout={"seconds": 3})) is not None
    unary = pb.RunRequest(
        session_id="s", sequence=pb.RunStreamRequest.FromString(request(1)).sequence
    )
    assert replay.find(1, unary.SerializeToString()) is not None
    assert reason(replay, 1, request(1, "log")) == "SEQUENCE_CONFLICT"


def test_numbers_come_one_after_the_other() -> None:
    replay = Replay(10, 10_000)
    run(replay, 1)
    assert reason(replay, 3, request(3)) == "SEQUENCE_GAP"
    assert replay.find(2, request(2)) is None


def test_answers_beyond_the_bounds_are_dropped_oldest_first_but_never_the_last() -> None:
    replay = Replay(3, 10_000)
    for number in range(1, 6):
        run(replay, number)
    assert [reason(replay, number, request(number)) for number in (1, 2)] == [
        "SEQUENCE_FORGOTTEN"
    ] * 2
    assert replay.find(3, request(3)) is not None
    run(replay, 6, size=1_000_000)
    assert reason(replay, 5, request(5)) == "SEQUENCE_FORGOTTEN"
    assert replay.find(6, request(6)) is not None


def test_what_is_acknowledged_is_dropped_and_what_still_runs_is_not() -> None:
    replay = Replay(10, 10_000)
    run(replay, 1)
    running = replay.accept(2, request(2))
    replay.forget(2)
    assert reason(replay, 1, request(1)) == "SEQUENCE_FORGOTTEN"
    assert replay.find(2, request(2)) is running
