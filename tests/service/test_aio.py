"""The SDK in an event loop: what is recorded is the same, what reads is awaited."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradwire as gw
from gradwire_server.embedded import EmbeddedServer
from tests.service.sdk import Proxy

GUIDE = Path(__file__).parents[2] / "docs/async.md"


@pytest.fixture
async def session(address: str) -> AsyncIterator[gw.aio.Session]:
    async with gw.aio.connect(address) as opened:
        with opened.use():
            yield opened


@pytest.fixture
def proxy(address: str) -> Iterator[Proxy]:
    made = Proxy(address)
    yield made
    made.close()


def here() -> int:
    """The number of the line that calls."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def slow(session: gw.aio.Session) -> Any:
    """Work of about a second, in steps that can be stopped between."""
    with session.use():
        x = gw.randn(400, 400)
        for _ in range(200):
            x = x @ x * 1e-3
    return x


def example(session: gw.aio.Session) -> tuple[Any, Any, Any]:
    """The tutorial's x = 3, z = x + 2, y = z ** 2."""
    x: Any = session.tensor([3.0], requires_grad=True)
    z = x + 2
    return x, z, z**2


# The tutorial's facts


async def test_forward_and_backward_give_the_tutorials_numbers(session: gw.aio.Session) -> None:
    x, _, y = example(session)
    y.backward()
    grad = await x.get_grad()
    assert (await x.item(), await y.item(), await grad.item()) == (3.0, 25.0, 10.0)
    assert await x.get_grad() is grad
    values = await gw.aio.fetch(x, y, grad)
    assert [each.tolist() for each in values] == [[3.0], [25.0], [10.0]]


async def test_each_tensor_knows_the_function_that_made_it(session: gw.aio.Session) -> None:
    x, z, y = example(session)
    await asyncio.gather(y.refresh(), z.refresh())
    assert (y.grad_fn.name(), z.grad_fn.name(), x.grad_fn) == (
        "PowBackward0",
        "AddBackward0",
        None,
    )
    assert (y.is_leaf, x.is_leaf) == (False, True)
    assert str(y) == f"{y}" == "tensor([25.], grad_fn=<PowBackward0>)"


async def test_the_graph_can_be_drawn_with_the_callers_names(session: gw.aio.Session) -> None:
    x, z, y = example(session)
    text = str(await gw.aio.graph(y))
    assert [line.split()[1] for line in text.splitlines()] == ["y", "Pow", "z", "Add", "x"]
    del x, z


async def test_grad_holds_gradients_of_leaves_only(session: gw.aio.Session) -> None:
    x, z, y = example(session)
    y.backward()
    with pytest.warns(UserWarning, match="not a leaf") as caught:
        assert await z.get_grad() is None
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert await x.get_grad() is not None


async def test_backward_along_a_direction_is_a_vector_jacobian_product(
    session: gw.aio.Session,
) -> None:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    (x**2).backward(gw.tensor([0.3, 0.7]))
    grad = await x.get_grad()
    np.testing.assert_allclose(await grad.numpy(), [0.6, 2.8], rtol=1e-6)


async def test_the_graph_is_freed_and_that_is_a_runtime_error(session: gw.aio.Session) -> None:
    _, _, y = example(session)
    y.backward()
    line = here() + 1
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True") as caught:
        await y.item()
    assert isinstance(caught.value, gw.errors.AutogradError)
    assert caught.value.location is not None
    assert (caught.value.location.filename, caught.value.location.lineno) == (__file__, line)


# Reading


async def test_what_is_not_known_is_not_waited_for_but_refused(session: gw.aio.Session) -> None:
    x, _, y = example(session)
    y.backward()
    for read in (
        lambda: y.shape,
        lambda: y.requires_grad,
        lambda: x.grad,
        lambda: bool(y),
        lambda: float(y),
        lambda: np.asarray(x.detach()),
        lambda: gw.fetch(y),
        lambda: y.grad_fn,
    ):
        with pytest.raises(gw.errors.SessionError, match=r"await t\.refresh\(\)"):
            read()
    assert "await its refresh()" in repr(y)
    assert await y.item() == 25.0, "nothing was lost"


