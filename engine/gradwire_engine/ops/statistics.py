"""Statistics: several at once, without NaN, quantiles, counting, and searching what is sorted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import composite, general, linear, nondiff
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims
from gradwire_engine.ops.index_checks import require_same_dtype
from gradwire_engine.ops.reductions import (
    mean_kernel,
    spread,
    std_kernel,
    sum_kernel,
    var_kernel,
    var_slope,
    with_dims,
)

_TORCH = ("torch",)

# NumPy types `keepdims` as a literal, which a variable is not.
_least: Callable[..., Any] = np.minimum.reduce
_largest: Callable[..., Any] = np.maximum.reduce


def _with_mean(kernel: Any) -> Any:
    def both(
        self: np.ndarray,
        dim: Sequence[int] | None = None,
        correction: Any = None,
        keepdim: bool = False,
    ) -> tuple[Any, Any]:
        return kernel(self, dim, correction, keepdim), mean_kernel(self, dim, keepdim)

    return both


def _mean_slope(F: Any, g: Any, shape: tuple[int, ...], dim: Any) -> Any:
    return spread(F, g / max(dims.count(shape, dim), 1), shape, dim)


def _var_and_mean(F: Any, gs: Any, self: Any, dim: Any, correction: Any) -> Any:
    parts = [
        None if gs[0] is None else var_slope(F, gs[0], self, dim, correction),
        None if gs[1] is None else _mean_slope(F, gs[1], self.shape, dim),
    ]
    return _sum_of(parts)


def _std_and_mean(F: Any, gs: Any, self: Any, dim: Any, correction: Any, std: Any) -> Any:
    of_var = None if gs[0] is None else F.where(std == 0, 0.0, gs[0] / (2 * std))
    return _var_and_mean(F, (of_var, gs[1]), self, dim, correction)


def _sum_of(parts: Sequence[Any]) -> Any:
    known = [each for each in parts if each is not None]
    return known[0] if len(known) == 1 else known[0] + known[1]


general(
    "var_mean(Tensor self, int[]? dim=None, *, Scalar? correction=None, bool keepdim=False) -> "
    "(Tensor var, Tensor mean)",
    _with_mean(var_kernel),
    _var_and_mean,
    places=_TORCH,
)
general(
    "std_mean(Tensor self, int[]? dim=None, *, Scalar? correction=None, bool keepdim=False) -> "
    "(Tensor std, Tensor mean)",
    _with_mean(std_kernel),
    _std_and_mean,
    places=_TORCH,
)


def _nansum(
    self: np.ndarray,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    dtype: np.dtype | None = None,
) -> Any:
    if self.dtype.kind == "c":
        raise EngineError(
            "DTYPE_MISMATCH", "nansum: does not take complex tensors", argument="self"
        )
    return sum_kernel(np.where(np.isnan(self), 0, self).astype(self.dtype), dim, keepdim, dtype)


linear(
    "nansum(Tensor self, int[]? dim=None, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor",
    _nansum,
    lambda F, g, self, dim: F.where(F.isnan(self), 0.0, spread(F, g, self.shape, dim)),
)


def _nanmean(F: Any, self: Any, dim: Any, keepdim: bool, dtype: np.dtype | None) -> Any:
    if self.dtype.kind not in "fc":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"nanmean: needs a floating-point tensor, not {self.dtype}; convert it with to()",
            argument="self",
            dtype=self.dtype,
        )
    count = F.sum(F.logical_not(F.isnan(self)), dim, keepdim)
    return F.nansum(self, dim, keepdim, dtype) / count


composite(
    "nanmean(Tensor self, int[]? dim=None, bool keepdim=False, *, ScalarType? dtype=None)"
    " -> Tensor",
    _nanmean,
)


def _aminmax(self: np.ndarray, dim: int | None = None, keepdim: bool = False) -> tuple[Any, Any]:
    dims.require_order(self, "aminmax")
    axis = None if dim is None or not self.ndim else dims.one(dim, self.ndim)
    if (self.size if axis is None else self.shape[axis]) == 0:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"aminmax: a tensor of shape {self.shape} has no elements to choose from",
            argument="self",
            shape=self.shape,
        )
    return _least(self, axis=axis, keepdims=keepdim), _largest(self, axis=axis, keepdims=keepdim)


def _shared_extremes(F: Any, gs: Any, self: Any, dim: Any, min: Any, max: Any) -> Any:
    over = None if dim is None else (dim,)
    parts: list[Any] = []
    for g, extreme in zip(gs, (min, max), strict=True):
        if g is None:
            parts.append(None)
            continue
        hit = self == with_dims(F, extreme, self.shape, over)
        parts.append(F.where(hit, with_dims(F, g, self.shape, over), 0.0) / F.sum(hit, over, True))
    return _sum_of(parts)


general(
    "aminmax(Tensor self, *, int? dim=None, bool keepdim=False) -> (Tensor min, Tensor max)",
    _aminmax,
    _shared_extremes,
)
nondiff(
    "count_nonzero(Tensor self, int[]? dim=None) -> Tensor",
    lambda self, dim=None: np.count_nonzero(self, dims.many(dim, self.ndim) if dim else None),
)


def _side(right: bool, side: str | None, op: str) -> Any:
    if side not in (None, "left", "right") or (right and side == "left"):
        raise EngineError(
            "BAD_VALUE",
            f"{op}: side must be 'left' or 'right', and agree with right={right}, not {side!r}",
            argument="side",
        )
    return "right" if right or side == "right" else "left"


def _searchsorted(
    sorted_sequence: np.ndarray,
    self: Any,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: np.ndarray | None = None,
) -> Any:
    dims.require_order(sorted_sequence, "searchsorted")
    where = _side(right, side, "searchsorted")
    dtype = np.int32 if out_int32 else np.int64
    if isinstance(self, np.ndarray):
        require_same_dtype(sorted_sequence, self, "searchsorted", "input")
    if sorter is not None and sorter.shape != sorted_sequence.shape:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"searchsorted: sorter of shape {sorter.shape} is not of the sequence's shape "
            f"{sorted_sequence.shape}",
            argument="sorter",
        )
    rows = sorted_sequence if sorter is None else np.take_along_axis(sorted_sequence, sorter, -1)
    if rows.ndim == 1 or not isinstance(self, np.ndarray):
        return np.asarray(np.searchsorted(rows.reshape(-1), self, where), dtype)
    if rows.ndim != self.ndim or rows.shape[:-1] != self.shape[:-1]:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"searchsorted: sequences of shape {rows.shape} and values of shape {self.shape} must "
            "be equal but for the last dimension",
            argument="input",
            shapes=f"{rows.shape} and {self.shape}",
        )
    out = np.empty(self.shape, dtype)
    for place in np.ndindex(*rows.shape[:-1]):
        out[place] = np.searchsorted(rows[place], self[place], where)
    return out


nondiff(
    "searchsorted(Tensor sorted_sequence, Tensor self, *, bool out_int32=False, bool right=False, "
    "str? side=None, Tensor? sorter=None) -> Tensor",
    _searchsorted,
    numbers=("self",),
    places=_TORCH,
)


def _bucketize(
    self: Any, boundaries: np.ndarray, out_int32: bool = False, right: bool = False
) -> Any:
    if boundaries.ndim != 1:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"bucketize: boundaries must be a vector, not of shape {boundaries.shape}",
            argument="boundaries",
            shape=boundaries.shape,
        )
    return _searchsorted(boundaries, self, out_int32, right)


nondiff(
    "bucketize(Tensor self, Tensor boundaries, *, bool out_int32=False, bool right=False) -> "
    "Tensor",
    _bucketize,
    numbers=("self",),
    places=_TORCH,
)


def _bincount_shape(
    self: np.ndarray, weights: np.ndarray | None = None, minlength: int = 0
) -> tuple[int, ...]:
    if self.ndim != 1 or self.dtype.kind not in "iu" or (self.size and int(self.min()) < 0):
        raise EngineError(
            "BAD_VALUE",
            f"bincount: needs a vector of integers that are not negative, not "
            f"{self.dtype}{list(self.shape)}",
            argument="self",
        )
    if minlength < 0 or (weights is not None and weights.shape != self.shape):
        raise EngineError(
            "BAD_VALUE",
            "bincount: minlength must not be negative, and weights have the shape of input",
            argument="minlength" if minlength < 0 else "weights",
        )
    return (max(minlength, int(self.max()) + 1 if self.size else 0),)


def _bincount(self: np.ndarray, weights: np.ndarray | None = None, minlength: int = 0) -> Any:
    counted = np.bincount(self.astype(np.int64, copy=False), weights, minlength)
    if weights is None:
        return counted.astype(np.int64, copy=False)
    return counted.astype(weights.dtype if weights.dtype == np.float32 else np.float64, copy=False)


nondiff(
    "bincount(Tensor self, Tensor? weights=None, int minlength=0) -> Tensor",
    _bincount,
    shape=_bincount_shape,
)


def _histc_shape(self: np.ndarray, bins: int = 100, min: Any = 0, max: Any = 0) -> tuple[int, ...]:
    if self.dtype.kind != "f":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"histc: needs a floating-point tensor, not {self.dtype}; bincount counts integers",
            argument="self",
            dtype=self.dtype,
        )
    if bins < 1:
        raise EngineError(
            "BAD_VALUE", f"histc: bins must be at least 1, not {bins}", argument="bins"
        )
    return (bins,)


def _histc(self: np.ndarray, bins: int = 100, min: Any = 0, max: Any = 0) -> Any:
    low, high = float(min), float(max)
    if low == high and self.size:
        low, high = float(self.min()), float(self.max())
    if low == high:
        low, high = low - 1, high + 1
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise EngineError(
            "BAD_VALUE",
            f"histc: needs a finite range from min up to max, not from {low} to {high}",
            argument="min",
        )
    inside = self[(self >= low) & (self <= high)]
    # The last bin has its upper end, too.
    places = np.minimum((inside - low) * bins / (high - low), bins - 1).astype(np.int64)
    return np.bincount(places, minlength=bins).astype(self.dtype)


nondiff(
    "histc(Tensor self, int bins=100, Scalar min=0, Scalar max=0) -> Tensor",
    _histc,
    shape=_histc_shape,
)


def _isclose(
    self: np.ndarray,
    other: np.ndarray,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
) -> Any:
    require_same_dtype(self, other, "isclose", "other")
    if rtol < 0 or atol < 0:
        raise EngineError(
            "BAD_VALUE",
            f"isclose: tolerances must not be negative, not rtol={rtol} and atol={atol}",
            argument="rtol" if rtol < 0 else "atol",
        )
    return np.isclose(self, other, rtol, atol, equal_nan)


nondiff(
    "isclose(Tensor self, Tensor other, float rtol=1e-05, float atol=1e-08, "
    "bool equal_nan=False) -> Tensor",
    _isclose,
    shape=lambda self, other, *rest: np.broadcast_shapes(self.shape, other.shape),
    numbers=(),
)


def _ranks(F: Any, ordered: Any, q: Any, skip_nan: bool) -> Any:
    if skip_nan:
        count = F.sum(F.logical_not(F.isnan(ordered)), (-1,), True) - 1
        ranks = q * count
        return F.masked_fill(ranks, ranks < 0, 0)
    last = ordered.shape[-1] - 1
    nan = F.any(F.isnan(ordered), (-1,), True)
    ranks = F.mul__Scalar(q, last)
    shape = np.broadcast_shapes(ranks.shape, nan.shape)
    return F.masked_fill(ranks if ranks.shape == shape else F.expand(ranks, shape), nan, last)


def _quantile(skip_nan: bool) -> Any:
    op = "nanquantile" if skip_nan else "quantile"

    def formula(
        F: Any, self: Any, q: Any, dim: int | None, keepdim: bool, interpolation: str
    ) -> Any:
        _require_quantile(op, self, q, interpolation)
        alone = isinstance(q, float | int)
        if alone:
            q = F.full((), float(q), dtype=self.dtype)
        rank = len(self.shape)
        axis = None if dim is None else dims.one(dim, rank)
        if axis is None:
            ordered = F.sort(F.flatten(self, 0, -1))[0]
        elif axis == rank - 1:
            ordered = F.sort(self)[0]
        else:
            ordered = F.sort(F.transpose(F.unsqueeze(self, -1), axis, -1))[0]
        shape = _reduced_shape(self.shape, axis, keepdim)
        ordered = F.view(ordered, (*shape, ordered.shape[-1]))
        values = _interpolated(F, ordered, _ranks(F, ordered, q, skip_nan), interpolation)
        if not q.shape:
            return F.squeeze_(values, (-1,))
        values = F.transpose_(F.unsqueeze_(values, 0), 0, -1)
        return F.squeeze_(values, (-1,))

    return formula


def _reduced_shape(shape: tuple[int, ...], axis: int | None, keepdim: bool) -> tuple[int, ...]:
    if axis is None or not shape:
        return (1,) * len(shape) if keepdim else ()
    return (*shape[:axis], *((1,) if keepdim else ()), *shape[axis + 1 :])


_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def _require_quantile(op: str, self: Any, q: Any, interpolation: str) -> None:
    values = q if isinstance(q, float | int) else q.data
    if self.dtype.name not in ("float32", "float64") or getattr(q, "dtype", self.dtype) != (
        self.dtype
    ):
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: needs float32 or float64, and q of the same, not {self.dtype} and "
            f"{getattr(q, 'dtype', type(q).__name__)}",
            argument="self",
        )
    if np.ndim(values) > 1 or not np.all((np.asarray(values) >= 0) & (np.asarray(values) <= 1)):
        raise EngineError(
            "BAD_VALUE", f"{op}: q must be numbers between 0 and 1, or one", argument="q"
        )
    if interpolation not in _INTERPOLATIONS:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: interpolation must be one of {', '.join(_INTERPOLATIONS)}, not "
            f"{interpolation!r}",
            argument="interpolation",
        )
    if not self.data.size:
        raise EngineError("SHAPE_MISMATCH", f"{op}: the tensor has no elements", argument="self")


def _interpolated(F: Any, ordered: Any, ranks: Any, interpolation: str) -> Any:
    rounding = {"lower": F.floor, "higher": F.ceil, "nearest": F.round}.get(interpolation)
    if rounding is not None:
        ranks = rounding(ranks)
    below = F.to(ranks, np.dtype(np.int64))
    values = F.gather(ordered, -1, below)
    if rounding is not None:
        return values
    weights = F.full_like(ranks, 0.5) if interpolation == "midpoint" else ranks - below
    above = F.gather(ordered, -1, F.to(F.ceil(ranks), np.dtype(np.int64)))
    return F.lerp_(values, above, weights)


for _name in ("quantile", "nanquantile"):
    composite(
        f"{_name}(Tensor self, Tensor q, int? dim=None, bool keepdim=False, *, "
        'str interpolation="linear") -> Tensor',
        _quantile(_name == "nanquantile"),
        numbers=("q",),
    )
