"""Arguments that many operators check alike: dimensions, sizes, dtypes that have an order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from gradwire_engine.dtypes import FLOAT32
from gradwire_engine.errors import EngineError


def one(dim: int, ndim: int) -> int:
    """`dim` counted from the front.

    Raises:
        EngineError: DIM_OUT_OF_RANGE.
    """
    rank = max(ndim, 1)
    if not -rank <= dim < rank:
        raise EngineError(
            "DIM_OUT_OF_RANGE",
            f"dimension {dim} is out of range for a tensor of {ndim} dimensions: expected "
            f"{-rank} to {rank - 1}",
            argument="dim",
            dim=dim,
            ndim=ndim,
        )
    return dim % rank


def many(dim: Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """`dim` counted from the front; all dimensions if None or empty.

    Raises:
        EngineError: DIM_OUT_OF_RANGE, BAD_VALUE for a dimension named twice.
    """
    if not dim:
        return tuple(range(ndim))
    dims = tuple(one(each, ndim) for each in dim)
    if len(set(dims)) != len(dims):
        raise EngineError(
            "BAD_VALUE", f"a dimension appears twice in dim={list(dim)}", argument="dim", dim=dim
        )
    return dims if ndim else ()


def kept(shape: Sequence[int], dim: Sequence[int] | None) -> tuple[int, ...]:
    """The shape with the reduced dimensions as 1."""
    dims = many(dim, len(shape))
    return tuple(1 if i in dims else size for i, size in enumerate(shape))


def count(shape: Sequence[int], dim: Sequence[int] | None) -> int:
    """How many elements a reduction puts into one."""
    return math.prod(shape[i] for i in many(dim, len(shape)))


def infer(size: Sequence[int], elements: int) -> tuple[int, ...]:
    """A shape with its one -1 resolved.

    Raises:
        EngineError: SHAPE_MISMATCH, BAD_VALUE.
    """
    if elements and math.prod(size) == elements and min(size, default=1) > 0:
        return tuple(size)
    known = math.prod(s for s in size if s != -1)
    holes = sum(s == -1 for s in size)
    if holes > 1 or any(s < -1 for s in size):
        raise EngineError(
            "BAD_VALUE",
            f"size {list(size)} is not a shape: sizes are at least 0, and one may be -1",
            argument="size",
            size=size,
        )
    if holes and known and elements % known == 0:
        return tuple(elements // known if s == -1 else s for s in size)
    if holes or known != elements:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"shape {list(size)} does not hold the {elements} elements of the input",
            argument="size",
            size=size,
            elements=elements,
        )
    return tuple(size)


def require_order(value: Any, op: str) -> None:
    """Refuse complex numbers where the smaller or larger of two is asked for.

    Raises:
        EngineError: DTYPE_MISMATCH.
    """
    if isinstance(value, complex) or getattr(value, "dtype", FLOAT32).kind == "c":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: complex numbers have no order; compare abs() or real()",
            argument="self",
            op=op,
        )


def ordered(op: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of two operands that must have an order."""

    def kernel(self: Any, other: Any) -> Any:
        require_order(self, op)
        require_order(other, op)
        return function(self, other)

    return kernel
