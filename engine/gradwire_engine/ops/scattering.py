"""Gather and scatter: element (i, j) read from or written to (index[i, j], j), or as `dim` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradwire_engine.declare import general, linear
from gradwire_engine.dtypes import wrapped
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims
from gradwire_engine.ops.accumulation import add_at
from gradwire_engine.ops.index_checks import require_in_range, require_index, require_same_dtype

Key = tuple[Any, ...]


def _grid(index: np.ndarray, axis: int) -> Key:
    """The open grid that reads or writes element (i, j, ...) at index along `axis`."""
    axes: list[Any] = list(np.ogrid[tuple(slice(size) for size in index.shape)])
    axes[axis] = index
    return tuple(axes)


def _check_index(self: np.ndarray, dim: int, index: np.ndarray, op: str) -> int:
    """The axis that `dim` names, for an index that fits the tensor."""
    require_index(index, op)
    axis = dims.one(dim, self.ndim)
    # A 0-d tensor stands for one of a single element; an empty index fits whatever its rank.
    shape, index_shape = self.shape or (1,), index.shape or (1,)
    fits = index.size == 0 or (
        len(shape) == len(index_shape)
        and all(
            have <= size
            for i, (have, size) in enumerate(zip(index_shape, shape, strict=True))
            if i != axis
        )
    )
    if not fits:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: index of shape {index.shape} does not fit a tensor of shape {self.shape}; "
            f"apart from dimension {dim} no size may be larger",
            argument="index",
            shape=self.shape,
            index_shape=index.shape,
        )
    require_in_range(index, self.shape[axis] if self.ndim else 1, op)
    return axis


def _gather(self: np.ndarray, dim: int, index: np.ndarray) -> np.ndarray:
    axis = _check_index(self, dim, index, "gather")
    if index.size == 0 or not index.ndim:
        return np.asarray(self.reshape(-1)[index])
    return np.asarray(self.reshape(self.shape or (1,))[_grid(index, axis)])


linear(
    "gather(Tensor self, int dim, Tensor index) -> Tensor",
    _gather,
    {
        "self": lambda F, g, self_shape, dim, index: F.scatter_add(
            F.zeros(self_shape, dtype=g.dtype), dim, index, g
        )
    },
    shape=lambda self, dim, index: index.shape,
)


def _part_of_source(src: np.ndarray, index: np.ndarray, op: str) -> np.ndarray:
    """The elements of `src` that have an index; it may be larger in any dimension."""
    if (src.ndim or 1) != (index.ndim or 1) or any(
        a > b for a, b in zip(index.shape, src.shape, strict=False)
    ):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: src of shape {src.shape} is smaller than index of shape {index.shape}",
            argument="src",
            shape=src.shape,
            index_shape=index.shape,
        )
    return src.reshape(src.shape or (1,))[tuple(slice(size) for size in index.shape or (1,))]


def _scatter_with(op: str, write: Callable[[np.ndarray, Key, Any], None]) -> Callable[..., Any]:
    """A kernel that copies its tensor and writes to the copy with `write(out, key, values)`."""

    def kernel(self: np.ndarray, dim: int, index: np.ndarray, src: Any) -> np.ndarray:
        axis = _check_index(self, dim, index, op)
        if isinstance(src, np.ndarray):
            require_same_dtype(self, src, op, "src")
        else:
            src = wrapped(src, self.dtype, op)
        out = np.array(self, order="C")
        if index.size:
            part = _part_of_source(src, index, op) if src.ndim or index.ndim < 2 else src
            index = index.reshape(index.shape or (1,))
            write(out.reshape(self.shape or (1,)), _grid(index, axis), part)
        return out

    return kernel


def _assign_at(out: np.ndarray, key: Key, values: Any) -> None:
    out[key] = values


def _to_source(F: Any, g: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of the part of a source that has an index; the rest has none."""
    for axis, size in enumerate(shape):
        if g.shape[axis] != size:
            whole = (*g.shape[:axis], size, *g.shape[axis + 1 :])
            g = F.slice_backward(g, whole, axis, 0, g.shape[axis], 1)
    return g