async def test_what_was_read_is_known(session: gw.aio.Session) -> None:
    x, _, y = example(session)
    y.backward()
    assert await y.get_shape() == (1,)
    assert y.shape == (1,)
    await x.refresh()
    before = session.traffic
    assert x.grad is await x.get_grad()
    assert (x.requires_grad, x.dtype, float(x), f"{x.sum()}"[:1]) == (True, gw.float32, 3.0, "<")
    assert (session.traffic - before).sequences == 0


async def test_one_round_trip_reads_several(session: gw.aio.Session) -> None:
    x, _, y = example(session)
    y.backward()
    before = session.traffic.sequences
    await session.synchronize()
    sent = session.traffic.sequences
    await x.refresh()
    await gw.aio.fetch(x, y, x.grad)
    assert sent == before + 1
    assert session.traffic.sequences == sent + 1


async def test_numpy_refuses_what_requires_grad(session: gw.aio.Session) -> None:
    x, _, y = example(session)
    with pytest.raises(RuntimeError, match=r"detach\(\)"):
        await y.numpy()
    assert (await y.numpy(force=True)).tolist() == [25.0]
    assert (await x.detach().numpy()).tolist() == [3.0]


async def test_item_of_several_elements_is_refused(session: gw.aio.Session) -> None:
    with pytest.raises(RuntimeError, match="single element"):
        await gw.ones(2).item()


async def test_comparing(session: gw.aio.Session) -> None:
    assert await gw.aio.equal(gw.ones(2), gw.ones(2))
    assert not await gw.aio.equal(gw.ones(2), gw.ones(3))
    assert await gw.aio.allclose(gw.ones(2), gw.ones(2) + 1e-7)


async def test_functions_that_read_work_in_a_thread(session: gw.aio.Session) -> None:
    _, _, y = example(session)
    assert await asyncio.to_thread(lambda: float(y * 2)) == 50.0
    line = here() + 1
    bad = await asyncio.to_thread(lambda: gw.ones(2).view(3))
    with pytest.raises(RuntimeError, match=rf"test_aio\.py:{line}"):
        await asyncio.to_thread(gw.fetch, bad)
    assert await y.item() == 25.0


async def test_optimizers(session: gw.aio.Session) -> None:
    for kind in (gw.aio.optim.SGD, gw.aio.optim.Adam):
        x: Any = gw.tensor([3.0], requires_grad=True)
        optimizer = kind([x], lr=0.1)
        losses = []
        for _ in range(5):
            loss = (x**2).sum()
            optimizer.zero_grad()
            loss.backward()
            await optimizer.step()
            losses.append(await loss.item())
        assert losses == sorted(losses, reverse=True)


async def test_steps_that_were_sent_are_not_lost(session: gw.aio.Session) -> None:
    x = gw.zeros(1)
    for count in range(1, 2001):
        x = x + 1
        if count % 500 == 0:
            await session.flush()
    assert await x.item() == 2000.0


async def test_more_than_the_queue_admits_waits_here() -> None:
    with EmbeddedServer.start(address="127.0.0.1:0", max_queued_sequences=2) as server:
        async with gw.aio.connect(server.address) as session:
            x = gw.zeros(1, requires_grad=True)
            for _ in range(20):
                (x * 2).sum().backward()
            await session.flush()
            grad = await x.get_grad()
            assert await grad.item() == 40.0


# Errors


async def test_an_error_points_at_the_line_that_recorded_the_step(session: gw.aio.Session) -> None:
    a, b = gw.ones(2, 3), gw.ones(4, 5)
    line = here() + 1
    y: Any = a @ b
    z = y + 1
    with pytest.raises(RuntimeError) as caught:
        await z.tolist()
    error = caught.value
    assert isinstance(error, gw.errors.ShapeError)
    assert f"test_aio.py:{line}: y: Any = a @ b" in str(error)
    assert (error.reason, error.code) == ("SHAPE_MISMATCH", "INVALID_ARGUMENT")
    assert await a.sum().item() == 6.0, "the session lives"


async def test_leaving_reports_what_nobody_read(address: str) -> None:
    with pytest.raises(RuntimeError, match="do not fit"):
        async with gw.aio.connect(address):
            gw.ones(2, 3) @ gw.ones(4, 5)


async def test_a_timeout_is_a_timeout_error_and_the_session_lives(session: gw.aio.Session) -> None:
    session.timeout = 0.05
    with pytest.raises(TimeoutError) as caught:
        await slow(session).sum().item()
    assert isinstance(caught.value, gw.errors.DeadlineError)
    session.timeout = None
    assert await gw.tensor(1.0).add(1).item() == 2.0


