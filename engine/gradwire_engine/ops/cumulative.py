"""Running totals along a dimension: cumsum, cumprod, logcumsumexp, cummax, cummin."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.declare import general, linear
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims
from gradwire_engine.ops.combining import logaddexp
from gradwire_engine.tensor import Tensor


def _running(function: np.ufunc) -> Any:
    def kernel(self: np.ndarray, dim: int, dtype: np.dtype | None = None) -> np.ndarray:
        axis = dims.one(dim, self.ndim)
        wanted = dtype
        if wanted is None:
            wanted = np.dtype(np.int64) if self.dtype.kind in "bui" else self.dtype
        if not self.ndim:
            return self.astype(wanted)
        if wanted == np.float16:
            # In halves a running sum of ones would stop at 2048.
            return np.asarray(function.accumulate(self, axis, np.float32).astype(np.float16))
        return np.asarray(function.accumulate(self, axis, wanted))

    return kernel


def reversed_cumsum(F: Any, x: Any, dim: int) -> Any:
    """Each element with the sum of those after it."""
    if not x.shape or x.shape[dim] <= 1:
        return x
    return F.flip(F.cumsum(F.flip(x, (dim,)), dim), (dim,))


linear(
    "cumsum(Tensor self, int dim, *, ScalarType? dtype=None) -> Tensor",
    _running(np.add),
    lambda F, g, dim: reversed_cumsum(F, g, dim),
    in_place=True,
)


def _shifted(F: Any, x: Any, dim: int, by: int) -> Any:
    """Element i + by at i, and zeros at the end."""
    n = x.shape[dim]
    return F.slice_backward(F.slice(x, dim, by, n, 1), x.shape, dim, 0, n - by, 1)


def _recurrence(F: Any, g: Any, factor: Any, dim: int) -> Any:
    """The solution s of s[i] = g[i] + factor[i] * s[i + 1] along a dimension; s is 0 beyond it.

    By doubling: log2(n) steps over the whole tensor, without a division, so zeros are no case.
    """
    total, product, reach = g, factor, 1
    while reach < g.shape[dim]:
        total = total + product * _shifted(F, total, dim, reach)
        product = product * _shifted(F, product, dim, reach)
        reach *= 2
    return total


def exclusive_cumprod(F: Any, x: Any, dim: int) -> Any:
    """For each element the product of those before it."""
    n = x.shape[dim]
    first = F.ones_like(F.slice(x, dim, 0, 1, 1))
    return F.cat([first, F.cumprod(F.slice(x, dim, 0, n - 1, 1), dim)], dim)


def _cumprod_slope(F: Any, g: Any, self: Any, dim: int, dtype: Any, result: Any) -> Any:
    if dtype is not None:
        self = F.to(self, dtype)
    if not self.shape or self.shape[dim] <= 1:
        return g
    if (self.data if isinstance(self, Tensor) else self).all():
        return reversed_cumsum(F, g * F.conj(result), dim) / F.conj(self)
    # What follows element i is a sum of products that begin after it.
    after = _recurrence(F, g, F.conj(_shifted(F, self, dim, 1)), dim)
    return F.conj(exclusive_cumprod(F, self, dim)) * after


general(
    "cumprod(Tensor self, int dim, *, ScalarType? dtype=None) -> Tensor",
    _running(np.multiply),
    _cumprod_slope,
    in_place=True,
)


def _logcumsumexp(self: np.ndarray, dim: int) -> np.ndarray:
    if self.dtype.kind not in "fc":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"logcumsumexp: needs a floating-point tensor, not {self.dtype}; convert it with to()",
            argument="self",
            dtype=self.dtype,
        )
    axis = dims.one(dim, self.ndim)
    if not self.ndim or not self.size:
        return self.copy()
    if self.dtype.kind == "f":
        return np.asarray(np.logaddexp.accumulate(self, axis))
    # NumPy's own is real and accumulates; this goes step by step.
    steps = np.moveaxis(self, axis, 0)
    out = np.empty_like(steps)
    out[0] = steps[0]
    for i in range(1, len(steps)):
        out[i] = logaddexp(out[i - 1], steps[i])
    return np.moveaxis(out, 0, axis)


def _logcumsumexp_slope(F: Any, g: Any, self: Any, dim: int, result: Any) -> Any:
    """The sum over j >= i of g[j] exp(x[i] - r[j]), of which no part can overflow."""
    if not self.shape or not self.shape[dim]:
        return g
    empty = result == -np.inf
    level = F.masked_fill(result, empty, 0.0)
    n = self.shape[dim]
    last = F.slice(level, dim, n - 1, n, 1)
    following = F.cat([F.slice(level, dim, 1, n, 1), last], dim)
    decay = F.masked_fill(F.exp(level - following), empty, 0.0)
    after = _recurrence(F, g, F.conj(decay), dim)
    return after * F.conj(F.exp(self - level))


general("logcumsumexp(Tensor self, int dim) -> Tensor", _logcumsumexp, _logcumsumexp_slope)


def _running_extreme(op: str, function: np.ufunc) -> Any:
    def kernel(self: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
        dims.require_order(self, op)
        axis = dims.one(dim, self.ndim)
        if not self.ndim:
            return self.copy(), np.zeros((), np.int64)
        values = np.asarray(function.accumulate(self, axis))
        # Of equal extremes the last one counts; NaN stays from where it is met.
        hit = (self == values) | (self != self)
        shape = [1] * self.ndim
        shape[axis] = -1
        places = np.where(hit, np.arange(self.shape[axis]).reshape(shape), 0)
        return values, np.maximum.accumulate(places, axis)

    return kernel


def _at_extremes(F: Any, g: Any, self_shape: Any, dim: int, indices: Any) -> Any:
    return F.scatter_add(F.zeros(self_shape, dtype=g.dtype), dim, indices, g)


for _name, _function in {"cummax": np.maximum, "cummin": np.minimum}.items():
    general(
        f"{_name}(Tensor self, int dim) -> (Tensor values, Tensor indices)",
        _running_extreme(_name, _function),
        _at_extremes,
    )
