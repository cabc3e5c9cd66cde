"""Groups of elementwise steps that run together, block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from gradwire_engine.plan.blocks import BLOCK_BYTES
from gradwire_engine.plan.values import Kind, Step, Value

LARGE: Final = 1 << 15
"""Elements from which on blocks are worth their loop."""

SMALLEST: Final = 1 << 12
"""Elements of the smallest block: below, calls would cost more than what they do."""


@dataclass(slots=True, eq=False)
class Group:
    """Elementwise steps over one shape.

    Attributes:
        takes: values from outside, in the order of the function's parameters.
        gives: values that are needed outside.
    """

    shape: tuple[int, ...]
    steps: list[Step] = field(default_factory=list)
    takes: list[Value] = field(default_factory=list)
    gives: list[Value] = field(default_factory=list)

    @property
    def is_flat(self) -> bool:
        """Its arrays may be taken as vectors: all are dense and of one shape, or one element."""
        values = [*self.takes, *(value for step in self.steps for value in step.results)]
        return all(
            (value.shape == self.shape and value.strides is None) or not value.shape
            for value in values
        )

    @property
    def rows(self) -> tuple[int, int]:
        """How many rows there are, and elements in each."""
        if self.is_flat:
            return math.prod(self.shape), 1
        return self.shape[0], math.prod(self.shape[1:])


def grouped(steps: Sequence[Step], needed: Iterable[Value]) -> list[Step | Group]:
    """The steps, with those gathered that can share their blocks.

    A group runs where the first step is that reads one of its results, so nothing changes but the
    order of what does not depend on each other.

    Args:
        needed: values that must lie in memory after all steps.
    """
    units: list[Step | Group] = []
    open_groups: dict[tuple[int, ...], Group] = {}
    inside: dict[Value, Group] = {}

    def close(group: Group) -> None:
        del open_groups[group.shape]
        for step in group.steps:
            for value in step.results:
                del inside[value]
        units.append(group if len(group.steps) > 1 else group.steps[0])

    for step in steps:
        shape = step.results[0].shape
        joins = step.is_elementwise and math.prod(shape) >= LARGE
        # A value laid out otherwise than in rows has a step, and a loop, of its own.
        joins = joins and step.results[0].strides is None
        for operand in step.operands:
            group = inside.get(operand)
            if group is not None and not (joins and group.shape == shape):
                close(group)
        if not joins:
            units.append(step)
            continue
        group = open_groups.setdefault(shape, Group(shape))
        group.steps.append(step)
        inside[step.results[0]] = group
    for group in list(open_groups.values()):
        close(group)
    _find_borders(units, set(needed))
    return units


def _find_borders(units: Sequence[Step | Group], needed: set[Value]) -> None:
    """What each group takes and gives."""
    readers: dict[Value, set[int]] = {}
    for at, unit in enumerate(units):
        for step in unit.steps if isinstance(unit, Group) else [unit]:
            for operand in step.operands:
                readers.setdefault(operand, set()).add(at)
    for at, unit in enumerate(units):
        if isinstance(unit, Group):
            made = {value for step in unit.steps for value in step.results}
            operands = dict.fromkeys(o for step in unit.steps for o in step.operands)
            unit.takes = [value for value in operands if value not in made]
            unit.gives = [
                value
                for step in unit.steps
                for value in step.results
                if value in needed or readers.get(value, set()) - {at}
            ]


@dataclass(frozen=True, slots=True)
class Loop:
    """A group as a function over a range of rows.

    Attributes:
        lines: of the function's body.
        parameters: of the function.
        scratch: shape and dtype of each temporary array.
        block: rows in a block.
        work: elements, counted once for each step.
    """

    lines: tuple[str, ...]
    parameters: tuple[str, ...]
    scratch: tuple[tuple[tuple[int, ...], np.dtype], ...]
    block: int
    work: int


CallText = Callable[[Step, Sequence[str], str], str]
"""The text of a call that writes the result of a step: step, names of operands, name of result."""


def loop_of(group: Group, call: CallText, constant: Callable[[Value], str]) -> Loop:
    """Write a group's function; temporary arrays are used again once nobody reads them."""
    rows, width = group.rows
    until: dict[Value, int] = {}
    for at, step in enumerate(group.steps):
        for operand in step.operands:
            until[operand] = at
    names: dict[Value, str] = {}
    lines: list[str] = []
    parameters: list[str] = []
    for at, value in enumerate([*group.takes, *group.gives]):
        if value in names:
            continue
        if value.constant is not None and not value.shape:
            names[value] = constant(value)
            continue
        parameters.append(f"a{at}")
        names[value] = f"a{at}"
        is_whole = value.shape == group.shape
        if is_whole or (len(value.shape) == len(group.shape) and value.shape[0] == rows):
            lines.append(f"a{at} = a{at}[low:high]")
    free: dict[np.dtype, list[str]] = {}
    scratch: list[np.dtype] = []
    for at, step in enumerate(group.steps):
        (value,) = step.results
        operands = list(step.operands)
        dying = [o for o in dict.fromkeys(operands) if until[o] == at]
        # A selection fills in the last operand first; writing over another would lose it.
        lost = 2 if step.kind is Kind.SELECT else 0
        reusable = operands[lost:]
        if value not in names:
            held = [o for o in reusable if o in dying and o.dtype == value.dtype]
            held = [o for o in held if names[o].startswith("s") and o not in operands[:lost]]
            if held:
                names[value] = names[held[0]]
            elif free.get(value.dtype):
                names[value] = free[value.dtype].pop()
            else:
                names[value] = f"s{len(scratch)}"
                scratch.append(value.dtype)
        lines.append(call(step, [names[o] for o in operands], names[value]))
        for operand in dying:
            name = names[operand]
            if name.startswith("s") and name != names[value]:
                free.setdefault(operand.dtype, []).append(name)
        if value not in until and names[value].startswith("s"):
            free.setdefault(value.dtype, []).append(names[value])
    moved = sum(value.dtype.itemsize for value in {*group.takes, *group.gives} if value.shape)
    moved += sum(dtype.itemsize for dtype in scratch)
    block = max(BLOCK_BYTES // max(moved, 1) // width, 1)
    block = max(block, -(-SMALLEST // width))
    inner = () if group.is_flat else group.shape[1:]
    return Loop(
        tuple(lines),
        (*(f"s{at}" for at in range(len(scratch))), *parameters),
        tuple((((min(block, rows)), *inner), dtype) for dtype in scratch),
        min(block, rows),
        math.prod(group.shape) * len(group.steps),
    )
