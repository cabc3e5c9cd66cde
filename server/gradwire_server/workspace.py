"""What the sequences of one session work on: tensors by handle, a grad context, their cost.

Used by one thread at a time: the session sees to that.
"""

from __future__ import annotations

import contextvars
import math
import weakref
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np

from gradwire_engine.context import Context
from gradwire_engine.node import AccumulateGrad, AnyNode
from gradwire_engine.profile import NodeTimes
from gradwire_engine.saved_hooks import Packed
from gradwire_engine.tensor import Tensor
from gradwire_server.errors import ServiceError
from gradwire_server.hooks import ClientHooks
from gradwire_server.limits import exceeded
from gradwire_server.settings import Settings
from gradwire_server.stored import Programs
from gradwire_server.transfers import Transfers
from gradwire_server.walks import Readings, SeenNodes

ABSENT: Final = "absent"
"""What a handle holds that names a gradient which is not there."""

STEP_FLOPS: Final = 1000
"""What a step costs beside its arithmetic, in the currency of estimates: some microseconds."""

_SMALL: Final = 500
"""Handles and nodes that take the event loop no longer than a sequence may."""

# Entering `np.errstate` costs as much as some operators do; a context in which it was set does not.
_QUIET: Final = contextvars.Context()
_QUIET.run(np.seterr, all="ignore")

Blank = ServiceError | Literal["absent"]
"""What a handle holds in place of a tensor: the failure that kept it from being made, or none."""


