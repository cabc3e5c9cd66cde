"""Elementwise work on large arrays, block by block, over threads where there is enough of it.

A block fits into the cache: what one step writes there the next one reads from there, and only
what comes in and goes out moves through memory.
"""

from __future__ import annotations

import contextvars
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import numpy as np

THREADED: Final = 1 << 18
"""Elements, counted once for each step, from which on waking another thread is worth it."""


def _default_threads() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(asked)) if asked.isdigit() and int(asked) else available


class _Workers:
    """The threads that help callers; started when first needed."""

    def __init__(self) -> None:
        self.count = _default_threads()
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def set(self, count: int) -> None:
        with self._lock:
            pool, self._pool, self.count = self._pool, None, count
        if pool is not None:
            pool.shutdown(wait=False)

    def submit(self, function: Callable[[], None]) -> Future[None]:
        context = contextvars.copy_context()
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(max(self.count - 1, 1), "gradwire-blocks")
            return self._pool.submit(context.run, function)


_workers = _Workers()


def set_threads(count: int) -> None:
    """How many threads, the caller's included, may share the blocks of one step.

    By default as many as there are processors for this process, or OMP_NUM_THREADS if that is less.
    """
    if count < 1:
        raise ValueError(f"at least one thread is needed, not {count}")
    _workers.set(count)


def threads() -> int:
    """How many threads may share the blocks of one step."""
    return _workers.count


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
            work: elements, counted once for each step.
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
        numbers = itertools.count()
        others = 0
        if self._work >= THREADED:
            others = min(_workers.count, -(-self._count // self._block)) - 1
        helpers = [
            _workers.submit(lambda: self._work_through(numbers, arrays, None))
            for _ in range(others)
        ]
        try:
            self._work_through(numbers, arrays, check)
        except BaseException:
            # Nothing may be written once the caller has been told of the failure.
            next(itertools.dropwhile(lambda at: at * self._block < self._count, numbers))
            raise
        finally:
            for helper in helpers:
                if not helper.cancel():
                    helper.result()

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
        if len(self._spare) < _workers.count:
            self._spare.append(scratch)

    def _work_through(
        self,
        numbers: Any,
        arrays: Sequence[np.ndarray],
        check: Callable[[], None] | None,
    ) -> None:
        """Take blocks until there are none; a count is shared by the threads without a lock."""
        scratch = self._temporary()
        count, block, function = self._count, self._block, self._function
        for at in numbers:
            low = at * block
            if low >= count:
                break
            if check is not None:
                check()
            high = low + block
            if high <= count:
                function(at, low, high, *scratch, *arrays)
            else:
                function(at, low, count, *[each[: count - low] for each in scratch], *arrays)
        self._keep(scratch)
