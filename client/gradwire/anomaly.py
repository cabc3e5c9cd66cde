"""Anomaly mode: a backward that makes a NaN fails, and shows the line to blame."""

import warnings
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Final

from gradwire.encoding import first_entries
from gradwire.location import Mark
from gradwire.recorder import Entry, mark_of

_enabled: Final[ContextVar[bool]] = ContextVar("gradwire_anomaly", default=False)
_checks_nan: Final[ContextVar[bool]] = ContextVar("gradwire_anomaly_nan", default=True)

is_anomaly_enabled: Final = _enabled.get
"""Whether anomaly mode is on."""

_MOST_LINES: Final = 1_000_000
"""So many operators' lines are kept, the latest."""


def is_anomaly_check_nan_enabled() -> bool:
    """Whether anomaly mode is on and searches gradients for NaN."""
    return _enabled.get() and _checks_nan.get()


def _switch(mode: tuple[bool, bool]) -> tuple[bool, bool]:
    """Set whether anomaly mode is on, and whether it searches for NaN; as it was before."""
    before = _enabled.get(), _checks_nan.get()
    _enabled.set(mode[0])
    _checks_nan.set(mode[1])
    return before


class set_detect_anomaly:  # noqa: N801 (PyTorch's name)
    """Switches anomaly mode on or off at once; as a context manager, until its end.

    The mode belongs to the context: threads, tasks and greenlets each have their own.
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        """Switch. Without `check_nan` lines are kept, and nothing is searched for NaN."""
        self._mode = mode, check_nan
        self._before = _switch(self._mode)

    def __enter__(self) -> None:
        _switch(self._mode)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _switch(self._before)


class detect_anomaly:  # noqa: N801 (PyTorch's name)
    """Within it a backward whose rules give NaN fails, naming the operator and its line.

    Run forward and backward both inside of it: lines are kept, and gradients searched, only there.
    `backward()` waits for its end there, so that it is what raises. Warns, when it is made, that
    all of this takes time.
    """

    def __init__(self, check_nan: bool = True) -> None:
        """Make the context manager; without `check_nan` lines are kept, and NaN may pass."""
        self._before: list[tuple[bool, bool]] = []
        self._check_nan = check_nan
        warnings.warn(
            "Anomaly Detection has been enabled. It keeps the line of each operator, searches each "
            "gradient and waits for each backward; use it to find a fault, and not in production",
            UserWarning,
            stacklevel=2,
        )

    def __enter__(self) -> None:
        self._before.append(_switch((True, self._check_nan)))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _switch(self._before.pop())


class Lines:
    """Which line recorded each step of the sequences that were sent in anomaly mode."""

    __slots__ = ("_count", "_marks", "_order")

    def __init__(self) -> None:
        self._marks: dict[int, tuple[list[int], list[Mark | None]]] = {}
        self._order: deque[int] = deque()
        self._count = 0

    def keep(self, number: int, entries: Sequence[Entry]) -> None:
        """Keep the lines of a sequence, and drop the oldest where there are too many."""
        self._marks[number] = (first_entries(entries), [mark_of(each) for each in entries])
        self._order.append(number)
        self._count += len(entries)
        while self._count > _MOST_LINES and len(self._order) > 1:
            self._count -= len(self._marks.pop(self._order.popleft())[1])

    def find(self, number: str, step: str, call: str) -> Mark | None:
        """The line that recorded a step, or a call of it, if it is kept."""
        if not (number.isdecimal() and step.isdecimal() and call.isdecimal()):
            return None
        firsts, marks = self._marks.get(int(number), ([], []))
        at = firsts[int(step)] + int(call) if int(step) < len(firsts) else len(marks)
        return marks[at] if at < len(marks) else None
