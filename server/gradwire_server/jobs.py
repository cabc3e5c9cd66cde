"""What a session's queue holds: sequences, and functions to be called between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from gradwire_server.encode import Answer
from gradwire_server.errors import ServiceError, cancelled
from gradwire_server.execute import Execution
from gradwire_server.replay import Entry

if TYPE_CHECKING:
    from gradwire_server.session import Session

T = TypeVar("T")


class Outlet(Protocol):
    """Where the answers of a stream leave."""

    def hang_up(self) -> None:
        """End the stream, as its client does not read."""

    def room(self) -> asyncio.Future[None] | None:
        """What is done when more of the answers is written; None while there is room for more."""


class Job(Protocol):
    """What a session's queue holds."""

    size: int
    outlet: Outlet | None

    @property
    def must_sleep(self) -> bool:
        """Whether the rest of it must run on a thread that may sleep."""

    def run(self, until: float | None, may_sleep: bool = False) -> bool:
        """Run; with `until`, on the event loop and no longer. Returns whether it has ended."""

    def end(self) -> None:
        """Hand over what came of it. On the event loop."""

    def refuse(self, error: ServiceError) -> None:
        """Hand over why it will not run."""


class Work:
    """A sequence in a session's queue.

    Attributes:
        execution: what runs it.
        answer: once it ended.
        outlet: of the stream that is answered on, if it is one.
        waiting: for those who wait for the answer.
    """

    __slots__ = ("_entry", "_session", "answer", "execution", "outlet", "size", "waiting")

    def __init__(
        self,
        session: Session,
        execution: Execution,
        size: int,
        entry: Entry | None,
        outlet: Outlet | None,
    ) -> None:
        self.execution = execution
        self.size = size
        self.outlet = outlet
        self.answer: Answer | None = None
        self.waiting: asyncio.Future[Answer] | None = None
        self._session = session
        self._entry = entry

    @property
    def number(self) -> int:
        """Of the sequence."""
        return self.execution.number

    @property
    def must_sleep(self) -> bool:
        """Whether a hook may have to wait for the client."""
        return self.execution.must_sleep

    def run(self, until: float | None, may_sleep: bool = False) -> bool:
        """Run steps of the sequence."""
        return self.execution.run(until, may_sleep=may_sleep)

    def end(self) -> None:
        """Hand the answer to all who wait."""
        execution = self.execution
        answer = execution.answer
        assert answer is not None
        if answer.failure is not None:
            self._session.log_failure(answer.failure)
        if execution.told is not None:
            self._session.log_profile(self.number, execution.told)
        self._hand_over(answer)

    def refuse(self, error: ServiceError) -> None:
        """Answer that the sequence will not run."""
        self._hand_over(Answer.refusal(self.number, error))

    def abandon(self) -> None:
        """Stop it, unless the client can come back and ask for the answer by number."""
        if self._entry is None:
            self.execution.halt(cancelled("the client is gone"))

    def _hand_over(self, answer: Answer) -> None:
        self.answer = answer
        if self._entry is not None:
            self._session.replay.answered(self._entry, answer)
            if self._entry.waiting is not None and not self._entry.waiting.done():
                self._entry.waiting.set_result(answer)
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(answer)


class Call(Generic[T]):
    """A function in a session's queue, to be called between sequences."""

    size = 0
    must_sleep = False
    outlet: Outlet | None = None

    def __init__(
        self, function: Callable[[], T], light: Callable[[], bool], waiting: asyncio.Future[T]
    ) -> None:
        self._function = function
        self._light = light
        self._waiting = waiting
        self._outcome: tuple[T] | Exception | None = None

    def run(self, until: float | None, may_sleep: bool = False) -> bool:
        """Call the function, unless it is too much for the event loop."""
        if until is not None and not self._light():
            return False
        try:
            self._outcome = (self._function(),)
        except Exception as error:
            self._outcome = error
        return True

    def end(self) -> None:
        """Hand over the result."""
        if self._waiting.done():
            return
        match self._outcome:
            case (result,):
                self._waiting.set_result(result)
            case Exception() as error:
                self._waiting.set_exception(error)

    def refuse(self, error: ServiceError) -> None:
        """Hand over why it was not called."""
        if not self._waiting.done():
            self._waiting.set_exception(error)
