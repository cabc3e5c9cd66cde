"""Steps as one straight line of Python: a function whose every name is a local or a cell.

The source names things by kind and number only; nothing of a client's gets into it. What a call
computes on the way lies in buffers that later steps, and later calls, use again; what a call hands
out is allocated by it and belongs to whoever gets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from gradwire_engine.plan.calls import Calls, needs_mask, wants_filled
from gradwire_engine.plan.fuse import LARGE, Group, grouped
from gradwire_engine.plan.loops import Loop, loop_of
from gradwire_engine.plan.source import Source, Span, report_of
from gradwire_engine.plan.values import Kind, Step, Value, dense, follow

SMALL: Final = 4096
"""Bytes below which NumPy's own cache of small blocks is as fast as a buffer kept for a value."""

FILLED: Final = 1 << 9
"""Elements from which on an array of a number may be kept for it."""

_CHECK_STEPS: Final = 64
_CHECK_BYTES: Final = 1 << 20


@dataclass(slots=True)
class Buffers:
    """Which values share which memory.

    Attributes:
        sizes: bytes of each block.
        place: the block of each value that has one.
    """

    sizes: list[int] = field(default_factory=list)
    place: dict[Value, int] = field(default_factory=dict)


class ShapeError(Exception):
    """A result has another shape than the plan was made for; the text says of which operator."""


def _refuse_shape(name: str) -> None:
    raise ShapeError(f"the shape of what {name} gives depends on values")


