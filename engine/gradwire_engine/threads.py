"""The threads that share the work of one kernel."""

from __future__ import annotations

import contextvars
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import threadpoolctl


def _default_count() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(asked)) if asked.isdigit() and int(asked) else available


class _Helpers:
    """The threads that help callers; started when first needed."""

    def __init__(self) -> None:
        self.count = _default_count()
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
                self._pool = ThreadPoolExecutor(max(self.count - 1, 1), "gradwire-kernel")
            return self._pool.submit(context.run, function)


_helpers = _Helpers()


def set_count(count: int) -> None:
    """How many threads, the caller's included, may share the work of one kernel.

    By default as many as there are processors for this process, or OMP_NUM_THREADS if that is less.
    """
    if count < 1:
        raise ValueError(f"at least one thread is needed, not {count}")
    _helpers.set(count)


def count() -> int:
    """How many threads may share the work of one kernel."""
    return _helpers.count


class _Blas:
    """The threads of the BLAS libraries, whose number is one for the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._libraries: list[Any] | None = None
        self._before: list[int] = []

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Products run on the thread that calls for them, until the last of those inside leaves."""
        with self._lock:
            if not self._users:
                self._set_to_one()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._set(self._before)

    def _set_to_one(self) -> None:
        if self._libraries is None:
            found = threadpoolctl.ThreadpoolController().select(user_api="blas")
            self._libraries = found.lib_controllers
        self._before = [each.num_threads for each in self._libraries]
        self._set([1 for _ in self._libraries])

    def _set(self, counts: list[int]) -> None:
        for each, count in zip(self._libraries or (), counts, strict=True):
            # Only the thread that set the number of OpenBLAS's may set it again, until that is
            # cleared; whoever comes here holds the lock, and is no longer in anybody's way.
            clear = getattr(each, "clear_controlling_thread", None)
            if clear is not None:
                clear(force=True)
            each.set_num_threads(count)


_blas = _Blas()


def checked(numbers: Iterable[int], check: Callable[[], None] | None) -> Iterable[int]:
    """The numbers, with a call of `check`, if there is one, before each."""
    return numbers if check is None else _checked(numbers, check)


def _checked(numbers: Iterable[int], check: Callable[[], None]) -> Iterator[int]:
    for number in numbers:
        check()
        yield number


def share(
    work: Callable[[Iterable[int]], None], parts: int, check: Callable[[], None] | None = None
) -> None:
    """Run `work(numbers)` in this thread and in others: together they get all of range(parts).

    Args:
        work: what goes through the parts that it is given the numbers of.
        parts: how many there are.
        check: called in this thread, before each of its parts; raises to stop.
    """
    # A count is shared by the threads without a lock.
    numbers, is_left = itertools.count(), parts.__gt__
    helpers = [
        _helpers.submit(lambda: work(itertools.takewhile(is_left, numbers)))
        for _ in range(min(_helpers.count, parts) - 1)
    ]
    try:
        work(checked(itertools.takewhile(is_left, numbers), check))
    except BaseException:
        # Nothing may be written once the caller has been told of the failure.
        next(itertools.dropwhile(is_left, numbers))
        raise
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def share_products(work: Callable[[Iterable[int]], None], parts: int) -> None:
    """The same for work that multiplies matrices.

    BLAS then keeps to the threads it is called from: its own wait for one another, which takes long
    where a processor is taken. Fewer parts than threads are left to this thread, and to BLAS's.
    """
    if _helpers.count == 1 or parts < _helpers.count:
        work(range(parts))
    else:
        with _blas.alone():
            share(work, parts)
