"""Who uses a session: tasks, and threads, that share it and do not answer for one another."""

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from gradwire.recorder import Attribute, Recorder
from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import Payload

T = TypeVar("T")

_task: Final[ContextVar[weakref.ref[asyncio.Task[Any]] | None]] = ContextVar(
    "gradwire_task", default=None
)
_served: Final[ContextVar[object | None]] = ContextVar("gradwire_served", default=None)


def owner() -> object:
    """Whom what runs now is for: the task that runs it, or that called `asyncio.to_thread`.

    Somebody else where a coroutine of theirs runs in a task of its own, as under `asyncio.gather`;
    the thread where there is no task.
    """
    served = _served.get()
    if served is not None:
        return served
    known = _task.get()
    try:
        task = asyncio.current_task()
    except RuntimeError:
        # Another thread: its context is a copy, if a task started it.
        return (known() if known is not None else None) or threading.current_thread()
    if task is None:
        return threading.current_thread()
    if known is None or known() is not task:
        _task.set(weakref.ref(task))
    return task


async def serve(whom: object, doing: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on behalf of its owner."""
    token = _served.set(whom)
    try:
        return await doing
    finally:
        _served.reset(token)


class OwnersRecorder(Recorder):
    """Keeps apart what different owners record, so that steps of one do not fail with another's."""

    __slots__ = ("_before",)

    def __init__(self, most_steps: int, before: Callable[[], None]) -> None:
        """Make one that calls `before` ahead of whatever is recorded."""
        super().__init__(most_steps)
        self._before = before

    def op(
        self,
        name: str,
        inputs: tuple[int, ...],
        attributes: tuple[Attribute, ...],
        outputs: int,
        grad_mode: int,
    ) -> int:
        """Record an operator; the handle of its first result (0 for no results)."""
        self._before()
        return super().op(name, inputs, attributes, outputs, grad_mode)

    def step(self, step: pb.Step) -> None:
        """Record a step of another kind."""
        self._before()
        super().step(step)

    def payload(self, data: Payload) -> int:
        """Add tensor data; its index."""
        self._before()
        return super().payload(data)
