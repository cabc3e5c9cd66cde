"""`gw.aio.profile()`: as `gw.profile()`, for what a task sends."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gradwire import current, profiling
from gradwire.aio.session import Session
from gradwire.profiling import Profile


@asynccontextmanager
async def profile(
    *, trace: str | os.PathLike[str] | None = None, quiet: bool = False
) -> AsyncIterator[Profile]:
    """Profile what runs on the server within, as `gradwire.profile`.

    What is sent in its midst by tasks that were started before is not part of it.

    Args:
        trace: Also write a Chrome trace to this path.
        quiet: Print nothing.

    Raises:
        GradwireError: (at the end) a step failed that was recorded within.
    """
    before = current.peek()
    if isinstance(before, Session):
        await before.own(before.settle())
    with profiling.collecting() as found:
        yield found
        for session in profiling.involved(found):
            if isinstance(session, Session):
                await session.own(session.settle())
    profiling.show(found, trace, quiet)
