"""Reading and writing whole slices of one dimension by a vector of indices: index_select, ..."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradwire_engine.declare import general, linear
from gradwire_engine.dtypes import BOOL, wrapped
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import RAW
from gradwire_engine.ops import dims
from gradwire_engine.ops.accumulation import add_rows
from gradwire_engine.ops.index_checks import require_in_range, require_index, require_same_dtype
from gradwire_engine.ops.scattering import reduced_self, reduced_source


def _check_vector(self: np.ndarray, dim: int, index: np.ndarray, op: str) -> int:
    """The axis that `dim` names, for a vector of indices (or one index) that fits it."""
    require_index(index, op)
    if index.ndim > 1:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: index must be a vector, not of shape {index.shape}",
            argument="index",
            shape=index.shape,
        )
    axis = dims.one(dim, self.ndim)
    require_in_range(index, self.shape[axis] if self.ndim else 1, op)
    return axis


def _check_source(self: np.ndarray, axis: int, index: np.ndarray, source: Any, op: str) -> None:
    require_same_dtype(self, source, op, "source")
    expected = self.shape[:axis] + (index.size,) * bool(self.ndim) + self.shape[axis + 1 :]
    if (source.shape or (1,)) != (expected or (index.size,)):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: source of shape {source.shape} must have shape {expected}: that of the tensor, "
            f"with as many slices in dimension {axis} as there are indices",
            argument="source",
            shape=source.shape,
            expected=expected,
        )


def _slices(self: np.ndarray, axis: int) -> np.ndarray:
    """The tensor as a view that begins with the axis; a 0-d tensor is one slice."""
    return np.moveaxis(self, axis, 0) if self.ndim else self.reshape(1)


def _selected_shape(self: np.ndarray, dim: int, index: np.ndarray) -> tuple[int, ...]:
    axis = _check_vector(self, dim, index, "index_select")
    if not self.ndim:
        if index.size != 1:
            raise EngineError(
                "SHAPE_MISMATCH",
                f"index_select: a 0-d tensor has one element, not the {index.size} asked for",
                argument="index",
            )
        return ()
    return (*self.shape[:axis], index.size, *self.shape[axis + 1 :])


def _index_select(self: np.ndarray, dim: int, index: np.ndarray) -> np.ndarray:
    if not self.ndim:
        return self.copy()
    return np.take(self, index.reshape(-1), dim)


linear(
    "index_select(Tensor self, int dim, Tensor index) -> Tensor",
    _index_select,
    {
        "self": lambda F, g, self_shape, dim, index: F.index_add(
            F.zeros(self_shape, dtype=g.dtype), dim, index, g
        )
    },
    shape=_selected_shape,
)


def _index_add(
    self: np.ndarray, dim: int, index: np.ndarray, source: np.ndarray, alpha: Any = 1
) -> np.ndarray:
    axis = _check_vector(self, dim, index, "index_add")
    _check_source(self, axis, index, source, "index_add")
    values = source if alpha == 1 else source * wrapped(alpha, self.dtype, "index_add")
    out = np.array(self, order="C")
    if not out.size:
        return out
    if axis == 0:
        rows = out.reshape(len(out) if out.ndim else 1, -1)
        add_rows(rows, index.reshape(-1), values.reshape(index.size, rows.shape[1]))
        return out
    moved = np.ascontiguousarray(_slices(out, axis))
    rows = moved.reshape(len(moved), -1)
    add_rows(rows, index.reshape(-1), _slices(values, axis).reshape(index.size, rows.shape[1]))
    return np.ascontiguousarray(np.moveaxis(moved, 0, axis))


def _read_back(F: Any, g: Any, dim: int, index: Any, source_shape: tuple[int, ...]) -> Any:
    return F.reshape(F.index_select(g, dim, index), source_shape)


def _read_back_scaled(
    F: Any, g: Any, dim: int, index: Any, source_shape: tuple[int, ...], alpha: Any
) -> Any:
    factor = alpha.conjugate() if isinstance(alpha, complex) else alpha
    rows = _read_back(F, g, dim, index, source_shape)
    return rows if factor == 1 else rows * factor


linear(
    "index_add(Tensor self, int dim, Tensor index, Tensor source, *, Scalar alpha=1) -> Tensor",
    _index_add,
    {"self": lambda F, g: g, "source": _read_back_scaled},
    in_place=True,
)


def _index_copy(self: np.ndarray, dim: int, index: np.ndarray, source: np.ndarray) -> np.ndarray:
    axis = _check_vector(self, dim, index, "index_copy")
    _check_source(self, axis, index, source, "index_copy")
    out = np.array(self, order="C")
    flat = index.reshape(-1)
    _slices(out, axis)[flat] = _slices(source, axis).reshape(
        len(flat), *_slices(out, axis).shape[1:]
    )
    return out


linear(
    "index_copy(Tensor self, int dim, Tensor index, Tensor source) -> Tensor",
    _index_copy,
    {"self": lambda F, g, dim, index: F.index_fill(g, dim, index, 0), "source": _read_back},
    in_place=True,
)


def _index_fill(self: np.ndarray, dim: int, index: np.ndarray, value: Any) -> np.ndarray:
    axis = _check_vector(self, dim, index, "index_fill")
    if isinstance(value, np.ndarray) and value.ndim:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"index_fill: value must be a number or a 0-d tensor, not of shape {value.shape}",
            argument="value",
            shape=value.shape,
        )
    out = np.array(self, order="C")
    _slices(out, axis)[index.reshape(-1)] = wrapped(value, self.dtype, "index_fill")
    return out


def _filled(F: Any, g: Any, dim: int, index: Any) -> Any:
    """The gradient of the value: of each element it went to, once, though an index repeats."""
    reached = F.index_fill(F.zeros(g.shape, dtype=BOOL), dim, index, True)
    return F.sum(F.where(reached, g, 0.0))


linear(
    "index_fill(Tensor self, int dim, Tensor index, Tensor value) -> Tensor",
    _index_fill,
    {
        "self": lambda F, g, dim, index: F.index_fill(g, dim, index, 0),
        "value": _filled,
    },
    numbers=("value",),
    grad_fn=lambda self, dim, index, value: (
        "IndexFillBackward1" if value is None else "IndexFillBackward0"
    ),
    edges_for_numbers=False,
    in_place=True,
)


def _index_reduce(
    self: np.ndarray,
    dim: int,
    index: np.ndarray,
    source: np.ndarray,
    reduce: str,
    include_self: bool = True,
) -> np.ndarray:
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise EngineError(
            "BAD_VALUE",
            f"index_reduce: reduce must be 'prod', 'mean', 'amax' or 'amin', not {reduce!r}",
            argument="reduce",
        )
    axis = _check_vector(self, dim, index, "index_reduce")
    _check_source(self, axis, index, source, "index_reduce")
    every = _for_every_element(RAW, index, source.shape, dim)
    return np.asarray(RAW.scatter_reduce(self, dim, every, source, reduce, include_self))


def _for_every_element(F: Any, index: Any, source_shape: tuple[int, ...], dim: int) -> Any:
    """The index of each element of a source whose slices have one index each."""
    shape = [1] * len(source_shape)
    if shape:
        shape[dims.one(dim, len(shape))] = -1
    return F.expand(F.reshape(index, tuple(shape)), source_shape)


def _reduced(part: Callable[..., Any]) -> Callable[..., Any]:
    """The rule of scatter_reduce for indices that name whole slices."""

    def pull(
        F: Any,
        g: Any,
        self: Any,
        dim: int,
        index: Any,
        source: Any,
        reduce: str,
        include_self: bool,
        result: Any,
    ) -> Any:
        every = _for_every_element(F, index, source.shape, dim)
        return part(F, g, self, dim, every, source, reduce, include_self, result)

    return pull


general(
    "index_reduce(Tensor self, int dim, Tensor index, Tensor source, str reduce, *, "
    "bool include_self=True) -> Tensor",
    _index_reduce,
    {"self": _reduced(reduced_self), "source": _reduced(reduced_source)},
    in_place=True,
)
