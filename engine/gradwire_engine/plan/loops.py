"""A group of steps as the source of a function over a block of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gradwire_engine.plan.calls import Calls, needs_mask, wants_filled
from gradwire_engine.plan.fuse import Group, reduces_rows
from gradwire_engine.plan.values import Kind, Step, Value


@dataclass(frozen=True, slots=True)
class Loop:
    """A group as a function over a range of rows.

    Attributes:
        lines: of the function's body.
        parameters: of the function: temporary arrays, then what `arguments` names.
        arguments: values that are given to it.
        scratch: shape and dtype of each temporary array.
    """

    lines: tuple[str, ...]
    parameters: tuple[str, ...]
    arguments: tuple[Value, ...]
    scratch: tuple[tuple[tuple[int, ...], np.dtype], ...]


_Kind = tuple[tuple[int, ...], np.dtype]
"""Of a temporary array: the shape of a row, and the dtype."""


def loop_of(group: Group, calls: Calls, constant: Callable[[Value], str]) -> Loop:
    """Write a group's function; temporary arrays are used again once nobody reads them."""
    return _LoopWriter(group, calls, constant).written()


class _LoopWriter:
    def __init__(self, group: Group, calls: Calls, constant: Callable[[Value], str]) -> None:
        self._group = group
        self._is_flat = group.is_flat
        self._calls = calls
        self._constant = constant
        self._lines: list[str] = []
        self._arguments: list[Value] = []
        # Of what comes from outside a step may want the rows of its block, and another one all.
        self._outside: dict[tuple[Value, bool], str] = {}
        self._names: dict[Value, str] = {}
        self._kinds: list[_Kind] = []
        self._temporary: dict[Value, str] = {}
        self._free: dict[_Kind, list[str]] = {}

    def written(self) -> Loop:
        group = self._group
        until: dict[Value, int] = {}
        for at, step in enumerate(group.steps):
            for operand in step.operands:
                until[group.source(operand)] = at
        for value in group.gives:
            self._names[value] = self._parameter(value)
        parts = {step.results[0] for step in group.steps if reduces_rows(step)}
        sliced = [self._names[value] for value in group.gives if value not in parts]
        lines: list[str] = []
        for at, step in enumerate(group.steps):
            sources = dict.fromkeys(map(group.source, step.operands))
            dying = [each for each in sources if until[each] == at and each in self._temporary]
            operands = [self._operand(step, each) for each in step.operands]
            target = self._target(step, dying)
            mask = needs_mask(step)
            if mask is not None and not group.has_rows(step, next(step.operands)):
                mask = None
            held = "" if mask is None else self._new(self._kind(mask))
            lines.append(self._calls.into(step, operands, target, held))
            if mask is not None:
                self._free.setdefault(self._kind(mask), []).append(held)
            (value,) = step.results
            unread = [value] if value not in until and value in self._temporary else []
            for each in [*dying, *unread]:
                name = self._temporary[each]
                if each is value or name != self._temporary.get(value):
                    self._free.setdefault(self._kind(each), []).append(name)
        sliced += [name for (_, has_rows), name in self._outside.items() if has_rows]
        return Loop(
            (*(f"{name} = {name}[low:high]" for name in sliced), *lines),
            (
                *(f"s{at}" for at in range(len(self._kinds))),
                *(f"a{at}" for at in range(len(self._arguments))),
            ),
            tuple(self._arguments),
            tuple(((group.block, *row), dtype) for row, dtype in self._kinds),
        )

    def _parameter(self, value: Value) -> str:
        self._arguments.append(value)
        return f"a{len(self._arguments) - 1}"

    def _operand(self, step: Step, value: Value) -> str:
        source = self._group.source(value)
        if source in self._names:
            name = self._names[source]
            return name if source is value else f"{name}.reshape({(-1, *value.shape[1:])!r})"
        if wants_filled(step, value):
            row, _ = self._kind(step.results[0])
            return f"{self._calls.filled(value, (self._group.block, *row))}[: high - low]"
        if value.constant is not None and not value.shape:
            return self._constant(value)
        key = (value, self._group.has_rows(step, value))
        if key not in self._outside:
            self._outside[key] = self._parameter(value)
        return self._outside[key]

    def _target(self, step: Step, dying: Sequence[Value]) -> str:
        """The name of what a step writes to."""
        (value,) = step.results
        if reduces_rows(step):
            return f"{self._names[value]}[at, ...]"
        if value in self._names:
            return self._names[value]
        name = self._reused(step, dying) or self._new(self._kind(value))
        self._names[value] = self._temporary[value] = name
        return name

    def _new(self, kind: _Kind) -> str:
        """A temporary array that nobody reads."""
        if self._free.get(kind):
            return self._free[kind].pop()
        self._kinds.append(kind)
        return f"s{len(self._kinds) - 1}"

    def _reused(self, step: Step, dying: Sequence[Value]) -> str | None:
        """The temporary array of an operand that nobody reads after, if it may be written to."""
        if step.kind is Kind.REDUCE:
            return None
        (value,) = step.results
        operands = list(step.operands)
        # A selection fills in the last operand first; writing over another would lose it.
        lost = operands[:2] if step.kind is Kind.SELECT else []
        for each in operands[len(lost) :]:
            if each in dying and self._kind(each) == self._kind(value) and each not in lost:
                return self._temporary[each]
        return None

    def _kind(self, value: Value) -> _Kind:
        return () if self._is_flat else value.shape[1:], value.dtype
