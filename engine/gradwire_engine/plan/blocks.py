"""Elementwise work on large arrays, block by block, over threads where there is enough of it.

A block fits into the cache: what one step writes there the next one reads from there, and only
what comes in and goes out moves through memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np

from gradwire_engine import threads
from gradwire_engine.threads import checked, share

THREADED: Final = 1 << 20
"""Work, in sums of two numbers, from which on it is worth it to wake another thread."""


class Blocks:
    """The temporary arrays of a group of steps, and the loop over its blocks."""

    def __init__(
        self,
        function: Callable[..., None],
        count: int,
        block: int,
        work: int,
        scratch: Sequence[tuple[tuple[int, ...], np.dtype]],
    ) -> None:
        """Prepare.

        Args:
            function: `(at, low, high, *temporaries, *arrays)` runs the steps on a range of rows,
                block number `at`.
            count: rows in all.
            block: rows in a block.
            work: estimated, in sums of two numbers.
            scratch: shape and dtype of each temporary array.
        """
        self._function = function
        self._count = count
        self._block = block
        self._work = work
        self._scratch = tuple(scratch)
        self._spare: list[list[np.ndarray]] = []

    def __call__(self, check: Callable[[], None] | None, *arrays: np.ndarray) -> None:
        """Run on all rows; `check` is called in this thread, between blocks."""
        if self._block >= self._count:
            self._run_whole(check, arrays)
            return
        blocks = -(-self._count // self._block)
        if self._work < THREADED:
            self._work_through(arrays, checked(range(blocks), check))
        else:
            share(lambda numbers: self._work_through(arrays, numbers), blocks, check)

    def _run_whole(self, check: Callable[[], None] | None, arrays: Sequence[np.ndarray]) -> None:
        """There is one block."""
        if check is not None:
            check()
        scratch = self._temporary()
        self._function(0, 0, self._count, *scratch, *arrays)
        self._keep(scratch)

    def _temporary(self) -> list[np.ndarray]:
        """Temporary arrays that nobody uses now."""
        try:
            return self._spare.pop()
        except IndexError:
            return [np.empty(shape, dtype) for shape, dtype in self._scratch]

    def _keep(self, scratch: list[np.ndarray]) -> None:
        if len(self._spare) < threads.count():
            self._spare.append(scratch)

    def _work_through(self, arrays: Sequence[np.ndarray], numbers: Iterable[int]) -> None:
        """Run the steps on some blocks."""
        scratch = self._temporary()
        count, block, function = self._count, self._block, self._function
        for at in numbers:
            low = at * block
            high = low + block
            if high <= count:
                function(at, low, high, *scratch, *arrays)
            else:
                function(at, low, count, *[each[: count - low] for each in scratch], *arrays)
        self._keep(scratch)
