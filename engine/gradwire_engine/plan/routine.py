"""Steps that can be run: the function that was written of them, and the memory it works in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from gradwire_engine.plan.blocks import Blocks
from gradwire_engine.plan.emit import Writer
from gradwire_engine.plan.fuse import Group
from gradwire_engine.plan.values import Step, Value
from gradwire_engine.profile import Profile

Check = Callable[[], None] | None
Run = Callable[..., tuple[np.ndarray, ...]]

_POOLED: Final = 4


class Routine:
    """Compiled steps. Safe to run in several threads at once: each run has buffers of its own.

    Attributes:
        units: steps and groups of steps, in the order in which they run.
        buffers: what stays allocated between runs.
        source: the text that was compiled.
    """

    def __init__(
        self,
        inputs: Sequence[Value],
        steps: Sequence[Step],
        results: Sequence[Value],
        *,
        writes: Sequence[tuple[Value, Value]] = (),
        are_distinct: bool = True,
    ) -> None:
        """Compile.

        Args:
            results: what a run gives.
            writes: inputs that are changed in place at the end, each with what it will hold.
            are_distinct: each result has memory of its own.
        """
        writer = Writer(inputs, steps, results, writes, are_distinct)
        self.units = tuple(writer.units)
        self.buffers = writer.buffers
        self._source = writer.source()
        self.source = self._source.text()
        self._constants = writer.constants
        names = _executed(self.source)
        self._loops = [
            (names[f"loop{at}"], group, loop) for at, (group, loop) in enumerate(writer.loops)
        ]
        self._make: Callable[..., Run] = names["make"]
        self._make_reporting: Callable[..., Run] | None = None
        self._arrays = writer.arrays
        self._pool: list[Run] = []
        self._reporting: list[Run] = []
        self._shared = None if self.buffers.sizes else self._bound(self._make)

    @property
    def steps(self) -> list[Step]:
        """In the order in which they run."""
        return [
            step
            for unit in self.units
            for step in (unit.steps if isinstance(unit, Group) else [unit])
        ]

    @property
    def nbytes(self) -> int:
        """Bytes that one run needs for its buffers, and constants."""
        constants = sum(
            each.nbytes
            for each in self._constants
            if isinstance(each, np.ndarray) and any(each.strides)
        )
        blocks = sum(
            math.prod(shape) * dtype.itemsize
            for _, _, loop in self._loops
            for shape, dtype in loop.scratch
        )
        return sum(self.buffers.sizes) + constants + blocks

    def _bound(self, make: Callable[..., Run]) -> Run:
        blocks = [np.empty(size, np.uint8) for size in self.buffers.sizes]
        arrays = [
            np.ndarray(shape, dtype, blocks[block].data, 0, strides)
            for block, shape, dtype, strides in self._arrays
        ]
        loops = [
            Blocks(function(*self._constants), group.rows, group.block, group.work, loop.scratch)
            for function, group, loop in self._loops
        ]
        return make(*self._constants, *loops, *arrays)

    def __call__(
        self, arrays: Sequence[np.ndarray], check: Check, profile: Profile | None = None
    ) -> tuple[np.ndarray, ...]:
        """Run on arrays for the inputs.

        Args:
            check: called now and then; raises to stop.
            profile: is told of each step, and of each group of steps.

        Raises:
            ShapeError: the plan is not one for these values.
        """
        if profile is not None:
            return self._reported(arrays, check, profile)
        run = self._shared
        if run is not None:
            return run(check, *arrays)
        try:
            run = self._pool.pop()
        except IndexError:
            run = self._bound(self._make)
        try:
            return run(check, *arrays)
        finally:
            if len(self._pool) < _POOLED:
                self._pool.append(run)

    def _reported(
        self, arrays: Sequence[np.ndarray], check: Check, profile: Profile
    ) -> tuple[np.ndarray, ...]:
        """Run so that the profile is told; written when it is first asked for."""
        if self._make_reporting is None:
            self._make_reporting = _executed(self._source.text(reports=True))["make"]
        try:
            run = self._reporting.pop()
        except IndexError:
            run = self._bound(self._make_reporting)

        @contextmanager
        def report(nr: int) -> Iterator[None]:
            told = self._source.spans[nr].report
            with profile.entry(told.kind, told.name) as entry:
                entry.bytes = told.nbytes
                yield

        try:
            return run(check, report, *arrays)
        finally:
            if not self._reporting:
                self._reporting.append(run)


def _executed(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(source, "<plan>", "exec"), names)
    return names