def _at_source(F: Any, g: Any, dim: int, index: Any, src_shape: tuple[int, ...]) -> Any:
    return _to_source(F, F.gather(g, dim, index), src_shape)


linear(
    "scatter_add(Tensor self, int dim, Tensor index, Tensor src) -> Tensor",
    _scatter_with("scatter_add", add_at),
    {"self": lambda F, g: g, "src": _at_source},
    in_place=True,
)

_ASSIGN = _scatter_with("scatter", _assign_at)
_SCATTERS: dict[str | None, Callable[..., Any]] = {
    None: _ASSIGN,
    "add": _scatter_with("scatter", add_at),
    "multiply": _scatter_with("scatter", np.multiply.at),
}


def _scatter(
    self: np.ndarray, dim: int, index: np.ndarray, src: Any, reduce: str | None = None
) -> Any:
    if reduce not in _SCATTERS:
        raise EngineError(
            "BAD_VALUE",
            f"scatter: reduce must be 'add' or 'multiply', not {reduce!r}; scatter_reduce has more",
            argument="reduce",
        )
    return _SCATTERS[reduce](self, dim, index, src)


def _require_derivative(reduce: str | None) -> None:
    if reduce == "multiply":
        raise EngineError(
            "BAD_VALUE",
            "scatter: reduce='multiply' has no derivative; scatter_reduce with 'prod' has one",
            argument="reduce",
        )


def _kept_by_scatter(F: Any, g: Any, dim: int, index: Any, reduce: str | None) -> Any:
    _require_derivative(reduce)
    return F.scatter(g, dim, index, 0) if reduce is None else g


def _taken_by_scatter(
    F: Any, g: Any, dim: int, index: Any, src_shape: Any, reduce: str | None
) -> Any:
    _require_derivative(reduce)
    return _at_source(F, g, dim, index, src_shape)


linear(
    "scatter(Tensor self, int dim, Tensor index, Tensor src, *, str? reduce=None) -> Tensor",
    _scatter,
    {"self": _kept_by_scatter, "src": _taken_by_scatter},
    numbers=("src",),
    grad_fn=lambda self, dim, index, src, reduce: (
        "ScatterBackward0" if src is None else "ScatterBackward1"
    ),
    edges_for_numbers=False,
    in_place=True,
)

_REDUCTIONS: dict[str, tuple[np.ufunc, Any]] = {
    "sum": (np.add, 0),
    "mean": (np.add, 0),
    "prod": (np.multiply, 1),
    "amax": (np.maximum, -np.inf),
    "amin": (np.minimum, np.inf),
}
"""For each word the function of two elements, and what changes nothing in it."""


def _start(reduce: str, dtype: np.dtype) -> Any:
    """What to begin with where the tensor's own elements do not count."""
    if dtype.kind in "iu" and reduce in ("amax", "amin"):
        limits = np.iinfo(dtype)
        return int(limits.min if reduce == "amax" else limits.max)
    neutral = _REDUCTIONS[reduce][1]
    return bool(neutral > 0) if dtype.kind == "b" else neutral


def _scatter_reduce(
    self: np.ndarray,
    dim: int,
    index: np.ndarray,
    src: np.ndarray,
    reduce: str,
    include_self: bool = True,
) -> np.ndarray:
    if reduce not in _REDUCTIONS:
        raise EngineError(
            "BAD_VALUE",
            f"scatter_reduce: reduce must be one of {', '.join(_REDUCTIONS)}, not {reduce!r}",
            argument="reduce",
        )
    dims.require_order(self, "scatter_reduce")
    function = _REDUCTIONS[reduce][0]
    begin = self
    if not include_self:
        begin = _ASSIGN(self, dim, index, _start(reduce, self.dtype))
    write = add_at if function is np.add else function.at
    out: np.ndarray = _scatter_with("scatter_reduce", write)(begin, dim, index, src)
    if reduce != "mean":
        return out
    count = _counts(self, dim, index, include_self)
    if self.dtype.kind in "iu":
        return np.asarray(np.floor_divide(out, count.astype(self.dtype)))
    return np.asarray(out / count.astype(self.dtype))


