"""Changes in place while a program is recorded: the storage gets a new value.

They keep to what `in_place.py` and `views.py` of the engine do with tensors, versions and edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwire_engine.dtypes import can_cast
from gradwire_engine.plan.tape import TapeEdge
from gradwire_engine.plan.traced import CompileError, Traced, tensors_in, view_path
from gradwire_engine.plan.values import Value, follow
from gradwire_engine.tensor import ViewStep

if TYPE_CHECKING:
    from gradwire_engine.plan.record import Recorder


def change_in_place(recorder: Recorder, op: Any, args: list[Any]) -> Traced:
    """Record a call that changes its first argument; that argument.

    Raises:
        CompileError: it cannot be recorded.
    """
    target: Traced = args[0]
    edge = target.gradient_edge()
    record = (
        recorder.recording
        and bool(op.rules)
        and target.dtype.kind in "fc"
        and any(each.requires_grad for each in tensors_in(args))
    )
    owner = target if target.base is None else target.base
    if recorder.recording and owner.edge is not None and not owner.edge[0].rules:
        raise CompileError(f"{op.name} changes an input that requires grad")
    if record and target.is_frozen:
        raise CompileError(f"{op.name} changes a view that gradients cannot follow")
    if op.base.is_view:
        raise CompileError(f"{op.name} gives a tensor another shape in place")
    for each in tensors_in(args[1:]):
        if each.storage is target.storage and (each.path or target.path):
            raise CompileError(f"{op.name} reads part of what it writes")
    before = recorder.snapshot(target, edge)
    ((value, sample),) = recorder.compute(op, args)
    written = target.sample
    if sample.shape != written.shape or not can_cast(sample.dtype, written.dtype):
        raise CompileError(f"{op.name} does not fit the tensor that it changes")
    if 0 in written.strides and written.size > 1:
        raise CompileError(f"{op.name} writes to an expanded tensor")
    _write(recorder, target, value, sample)
    if not record:
        return target
    held = [before, *args[1:]]
    node = recorder.made_node(op, held, (target,))
    if node is None:
        return target
    if any(each.storage is target.storage for each in tensors_in(args[1:])):
        raise CompileError(f"{op.name} may keep what it overwrites")
    base = target.base
    if base is None:
        target.edge = (node, 0)
    else:
        # As CopySlices: the base's history goes on with a part replaced.
        part = recorder.snapshot(target, (node, 0))
        base.edge = _edge_of_update(recorder, base, target.steps, part)
        target.seen = base.edge
        target.edge = recorder.edge_of_view(base, target.steps, base.edge)
    return target


def _write(recorder: Recorder, target: Traced, value: Value, sample: np.ndarray) -> None:
    storage = target.storage
    value = recorder.graph.cast(value, storage.value.dtype if not target.path else target.dtype)
    path = view_path(target.path)
    whole = storage.sample.copy(order="K")
    follow(whole, path)[...] = sample
    if target.path:
        storage.value = recorder.graph.update(storage.value, value, path)
    else:
        storage.value = recorder.settled(value, whole)
    storage.sample = whole
    storage.version += 1


def _edge_of_update(
    recorder: Recorder, base: Traced, steps: tuple[ViewStep, ...], part: Traced
) -> TapeEdge:
    """The place of a base of which a part came to be what `part` is."""
    around, inside = base.edge, part.edge
    node = recorder.node(
        "copy_slices",
        [base.sample],
        edges=(around, inside),
        rules=(_AROUND, _INSIDE),
        saved=((recorder, steps), (recorder, steps)),
    )
    return (node, 0)


@dataclass(frozen=True, slots=True)
class _UpdateRule:
    """The gradient of a base of which a view was overwritten: around the part, or inside of it."""

    is_inside: bool

    saves = False
    takes_all = False

    def pull(self, F: Any, g: Traced, recorder: Recorder, steps: tuple[ViewStep, ...]) -> Traced:
        part = g
        for step in steps:
            made = recorder.call(step.op, [part, *step.template[1:]])
            part = made if step.nr is None else made[step.nr]
        if self.is_inside:
            return part
        whole = recorder.snapshot(g, None)
        graph, path = recorder.graph, view_path(steps)
        sample = whole.sample.copy(order="K")
        follow(sample, path)[...] = 0
        zero = graph.constant(np.broadcast_to(np.zeros((), part.dtype), part.shape))
        if recorder.recording and g.requires_grad:
            raise CompileError("the gradient of a view that was changed in place is recorded")
        return recorder.new(graph.update(whole.value, zero, path), sample)


_AROUND: Any = _UpdateRule(False)
_INSIDE: Any = _UpdateRule(True)
