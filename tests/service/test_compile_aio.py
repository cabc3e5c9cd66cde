"""gw.aio.compile: calls that are awaited, and do not wait once their signature is known."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

import gradwire as gw
from gradwire import wire
from gradwire.v1 import autograd_pb2 as pb


@pytest.fixture
async def session(address: str) -> AsyncIterator[gw.aio.Session]:
    async with gw.aio.connect(address) as opened:
        with opened.use():
            yield opened


async def runs(session: gw.aio.Session) -> list[int]:
    await session.synchronize()
    request = pb.ListProgramsRequest(session_id=session.id)
    found = await session.request(wire.LIST_PROGRAMS, request, pb.ListProgramsResponse)
    return [each.run_count for each in found.programs]


def regression(optimizer: type[Any]) -> tuple[Any, Any]:
    weight = gw.tensor([1.0, -1.0], requires_grad=True)
    stepper = optimizer([weight], lr=0.1)

    def step(x: gw.Tensor) -> gw.Tensor:
        stepper.zero_grad()
        loss = ((weight * x) ** 2).sum()
        loss.backward()
        stepper.step()
        return loss

    return step, weight


@pytest.mark.parametrize("optimizer", [gw.optim.SGD, gw.aio.optim.Adam])
async def test_a_training_step_is_compiled(session: gw.aio.Session, optimizer: type[Any]) -> None:
    step, weight = regression(optimizer)
    compiled = gw.aio.compile(step)
    x = gw.tensor([1.0, 2.0])
    first = await compiled(x)
    before = session.traffic.sequences
    losses = [await compiled(x) for _ in range(5)]
    assert session.traffic.sequences == before
    found = await gw.aio.fetch(first, *losses)
    assert found[0] == 5.0
    assert all(later < earlier for earlier, later in itertools.pairwise(found))
    assert (await weight.get_grad()) is not None
    assert await runs(session) == [5]


async def test_a_repetition_is_awaited(session: gw.aio.Session) -> None:
    step, weight = regression(gw.optim.SGD)
    told: list[int] = []
    losses = await gw.aio.compile(step).repeat(
        20, gw.ones(4, 2), on_progress=lambda done, count, values: told.append(done)
    )
    values = await losses.numpy()
    np.testing.assert_allclose(values, 2.0 * 0.64 ** np.arange(20), rtol=1e-4)
    assert told[-1] == 20
    assert (await weight.tolist())[0] < 0.02


async def test_a_repetition_ends_with_its_task(session: gw.aio.Session) -> None:
    step, weight = regression(gw.optim.SGD)
    compiled = gw.aio.compile(step)
    begun = asyncio.Event()
    task = asyncio.ensure_future(
        compiled.repeat(100_000_000, gw.ones(4, 2), on_progress=lambda *_: begun.set())
    )
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sum(await runs(session)) < 100_000_000
    assert (await weight.tolist())[0] < 0.5


async def test_values_are_not_read(session: gw.aio.Session) -> None:
    with pytest.raises(gw.errors.TraceError, match=r"gw\.where"):
        await gw.aio.compile(lambda x: x if x.sum() > 0 else -x)(gw.ones(2))


async def test_methods_and_plans(session: gw.aio.Session) -> None:
    class Model:
        scale = 3.0

        @gw.aio.compile
        def __call__(self, x: gw.Tensor) -> gw.Tensor:
            return x * self.scale

    model = Model()
    for _ in range(2):
        assert await (await model(gw.ones(1))).item() == 3.0
    assert str(await model.__call__.explain(gw.ones(1)))
    assert await (await model.__call__.repeat(2, gw.ones(2, 1))).tolist() == [3.0]
    assert await runs(session) == [3]


async def test_coroutine_functions_are_not_compiled() -> None:
    async def waits(x: gw.Tensor) -> gw.Tensor:
        return x

    for compiles in (gw.compile, gw.aio.compile):
        with pytest.raises(TypeError, match="await"):
            compiles(waits)
