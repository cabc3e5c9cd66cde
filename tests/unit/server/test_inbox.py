"""Reading a stream ahead changes when messages are read, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gradwire_server.inbox import Inbox


class Source:
    """Messages that come when they are told to."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.reads = 0

    async def read(self) -> Any:
        self.reads += 1
        message = await self.messages.get()
        if isinstance(message, Exception):
            raise message
        return message


def test_messages_come_in_order_whether_read_ahead_or_not() -> None:
    async def run() -> list[int]:
        source = Source()
        inbox = Inbox(source.read)
        for number in range(6):
            source.messages.put_nowait(number)
        found = []
        for number in range(6):
            found.append(await inbox.get())
            if number % 2:
                await inbox.read_ahead()
        return found

    assert asyncio.run(run()) == list(range(6))


def test_one_message_is_read_ahead_and_no_more() -> None:
    async def run() -> None:
        source = Source()
        inbox = Inbox(source.read)
        assert not inbox.is_ahead
        await inbox.read_ahead()
        await inbox.read_ahead()
        assert inbox.is_ahead
        assert source.reads == 1
        source.messages.put_nowait("message")
        assert await inbox.get() == "message"
        assert not inbox.is_ahead

    asyncio.run(run())


def test_a_failure_is_told_to_who_asks_for_the_message() -> None:
    async def run() -> None:
        source = Source()
        inbox = Inbox(source.read)
        source.messages.put_nowait(ConnectionError("gone"))
        await inbox.read_ahead()
        await asyncio.sleep(0)
        with pytest.raises(ConnectionError, match="gone"):
            await inbox.get()

    asyncio.run(run())


@pytest.mark.parametrize("waiting", [False, True])
def test_a_message_that_nobody_wants_any_more_is_not_waited_for(waiting: bool) -> None:
    async def run() -> None:
        source = Source()
        inbox = Inbox(source.read)
        await inbox.read_ahead()
        if waiting:
            reader = asyncio.create_task(inbox.get())
            await asyncio.sleep(0)
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
        inbox.close()
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others

    asyncio.run(run())
