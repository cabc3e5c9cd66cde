"""Answers are written in order, and a client that does not read holds up only itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from gradwire_server import outbox
from gradwire_server.encode import Answer
from gradwire_server.outbox import Outbox


class Reader:
    """A client that reads when it is told to."""

    def __init__(self) -> None:
        self.read: list[bytes] = []
        self.reads = asyncio.Event()

    async def write(self, data: bytes) -> None:
        await self.reads.wait()
        self.read.append(data)


def hang_up() -> None:
    raise AssertionError("nobody reads too little here")


def answer(text: str) -> Answer:
    return Answer(text.encode(), None)


async def is_waiting(doing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that has come as far as it can and has not ended."""
    task = asyncio.create_task(doing)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


def test_answers_wait_for_those_before_them() -> None:
    async def run() -> None:
        reader = Reader()
        reader.reads.set()
        box = Outbox(reader.write, 10, hang_up)
        late: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        await box.put(answer("1"))
        await box.put(late)
        await box.put(answer("3"))
        assert reader.read == [b"1"]
        late.set_result(answer("2"))
        await box.drained()
        assert reader.read == [b"1", b"2", b"3"]

    asyncio.run(run())


@pytest.mark.parametrize("bound", ["bytes", "answers"])
def test_requests_wait_while_too_many_answers_are_unread(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(outbox, "_MAX_BYTES", 100 if bound == "bytes" else 10**9)

    async def run() -> None:
        reader = Reader()
        box = Outbox(reader.write, 1000 if bound == "bytes" else 1, hang_up)
        first: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        await box.put(first)
        first.set_result(answer("x" * 60))
        await box.put(answer("y" * 30))
        putting = await is_waiting(box.put(answer("z" * 60)))
        reader.reads.set()
        await putting
        await box.drained()
        assert [len(each) for each in reader.read] == [60, 30, 60]

    asyncio.run(run())
