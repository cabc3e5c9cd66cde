"""Looking at several tensors at once, awaited: `gw.aio.fetch`, `graph`, `equal`, `allclose`."""

import inspect
from collections.abc import Coroutine
from typing import Any, overload

import numpy as np

from gradwire import inspection, reading
from gradwire.aio.session import Session
from gradwire.codec import Array
from gradwire.graph import Graph
from gradwire.tensors import Tensor


@overload
def fetch(tensor: Tensor, /) -> Coroutine[Any, Any, Array]: ...
@overload
def fetch(
    first: Tensor, second: Tensor, /, *more: Tensor
) -> Coroutine[Any, Any, tuple[Array, ...]]: ...
def fetch(*tensors: Tensor) -> Coroutine[Any, Any, Array] | Coroutine[Any, Any, tuple[Array, ...]]:
    """The values of tensors as arrays, as `gradwire.fetch`: one round trip."""
    inspection.check("fetch", tensors)
    return _session_of(tensors[0]).own(_fetch(tensors))


async def _fetch(tensors: tuple[Tensor, ...]) -> Any:
    values = await reading.read_values(tensors)
    return values[0] if len(tensors) == 1 else tuple(values)


def graph(*tensors: Tensor) -> Coroutine[Any, Any, Graph]:
    """The graph behind tensors, to look at, as `gradwire.graph`."""
    inspection.check("graph", tensors)
    frame = inspect.currentframe()
    named = inspection.named_tensors(frame.f_back if frame is not None else None)
    return _session_of(tensors[0]).own(inspection.read_graph(tensors, named))


async def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and elements. Reads both."""
    one, two = await fetch(input, other)
    return bool(np.array_equal(one, two))


async def allclose(
    input: Tensor,
    other: Tensor,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
) -> bool:
    """Whether |input - other| <= atol + rtol·|other| everywhere. Reads both."""
    one, two = await fetch(input, other)
    return bool(np.allclose(one, two, rtol, atol, equal_nan))


def _session_of(tensor: Tensor) -> Session:
    session = tensor._session
    if not isinstance(session, Session):
        raise TypeError(
            "gradwire.aio reads tensors of sessions of gradwire.aio.connect(); those of "
            "gradwire.connect() are read by the functions of the same names in gradwire"
        )
    return session