class Writer:
    """Decides where values lie, and writes the source."""

    def __init__(
        self,
        inputs: Sequence[Value],
        steps: Sequence[Step],
        results: Sequence[Value],
        writes: Sequence[tuple[Value, Value]],
        are_distinct: bool,
    ) -> None:
        self.inputs = list(inputs)
        self.results = list(results)
        self.writes = list(writes)
        self.constants: list[Any] = []
        self.arrays: list[tuple[int, tuple[int, ...], np.dtype, Any]] = []
        self.buffers = Buffers()
        self._names: dict[Any, str] = {}
        self._bound: dict[Any, str] = {}
        self._calls = Calls(self._constant)
        self._views: dict[Value, list[str]] = {}
        self._lines: list[str] = []
        self._spans: list[Span] = []
        self._are_distinct = are_distinct
        for at, value in enumerate(inputs):
            self._names[value] = f"x{at}"
        self.loops: list[tuple[Group, Loop]] = []
        self._in_place = self._find_in_place(steps)
        late = self._find_late(steps)
        needed = [*(value for value in results), *(value for _, value in writes)]
        needed += [value.root for value in needed]
        first = grouped(
            [step for step in steps if step not in late],
            [*needed, *(operand for step in late for operand in step.operands)],
        )
        last = grouped([step for step in steps if step in late], needed)
        self._first = len(first)
        self.units: list[Step | Group] = [*first, *last]
        self._escaping = {value.root for value in results}
        self._escaping |= {value.root for _, value in writes}
        self._until = self._find_last_uses()
        self._write()

    def _find_in_place(self, steps: Sequence[Step]) -> dict[Value, Value]:
        """Values that may be computed into the very input that they are to change.

        They are computed last, when nothing can fail any more, and nobody else reads that input.
        """
        found = {
            value: target
            for target, value in self.writes
            if value.step is not None
            and value.step.is_elementwise
            and value.step.kind is Kind.UFUNC
            and value.shape == target.shape
            and value.dtype == target.dtype
        }
        readers: dict[Value, list[Step]] = {}
        for step in steps:
            for operand in step.operands:
                readers.setdefault(operand.root, []).append(step)
        escaping = {value.root for value in self.results}
        for value, target in list(found.items()):
            others = [step for step in readers.get(target, ()) if step is not value.step]
            several = sum(each is value for _, each in self.writes) > 1
            late = any(step.results[0] in found for step in others)
            if value in readers or value in escaping or target in escaping or late or several:
                del found[value]
        return found

    def _find_late(self, steps: Sequence[Step]) -> set[Step]:
        """The steps that write to inputs, and elementwise ones that serve nothing else."""
        late = {step for step in steps if step.results[0] in self._in_place}
        changed = {target for target, _ in self.writes}
        readers: dict[Value, set[Step]] = {}
        for step in steps:
            for operand in step.operands:
                readers.setdefault(operand.root, set()).add(step)
        needed = {value.root for value in self.results} | {value.root for _, value in self.writes}
        for step in reversed(steps):
            value = step.results[0]
            if (
                late
                and step.is_elementwise
                and value not in needed
                and readers.get(value, set()) <= late
                and not any(operand.root in changed for operand in step.operands)
            ):
                late.add(step)
        return late

    def _find_last_uses(self) -> dict[Value, int]:
        until: dict[Value, int] = {}
        for at, unit in enumerate(self.units):
            operands, results = _border(unit)
            for operand in operands:
                until[operand.root] = at
            for result in results:
                until.setdefault(result.root, at)
        return until

    def source(self) -> Source:
        """What was written."""
        return Source(
            tuple(self._lines),
            tuple(self._spans),
            tuple(loop for _, loop in self.loops),
            len(self.inputs),
            len(self.constants),
            len(self.arrays),
        )

    def _constant(self, held: Any, key: Any = None) -> str:
        """The name of a thing that is the same in each run."""
        key = id(held) if key is None else key
        name = self._bound.get(key)
        if name is None:
            name = self._bound[key] = f"k{len(self.constants)}"
            self.constants.append(held)
        return name

    def _name(self, value: Value) -> str:
        if value.constant is not None:
            return self._constant(value.constant)
        return self._names[value]

    def _local(self, value: Value) -> str:
        name = self._names[value] = f"t{len(self._names)}"
        return name

    def _write(self) -> None:
        free: list[int] = []
        since = 0
        for at, unit in enumerate(self.units):
            if at == self._first:
                self._start_of_writes = len(self._lines)
            operands, results = _border(unit)
            since += 1
            is_view = isinstance(unit, Step) and unit.kind is Kind.VIEW
            moved = 0 if is_view else sum(each.nbytes for each in results)
            if since >= _CHECK_STEPS or moved >= _CHECK_BYTES:
                self._lines.append("if check is not None: check()")
                since = 0
            roots = dict.fromkeys(each.root for each in operands)
            dying = [root for root in roots if self._until.get(root) == at]
            first = len(self._lines)
            if isinstance(unit, Group):
                self._write_group(unit, free)
            else:
                self._write_step(unit, dying, free)
            report = report_of(unit)
            if report is not None:
                self._spans.append(Span(first, len(self._lines), report))
            dying += [each.root for each in results if self._until[each.root] == at]
            for root in dict.fromkeys(dying):
                self._release(root, free)
        if self._first == len(self.units):
            self._start_of_writes = len(self._lines)
        copies = self._finish()
        for target, value in self.writes:
            if value not in self._in_place:
                copyto = self._constant(np.copyto)
                source = copies.get(value) or self._name(value)
                self._lines.append(f"{copyto}({self._name(target)}, {source})")

        self._lines.append(f"return ({''.join(f'{name}, ' for name in self._returned)})")

    def _release(self, value: Value, free: list[int]) -> None:
        """Nobody needs a value any more: its block is free, or its memory goes."""
        block = self.buffers.place.get(value)
        if block is not None:
            if block not in free:
                free.append(block)
        elif value.nbytes > SMALL and value not in self._escaping:
            names = [self._names.get(value, ""), *self._views.get(value, ())]
            self._lines += [f"{name} = None" for name in names if name.startswith("t")]

    def _write_group(self, group: Group, free: list[int]) -> None:
        """Allocate what a group gives, and call its loop."""
        loop = loop_of(group, self._calls, self._name)
        for value in group.gives:
            target = self._in_place.get(value)
            if target is not None:
                self._names[value] = self._name(target)
            elif value.root in self._escaping:
                empty = self._constant(np.empty)
                dtype = self._constant(value.dtype)
                self._lines.append(f"{self._local(value)} = {empty}({value.shape!r}, {dtype})")
            else:
                self._buffer(None, value, (), free)
        names = [
            self._name(value) if shape is None else f"{self._name(value)}.reshape({shape!r})"
            for value, shape in loop.arguments
        ]
        self._lines.append(f"l{len(self.loops)}(check, {', '.join(names)})")
        self.loops.append((group, loop))

    def _finish(self) -> dict[Value, str]:
        """Give results memory of their own, before anything is written to inputs."""
        changed = {target for target, _ in self.writes}
        taken: set[Value] = set()
        self._returned: list[str] = []
        copies: dict[Value, str] = {}
        late: list[str] = []
        for at, value in enumerate(self.results):
            owns = value.constant is None and value.root is value and value not in self.inputs
            shares = (
                not self._are_distinct and value.constant is None and (value.root not in changed)
            )
            if shares or (owns and value not in taken):
                taken.add(value)
                self._returned.append(self._name(value))
            else:
                late.append(f"r{at} = {self._constant(_copied)}({self._name(value)})")
                self._returned.append(f"r{at}")
        for at, (_, value) in enumerate(self.writes):
            if value.root in self.inputs and value not in copies:
                late.append(f"w{at} = {self._constant(_copied)}({self._name(value)})")
                copies[value] = f"w{at}"
        # The steps that write to inputs come last of all.
        count = self._start_of_writes
        self._lines = [*self._lines[:count], *late, *self._lines[count:]]
        self._spans = [
            replace(each, first=each.first + len(late), end=each.end + len(late))
            if each.first >= count
            else each
            for each in self._spans
        ]
        return copies

    def _write_step(self, step: Step, dying: Sequence[Value], free: list[int]) -> None:
        match step.kind:
            case Kind.VIEW:
                self._write_view(step)
            case Kind.KERNEL:
                self._write_kernel(step)
            case Kind.UPDATE:
                self._write_update(step)
            case _:
                self._write_array(step, dying, free)

    def _write_array(self, step: Step, dying: Sequence[Value], free: list[int]) -> None:
        (value,) = step.results
        names = [
            self._calls.filled(each, value.shape)
            if wants_filled(step, each) and FILLED <= value.size < LARGE
            else self._name(each)
            for each in step.operands
        ]
        target = self._in_place.get(value)
        if target is not None:
            name = self._names[value] = self._name(target)
        elif value.root not in self._escaping and (value.nbytes >= SMALL or not value.shape):
            name = self._buffer(step, value, dying, free)
        elif needs_mask(step) or (value.strides is not None and step.kind is not Kind.REDUCE):
            empty = self._constant(_empty)
            layout = self._constant((value.shape, value.dtype, value.strides), ("layout", value))
            name = self._local(value)
            self._lines.append(f"{name} = {empty}(*{layout})")
        else:
            text = self._calls.made(step, names)
            if not value.shape:
                text = f"{self._constant(np.asarray)}({text})"
            self._lines.append(f"{self._local(value)} = {text}")
            return
        mask = needs_mask(step)
        held = "" if mask is None else self._buffer(None, mask, (), free)
        self._lines.append(self._calls.into(step, names, name, held))
        if mask is not None:
            self._release(mask, free)

    def _buffer(
        self, step: Step | None, value: Value, dying: Sequence[Value], free: list[int]
    ) -> str:
        """A block for a value: that of an operand which nobody needs after, or a free one."""
        place = self.buffers.place
        block: int | None = None
        if step is not None and step.is_elementwise:
            operands = list(step.operands)
            # A selection fills in the last operand first; writing over another would lose it.
            reusable = operands[2:] if step.kind is Kind.SELECT else operands
            for each in reusable:
                if (
                    each in dying
                    and each in place
                    and each.shape == value.shape
                    and each.dtype == value.dtype
                    and each.strides == value.strides
                    and not any(o is not each and o.root is each for o in operands)
                ):
                    block = place[each]
                    break
        if block is None:
            sizes = self.buffers.sizes
            fitting = [each for each in free if value.nbytes <= sizes[each] <= 2 * value.nbytes]
            if fitting:
                block = min(fitting, key=lambda each: sizes[each])
            else:
                block = len(sizes)
                sizes.append(value.nbytes)
        if block in free:
            free.remove(block)
        for each in dying:
            if place.get(each) == block:
                del place[each]
        place[value] = block
        name = self._names[value] = f"b{len(self.arrays)}"
        self.arrays.append((block, value.shape, value.dtype, value.strides))
        return name

    def _write_view(self, step: Step) -> None:
        (value,) = step.results
        (source,) = step.operands
        text = self._view(value, source, step)
        self._views.setdefault(value.root, []).append(self._local(value))
        self._lines.append(f"{self._names[value]} = {text}")

    def _view(self, value: Value, source: Value, step: Step) -> str:
        name = self._name(source)
        is_dense = source.strides is None and value.strides is None
        if is_dense and source.size == value.size and source.dtype == value.dtype:
            return f"{name}.reshape({value.shape!r})"
        order = _permutation(source, value)
        if order is not None:
            return f"{name}.transpose({order!r})"
        path = step.options[0]
        return f"{self._constant(follow)}({name}, {self._constant(path)})"

    def _write_update(self, step: Step) -> None:
        base, part = step.args
        (value,) = step.results
        name = self._local(value)
        empty = self._constant(_empty)
        layout = self._constant((value.shape, value.dtype, value.strides), ("layout", value))
        self._lines.append(f"{name} = {empty}(*{layout})")
        self._lines.append(f"{name}[...] = {self._name(base)}")
        path = self._constant(step.options[0])
        self._lines.append(f"{self._constant(follow)}({name}, {path})[...] = {self._name(part)}")

    def _write_kernel(self, step: Step) -> None:
        names: list[str] = []
        for each in step.args:
            if isinstance(each, Value):
                names.append(self._name(each))
            elif isinstance(each, tuple) and any(isinstance(item, Value) for item in each):
                items = ["None" if item is None else self._name(item) for item in each]
                names.append(f"[{', '.join(items)}]")
            else:
                names.append(self._constant(each))
        asarray = self._constant(np.asarray)
        call = f"{self._constant(step.function)}({', '.join(names)})"
        targets = [self._local(each) for each in step.results]
        if len(targets) == 1:
            self._lines.append(f"{targets[0]} = {asarray}({call})")
        else:
            self._lines.append(f"{''.join(f'{each}, ' for each in targets)} = {call}")
            self._lines += [f"{each} = {asarray}({each})" for each in targets]
        refuse = self._constant(_refuse_shape)
        what = self._constant(step.name, ("name", step.name))
        for name, value in zip(targets, step.results, strict=True):
            self._lines.append(f"if {name}.shape != {value.shape!r}: {refuse}({what})")


def _border(unit: Step | Group) -> tuple[list[Value], list[Value]]:
    """What a unit reads, and what it leaves in memory."""
    if isinstance(unit, Group):
        return unit.takes, unit.gives
    return list(unit.operands), unit.results


def _permutation(source: Value, value: Value) -> tuple[int, ...] | None:
    """The order of dimensions that makes the view of the source, if that is all it does."""
    if len(source.shape) != len(value.shape) or source.dtype != value.dtype:
        return None
    have = list(zip(source.shape, source.strides or dense(source), strict=True))
    want = list(zip(value.shape, value.strides or dense(value), strict=True))
    if sorted(have) != sorted(want) or len(set(have)) != len(have):
        return None
    return tuple(have.index(each) for each in want)


def _empty(shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...] | None) -> np.ndarray:
    """A new array, with dimensions in the order of the strides."""
    if strides is None:
        return np.empty(shape, dtype)
    order = sorted(range(len(shape)), key=lambda at: -strides[at])
    made = np.empty([shape[at] for at in order], dtype)
    return made.transpose(np.argsort(order))


def _copied(array: np.ndarray) -> np.ndarray:
    return np.array(array, order="K") if any(array.strides) else np.array(array, order="C")
