"""A group of steps as the source of a function over a block of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
        arguments: values that are given to it, each with the shape that it is given in; None for
            its own.
        scratch: shape and dtype of each temporary array.
    """

    lines: tuple[str, ...]
    parameters: tuple[str, ...]
    arguments: tuple[tuple[Value, tuple[int, ...] | None], ...]
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
        self._arguments: list[tuple[Value, tuple[int, ...] | None]] = []
        # Of what comes from outside a step may want the rows of its block, and another one all.
        self._outside: dict[tuple[Value, bool, tuple[int, ...]], str] = {}
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
        parts = {step.results[0]: step for step in group.steps if reduces_rows(step)}
        for value in group.gives:
            shape = self._part_shape(parts[value]) if value in parts else self._row_shape(value)
            self._names[value] = self._parameter(value, shape)
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
            lines.append(self._calls.into(self._merged(step), operands, target, held))
            if mask is not None:
                self._free.setdefault(self._kind(mask), []).append(held)
            (value,) = step.results
            unread = [value] if value not in until and value in self._temporary else []
            for each in [*dying, *unread]:
                name = self._temporary[each]
                if each is value or name != self._temporary.get(value):
                    self._free.setdefault(self._kind(each), []).append(name)
        sliced += [name for (_, has_rows, _), name in self._outside.items() if has_rows]
        return Loop(
            (*(f"{name} = {name}[low:high]" for name in sliced), *lines),
            (
                *(f"s{at}" for at in range(len(self._kinds))),
                *(f"a{at}" for at in range(len(self._arguments))),
            ),
            tuple(self._arguments),
            tuple(((group.block, *row), dtype) for row, dtype in self._kinds),
        )

    def _parameter(self, value: Value, shape: tuple[int, ...] | None) -> str:
        self._arguments.append((value, None if shape == value.shape else shape))
        return f"a{len(self._arguments) - 1}"

    def _row_shape(self, value: Value) -> tuple[int, ...]:
        """The shape in which a value with rows is given, which are one dimension there."""
        if self._is_flat:
            return (-1,)
        # What is laid out otherwise than in rows has them as its first dimension.
        depth = self._group.depth
        return value.shape if depth == 1 else (-1, *value.shape[depth:])

    def _part_shape(self, step: Step) -> tuple[int, ...]:
        """The shape in which the parts of a reduction are given: what a block gives, by block."""
        blocks, *rest = step.results[0].shape
        if self._is_flat:
            return (blocks,)
        keepdims = step.options[2]
        return (blocks, 1, *rest[self._group.depth :]) if keepdims else (blocks, *rest)

    def _whole_shape(self, step: Step, value: Value) -> tuple[int, ...]:
        """The shape of what has no rows: without the ones that stand for them."""
        rest = len(step.results[0].shape) - self._group.depth
        return value.shape[max(len(value.shape) - rest, 0) :]

    def _merged(self, step: Step) -> Step:
        """A step as it is where the rows are one dimension."""
        depth = self._group.depth
        if step.kind is not Kind.REDUCE or depth == 1 or step.options[0] is None:
            return step
        axis, dtype, keepdims = step.options
        rank = len(next(step.operands).shape)
        over = {max(at % rank - depth + 1, 0) for at in axis}
        return replace(step, options=(tuple(sorted(over)), dtype, keepdims))

    def _operand(self, step: Step, value: Value) -> str:
        source = self._group.source(value)
        if source in self._names:
            name = self._names[source]
            shape = (-1, *value.shape[self._group.depth :])
            return name if source is value else f"{name}.reshape({shape!r})"
        if wants_filled(step, value):
            row, _ = self._kind(step.results[0])
            return f"{self._calls.filled(value, (self._group.block, *row))}[: high - low]"
        if value.constant is not None and not value.shape:
            return self._constant(value)
        has_rows = self._group.has_rows(step, value)
        shape = self._row_shape(value) if has_rows else self._whole_shape(step, value)
        key = (value, has_rows, shape)
        if key not in self._outside:
            self._outside[key] = self._parameter(value, shape)
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
        return () if self._is_flat else value.shape[self._group.depth :], value.dtype
