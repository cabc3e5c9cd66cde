"""Where time goes: what ran, when, for how long, and how many bytes it made.

What runs under a context whose `profile` is set reports to it. Entries nest: an entry that begins
before another has ended is part of it. The place to look at `Context.profile` is once a pass, a
program or a sequence, which then takes a path that reports, so that nobody else pays for it.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Any, Final, Literal

from gradwire_engine.node import AnyNode, TensorType

Kind = Literal["step", "op", "node", "program", "group"]
"""A step that is no operator, an operator, a node of a backward, a program, or operators of a
program that run as one."""

MOST_ENTRIES: Final = 50_000
"""Of so many entries the times are kept; those after them are put together by name."""


@dataclass(slots=True)
class Entry:
    """Something that ran; or, where there are very many, all that bears one name.

    Attributes:
        kind: what it is.
        name: of the operator, the node, the step, the program.
        start: nanoseconds after the profile began; of several, the first.
        duration: nanoseconds; of several, together.
        inner: nanoseconds of `duration` that went to entries within.
        bytes: of its results.
        count: how many it stands for.
        parent: index of the entry that it is part of; -1 for none.
        place: what whoever began it wants to know it by; None if nothing.
        node: number of the node that ran, or that was recorded; 0 for none.
    """

    kind: Kind
    name: str
    start: int
    duration: int = 0
    inner: int = 0
    bytes: int = 0
    count: int = 1
    parent: int = -1
    place: Any = None
    node: int = 0


@dataclass(slots=True)
class NodeTimes:
    """Nanoseconds that a node took: recording it, and going backward through it, in all."""

    forward: int = 0
    backward: int = 0


class Profile:
    """What ran since it began.

    Attributes:
        entries: in order of their beginnings; entries that stand for several come last.
        nodes: where to add up what each node took.
    """

    __slots__ = ("_began", "_inner", "_kept", "_open", "_sums", "entries", "nodes")

    def __init__(self, nodes: MutableMapping[AnyNode, NodeTimes]) -> None:
        self.entries: list[Entry] = []
        self.nodes = nodes
        self._began = perf_counter_ns()
        self._sums: dict[tuple[Kind, str], Entry] = {}
        # Indices of the entries that have not ended; -1 for one whose times are not kept.
        self._open: list[int] = []
        self._inner: list[int] = []

    @property
    def seconds(self) -> float:
        """Since it began."""
        return (perf_counter_ns() - self._began) / 1e9

    @contextmanager
    def entry(self, kind: Kind, name: str, place: Any = None) -> Iterator[Entry]:
        """Report what runs within; its `bytes` and `node` may be set there.

        Args:
            kind: what it is.
            name: its name.
            place: as of the entry; what is part of another has the place of that.

        If it raises before anything within has reported, nothing is reported: it did not run.
        """
        parent = self._open[-1] if self._open else -1
        start = perf_counter_ns()
        entry = Entry(kind, name, start - self._began, parent=parent, place=place)
        if parent >= 0:
            entry.place = self.entries[parent].place
        kept = len(self.entries) < MOST_ENTRIES
        if kept:
            self.entries.append(entry)
        self._open.append(len(self.entries) - 1 if kept else parent)
        self._inner.append(0)
        ran = False
        try:
            yield entry
            ran = True
        finally:
            self._open.pop()
            entry.inner = self._inner.pop()
            entry.duration = perf_counter_ns() - start
            if not ran and kept and self.entries[-1] is entry:
                self.entries.pop()
            elif self._inner:
                self._inner[-1] += entry.duration
            if ran and not kept:
                _add(self._sums, entry)

    def all_entries(self) -> list[Entry]:
        """What ran, and after it what was put together."""
        return [*self.entries, *self._sums.values()]

    def summary(self) -> list[Entry]:
        """All put together by kind and name."""
        sums: dict[tuple[Kind, str], Entry] = {}
        for each in self.all_entries():
            _add(sums, replace(each))
        return list(sums.values())

    def times_of(self, node: AnyNode) -> NodeTimes:
        """Where to add to what a node took."""
        found = self.nodes.get(node)
        if found is None:
            found = self.nodes[node] = NodeTimes()
        return found

    def watch_pass(self, passing: Any) -> None:
        """Let a backward pass report each node that it runs."""
        for name in ("_pull", "_accumulate"):
            setattr(passing, name, self._reporting(passing, name))

    def _reporting(self, passing: Any, name: str) -> Callable[..., Any]:
        """The method of a pass, which takes a node first, as one that reports."""
        method = getattr(type(passing), name)
        # A pass that held itself would keep its gradients until the garbage collector came by.
        held = weakref.ref(passing)

        def reporting(node: AnyNode, *rest: Any) -> Any:
            with self.entry("node", node.name) as entry:
                entry.node = node.id
                entry.bytes = _gradient_bytes(node)
                result = method(held(), node, *rest)
            self.times_of(node).backward += entry.duration
            return result

        return reporting


def _add(sums: dict[tuple[Kind, str], Entry], entry: Entry) -> None:
    """Put an entry together with those of its name."""
    total = sums.get((entry.kind, entry.name))
    if total is None:
        entry.parent, entry.place = -1, None
        entry.node = 0
        sums[entry.kind, entry.name] = entry
        return
    total.duration += entry.duration
    total.inner += entry.inner
    total.bytes += entry.bytes
    total.count += entry.count


def bytes_of(types: Iterable[TensorType]) -> int:
    """Bytes of tensors of those shapes and dtypes."""
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in types)


def _gradient_bytes(node: AnyNode) -> int:
    """Bytes of the gradients that a node passes on; of a leaf, of its own."""
    types = [edge[0].outputs[edge[1]] for edge in node.edges if edge is not None]
    return bytes_of(types or node.outputs)
