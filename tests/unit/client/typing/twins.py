"""What type checkers know of the two twins. Checked by test_typing.py; not run.

A line that must be wrong says so with an ignore, which is an error itself where it is not needed.
"""

from typing import assert_type

import gradwire as gw


def blocking(x: gw.Tensor) -> None:
    assert_type(gw.ones(2), gw.Tensor)
    assert_type(x + 1, gw.Tensor)
    assert_type(x.exp(), gw.Tensor)
    assert_type(gw.exp(x), gw.Tensor)
    assert_type(x.max(dim=0).values, gw.Tensor)
    assert_type((x + 1).item(), bool | int | float | complex)


async def awaited_by_mistake(x: gw.Tensor) -> None:
    await (x + 1).item()  # type: ignore[misc]


async def awaited(session: gw.aio.Session, x: gw.aio.Tensor) -> None:
    assert_type(gw.aio.tensor([1.0]), gw.aio.Tensor)
    assert_type(gw.aio.zeros(2, 3, requires_grad=True), gw.aio.Tensor)
    assert_type(session.tensor([1.0]), gw.aio.Tensor)
    assert_type(await (x + 1).item(), bool | int | float | complex)
    assert_type(await (2 * x**2).sum().item(), bool | int | float | complex)
    assert_type(-x @ x, gw.aio.Tensor)
    assert_type(x == 1, gw.aio.Tensor)
    assert_type(x[0, :2], gw.aio.Tensor)
    assert_type(x.exp().mul_(2).T, gw.aio.Tensor)
    assert_type(x.double().detach().requires_grad_(), gw.aio.Tensor)
    assert_type(x.max(), gw.aio.Tensor)
    assert_type(x.max(dim=0).values, gw.aio.Tensor)
    assert_type(x.sort().indices, gw.aio.Tensor)
    assert_type(x.split(2), tuple[gw.aio.Tensor, ...])
    assert_type(x.where(x > 0, 0), gw.aio.Tensor)
    assert_type(gw.exp(x), gw.aio.Tensor)
    assert_type(gw.topk(x, 2).values, gw.aio.Tensor)
    assert_type(gw.var(x), gw.aio.Tensor)
    assert_type(gw.chunk(x, 2), tuple[gw.aio.Tensor, ...])
    assert_type(gw.zeros_like(x), gw.aio.Tensor)
    assert_type(gw.linalg.vector_norm(x), gw.aio.Tensor)
    assert_type(gw.nn.functional.relu(x), gw.aio.Tensor)
    assert_type(await x.get_grad(), gw.aio.Tensor | None)
    assert_type(await x.get_base(), gw.aio.Tensor | None)
    assert_type(await x.refresh(), gw.aio.Tensor)


async def not_awaited(x: gw.aio.Tensor) -> float:
    return (x + 1).item()  # type: ignore[return-value]
