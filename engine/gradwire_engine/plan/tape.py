"""The tape of a program that is recorded, and how gradients are pulled back along it.

As `backward.py` does for tensors, with none of what it needs for speed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwire_engine.dtypes import category
from gradwire_engine.interpret import sum_to_shape
from gradwire_engine.plan.traced import CompileError, GraphFreedError, Storage, Traced
from gradwire_engine.rules import Rule

if TYPE_CHECKING:
    from gradwire_engine.plan.record import Recorder

TapeEdge = tuple["TapeNode", int]


@dataclass(slots=True, eq=False)
class TapeNode:
    """A recorded call, as `Node` is. An input that requires grad is one without rules."""

    number: int
    name: str
    outputs: tuple[tuple[tuple[int, ...], np.dtype], ...]
    edges: tuple[TapeEdge | None, ...] = ()
    rules: tuple[Rule, ...] = ()
    saved: tuple[tuple[Any, ...] | None, ...] = ()
    guards: tuple[tuple[Storage, int], ...] = ()
    is_freed: bool = False


def gradient(
    recorder: Recorder,
    outputs: Sequence[Any],
    inputs: Sequence[Any],
    grad_outputs: Sequence[Any],
    *,
    keeps_graph: bool,
    creates_graph: bool,
    allow_unused: bool,
    materializes: bool = False,
) -> list[Traced | None]:
    """As `grad()`; anything that it would refuse is not compilable.

    Raises:
        CompileError: GraphFreedError if the graph was released.
    """
    roots = [
        _root(recorder, tensor, given)
        for tensor, given in zip(outputs, grad_outputs or [None] * len(outputs), strict=True)
    ]
    ends: list[TapeEdge] = []
    for tensor in inputs:
        edge = tensor.gradient_edge() if isinstance(tensor, Traced) else None
        if edge is None:
            raise CompileError("a gradient is asked for by what does not require grad")
        ends.append(edge)
    before = recorder.records
    recorder.records = creates_graph
    try:
        found = _pull_back(recorder, roots, ends, keeps_graph)
    finally:
        recorder.records = before
    results: list[Traced | None] = []
    for tensor, each in zip(inputs, found, strict=True):
        if each is not None:
            results.append(each if creates_graph else recorder.snapshot(each, None))
        elif materializes:
            zero = np.broadcast_to(np.zeros((), tensor.dtype), tensor.shape)
            results.append(recorder.constant(zero))
        elif allow_unused:
            results.append(None)
        else:
            raise CompileError("a gradient is asked for by what the outputs do not depend on")
    return results


def _root(recorder: Recorder, tensor: Any, given: Any) -> tuple[TapeEdge, Traced]:
    edge = tensor.gradient_edge() if isinstance(tensor, Traced) else None
    if edge is None:
        raise CompileError("what is differentiated does not require grad")
    if given is None:
        if tensor.sample.size != 1 or tensor.dtype.kind == "c":
            raise CompileError("what is differentiated is no real scalar")
        return edge, recorder.constant(np.ones(tensor.shape, tensor.dtype))
    if given.shape != tensor.shape or category(given.dtype) > category(tensor.dtype):
        raise CompileError("a gradient does not fit what is differentiated")
    if tensor.dtype.kind == "c" and given.dtype.kind != "c":
        raise CompileError("a gradient does not fit what is differentiated")
    return edge, given if given.dtype == tensor.dtype else recorder.F.to(given, tensor.dtype)


def _pull_back(
    recorder: Recorder,
    roots: Sequence[tuple[TapeEdge, Traced]],
    ends: Sequence[TapeEdge],
    keeps_graph: bool,
) -> list[Traced | None]:
    waiting = _count_dependencies([edge[0] for edge, _ in roots])
    wanted: dict[TapeNode, dict[int, Any]] = {}
    for node, nr in ends:
        wanted.setdefault(node, {})[nr] = None
    useful = set(wanted)
    for node in sorted(waiting, key=lambda each: each.number):
        if any(edge is not None and edge[0] in useful for edge in node.edges):
            useful.add(node)
    arrived: dict[TapeNode, list[Any]] = {}

    def arrive(edge: TapeEdge, gradient: Traced) -> None:
        node, nr = edge
        slots = arrived.setdefault(node, [None] * len(node.outputs))
        slots[nr] = gradient if slots[nr] is None else slots[nr] + gradient

    for edge, gradient in roots:
        arrive(edge, gradient)
    ready = [(-n.number, n) for n in {edge[0]: None for edge, _ in roots} if not waiting[n]]
    heapq.heapify(ready)
    while ready:
        _, node = heapq.heappop(ready)
        slots = arrived.pop(node, None)
        if slots is not None:
            for nr in wanted.get(node, ()):
                wanted[node][nr] = slots[nr]
            if node.rules and node in useful:
                _pull(recorder, node, slots, useful, arrive, keeps_graph)
        for onward in node.edges:
            if onward is not None:
                waiting[onward[0]] -= 1
                if not waiting[onward[0]]:
                    heapq.heappush(ready, (-onward[0].number, onward[0]))
    return [wanted[node][nr] for node, nr in ends]


def _pull(
    recorder: Recorder,
    node: TapeNode,
    slots: list[Any],
    useful: set[TapeNode],
    arrive: Callable[[TapeEdge, Traced], None],
    keeps_graph: bool,
) -> None:
    if node.is_freed:
        raise GraphFreedError("a gradient goes through a graph that was released")
    if any(storage.version != version for storage, version in node.guards):
        raise CompileError("what was kept for a gradient was changed in place")
    saves = False
    for edge, rule, values in zip(node.edges, node.rules, node.saved, strict=True):
        if edge is None or values is None:
            continue
        saves = saves or rule.saves
        if edge[0] not in useful:
            continue
        if slots[0] is None and not rule.takes_all:
            continue
        try:
            pulled = rule.pull(recorder.F, tuple(slots) if rule.takes_all else slots[0], *values)
        except (AttributeError, TypeError) as error:
            raise CompileError(
                f"the gradient of {node.name} handles the tensor itself ({error})"
            ) from None
        if pulled is not None:
            arrive(edge, _fitted(recorder, pulled, *edge[0].outputs[edge[1]]))
    if saves and not keeps_graph:
        node.is_freed = True


def _fitted(recorder: Recorder, gradient: Any, shape: tuple[int, ...], dtype: np.dtype) -> Traced:
    """A gradient as its tensor wants it, as `interpret.fit` makes it."""
    g = gradient if isinstance(gradient, Traced) else recorder.constant(np.asarray(gradient))
    if g.shape != shape:
        g = sum_to_shape(recorder.F, g, shape)
    if g.dtype.kind == "c" and dtype.kind != "c":
        g = recorder.F.real(g)
    return g if g.dtype == dtype else recorder.F.to(g, dtype)


def _count_dependencies(roots: Sequence[TapeNode]) -> dict[TapeNode, int]:
    waiting: dict[TapeNode, int] = dict.fromkeys(roots, 0)
    stack = list(waiting)
    while stack:
        for edge in stack.pop().edges:
            if edge is not None:
                if edge[0] not in waiting:
                    waiting[edge[0]] = 0
                    stack.append(edge[0])
                waiting[edge[0]] += 1
    return waiting
