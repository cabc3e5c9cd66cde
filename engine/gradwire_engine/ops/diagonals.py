"""Diagonals and triangles of matrices: diagonal, diag_embed, trace, tril, triu, their indices."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.declare import composite, linear, nondiff
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims


def _require_matrix(self: Any, op: str, least: int = 2, most: int | None = None) -> None:
    rank = len(self.shape)
    if rank < least or (most is not None and rank > most):
        wanted = f"{least} dimensions" if least == most else f"at least {least} dimensions"
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: needs {wanted}, not a tensor of shape {tuple(self.shape)}",
            argument="self",
            shape=tuple(self.shape),
        )


def _triangle(op: str, function: Any) -> Any:
    def kernel(self: np.ndarray, diagonal: int = 0) -> Any:
        _require_matrix(self, op)
        return function(self, diagonal)

    return kernel


linear(
    "tril(Tensor self, int diagonal=0) -> Tensor",
    _triangle("tril", np.tril),
    lambda F, g, diagonal: F.tril(g, diagonal),
    in_place=True,
)
linear(
    "triu(Tensor self, int diagonal=0) -> Tensor",
    _triangle("triu", np.triu),
    lambda F, g, diagonal: F.triu(g, diagonal),
    in_place=True,
)


def _triangle_shape(row: int, col: int, *rest: Any) -> tuple[int, ...]:
    if row < 0 or col < 0:
        raise EngineError("BAD_VALUE", f"a matrix cannot have shape ({row}, {col})", argument="row")
    return (2, row * col)


def _triangle_indices(function: Any) -> Any:
    def kernel(row: int, col: int, offset: int = 0, dtype: np.dtype | None = None) -> Any:
        kind = np.int64 if dtype is None else dtype
        if not row * col:
            # NumPy would count up to the other size.
            return np.empty((2, 0), kind)
        return np.stack(function(row, offset, col)).astype(kind)

    return kernel


for _name, _function in {"tril_indices": np.tril_indices, "triu_indices": np.triu_indices}.items():
    nondiff(
        f"{_name}(int row, int col, int offset=0, *, ScalarType? dtype=None) -> Tensor",
        _triangle_indices(_function),
        shape=_triangle_shape,
        places=("torch",),
    )


def _plane(dim1: int, dim2: int, ndim: int) -> tuple[int, int]:
    """The two axes of the matrices."""
    first, second = dims.one(dim1, ndim), dims.one(dim2, ndim)
    if first == second:
        raise EngineError(
            "BAD_VALUE",
            f"a diagonal lies in two different dimensions, not in {dim1} and {dim2}",
            argument="dim2",
        )
    return first, second


def _diagonal(self: np.ndarray, offset: int = 0, dim1: int = 0, dim2: int = 1) -> np.ndarray:
    _require_matrix(self, "diagonal")
    view = self.diagonal(offset, *_plane(dim1, dim2, self.ndim))
    # NumPy marks it read-only, which the memory is not.
    if self.flags.writeable:
        view.flags.writeable = True
    return view


def _diagonal_backward(
    self: np.ndarray, input_sizes: Any, offset: int, dim1: int, dim2: int
) -> np.ndarray:
    out = np.zeros(input_sizes, self.dtype)
    _diagonal(out, offset, dim1, dim2)[...] = self
    return out


linear(
    "diagonal(Tensor self, int offset=0, int dim1=0, int dim2=1) -> Tensor",
    _diagonal,
    lambda F, g, self_shape, offset, dim1, dim2: F.diagonal_backward(
        g, self_shape, offset, dim1, dim2
    ),
    is_view=True,
)
linear(
    "diagonal_backward(Tensor self, int[] input_sizes, int offset, int dim1, int dim2) -> Tensor",
    _diagonal_backward,
    lambda F, g, offset, dim1, dim2: F.diagonal(g, offset, dim1, dim2),
    grad_fn="DiagonalBackwardBackward0",
    shape=lambda self, input_sizes, *rest: input_sizes,
    places=(),
)
composite(
    "linalg.diagonal(Tensor A, *, int offset=0, int dim1=-2, int dim2=-1) -> Tensor",
    lambda F, A, offset, dim1, dim2: F.diagonal(A, offset, dim1, dim2),
    places=("linalg",),
)
# What PyTorch's diag reads with: a copy, and a node that says so.
linear(
    "_diagonal_copy(Tensor self, int offset=0, int dim1=0, int dim2=1) -> Tensor",
    lambda self, offset=0, dim1=0, dim2=1: _diagonal(self, offset, dim1, dim2).copy(),
    lambda F, g, self_shape, offset, dim1, dim2: F.diagonal_backward(
        g, self_shape, offset, dim1, dim2
    ),
    grad_fn="DiagonalBackward0_copy",
    places=(),
)


def _embedded_shape(
    self: np.ndarray, offset: int = 0, dim1: int = -2, dim2: int = -1
) -> tuple[int, ...]:
    _require_matrix(self, "diag_embed", 1)
    rank = self.ndim + 1
    size = self.shape[-1] + abs(offset)
    first, second = sorted(_plane(dim1, dim2, rank))
    shape = list(self.shape[:-1])
    shape.insert(first, size)
    shape.insert(second, size)
    return tuple(shape)


def _diag_embed(self: np.ndarray, offset: int = 0, dim1: int = -2, dim2: int = -1) -> np.ndarray:
    out = np.zeros(_embedded_shape(self, offset, dim1, dim2), self.dtype)
    _diagonal(out, offset, dim1, dim2)[...] = self
    return out


linear(
    "diag_embed(Tensor self, int offset=0, int dim1=-2, int dim2=-1) -> Tensor",
    _diag_embed,
    lambda F, g, offset, dim1, dim2: F.diagonal(g, offset, dim1, dim2),
    shape=_embedded_shape,
)


def _diag(F: Any, self: Any, diagonal: int) -> Any:
    _require_matrix(self, "diag", 1)
    if len(self.shape) == 1:
        return F.diag_embed(self, diagonal)
    _require_matrix(self, "diag", 2, 2)
    return F._diagonal_copy(self, diagonal)


composite("diag(Tensor self, int diagonal=0) -> Tensor", _diag)
composite(
    "diagflat(Tensor self, int offset=0) -> Tensor",
    lambda F, self, offset: F.diag_embed(F.reshape(self, (-1,)), offset),
)


def _trace(self: np.ndarray) -> Any:
    _require_matrix(self, "trace", 2, 2)
    return np.trace(self, dtype=np.int64 if self.dtype.kind in "bui" else self.dtype)


def _along_diagonal(F: Any, g: Any, self_shape: Any) -> Any:
    line = F.expand(F.reshape(g, (1,)), (min(self_shape),))
    return F.diagonal_backward(line, self_shape, 0, 0, 1)


linear("trace(Tensor self) -> Tensor", _trace, _along_diagonal)