def _counts(self: np.ndarray, dim: int, index: np.ndarray, include_self: bool) -> np.ndarray:
    """How many elements come together in each, at least 1."""
    begin = np.full(self.shape, int(include_self))
    counted = _scatter_with("scatter_reduce", add_at)(begin, dim, index, np.ones_like(index))
    return np.asarray(np.maximum(counted, 1))


def reduced_self(
    F: Any,
    g: Any,
    self: Any,
    dim: int,
    index: Any,
    src: Any,
    reduce: str,
    include_self: bool,
    result: Any,
) -> Any:
    """The rule of scatter_reduce for the tensor that is written to."""
    if not include_self:
        g = F.scatter(g, dim, index, 0)
    match reduce:
        case "sum":
            return g
        case "mean":
            return g / _shares(F, g, dim, index, include_self)
        case "prod":
            # A zero takes the product of the others, where dividing would fail.
            whole = F.masked_fill(self, self == 0, 1)
            others = F.scatter_reduce(whole, dim, index, src, "prod", include_self)
            return g * others / whole
        case _:
            is_result = F.to(self == result, g.dtype)
            return g * is_result / _ties(F, self, dim, index, src, result, include_self)


def reduced_source(
    F: Any,
    g: Any,
    self: Any,
    dim: int,
    index: Any,
    src: Any,
    reduce: str,
    include_self: bool,
    result: Any,
) -> Any:
    """The rule of scatter_reduce for what is written."""
    shape = src.shape
    match reduce:
        case "sum":
            return _at_source(F, g, dim, index, shape)
        case "mean":
            return _at_source(F, g / _shares(F, g, dim, index, include_self), dim, index, shape)
        case "prod":
            return _others_of_source(F, g, self, dim, index, src, include_self, result)
        case _:
            ties = _ties(F, self, dim, index, src, result, include_self)
            hit = F.to(src == _at_source(F, result, dim, index, shape), g.dtype)
            return hit * _at_source(F, g / ties, dim, index, shape)


def _shares(F: Any, g: Any, dim: int, index: Any, include_self: bool) -> Any:
    """Among how many each mean is shared."""
    begin = F.ones_like(g) if include_self else F.zeros_like(g)
    count = F.scatter_add(begin, dim, index, F.ones_like(index, dtype=g.dtype))
    return F.masked_fill(count, count == 0, 1)


def _ties(
    F: Any, self: Any, dim: int, index: Any, src: Any, result: Any, include_self: bool
) -> Any:
    """How many elements are equal to each result; they share its gradient evenly."""
    own = F.to(self == result, result.dtype)
    if not include_self:
        own = F.scatter(own, dim, index, 0)
    hit = F.to(src == _at_source(F, result, dim, index, src.shape), result.dtype)
    count = F.scatter_add(own, dim, index, hit)
    return F.masked_fill(count, count == 0, 1)


def _others_of_source(
    F: Any, g: Any, self: Any, dim: int, index: Any, src: Any, include_self: bool, result: Any
) -> Any:
    """The product of the others, for each element of a source of products."""
    zero = src == 0
    zeros = F.scatter_add(F.zeros_like(self), dim, index, F.to(zero, src.dtype))
    alone = F.logical_and(zero, _at_source(F, zeros, dim, index, src.shape) == 1)
    without = F.scatter_reduce(self, dim, index, F.masked_fill(src, alone, 1), "prod", include_self)
    return F.where(
        alone,
        _at_source(F, g * without, dim, index, src.shape),
        _at_source(F, g * result, dim, index, src.shape) / F.masked_fill(src, zero, 1),
    )


general(
    "scatter_reduce(Tensor self, int dim, Tensor index, Tensor src, str reduce, *, "
    "bool include_self=True) -> Tensor",
    _scatter_reduce,
    {"self": reduced_self, "src": reduced_source},
    in_place=True,
)
