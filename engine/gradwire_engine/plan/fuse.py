"""Groups of steps that run together, block by block: elementwise ones, and reductions of these.

What a reduction leaves in rows, such as the maximum of each, goes on in the same block. One over
the rows themselves gives a part a block, and another step reduces the parts, in their order: so
the result does not depend on how many threads there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from gradwire_engine.plan import blocks
from gradwire_engine.plan.calls import needs_mask, wants_filled
from gradwire_engine.plan.values import Kind, Step, Value

LARGE: Final = 1 << 15
"""Elements from which on blocks are worth their loop."""

SMALLEST: Final = 1 << 12
"""Elements of the smallest block: below, calls would cost more than what they do."""

BLOCK_BYTES: Final = 1 << 21
"""What all the arrays of a block together should take, so that they stay in the cache."""

MOST_STEPS: Final = 256
"""Steps of one group; with more, what lives at once no longer fits into the cache."""

IN_PARTS: Final = frozenset(
    {np.add, np.multiply, np.maximum, np.minimum, np.logical_and, np.logical_or}
)
"""Ufuncs that may reduce parts, and then what these gave."""


_QUICK: Final = frozenset(
    {
        *(np.add, np.subtract, np.multiply, np.divide, np.negative, np.square, np.absolute),
        *(np.maximum, np.minimum, np.equal, np.not_equal, np.less, np.less_equal, np.greater),
        *(np.greater_equal, np.logical_and, np.logical_or, np.logical_not, np.isnan, np.isfinite),
        *(np.copyto, np.where, np.sign),
    }
)
"""What takes about as long as a sum."""

_SLOW_WORK: Final = 8
"""How many sums another function takes as long as, such as `exp`; at least."""


@dataclass(slots=True, eq=False)
class Group:
    """Steps that can be taken for a block of rows at a time.

    Attributes:
        shape: of the largest arrays.
        steps: each gives as many rows, or a reduction of all of them.
        takes: values from outside.
        gives: values that are needed outside.
        views: values that show others, made by the group, in another shape with as many rows.
        depth: how many of the first dimensions are the rows.
        block: rows in a block.
    """

    shape: tuple[int, ...]
    steps: list[Step] = field(default_factory=list)
    takes: list[Value] = field(default_factory=list)
    gives: list[Value] = field(default_factory=list)
    views: dict[Value, Value] = field(default_factory=dict)
    depth: int = 1
    block: int = 1

    @property
    def is_flat(self) -> bool:
        """Its arrays may be taken as vectors: all are dense and of one shape, or one element."""
        arrays = [*self.takes]
        for step in self.steps:
            if step.kind is not Kind.REDUCE:
                arrays += step.results
            elif step.options[0] is not None and len(step.options[0]) < len(self.shape):
                return False
        return not self.views and all(
            (value.shape == self.shape and value.strides is None) or not value.shape
            for value in arrays
        )

    @property
    def rows(self) -> int:
        """How many rows there are; each element of a flat group is one."""
        return math.prod(self.shape if self.is_flat else self.shape[: self.depth])

    @property
    def work(self) -> int:
        """Estimated work, in sums of two numbers."""
        return sum(
            max(each.size for each in [*step.operands, *step.results])
            * (1 if step.function in _QUICK else _SLOW_WORK)
            for step in self.steps
        )

    def source(self, value: Value) -> Value:
        """What a value is a view of, if that is made by the group."""
        return self.views.get(value, value)

    def has_rows(self, step: Step, operand: Value) -> bool:
        """Whether a step reads of an operand the rows of its block; otherwise it reads all."""
        return self._has_rows(step, operand, self.depth)

    def _has_rows(self, step: Step, operand: Value, depth: int) -> bool:
        if step.kind is Kind.REDUCE:
            return True
        (result,) = step.results
        return (
            len(operand.shape) == len(result.shape) and operand.shape[:depth] == self.shape[:depth]
        )

    def may_have_rows_of(self, depth: int) -> bool:
        """Whether the first so many dimensions could be taken as one."""
        made = {step.results[0] for step in self.steps}
        return all(self._has_depth(step, depth, made) for step in self.steps)

    def _has_depth(self, step: Step, depth: int, made: set[Value]) -> bool:
        (result,) = step.results
        lead = self.shape[:depth]
        if step.kind is Kind.REDUCE:
            (operand,) = step.operands
            axis = step.options[0]
            over = range(len(operand.shape)) if axis is None else axis
            rows = {at % len(operand.shape) for at in over} & set(range(depth))
            if rows and len(rows) < depth:
                return False
        if not reduces_rows(step) and result.shape[:depth] != lead:
            return False
        for operand in step.operands:
            if self._has_rows(step, operand, depth):
                if operand.strides is not None or operand.shape[:depth] != lead:
                    return False
            else:
                ones = operand.shape[: max(depth + len(operand.shape) - len(result.shape), 0)]
                if self.source(operand) in made or any(size != 1 for size in ones):
                    return False
        return True


def reduces_rows(step: Step) -> bool:
    """Whether a step gives one result of all rows, to which a block has a part."""
    if step.kind is not Kind.REDUCE:
        return False
    axis = step.options[0]
    (operand,) = step.operands
    return axis is None or any(at % len(operand.shape) == 0 for at in axis)


def grouped(steps: Sequence[Step], needed: Iterable[Value]) -> list[Step | Group]:
    """The steps, with those gathered that can share their blocks.

    A group runs where the first step is that needs one of its results and does some work of its
    own; small steps are put off instead. So nothing changes but the order of what does not depend
    on each other.

    Args:
        needed: values that must lie in memory after all steps.
    """
    gathering = _Gathering()
    for step in steps:
        gathering.add(step)
    gathering.close_all()
    kept = set(needed)
    units = _without_idle_views(gathering.units, kept)
    _find_borders(units, kept)
    parted: list[Step | Group] = []
    for unit in units:
        parted.append(unit)
        if isinstance(unit, Group):
            deeper = range(len(unit.shape) - 1, 1, -1)
            unit.depth = next((at for at in deeper if unit.may_have_rows_of(at)), 1)
            unit.block = _block(unit)
            parted += _reduce_in_parts(unit)
    return parted


class _Gathering:
    """Puts steps into groups as they come."""

    def __init__(self) -> None:
        self.units: list[Step | Group] = []
        # No open group needs another one.
        self._open: dict[tuple[int, ...], Group] = {}
        self._within: dict[Value, Group] = {}
        self._whole: dict[Value, Group] = {}
        self._delayed: dict[Value, set[Group]] = {}
        self._waiting: dict[Group, list[tuple[int, Step]]] = {}
        self._count = 0

    def add(self, step: Step) -> None:
        """Take the next step."""
        self._count += 1
        needs = {group for operand in step.operands for group in self._needs(operand)}
        group = self._group_for(step, needs)
        if group is None:
            self._keep_out(step, needs)
            return
        self._close_all(each for each in needs if each is not group)
        group.steps.append(step)
        (self._whole if reduces_rows(step) else self._within)[step.results[0]] = group

    def close_all(self) -> None:
        """There are no more steps."""
        self._close_all(list(self._waiting))

    def _needs(self, value: Value) -> Iterable[Group]:
        """The open groups that have to run before a value is there."""
        group = self._within.get(value) or self._whole.get(value)
        if group is not None:
            return (group,)
        return [each for each in self._delayed.get(value, ()) if each in self._waiting]

    def _group_for(self, step: Step, needs: Iterable[Group]) -> Group | None:
        """The open group that a step may join, or one that begins with it."""
        if not (step.is_elementwise or step.kind is Kind.REDUCE):
            return None
        (first, *_) = step.operands
        widest = first if step.kind is Kind.REDUCE else step.results[0]
        for group in needs:
            if self._may_join(step, group):
                return group
        if widest.size < LARGE or not _has_blocks(step):
            return None
        held = self._open.get(widest.shape)
        if held is not None:
            if held not in needs and self._may_join(step, held):
                return held
            self._close(held)
        group = self._open[widest.shape] = Group(widest.shape)
        self._waiting[group] = []
        return group

    def _may_join(self, step: Step, group: Group) -> bool:
        (result,) = step.results
        within = [each for each in step.operands if self._within.get(each) is group]
        if (
            len(group.steps) >= MOST_STEPS
            or not _has_blocks(step)
            or any(group in self._needs(each) for each in step.operands if each not in within)
        ):
            return False
        if step.kind is Kind.REDUCE:
            return bool(within) or next(step.operands).shape == group.shape
        if not within:
            return result.shape == group.shape
        return (
            result.shape[:1] == group.shape[:1]
            and result.size <= math.prod(group.shape)
            and all(len(each.shape) == len(result.shape) for each in within)
        )

    def _keep_out(self, step: Step, needs: set[Group]) -> None:
        """A step of no group: it comes after the groups that it needs."""
        is_view = step.kind is Kind.VIEW
        if is_view:
            self._view(step)
        is_light = is_view or (
            (step.is_elementwise or step.kind is Kind.REDUCE)
            and all(each.size < LARGE for each in [*step.operands, *step.results])
        )
        if needs and is_light:
            for each in step.results:
                self._delayed[each] = needs
            self._waiting[next(iter(needs))].append((self._count, step))
            return
        self._close_all(needs)
        self.units.append(step)

    def _view(self, step: Step) -> None:
        """A view that has the rows of what it shows is there within the group, too."""
        (source,), (value,) = step.operands, step.results
        group = self._within.get(source)
        if (
            group is not None
            and source.strides is None
            and value.strides is None
            and value.dtype == source.dtype
            and value.size == source.size
            and value.shape[:1] == group.shape[:1]
        ):
            group.views[value] = group.source(source)
            self._within[value] = group

    def _close_all(self, groups: Iterable[Group]) -> None:
        for group in groups:
            if group in self._waiting:
                self._close(group)

    def _close(self, group: Group) -> None:
        del self._open[group.shape]
        for step in group.steps:
            for value in step.results:
                (self._whole if reduces_rows(step) else self._within).pop(value)
        for value in group.views:
            del self._within[value]
        self.units.append(group if _is_worth_it(group) else group.steps[0])
        for at, step in sorted(self._waiting.pop(group), key=lambda each: each[0]):
            needs = {each for each in self._delayed[step.results[0]] if each in self._waiting}
            if needs:
                self._waiting[next(iter(needs))].append((at, step))
            else:
                self.units.append(step)


def _is_worth_it(group: Group) -> bool:
    """Whether a group is faster than its steps, which one alone hardly ever is."""
    (first, *others) = group.steps
    return (
        bool(others)
        or group.work >= blocks.THREADED
        or needs_mask(first) is not None
        or any(wants_filled(first, each) for each in first.operands)
    )


def _has_blocks(step: Step) -> bool:
    """Whether a step can be taken for some rows, and then for others."""
    (result,) = step.results
    if result.strides is not None:
        # A value laid out otherwise than in rows has a step, and a loop, of its own.
        return False
    return not reduces_rows(step) or (step.function in IN_PARTS)


def _readers(units: Sequence[Step | Group]) -> dict[Value, set[int]]:
    """By value the positions of the units that read it."""
    readers: dict[Value, set[int]] = {}
    for at, unit in enumerate(units):
        if isinstance(unit, Step):
            for operand in unit.operands:
                readers.setdefault(operand, set()).add(at)
            continue
        made = {step.results[0] for step in unit.steps}
        for step in unit.steps:
            for operand in step.operands:
                source = unit.source(operand)
                readers.setdefault(source if source in made else operand, set()).add(at)
    return readers


def _without_idle_views(units: Sequence[Step | Group], needed: set[Value]) -> list[Step | Group]:
    """The units without views that only groups read, which look at what the views show."""
    counts = {value: len(found) for value, found in _readers(units).items()}
    kept: list[Step | Group] = []
    for unit in reversed(units):
        if isinstance(unit, Step) and unit.kind is Kind.VIEW:
            (source,), (value,) = unit.operands, unit.results
            if not counts.get(value) and value not in needed:
                counts[source] -= 1
                continue
        kept.append(unit)
    return kept[::-1]


def _find_borders(units: Sequence[Step | Group], needed: set[Value]) -> None:
    """What each group takes and gives."""
    readers = _readers(units)
    for at, unit in enumerate(units):
        if isinstance(unit, Group):
            made = dict.fromkeys(step.results[0] for step in unit.steps)
            operands = dict.fromkeys(o for step in unit.steps for o in step.operands)
            unit.takes = [value for value in operands if unit.source(value) not in made]
            unit.gives = [
                value for value in made if value in needed or readers.get(value, set()) - {at}
            ]


def _block(group: Group) -> int:
    """How many rows may be worked on at once so that all stays in the cache."""
    rows = group.rows
    width = math.prod(group.shape) // rows
    outside = {*group.takes, *group.gives}
    until: dict[Value, int] = {}
    for at, step in enumerate(group.steps):
        for operand in step.operands:
            until[group.source(operand)] = at
    held = sum(_row_bytes(value, rows) for value in outside)
    live = most = 0
    for at, step in enumerate(group.steps):
        (value,) = step.results
        dying = [o for o in dict.fromkeys(map(group.source, step.operands)) if until[o] == at]
        live -= sum(_row_bytes(o, rows) for o in dying if o not in outside)
        live += 0 if value in outside or reduces_rows(step) else _row_bytes(value, rows)
        most = max(most, live)
    block = max(BLOCK_BYTES // max(held + most, 1), -(-SMALLEST // width), 1)
    return min(block, rows)


def _row_bytes(value: Value, rows: int) -> int:
    return value.nbytes // rows


def _reduce_in_parts(group: Group) -> list[Step]:
    """Let blocks give parts of reductions over rows; returns the steps that reduce the parts."""
    blocks = -(-group.rows // group.block)
    is_flat = group.is_flat
    rest: list[Step] = []
    for at, step in enumerate(group.steps):
        if not reduces_rows(step):
            continue
        (result,) = step.results
        axis, dtype, keepdims = step.options
        part = Value((blocks, *result.shape), result.dtype)
        options = (None, dtype, False) if is_flat else (axis, dtype, keepdims)
        group.steps[at] = Step(
            Kind.REDUCE, step.name, step.function, step.args, [part], options, flops=step.flops
        )
        group.gives = [part if each is result else each for each in group.gives]
        rest.append(
            Step(
                Kind.REDUCE,
                step.name,
                step.function,
                (part,),
                [result],
                ((0,), result.dtype, False),
                flops=part.size,
            )
        )
    return rest
