"""Threads that share the work of a kernel."""

import threading
from collections.abc import Callable, Iterable, Iterator

import pytest
import threadpoolctl

from gradwire_engine import threads


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = threads.count()
    threads.set_count(3)
    yield
    threads.set_count(before)


@pytest.fixture
def blas() -> Iterator[Callable[[], set[int]]]:
    """On how many threads BLAS libraries run; two at first."""
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        controller = threadpoolctl.ThreadpoolController().select(user_api="blas")
        yield lambda: {each["num_threads"] for each in controller.info()}


@pytest.mark.parametrize("share", [threads.share, threads.share_products])
@pytest.mark.parametrize("parts", [0, 1, 2, 3, 100])
def test_each_part_is_worked_on_once(
    share: Callable[[Callable[[Iterable[int]], None], int], None], parts: int
) -> None:
    done: list[int] = []
    share(done.extend, parts)
    assert sorted(done) == list(range(parts))


def test_threads_share_the_parts() -> None:
    together = threading.Barrier(3, timeout=30)
    threads.share(lambda numbers: [together.wait() for _ in numbers], 3)


@pytest.mark.parametrize("fails_in_caller", [True, False])
def test_a_failure_in_any_thread_is_the_callers(fails_in_caller: bool) -> None:
    caller, together = threading.get_ident(), threading.Barrier(3, timeout=30)

    def work(numbers: Iterable[int]) -> None:
        for _ in numbers:
            together.wait()
            if (threading.get_ident() == caller) is fails_in_caller:
                raise MemoryError

    with pytest.raises(MemoryError):
        threads.share(work, 3)


def test_a_check_that_raises_stops_all() -> None:
    checked = threading.Event()
    done: list[int] = []

    def work(numbers: Iterable[int]) -> None:
        for number in numbers:
            checked.wait(30)
            done.append(number)

    def check() -> None:
        checked.set()
        raise TimeoutError

    with pytest.raises(TimeoutError):
        threads.share(work, 10_000, check)
    assert len(done) < 10_000


def test_blas_keeps_to_the_threads_that_multiply(blas: Callable[[], set[int]]) -> None:
    seen: list[set[int]] = []
    threads.share_products(lambda numbers: seen.extend(blas() for _ in numbers), 12)
    assert seen == [{1}] * 12
    assert blas() == {2}


def test_blas_has_its_threads_for_fewer_parts_than_threads(blas: Callable[[], set[int]]) -> None:
    seen: list[set[int]] = []
    threads.share_products(lambda numbers: seen.extend(blas() for _ in numbers), 2)
    assert seen == [{2}] * 2


def test_blas_has_its_threads_back_when_the_last_is_done(blas: Callable[[], set[int]]) -> None:
    """Two kernels whose times overlap: the first to end must not end it for the other."""
    inside, left = threading.Event(), threading.Event()
    seen: list[set[int]] = []

    def first(numbers: Iterable[int]) -> None:
        for _ in numbers:
            inside.wait(30)

    def second(numbers: Iterable[int]) -> None:
        for _ in numbers:
            inside.set()
            left.wait(30)
            seen.append(blas())

    other = threading.Thread(target=threads.share_products, args=(second, 3))
    earlier = threading.Thread(target=threads.share_products, args=(first, 3))
    earlier.start()
    other.start()
    earlier.join(30)
    left.set()
    other.join(30)
    assert seen == [{1}] * 3
    assert blas() == {2}


def test_a_failure_gives_blas_its_threads_back(blas: Callable[[], set[int]]) -> None:
    def work(numbers: Iterable[int]) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        threads.share_products(work, 10)
    assert blas() == {2}
