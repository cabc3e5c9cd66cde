"""Walking graphs from newest node to oldest, and going on later where a walk stopped.

Edges lead from a node to older ones. So a walk need not know what it has passed: the nodes that
wait, to which edges have led and which are older than all that was passed, are all of its state.
They are held weakly: a walk that nobody goes on with keeps no graph alive.
"""

from __future__ import annotations

import heapq
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gradwire_engine.node import AnyNode
from gradwire_engine.tensor import Tensor

_MOST_READINGS: Final = 8
"""So many graphs of a session are on their way to clients, without each page being searched for."""

_MOST_HELD: Final = 1_000_000
"""So many nodes and leaves these hold together, unless the latest alone holds more."""

_MOST_SEEN: Final = 10_000
"""So many nodes of a session are found by number without a search, the latest that it told of."""


class Walk:
    """Each node that starts reach, once, newest first.

    Attributes:
        waiting: how many nodes are known to come.
    """

    __slots__ = ("_depths", "_max_depth", "_nodes", "_order")

    def __init__(self, starts: Iterable[AnyNode], max_depth: int = 0) -> None:
        """Begin; go no further than `max_depth` edges from the starts, 0 for no such bound."""
        self._max_depth = max_depth
        self._nodes: dict[int, weakref.ref[AnyNode]] = {}
        self._depths: dict[int, int] = {}
        self._order: list[int] = []
        for node in starts:
            self._reach(node, 0)

    @property
    def waiting(self) -> int:
        """How many nodes are known to come; 0 at the end."""
        return len(self._order)

    def take(self, count: int, before: int | None = None) -> list[AnyNode]:
        """The next `count` nodes, or what is left; with `before`, those whose numbers are less."""
        found: list[AnyNode] = []
        while self._order and len(found) < count:
            node = self._step()
            if node is not None and (before is None or node.id < before):
                found.append(node)
        return found

    def _step(self) -> AnyNode | None:
        """Pass one node; None if nothing holds it any more, and so the graph has lost it."""
        number = -heapq.heappop(self._order)
        node, depth = self._nodes.pop(number)(), self._depths.pop(number, 0)
        if node is not None and (not self._max_depth or depth < self._max_depth):
            for edge in node.edges:
                if edge is not None:
                    self._reach(edge[0], depth + 1)
        return node

    def _reach(self, node: AnyNode, depth: int) -> None:
        number = node.id
        if number not in self._nodes:
            self._nodes[number] = weakref.ref(node)
            heapq.heappush(self._order, -number)
        if self._max_depth:
            # All edges that lead here come from newer nodes: it is final when the node is passed.
            self._depths[number] = min(depth, self._depths.get(number, depth))


class Leaves:
    """Handles of leaves, looked up when the first is asked for."""

    __slots__ = ("_handles", "_tensors")

    def __init__(self, tensors: Mapping[int, Tensor]) -> None:
        self._tensors = tensors
        self._handles: dict[int, int] | None = None

    def __len__(self) -> int:
        return len(self._handles or ())

    def handle_of(self, leaf: Tensor) -> int:
        """The first handle of a leaf; 0 if none names it."""
        handles = self._look() if self._handles is None else self._handles
        handle = handles.get(id(leaf), 0)
        if handle and self._tensors.get(handle) is not leaf:
            handle = self._look().get(id(leaf), 0)
        return handle

    def _look(self) -> dict[int, int]:
        self._handles = {}
        for handle, each in self._tensors.items():
            if each.edge is None:
                self._handles.setdefault(id(each), handle)
        return self._handles


@dataclass(frozen=True, slots=True)
class Reading:
    """A graph on its way to a client, page by page.

    Attributes:
        walk: at the first node of the next page.
        leaves: as they were when the first of them was read.
    """

    walk: Walk
    leaves: Leaves

    @property
    def size(self) -> int:
        """How many nodes and leaves it holds."""
        return self.walk.waiting + len(self.leaves)


class Readings:
    """What clients may want to read on, each under the token of its next page; the latest."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        # Several may have one token: of clients that read the same graph.
        self._kept: list[tuple[str, Reading]] = []

    def keep(self, token: str, reading: Reading) -> None:
        """Keep one that has not ended."""
        self._kept.append((token, reading))
        while len(self._kept) > _MOST_READINGS or (
            len(self._kept) > 1 and sum(each.size for _, each in self._kept) > _MOST_HELD
        ):
            del self._kept[0]

    def take(self, token: str) -> Reading | None:
        """One with that token, which is then not kept any more; None if there is none."""
        for at, (each, reading) in enumerate(self._kept):
            if each == token:
                del self._kept[at]
                return reading
        return None


class SeenNodes:
    """The nodes that a session lately told its clients of, to be found by number."""

    __slots__ = ("_nodes",)

    def __init__(self) -> None:
        self._nodes: OrderedDict[int, weakref.ref[AnyNode]] = OrderedDict()

    def add(self, node: AnyNode) -> None:
        """Note a node; forget the one that was noted first, if there are too many."""
        self._nodes[node.id] = weakref.ref(node)
        self._nodes.move_to_end(node.id)
        if len(self._nodes) > _MOST_SEEN:
            self._nodes.popitem(last=False)

    def find(self, number: int) -> AnyNode | None:
        """The node of that number, if it was noted and something holds it."""
        reference = self._nodes.get(number)
        return None if reference is None else reference()
