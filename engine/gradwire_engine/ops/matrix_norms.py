"""Norms of matrices, and `norm`, which takes those of vectors too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import composite
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims
from gradwire_engine.ops.matrices import cubic

_LINALG = ("linalg",)


def _norm_flops(self: Any, ord: Any, *rest: Any) -> int:
    """Singular values cost far more than sums."""
    if ord in ("nuc", 2, -2):
        return cubic(25)(self)
    return int(math.prod(self.shape)) + 1


def _two(dim: Sequence[int], rank: int, op: str) -> tuple[int, int]:
    if rank < 2:
        raise EngineError(
            "SHAPE_MISMATCH", f"{op}: needs matrices, not a tensor of {rank} dimensions"
        )
    axes = tuple(dims.one(each, rank) for each in dim)
    if len(axes) != 2 or axes[0] == axes[1]:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: dim must be two different dimensions, not {list(dim)}",
            argument="dim",
            dim=dim,
        )
    return axes[0], axes[1]


def _matrix_norm(
    F: Any, self: Any, ord: Any, dim: Sequence[int], keepdim: bool, dtype: np.dtype | None
) -> Any:
    rows, columns = _two(dim, len(self.shape), "linalg.matrix_norm")
    if ord == "fro":
        return F.linalg__vector_norm(self, 2, (rows, columns), keepdim, dtype)
    if ord == "nuc" or (not isinstance(ord, str) and abs(ord) == 2):
        return _spectral_norm(F, self, ord, rows, columns, keepdim, dtype)
    if isinstance(ord, str) or abs(ord) not in (1, math.inf):
        raise EngineError(
            "BAD_VALUE",
            f"linalg.matrix_norm: ord must be 'fro', 'nuc', 1, 2, inf, or -1, -2, -inf, "
            f"not {ord!r}",
            argument="ord",
        )
    first, second = (columns, rows) if abs(ord) == math.inf else (rows, columns)
    if not keepdim and first < second:
        second -= 1
    sums = F.linalg__vector_norm(self, 1.0, (first,), keepdim, dtype)
    return _extreme(F, sums, second, keepdim, ord)


def _extreme(F: Any, values: Any, dim: int, keepdim: bool, ord: Any) -> Any:
    """The largest value, or for a negative order the smallest; of none the largest is 0."""
    if ord > 0 and not values.shape[dim]:
        return F.sum(values, (dim,), keepdim)
    return (F.amax if ord > 0 else F.amin)(values, (dim,), keepdim)


def _spectral_norm(
    F: Any, self: Any, ord: Any, rows: int, columns: int, keepdim: bool, dtype: np.dtype | None
) -> Any:
    rank = len(self.shape)
    order = (*(at for at in range(rank) if at not in (rows, columns)), rows, columns)
    values = F.linalg__svdvals(F.permute(self if dtype is None else F.to(self, dtype), order))
    if ord == "nuc":
        result = F.sum(values, (-1,), keepdim)
    else:
        result = _extreme(F, values, -1, keepdim, ord)
    if not keepdim:
        return result
    back = tuple(order.index(at) for at in range(rank))
    return F.permute(F.unsqueeze(result, -1), back)


composite(
    'linalg.matrix_norm(Tensor self, Order ord="fro", int[] dim=[-2, -1], bool keepdim=False, *, '
    "ScalarType? dtype=None) -> Tensor",
    _matrix_norm,
    places=_LINALG,
    flops=_norm_flops,
)


def _norm(
    F: Any, self: Any, ord: Any, dim: Sequence[int] | None, keepdim: bool, dtype: np.dtype | None
) -> Any:
    rank = len(self.shape)
    if ord is not None and dim is None and rank not in (1, 2):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"linalg.norm: with ord and without dim it needs a vector or a matrix, not shape "
            f"{self.shape}",
            argument="ord",
        )
    if ord is not None and (len(dim) == 2 if dim is not None else rank == 2):
        return F.linalg__matrix_norm(self, ord, (0, 1) if dim is None else dim, keepdim, dtype)
    if isinstance(ord, str):
        raise EngineError(
            "BAD_VALUE", f"linalg.norm: ord={ord!r} is of matrices, not of vectors", argument="ord"
        )
    return F.linalg__vector_norm(self, 2.0 if ord is None else ord, dim, keepdim, dtype)


composite(
    "linalg.norm(Tensor self, Order? ord=None, int[]? dim=None, bool keepdim=False, *, "
    "ScalarType? dtype=None) -> Tensor",
    _norm,
    places=_LINALG,
    flops=_norm_flops,
)