class Workspace:
    """Tensors by handle, and what they and their graph take up.

    Attributes:
        tensors: the live handles that hold a tensor.
        blanks: the live handles that hold none: poisoned, or absent.
        context: grad mode, limits and random generator of the session.
        work: floating-point operations that a backward may have to go back through, roughly.
        bytes_bound: bytes held by handles and graph, or more. Costs an addition a step; only
            when it passes the limit is it brought down to the truth, by counting.
        nodes_bound: the same for nodes of the graph.
        grad_bytes: bytes of the gradients that a backward may leave, or more.
        hooks: of the client.
        transfers: tensors and values on their way in pieces.
        quiet: what sequences run within, so that NumPy does not warn of infinities and NaN.
        max_bytes, max_flops, max_nodes, max_tensors: limits, from the settings.
    """

    def __init__(self, settings: Settings, seed: int | None = None) -> None:
        self.settings = settings
        self.max_bytes = settings.max_session_bytes
        self.max_flops = settings.max_sequence_flops
        self.max_nodes = settings.max_session_nodes
        self.max_tensors = settings.max_session_tensors
        self.quiet = _QUIET.copy()
        self.tensors: dict[int, Tensor] = {}
        self.blanks: dict[int, Blank] = {}
        self._open_ended: dict[int, ServiceError] = {}
        self.context = _SessionContext(self, seed)
        self.hooks = ClientHooks()
        self.transfers = Transfers(settings)
        self.work = 0
        self.bytes_bound = 0
        self.nodes_bound = 0
        self.grad_bytes = 0

    # What few sessions need is made when it is asked for: sessions of one call are opened often.

    @cached_property
    def node_times(self) -> weakref.WeakKeyDictionary[AnyNode, NodeTimes]:
        """What nodes took, in profiled sequences."""
        return weakref.WeakKeyDictionary()

    @cached_property
    def readings(self) -> Readings:
        """Graphs of which a client has some pages."""
        return Readings()

    @cached_property
    def seen(self) -> SeenNodes:
        """Nodes that clients were told of."""
        return SeenNodes()

    @cached_property
    def programs(self) -> Programs:
        """Those that the client keeps here."""
        return Programs(self.settings)

    def tensor(self, handle: int, field: str) -> Tensor:
        """The tensor that a handle names; `field` is where it was named.

        Raises:
            ServiceError: HANDLE_NOT_FOUND, HANDLE_ABSENT, or why the tensor was never made.
        """
        found = self.tensors.get(handle)
        if found is None:
            raise self.why_not(handle, field)
        return found

    def why_not(self, handle: int, field: str) -> ServiceError:
        """The failure for a handle that names no tensor."""
        blank = self.blanks.get(handle) or self._open_poison(handle)
        if isinstance(blank, ServiceError):
            failure = blank.of_poisoned(handle)
            failure.field = field
            return failure
        if blank == ABSENT:
            return ServiceError(
                "HANDLE_ABSENT",
                f"handle {handle} holds no tensor: the gradient that it names was none when it "
                "was read",
                field=field,
                metadata={"handle": handle},
            )
        if handle == 0:
            return ServiceError(
                "HANDLE_NOT_FOUND",
                "handle 0 names no tensor, and here one is needed",
                field=field,
                metadata={"handle": handle},
            )
        return ServiceError(
            "HANDLE_NOT_FOUND",
            f"no tensor has handle {handle}; it was released, or never made",
            field=field,
            metadata={"handle": handle},
        )

    def require_free(self, handles: Sequence[int], field: str) -> None:
        """Refuse handles that cannot be made.

        Raises:
            ServiceError: HANDLE_IN_USE, LIMIT_EXCEEDED.
        """
        tensors, blanks = self.tensors, self.blanks
        for handle in handles:
            if not handle or handle in tensors or handle in blanks:
                raise self.not_free(handle, field)
        count = len(handles)
        if count > 1 and len(set(handles)) != count:
            seen: set[int] = set()
            for handle in handles:
                if handle in seen:
                    raise self.not_free(handle, field)
                seen.add(handle)
        self.require_room(count, field)

    def not_free(self, handle: int, field: str) -> ServiceError:
        """The failure for a handle that cannot be made."""
        text = (
            "0 is not a handle; results take handles from 1 upwards"
            if handle == 0
            else f"handle {handle} is in use; give each result one of its own, counting upwards"
        )
        return ServiceError("HANDLE_IN_USE", text, field=field, metadata={"handle": handle})

    def require_room(self, count: int, field: str) -> None:
        """Refuse more handles than the session may have.

        Raises:
            ServiceError: LIMIT_EXCEEDED.
        """
        total = len(self.tensors) + len(self.blanks) + count
        if total > self.max_tensors:
            raise exceeded(
                "max_session_tensors",
                total,
                self.max_tensors,
                "too many live handles; release those that are no longer needed",
                field=field,
            )

    def poison(self, handles: Iterable[int], failure: ServiceError) -> None:
        """Let free handles answer with the failure that kept them from being made."""
        for handle in handles:
            if handle and handle not in self.tensors and handle not in self.blanks:
                self.blanks[handle] = failure

    def poison_from(self, first: int, failure: ServiceError) -> None:
        """Poison the results of an operator that would have made nobody knows how many."""
        self.poison((first,), failure)
        if self.blanks.get(first) is failure:
            self._open_ended[first] = failure

    def _open_poison(self, handle: int) -> ServiceError | None:
        """The failure of such an operator whose results may have included `handle`.

        Its results would have had all handles from its first to the next that was made.
        """
        first = max((each for each in self._open_ended if each < handle), default=None)
        if first is None or any(first < each < handle for each in (*self.tensors, *self.blanks)):
            return None
        return self._open_ended[first]

    def release(self, handles: Iterable[int]) -> None:
        """Drop handles, all or none.

        Raises:
            ServiceError: HANDLE_NOT_FOUND.
        """
        tensors, blanks = self.tensors, self.blanks
        wanted = list(handles)
        for at, handle in enumerate(wanted):
            if handle not in tensors and handle not in blanks and not self._open_poison(handle):
                raise self.why_not(handle, f"release.tensors[{at}]")
        for handle in wanted:
            if tensors.pop(handle, None) is None:
                blanks.pop(handle, None)
        if self._open_ended:
            # Last, for handles after the first may be released with it.
            for handle in wanted:
                self._open_ended.pop(handle, None)

    def clear(self) -> None:
        """Drop everything."""
        self.tensors.clear()
        self.blanks.clear()
        self._open_ended.clear()
        self.hooks.clear()
        for name in ("node_times", "readings", "seen", "programs"):
            self.__dict__.pop(name, None)

    @property
    def is_small(self) -> bool:
        """Whether all of it can be looked at, or freed, on the event loop."""
        return len(self) + self.nodes_bound < _SMALL

    def __len__(self) -> int:
        return len(self.tensors) + len(self.blanks)

    def require_capacity(self, field: str) -> None:
        """Refuse a step that may add to the session while it holds all that it may.

        Raises:
            ServiceError: LIMIT_EXCEEDED.
        """
        if self.bytes_bound > self.max_bytes or self.nodes_bound >= self.max_nodes:
            self.audit()
            self.require_bytes(0, field)
            if self.nodes_bound >= self.max_nodes:
                raise exceeded(
                    "max_session_nodes",
                    self.nodes_bound + 1,
                    self.max_nodes,
                    "the session would have too many graph nodes; release the results that keep "
                    "the graph alive, or run under no_grad",
                    field=field,
                )

    def has_bytes(self, size: int) -> bool:
        """Whether the session may surely hold `size` bytes more."""
        held = self.bytes_bound + self.transfers.upload_bytes
        return held + size <= self.max_bytes

    def require_bytes(self, size: int, field: str = "") -> None:
        """Refuse `size` more bytes if the session may not hold them.

        Raises:
            ServiceError: LIMIT_EXCEEDED.
        """
        if not self.has_bytes(size):
            self.audit()
            if not self.has_bytes(size):
                raise exceeded(
                    "max_session_bytes",
                    self.bytes_bound + self.transfers.upload_bytes + size,
                    self.max_bytes,
                    "the session would hold too many bytes; release tensors, or run backward "
                    "without retain_graph",
                    field=field,
                )

    def settle_downloads(self) -> None:
        """Take the values that wait to be read as they are now: the next step may change them.

        Raises:
            ServiceError: LIMIT_EXCEEDED, if the session may not hold the copies.
        """
        self.transfers.settle(self._admit_copy)

    def _admit_copy(self, size: int) -> None:
        self.require_bytes(size)
        self.bytes_bound += size

    def count_backward(self, recorded: bool, kept: bool) -> None:
        """Count what a backward pass left: gradients, and if `recorded` a graph of its own."""
        self.bytes_bound += self.bytes_bound if recorded else self.grad_bytes
        if recorded:
            self.nodes_bound += self.nodes_bound
            self.work += 2 * self.work
        elif not kept:
            # What the pass freed is not known without a walk. In a training loop this converges
            # to the work of one iteration, and after a change it does so within a few.
            self.work //= 4

    def audit(self) -> None:
        """Count what is really held: by handles, their gradients, and the graph behind them."""
        held = _Held()
        for tensor in (*self.tensors.values(), *self.programs.bound()):
            held.add_tensor(tensor)
        for array in self.transfers.arrays:
            held.add_array(array)
        held.follow_graph()
        self.bytes_bound = held.bytes + self.programs.nbytes
        self.nodes_bound = held.nodes
        self.work = held.work
        self.grad_bytes = sum(
            tensor.data.nbytes
            for tensor in list(self.tensors.values())
            if tensor.leaf_requires_grad or tensor.retains_grad
        )

    def tensor_bytes(self) -> int:
        """Bytes of tensor data reachable by handle, shared storage counted once.

        Safe to call while another thread runs a sequence.
        """
        held = _Held()
        for tensor in list(self.tensors.values()):
            held.add_array(tensor.data)
        return held.bytes

    def nodes(self) -> Iterator[AnyNode]:
        """Each node that a handle reaches, once, in no particular order."""
        held = _Held()
        for tensor in self.tensors.values():
            held.add_tensor(tensor)
        return held.each_node()