async def test_a_closed_session_says_so(address: str) -> None:
    session = await gw.aio.connect(address)
    x: Any = session.tensor([1.0])
    await session.close()
    await session.close()
    assert session.closed
    with pytest.raises(gw.errors.SessionError, match="closed"):
        await x.add(1).item()


async def test_no_server_is_a_connection_error_that_says_what_to_do() -> None:
    with pytest.raises(ConnectionError, match="gradwire serve"):
        await gw.aio.connect("127.0.0.1:1", connect_timeout=0.3)


# Tasks


async def train(address: str, start: float) -> list[float]:
    async with gw.aio.connect(address) as session:
        x: Any = gw.tensor([start], requires_grad=True)
        seen = []
        for _ in range(10):
            x.grad = None
            (x**2).sum().backward()
            grad = await x.get_grad()
            seen.append(await grad.item())
            with gw.no_grad():
                x -= grad
        assert x.session is session
        return seen


async def test_sessions_of_tasks_do_not_meet(address: str) -> None:
    found = await asyncio.gather(*(train(address, float(start)) for start in range(1, 6)))
    for start, seen in enumerate(found, start=1):
        assert seen == [2.0 * start * (-1) ** nr for nr in range(10)]


async def test_tasks_share_a_session(session: gw.aio.Session) -> None:
    async def count(start: int) -> None:
        x: Any = gw.tensor([float(start)], requires_grad=True)
        for nr in range(1, 6):
            (x * start).sum().backward()
            grad = await x.get_grad()
            assert await grad.item() == start * nr

    await asyncio.gather(*map(count, range(1, 20)))


async def test_what_one_task_gets_wrong_fails_for_it_alone(session: gw.aio.Session) -> None:
    recorded = asyncio.Event()

    async def wrong() -> str:
        bad: Any = gw.ones(2, 3) @ gw.ones(4, 5)
        recorded.set()
        await asyncio.sleep(0.05)
        with pytest.raises(gw.errors.ShapeError) as caught:
            await bad.sum().item()
        return str(caught.value)

    async def right() -> list[float]:
        await recorded.wait()
        x: Any = gw.ones(2)
        return [await (x + nr).sum().item() for nr in range(3)]

    text, sums = await asyncio.gather(wrong(), right())
    assert "bad: Any = gw.ones(2, 3) @ gw.ones(4, 5)" in text
    assert sums == [2.0, 4.0, 6.0]


async def test_a_result_of_another_tasks_failure_fails_too(session: gw.aio.Session) -> None:
    bad: Any = gw.ones(2, 3) @ gw.ones(4, 5)

    async def use() -> None:
        with pytest.raises(gw.errors.ShapeError, match="bad: Any"):
            await (bad + 1).sum().item()

    await asyncio.create_task(use())
    with pytest.raises(gw.errors.ShapeError, match="bad: Any"):
        await gw.ones(2).add(1).sum().item()


async def cancelled(doing: Awaitable[Any]) -> None:
    """Cancel a task after it has begun to wait."""
    task = asyncio.ensure_future(doing)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_task_stops_its_sequences_and_the_session_goes_on(
    session: gw.aio.Session,
) -> None:
    made = []

    async def work() -> None:
        made.append(slow(session))
        await made[0].sum().item()

    await cancelled(work())
    assert await gw.tensor(1.0).add(1).item() == 2.0
    with pytest.raises(gw.errors.CancelledError):
        await made[0].sum().item()


async def test_a_timeout_of_asyncio_cancels(session: gw.aio.Session) -> None:
    y = slow(session)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await y.sum().item()
    with pytest.raises(gw.errors.CancelledError):
        await y.sum().item()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(slow(session).sum().item(), 0.1)
    assert await gw.tensor(1.0).add(1).item() == 2.0


async def test_a_cancelled_task_leaves_those_of_others_alone(session: gw.aio.Session) -> None:
    async def other() -> float:
        x: Any = gw.ones(100, 100)
        for _ in range(20):
            x = x @ x * 1e-2
        return float(await x.sum().item())

    async def mine() -> None:
        await slow(session).sum().item()

    running = asyncio.create_task(other())
    await asyncio.sleep(0)
    await cancelled(mine())
    assert await running == pytest.approx(10_000, rel=1e-3)


