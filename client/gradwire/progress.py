"""How far calls have got that take long: who hears of it, and can stop them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gradwire.pipeline import Request
from gradwire.v1 import autograd_pb2 as pb

Told = Callable[[int, int, tuple[float, ...]], object]
"""`(done, count, values)`: how many runs are done, of how many, and the last run's scalars."""


class Listener:
    """Hears how far a call has got, and can stop it.

    Attributes:
        error: why the call is to stop: what the function raised that was told.
    """

    __slots__ = ("_count", "_done", "_told", "error")

    def __init__(self, told: Told | None, done: int, count: int) -> None:
        """`done` runs of `count` went before the call."""
        self._told = told
        self._done = done
        self._count = count
        self.error: BaseException | None = None

    def stop(self) -> None:
        """End the call when it tells of itself next."""
        self.error = asyncio.CancelledError()

    def hear(self, progress: pb.Progress) -> None:
        """Tell the user's function."""
        if self._told is None or self.error is not None:
            return
        try:
            self._told(self._done + progress.done, self._count, tuple(progress.values))
        except Exception as error:
            self.error = error


class Listeners:
    """Those of a session."""

    def __init__(self) -> None:
        self._by_output: dict[int, Listener] = {}

    @contextmanager
    def added(self, output: int, listener: Listener) -> Iterator[None]:
        """Let a listener hear of the call whose first result has this handle.

        Raises:
            Exception: what the listener raised.
        """
        self._by_output[output] = listener
        try:
            yield
        finally:
            del self._by_output[output]
        if listener.error is not None:
            raise listener.error

    def let_go_on(self, request: Request, progress: pb.Progress) -> bool:
        """Tell whom it concerns; whether the call is to go on."""
        if progress.step >= len(request.entries):
            return True
        entry = request.entries[progress.step]
        call = entry[0].call_program if len(entry) == 2 else pb.CallProgram()
        listener = self._by_output.get(call.output)
        if listener is None:
            return True
        listener.hear(progress)
        return listener.error is None