def work_behind(tensors: Iterable[Tensor]) -> int:
    """Floating-point operations of computing tensors from their leaves, as their graph tells."""
    held = _Held()
    for tensor in tensors:
        held.add_tensor(tensor)
    held.follow_graph()
    return held.work


class _SessionContext(Context):
    """A context that also holds a session to its bytes, from shapes, before anything is made."""

    __slots__ = ("_workspace",)

    def __init__(self, workspace: Workspace, seed: int | None) -> None:
        super().__init__(seed=seed, limits=workspace.settings.tensor_limits)
        # Weakly, so that a session's memory goes with it and not with the garbage collector.
        self._workspace = weakref.ref(workspace)

    def admit(self, shape: Sequence[int], what: str) -> None:
        """Refuse a shape beyond the limits of one tensor, or of the session."""
        super().admit(shape, what)
        workspace = self._workspace()
        assert workspace is not None
        workspace.require_bytes(math.prod(shape) * self.default_dtype.itemsize)


class _Held:
    """Counts storages and nodes, each once. Iterative: graphs are deep."""

    __slots__ = ("_found", "_seen", "_storages", "bytes", "nodes", "work")

    def __init__(self) -> None:
        self.bytes = 0
        self.nodes = 0
        self.work = 0
        self._storages: set[int] = set()
        self._seen: set[int] = set()
        self._found: list[AnyNode] = []

    def add_array(self, array: np.ndarray) -> None:
        while isinstance(array.base, np.ndarray):
            array = array.base
        if id(array) not in self._storages:
            self._storages.add(id(array))
            self.bytes += array.nbytes

    def add_tensor(self, tensor: Tensor) -> None:
        while True:
            self.add_array(tensor.data)
            if tensor.edge is not None:
                self._add_node(tensor.edge[0])
            if tensor.grad is None:
                return
            tensor = tensor.grad

    def _add_node(self, node: AnyNode) -> None:
        if id(node) not in self._seen:
            self._seen.add(id(node))
            self._found.append(node)

    def each_node(self) -> Iterator[AnyNode]:
        while self._found:
            node = self._found.pop()
            for edge in node.edges:
                if edge is not None:
                    self._add_node(edge[0])
            yield node

    def follow_graph(self) -> None:
        for node in self.each_node():
            self.nodes += 1
            self.work += STEP_FLOPS
            if isinstance(node, AccumulateGrad):
                self.add_tensor(node.variable)
                continue
            elements = sum(math.prod(shape) for shape, _ in node.outputs)
            longest = 1
            for values in node.saved or ():
                for value in values or ():
                    self._add_saved(value)
                    if isinstance(value, np.ndarray):
                        longest = max(longest, *value.shape, 1)
            # What a product or a reduction sums over is a dimension of what it saved.
            self.work += elements if node.op.kind == "elementwise" else elements * longest

    def _add_saved(self, value: Any) -> None:
        if isinstance(value, np.ndarray):
            self.add_array(value)
        elif isinstance(value, Packed):
            if isinstance(value.held, Tensor):
                self.add_array(value.held.data)
        elif isinstance(value, (list, tuple)):
            for each in value:
                self._add_saved(each)