async def test_what_else_the_task_waits_for_is_not_cancelled(session: gw.aio.Session) -> None:
    y = slow(session)
    total = asyncio.ensure_future(y.sum().item())
    await asyncio.sleep(0.05)
    await cancelled(y.mean().item())
    assert np.isfinite(await total)


# The connection


async def test_nothing_runs_twice_however_often_the_connection_is_cut(proxy: Proxy) -> None:
    async with gw.aio.connect(proxy.address):
        x: Any = gw.tensor([0.0], requires_grad=True)
        counter: Any = gw.zeros(1)
        stop = threading.Event()

        def cut_now_and_then() -> None:
            while not stop.wait(0.1):
                proxy.cut()

        saboteur = threading.Thread(target=cut_now_and_then)
        saboteur.start()
        try:
            for count in range(1, 21):
                counter += 1
                (x * 2).sum().backward()
                assert await counter.item() == count
                await asyncio.sleep(0.02)
        finally:
            stop.set()
            saboteur.join()
        grad = await x.get_grad()
        assert await grad.item() == 40.0


async def test_a_server_that_stays_away_is_a_connection_error(proxy: Proxy) -> None:
    async with gw.aio.connect(proxy.address, retry_timeout=0.3):
        x: Any = gw.tensor([1.0])
        with proxy.down():
            with pytest.raises(ConnectionError) as caught:
                await (x + 1).item()
            assert isinstance(caught.value, gw.errors.UnavailableError)
        assert await (x + 2).item() == 3.0, "it is back, and the session with it"


async def test_the_lease_is_kept(address: str) -> None:
    async with gw.aio.connect(address, ttl=1.0) as session:
        x: Any = gw.tensor([1.0])
        await x.add(1).item()
        await asyncio.sleep(1.8)
        assert await x.add(1).item() == 2.0
        assert session.ttl == 1.0


# In one process


async def test_the_embedded_server_serves_both_kinds() -> None:
    async with gw.aio.connect() as mine:
        x: Any = gw.tensor([1.0])
        assert type(x) is gw.aio.Tensor
        assert "embedded" in repr(mine)

        def blocking() -> float:
            with gw.connect() as session:
                y = gw.tensor([2.0], requires_grad=True)
                assert type(y) is gw.Tensor and y.session is session
                (y * y).sum().backward()
                assert y.grad is not None
                return float(y.grad)

        assert await asyncio.to_thread(blocking) == 4.0
        assert await x.add(1).item() == 2.0


async def test_tensors_of_different_sessions_do_not_mix(
    session: gw.aio.Session, address: str
) -> None:
    async with gw.aio.connect(address) as other:
        with pytest.raises(ValueError, match="different sessions"):
            session.tensor([1.0]) + other.tensor([1.0])


async def test_a_task_without_a_session_gets_the_newest_of_its_loop(address: str) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def handler() -> gw.aio.Session:
        await asked.wait()
        return gw.tensor([1.0]).session  # type: ignore[return-value]

    task = asyncio.create_task(handler())
    async with gw.aio.connect(address) as session:
        asked.set()
        assert await task is session
        answered.set()


def test_threads_do_not_get_sessions_of_an_event_loop(address: str) -> None:
    found: list[type] = []

    def elsewhere() -> None:
        found.append(type(gw.tensor([1.0])))

    async def main() -> None:
        async with gw.aio.connect(address):
            thread = threading.Thread(target=elsewhere)
            thread.start()
            await asyncio.get_running_loop().run_in_executor(None, thread.join)

    with gw.connect(address):
        asyncio.run(main())
    assert found == [gw.Tensor]


def test_a_loop_that_ended_is_told(address: str) -> None:
    async def main() -> Any:
        await gw.aio.connect(address)
        return gw.tensor([1.0])

    x = asyncio.run(main())
    with pytest.raises(gw.errors.SessionError, match="event loop"):
        gw.fetch(x + 1)
    x.session.leave()


# The guide


def snippets() -> list[str]:
    found = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    assert len(found) >= 5
    return found


@pytest.mark.parametrize("snippet", snippets())
async def test_the_guide_runs(snippet: str) -> None:
    code = compile(snippet, str(GUIDE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    run: Callable[[], Any] = lambda: eval(code, {"__name__": "guide"})  # noqa: E731
    await run()
