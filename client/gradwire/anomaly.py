"""Anomaly mode: a backward that makes a NaN fails, and shows the line to blame."""

from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Final

from gradwire.location import Mark
from gradwire.recorder import Entry, mark_of

_enabled: Final[ContextVar[bool]] = ContextVar("gradwire_anomaly", default=False)

is_anomaly_enabled: Final = _enabled.get
"""Whether anomaly mode is on."""

_MOST_LINES: Final = 1_000_000
"""So many operators' lines are kept, the latest."""


class set_detect_anomaly:  # noqa: N801 (PyTorch's name)
    """Switches anomaly mode on or off at once; as a context manager, until its end.

    The mode belongs to the context: threads, tasks and greenlets each have their own.
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        """Switch. Without `check_nan` nothing is searched for NaN, so nothing is switched on."""
        self._before = _enabled.get()
        self._mode = mode and check_nan
        _enabled.set(self._mode)

    def __enter__(self) -> None:
        _enabled.set(self._mode)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _enabled.set(self._before)


class detect_anomaly:  # noqa: N801 (PyTorch's name)
    """Within it a backward whose rules give NaN fails, naming the operator and its line.

    Run forward and backward both inside of it: lines are kept, and gradients searched, only there.
    `backward()` waits for its end there, so that it is what raises.
    """

    def __init__(self, check_nan: bool = True) -> None:
        """Make the context manager; without `check_nan` it does nothing."""
        self._before: list[bool] = []
        self._mode = check_nan

    def __enter__(self) -> None:
        self._before.append(_enabled.get())
        _enabled.set(self._mode)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _enabled.set(self._before.pop())


class Lines:
    """Which line recorded each step of the sequences that were sent in anomaly mode."""

    __slots__ = ("_count", "_marks", "_order")

    def __init__(self) -> None:
        self._marks: dict[int, list[Mark | None]] = {}
        self._order: deque[int] = deque()
        self._count = 0

    def keep(self, number: int, entries: Sequence[Entry]) -> None:
        """Keep the lines of a sequence, and drop the oldest where there are too many."""
        self._marks[number] = [mark_of(each) for each in entries]
        self._order.append(number)
        self._count += len(entries)
        while self._count > _MOST_LINES and len(self._order) > 1:
            self._count -= len(self._marks.pop(self._order.popleft()))

    def find(self, number: str, step: str) -> Mark | None:
        """The line that recorded a step, if it is kept."""
        if not (number.isdecimal() and step.isdecimal()):
            return None
        marks = self._marks.get(int(number), [])
        return marks[int(step)] if int(step) < len(marks) else None
