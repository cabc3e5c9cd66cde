"""`gw.profile()`: where the time of a part of a program goes, on the server."""

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from gradwire import current
from gradwire.encoding import first_entries
from gradwire.errors import refused
from gradwire.location import Location, Mark, locate
from gradwire.recorder import Entry, mark_of
from gradwire.units import size_text, time_text
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.core import SessionCore

Kind = Literal["step", "op", "backward", "program", "group"]
"""What ran: a step that is no operator; an operator; a node of a backward; a program, or operators
of one that run as one."""

SortKey = Literal["self_time", "time", "count", "bytes", "name"]

_KINDS: Final[Mapping[int, Kind]] = {
    pb.PROFILE_KIND_STEP: "step",
    pb.PROFILE_KIND_OP: "op",
    pb.PROFILE_KIND_NODE: "backward",
    pb.PROFILE_KIND_PROGRAM: "program",
    pb.PROFILE_KIND_GROUP: "group",
}

_LINE_COLUMNS: Final = 80

_active: Final[ContextVar["Profile | None"]] = ContextVar("gradwire_profile", default=None)

active: Final = _active.get
"""The profile that what is sent now belongs to; None where there is none."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that ran on the server; or, where there were very many, all of one name.

    Attributes:
        name: Of the operator, the node, the step, the program.
        kind: What it is.
        session: Id of its session.
        sequence: Number of its sequence.
        start: Nanoseconds of the epoch, by the server's clock.
        time: Nanoseconds; of several, together.
        self_time: Those that did not go to events within this one.
        bytes: Of its results; of a node, of the gradients that it passed on.
        count: How many it stands for.
        parent: Index in `Profile.events` of the event that it is part of; None if there is none.
        node: Id of the node that ran, or that the operator recorded; 0 for none.
    """

    name: str
    kind: Kind
    session: str
    sequence: int
    start: int
    time: int
    self_time: int
    bytes: int
    count: int
    parent: int | None
    node: int
    mark: Mark | None

    @property
    def line(self) -> Location | None:
        """The line of the program that recorded it; of a node, its operator; None if unknown."""
        return locate(self.mark)


@dataclass(frozen=True, slots=True)
class Average:
    """The events of one name.

    Attributes:
        name: As of the events.
        kind: As of the events.
        count: How many there are.
        time: Their nanoseconds.
        self_time: Those that did not go to events within them.
        bytes: Of their results.
        lines: Those that recorded them, each once, as far as they are known.
    """

    name: str
    kind: Kind
    count: int
    time: int
    self_time: int
    bytes: int
    lines: tuple[Location, ...]

    @property
    def mean_time(self) -> float:
        """Nanoseconds of one."""
        return self.time / self.count


class Averages(Sequence[Average]):
    """Events put together, those first that most time went to."""

    def __init__(self, items: Sequence[Average]) -> None:
        """Take them, in any order."""
        self._items = sorted(items, key=lambda each: -each.self_time)

    def __getitem__(self, at: Any) -> Any:
        return self._items[at]

    def __len__(self) -> int:
        return len(self._items)

    def find(self, name: str) -> Average:
        """Those of a name.

        Raises:
            KeyError: there are none.
        """
        for each in self._items:
            if each.name == name:
                return each
        raise KeyError(name)

    def table(self, sort_by: SortKey = "self_time", row_limit: int | None = None) -> str:
        """A table, a name a line.

        Args:
            sort_by: The column that counts, largest first; or "name".
            row_limit: So many lines at most.

        Raises:
            ValueError: there is no such column.
        """
        if sort_by not in ("self_time", "time", "count", "bytes", "name"):
            raise refused(
                "BAD_VALUE",
                f"sort_by is {sort_by!r}; it must be 'self_time', 'time', 'count', 'bytes' or "
                "'name'",
            )
        items = sorted(self._items, key=lambda each: getattr(each, sort_by))
        if sort_by != "name":
            items.reverse()
        whole = sum(each.self_time for each in items) or 1
        head = ("name", "kind", "calls", "self", "self %", "total", "mean", "bytes", "line")
        rows = [
            (
                each.name,
                each.kind,
                f"{each.count:,}",
                time_text(each.self_time),
                f"{100 * each.self_time / whole:.1f}",
                time_text(each.time),
                time_text(each.mean_time),
                size_text(each.bytes),
                _lines_text(each.lines),
            )
            for each in items[:row_limit]
        ]
        text = _aligned([head, *rows], left=(0, 1, 8))
        if len(rows) < len(items):
            text += f"\n… {len(items) - len(rows):,} more"
        return text

    def __str__(self) -> str:
        return self.table()


