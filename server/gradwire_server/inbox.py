"""The messages of a stream, read ahead where they come faster than they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class Inbox:
    """Reads a stream, and at most one message ahead of who asks for them."""

    def __init__(self, read: Callable[[], Awaitable[Any]]) -> None:
        """Read by calling `read`."""
        self._read = read
        self._ahead: asyncio.Future[Any] | None = None

    @property
    def is_ahead(self) -> bool:
        """Whether the next message is on its way, or there."""
        return self._ahead is not None

    async def get(self) -> Any:
        """The next message."""
        if self._ahead is None:
            return await self._read()
        ahead, self._ahead = self._ahead, None
        try:
            return await ahead
        finally:
            ahead.cancel()

    async def read_ahead(self) -> None:
        """Begin to read the next message, so that it arrives while this one is worked on."""
        if self._ahead is None:
            self._ahead = asyncio.ensure_future(self._read())
            # It begins when the event loop has its turn.
            await asyncio.sleep(0)

    def close(self) -> None:
        """Read no more."""
        if self._ahead is not None:
            self._ahead.cancel()
            # That the stream has failed meanwhile, its handler has noticed by itself.
            self._ahead.add_done_callback(lambda done: done.cancelled() or done.exception())
