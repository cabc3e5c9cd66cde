"""Failures of steps that nobody waited for: noted as answers come, raised at the next reading."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradwire.encoding import entry_at
from gradwire.errors import GradwireError, from_status
from gradwire.location import Mark, locate
from gradwire.pipeline import Request
from gradwire.recorder import Entry, mark_of, outputs_of
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire import anomaly
    from gradwire.programs import Lines

ANYONE: Final = object()
"""As the owner of failures: whoever's they are."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """A step's failure that was not reported yet, and who recorded the step."""

    owner: object
    error: Exception


class Failures:
    """The failures of a session, and what they kept from being made."""

    __slots__ = ("_failed", "_origins", "_program_lines", "_unreported")

    def __init__(self, origins: "anomaly.Lines", program_lines: "Mapping[str, Lines]") -> None:
        """Begin with none.

        Args:
            origins: The lines that recorded steps, as far as they are kept.
            program_lines: Those that recorded the steps of programs.
        """
        self._unreported: deque[_Failure] = deque()
        self._failed: dict[int, Mark | None] = {}
        self._origins = origins
        self._program_lines = program_lines

    def __contains__(self, handle: int) -> bool:
        """Whether the step that was to make this handle has failed."""
        return handle in self._failed

    def note(self, owner: object, error: Exception) -> None:
        """Note what is to be reported to an owner."""
        self._unreported.append(_Failure(owner, error))

    def report(self, owner: object) -> None:
        """Raise the owner's first failure that was not reported; later ones follow from it."""
        if not self._unreported:
            return
        others = [each for each in self._unreported if owner not in (each.owner, ANYONE)]
        if len(others) == len(self._unreported):
            return
        first = next(each.error for each in self._unreported if owner in (each.owner, ANYONE))
        self._unreported = deque(others)
        try:
            raise first from None
        finally:
            del first

    def forget(self, released: Iterable[tuple[int, tuple[int, ...]]]) -> None:
        """Forget of handles that they failed: they are no more."""
        if self._failed:
            for _, handles in released:
                for handle in handles:
                    self._failed.pop(handle, None)

    def placed(self, request: Request, status: pb.Error) -> tuple[GradwireError, int]:
        """The exception for a failed sequence, with the line to blame, and which entry failed.

        Notes what that entry and those after it were to make.
        """
        error = from_status(status)
        index = entry_at(request.entries, error.metadata)
        at = index or 0
        # A sequence may fail as a whole, before its first step; then no line is to blame.
        found = mark_of(request.entries[at]) if index is not None else None
        poisoned = error.metadata.get("poisoned_handle", "")
        if poisoned.isdecimal():
            found = self._failed.get(int(poisoned), found)
        called = None
        if "program_step" in error.metadata:
            inner = self._line_in_program(request.entries[at : at + 1], error)
            called, found = (found, inner) if inner is not None else (None, found)
        origin = self._origins.find(
            error.metadata.get("origin_sequence", ""),
            error.metadata.get("origin_step", ""),
            error.metadata.get("origin_call", "0"),
        )
        found = origin or found
        in_hook = entry_at(request.hook_entries, error.metadata, "hook_step", "hook_step_call")
        if in_hook is not None:
            error = error.at(locate(mark_of(request.hook_entries[in_hook])))
        else:
            error = error.at(locate(found))
        if called is not None:
            error.add_note(f"in a call of a compiled function at {locate(called)}")
        for entry in request.entries[at:]:
            for handle in outputs_of(entry):
                self._failed[handle] = found
        return error, at

    def _line_in_program(self, entries: Sequence[Entry], error: GradwireError) -> Mark | None:
        """The line that recorded the step of a program that failed in a call."""
        for entry in entries:
            if len(entry) == 2:
                lines = self._program_lines.get(entry[0].call_program.program)
                return None if lines is None else lines.find(error.metadata["program_step"])
        return None