class Profile:
    """What ran on the server for a part of a program.

    Attributes:
        events: In order of their beginnings, sequence after sequence.
        sequences: How many sequences there were.
        time: Nanoseconds that they took on the server.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.sequences = 0
        self.time = 0
        self.sessions: dict[str, SessionCore] = {}
        self._spans: list[tuple[str, int, int, int]] = []
        self._marks: dict[tuple[str, int], Mark] = {}
        self._lock = threading.Lock()

    def add(self, session: str, number: int, told: pb.Profile, entries: Sequence[Entry]) -> None:
        """Take in the profile of one sequence, whose steps were these."""
        started = told.start_time.ToNanoseconds()
        firsts = first_entries(entries)
        with self._lock:
            self.sequences += 1
            self.time += told.duration_ns
            self._spans.append((session, number, started, told.duration_ns))
            first = len(self.events)
            for each in told.entries:
                at = firsts[each.step - 1] if 0 < each.step <= len(firsts) else -1
                mark = mark_of(entries[at + max(0, each.call - 1)]) if at >= 0 else None
                kind = _KINDS.get(each.kind, "step")
                if each.node and kind == "op" and mark is not None:
                    self._marks[session, each.node] = mark
                elif each.node and kind == "backward":
                    # Where the node was recorded says more than where the backward was called.
                    mark = self._marks.get((session, each.node), mark)
                self.events.append(
                    Event(
                        name=each.name,
                        kind=kind,
                        session=session,
                        sequence=number,
                        start=started + each.start_ns,
                        time=each.duration_ns,
                        self_time=each.duration_ns - each.inner_ns,
                        bytes=each.bytes,
                        count=each.count,
                        parent=first + each.parent - 1 if each.parent else None,
                        node=each.node,
                        mark=mark,
                    )
                )

    def key_averages(self, group_by_line: bool = False) -> Averages:
        """The events put together by name, or by name and line."""
        groups: dict[tuple[object, ...], list[Event]] = {}
        for each in self.events:
            place = each.mark if group_by_line else None
            groups.setdefault((each.kind, each.name, place), []).append(each)
        return Averages(
            [
                Average(
                    name=group[0].name,
                    kind=group[0].kind,
                    count=sum(each.count for each in group),
                    time=sum(each.time for each in group),
                    self_time=sum(each.self_time for each in group),
                    bytes=sum(each.bytes for each in group),
                    lines=_lines_of(group),
                )
                for group in groups.values()
            ]
        )

    def table(self, sort_by: SortKey = "self_time", row_limit: int | None = None) -> str:
        """A table of the events by name, as of `key_averages`, and what they come to."""
        noun = "sequence" if self.sequences == 1 else "sequences"
        total = f"{self.sequences:,} {noun}, {time_text(self.time)} on the server"
        if not self.events:
            return total
        return f"{self.key_averages().table(sort_by, row_limit)}\n{total}"

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write what ran when, as a JSON file for chrome://tracing or ui.perfetto.dev.

        Each session is a thread there.
        """
        threads = {session: at + 1 for at, session in enumerate(dict.fromkeys(self._sessions()))}
        shown: list[dict[str, Any]] = [_named("process_name", 0, "gradwire")]
        shown += [_named("thread_name", tid, f"session {id}") for id, tid in threads.items()]
        for session, number, start, time in self._spans:
            name = f"sequence {number}"
            shown.append(_complete(name, "sequence", threads[session], start, time, {}))
        for each in self.events:
            arguments: dict[str, Any] = {"bytes": each.bytes, "sequence": each.sequence}
            if each.count > 1:
                arguments["count"] = each.count
            if each.node:
                arguments["node"] = each.node
            if each.line is not None:
                arguments["line"] = str(each.line)
            tid = threads[each.session]
            shown.append(_complete(each.name, each.kind, tid, each.start, each.time, arguments))
        text = json.dumps({"traceEvents": shown, "displayTimeUnit": "ms"}, ensure_ascii=False)
        Path(path).write_text(text, encoding="utf-8")

    def _sessions(self) -> list[str]:
        return [session for session, *_ in self._spans]

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return f"<Profile: {self.sequences} sequences, {time_text(self.time)} on the server>"


@contextmanager
def profile(
    *, trace: str | os.PathLike[str] | None = None, quiet: bool = False
) -> Iterator[Profile]:
    """Profile what runs on the server within: operators, steps, and the nodes of backwards.

    Prints a table at the end, sorted by time, and waits until all that was recorded within has run;
    what was recorded before runs before.

    Args:
        trace: Also write a Chrome trace to this path.
        quiet: Print nothing.

    Raises:
        GradwireError: (at the end) a step failed that was recorded within.
    """
    before = current.peek()
    if before is not None:
        before.finish(before.settle())
    with collecting() as found:
        yield found
        for session in involved(found):
            session.finish(session.settle())
    show(found, trace, quiet)


@contextmanager
def collecting() -> Iterator[Profile]:
    """Let what is sent within be profiled."""
    found = Profile()
    token = _active.set(found)
    try:
        yield found
    finally:
        _active.reset(token)


def involved(found: Profile) -> "list[SessionCore]":
    """The sessions that a profile has to wait for: those that sent, and the current one."""
    sessions = dict(found.sessions)
    now = current.peek()
    if now is not None:
        sessions[now.id] = now
    return [each for each in sessions.values() if not each.closed]


def show(found: Profile, trace: str | os.PathLike[str] | None, quiet: bool) -> None:
    """Print a profile, and write its trace."""
    if trace is not None:
        found.export_chrome_trace(trace)
    if not quiet:
        print(found.table())


def _lines_of(events: Sequence[Event]) -> tuple[Location, ...]:
    marks = dict.fromkeys(each.mark for each in events)
    return tuple(dict.fromkeys(line for mark in marks if (line := locate(mark)) is not None))


def _lines_text(lines: Sequence[Location]) -> str:
    if not lines:
        return ""
    text = str(lines[0])
    if len(text) > _LINE_COLUMNS:
        text = text[: _LINE_COLUMNS - 1] + "…"
    return text if len(lines) == 1 else f"{text} and {len(lines) - 1} more"


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if at in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "─" * max(map(len, lines)), *lines[1:]])


def _complete(
    name: str, category: str, tid: int, start: int, time: int, arguments: dict[str, Any]
) -> dict[str, Any]:
    """A complete event of the Trace Event Format; its times are microseconds."""
    return {
        "name": name,
        "cat": category,
        "ph": "X",
        "ts": start / 1e3,
        "dur": time / 1e3,
        "pid": 1,
        "tid": tid,
        "args": arguments,
    }


def _named(what: str, tid: int, name: str) -> dict[str, Any]:
    """A metadata event of the Trace Event Format."""
    return {"name": what, "ph": "M", "pid": 1, "tid": tid, "args": {"name": name}}
