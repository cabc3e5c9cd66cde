"""Reductions: sums, means, extrema, products, spreads and norms over dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.declare import composite, general, linear, nondiff
from gradwire_engine.dtypes import FLOAT16
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import RAW
from gradwire_engine.ops import dims
from gradwire_engine.ops.cumulative import exclusive_cumprod
from gradwire_engine.tensor import Tensor

# NumPy types `keepdims` as a literal, which a variable is not.
_total: Callable[..., Any] = np.add.reduce
_product: Callable[..., Any] = np.multiply.reduce


_TINY = 256
"""So many elements take less time than a view of one."""


def _axes(dim: Sequence[int] | None, ndim: int) -> tuple[int, ...] | None:
    """All axes as None, which NumPy reduces fastest."""
    return dims.many(dim, ndim) if dim else None


def spread(F: Any, g: Any, shape: Sequence[int], dim: Sequence[int] | None) -> Any:
    """A gradient of a reduction, back over the reduced dimensions (as a view unless it is tiny)."""
    if not g.ndim:
        if F is RAW and math.prod(shape) <= _TINY:
            filled = np.empty(shape, g.dtype)
            filled.fill(g)
            return filled
        return F.expand(g, tuple(shape))
    return F.expand(F.reshape(g, dims.kept(shape, dim)), tuple(shape))


def with_dims(F: Any, reduced: Any, shape: Sequence[int], dim: Sequence[int] | None) -> Any:
    """A reduced tensor with its reduced dimensions as 1."""
    return F.reshape(reduced, dims.kept(shape, dim))


def sum_kernel(
    self: np.ndarray,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    dtype: np.dtype | None = None,
) -> Any:
    """The sum; of integers and bool as int64."""
    if dtype is None and self.dtype.kind in "bui":
        dtype = np.dtype(np.int64)
    return _added(self, dim, keepdim, dtype)


def _added(
    self: np.ndarray, dim: Sequence[int] | None, keepdim: bool, dtype: np.dtype | None = None
) -> Any:
    """The sum in the tensor's dtype or the one given."""
    axis = _axes(dim, self.ndim)
    if (dtype or self.dtype) is FLOAT16:
        # In halves a sum of ones would stop at 2048.
        total = _total(self, axis=axis, dtype=np.float32, keepdims=keepdim)
        return total.astype(np.float16)
    return _total(self, axis=axis, dtype=dtype, keepdims=keepdim)


linear(
    "sum(Tensor self, int[]? dim=None, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor",
    sum_kernel,
    lambda F, g, self_shape, dim: spread(F, g, self_shape, dim),
    grad_fn=lambda self, dim, keepdim, dtype: "SumBackward0" if dim is None else "SumBackward1",
)


def mean_kernel(
    self: np.ndarray,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    dtype: np.dtype | None = None,
) -> Any:
    """The mean, of floating-point and complex tensors."""
    kind = (dtype or self.dtype).kind
    if kind not in "fc":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"mean: the mean of {self.dtype} has no exact dtype; convert to a floating-point dtype "
            "or pass dtype=",
            argument="self",
            dtype=self.dtype,
        )
    if (dtype or self.dtype) == np.float16:
        return np.asarray(mean_kernel(self, dim, keepdim, np.dtype(np.float32))).astype(np.float16)
    total = _total(self, axis=_axes(dim, self.ndim), dtype=dtype, keepdims=keepdim)
    return total / dims.count(self.shape, dim) if self.size else total * np.nan


linear(
    "mean(Tensor self, int[]? dim=None, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor",
    mean_kernel,
    lambda F, g, self_shape, dim: spread(
        F, g / max(dims.count(self_shape, dim), 1), self_shape, dim
    ),
    grad_fn=lambda self, dim, keepdim, dtype: "MeanBackward0" if dim is None else "MeanBackward1",
)


def _require_elements(self: np.ndarray, op: str, dim: Sequence[int] | None = None) -> None:
    """Refuse to choose among no elements; empty results of other dimensions are no choice."""
    if self.size == 0 and (not dim or dims.count(self.shape, dim) == 0):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: a tensor of shape {self.shape} has no elements to choose from"
            f"{f' along dim={list(dim)}' if dim else ''}",
            op=op,
            shape=self.shape,
        )


def _extreme(op: str, function: np.ufunc) -> Any:
    def kernel(self: np.ndarray, dim: Sequence[int] | None = None, keepdim: bool = False) -> Any:
        dims.require_order(self, op)
        axes = _axes(dim, self.ndim)
        _require_elements(self, op, axes)
        return function.reduce(self, axis=axes, keepdims=keepdim)

    return kernel


def _evenly(F: Any, g: Any, self: Any, result: Any, dim: Any) -> Any:
    """Equal extremes share the gradient; where the extreme is NaN there is none to share."""
    shape = self.shape
    hit = self == with_dims(F, result, shape, dim)
    return F.where(hit, with_dims(F, g, shape, dim), 0.0) / F.sum(hit, dim, True)


def _evenly_overall(F: Any, g: Any, self: Any, result: Any) -> Any:
    """The same; of NaN as the extreme, to all that are NaN."""
    if not np.isnan(result.data if isinstance(result, Tensor) else result):
        return _evenly(F, g, self, result, None)
    hit = F.isnan(self)
    return F.where(hit, g / F.sum(hit), 0.0)


for _name, _function in {"amax": np.maximum, "amin": np.minimum}.items():
    general(
        f"{_name}(Tensor self, int[] dim=[], bool keepdim=False) -> Tensor",
        _extreme(_name, _function),
        _evenly,
    )

for _name, _function in {"max": np.maximum, "min": np.minimum}.items():
    _kernel = _extreme(_name, _function)
    general(
        f"{_name}(Tensor self) -> Tensor",
        _kernel,
        _evenly_overall,
        grad_fn=f"{_name.capitalize()}Backward1",
    )


def _select_extreme(op: str, choose: Any) -> Any:
    def kernel(self: np.ndarray, dim: int, keepdim: bool = False) -> tuple[Any, Any]:
        dims.require_order(self, op)
        axis = dims.one(dim, self.ndim)
        if self.ndim == 0:
            return self.copy(), np.int64(0)
        _require_elements(self, op, (axis,))
        indices = choose(self, axis=axis, keepdims=True)
        values = np.take_along_axis(self, indices, axis)
        if keepdim:
            return values, indices
        return values.squeeze(axis), indices.squeeze(axis)

    return kernel


def _at_indices(F: Any, g: Any, self_shape: Any, dim: int, keepdim: bool, indices: Any) -> Any:
    """One index takes the gradient."""
    if not self_shape:
        return g
    if not keepdim:
        g, indices = F.unsqueeze(g, dim), F.unsqueeze(indices, dim)
    return F.scatter_add(F.zeros(self_shape, dtype=g.dtype), dim, indices, g)


_CHOOSERS: dict[str, Callable[..., Any]] = {"max": np.argmax, "min": np.argmin}

for _name, _choose in _CHOOSERS.items():
    general(
        f"{_name}.dim(Tensor self, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)",
        _select_extreme(_name, _choose),
        _at_indices,
        grad_fn=f"{_name.capitalize()}Backward0",
    )


def _arg_extreme(op: str, choose: Any) -> Any:
    def kernel(self: np.ndarray, dim: int | None = None, keepdim: bool = False) -> Any:
        if self.dtype.kind in "bc":
            raise EngineError(
                "DTYPE_MISMATCH",
                f"{op}: {self.dtype} elements have no order to choose by; convert with to()",
                argument="self",
                dtype=self.dtype,
            )
        axis = None if dim is None else dims.one(dim, self.ndim)
        _require_elements(self, op, None if axis is None else (axis,))
        if self.ndim == 0:
            return np.int64(0)
        return choose(self, axis=axis, keepdims=keepdim)

    return kernel


for _name, _choose in _CHOOSERS.items():
    nondiff(
        f"arg{_name}(Tensor self, int? dim=None, bool keepdim=False) -> Tensor",
        _arg_extreme(f"arg{_name}", _choose),
    )


def _logical(function: Any) -> Any:
    def kernel(self: np.ndarray, dim: Sequence[int] | None = None, keepdim: bool = False) -> Any:
        found = function(self, axis=_axes(dim, self.ndim), keepdims=keepdim)
        # PyTorch's answer for bytes is a byte, from before it had bool.
        return found.astype(np.uint8) if self.dtype == np.uint8 else found

    return kernel


nondiff("all(Tensor self, int[]? dim=None, bool keepdim=False) -> Tensor", _logical(np.all))
nondiff("any(Tensor self, int[]? dim=None, bool keepdim=False) -> Tensor", _logical(np.any))


def _prod(
    self: np.ndarray,
    dim: int | None = None,
    keepdim: bool = False,
    dtype: np.dtype | None = None,
) -> Any:
    if dtype is None and self.dtype.kind in "bui":
        dtype = np.dtype(np.int64)
    axis = None if dim is None or self.ndim == 0 else dims.one(dim, self.ndim)
    return _product(self, axis=axis, dtype=dtype, keepdims=keepdim)


def _product_of_others(F: Any, g: Any, self: Any, result: Any, dim: int | None) -> Any:
    """Each element's derivative is the product of the others; division would fail at zeros."""
    shape = self.shape
    over = None if dim is None else (dim,)
    gradient = with_dims(F, g, shape, over)
    if (self.data if isinstance(self, Tensor) else self).all():
        return gradient * F.conj(with_dims(F, result, shape, over) / self)
    if not shape:
        return g * F.conj(F.ones_like(self))
    if dim is None:
        line = F.reshape(self, (-1,))
        return g * F.conj(F.reshape(_others(F, line), shape))
    line = F.transpose(self, dim, -1)
    return gradient * F.conj(F.transpose(_others(F, line), dim, -1))


def _others(F: Any, line: Any) -> Any:
    """For each element along the last dimension the product of the others."""
    if line.shape[-1] == 0:
        return line
    before = exclusive_cumprod(F, line, -1)
    after = F.flip(exclusive_cumprod(F, F.flip(line, (-1,)), -1), (-1,))
    return before * after


general(
    "prod(Tensor self, int? dim=None, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor",
    _prod,
    _product_of_others,
    grad_fn=lambda self, dim, keepdim, dtype: "ProdBackward0" if dim is None else "ProdBackward1",
)


def _require_float(self: np.ndarray, op: str) -> None:
    if self.dtype.kind not in "fc":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: needs a floating-point tensor, not {self.dtype}; convert it with to()",
            argument="self",
            dtype=self.dtype,
        )


def var_kernel(
    self: np.ndarray,
    dim: Sequence[int] | None = None,
    correction: Any = None,
    keepdim: bool = False,
) -> Any:
    """The variance: divided by the count minus `correction`, which is 1 if not given."""
    _require_float(self, "var")
    if self.dtype == np.float16:
        wide = var_kernel(self.astype(np.float32), dim, correction, keepdim)
        return np.asarray(wide).astype(np.float16)
    over = _axes(dim, self.ndim)
    n = dims.count(self.shape, dim)
    centred = self - _total(self, axis=over, keepdims=True) / max(n, 1)
    squares = centred * centred if self.dtype.kind == "f" else (centred * centred.conj()).real
    total = _total(squares, axis=over, keepdims=keepdim)
    freedom = _freedom(n, correction)
    return total / freedom if freedom else total * np.nan


def _freedom(n: int, correction: Any) -> Any:
    """What a sum of squares is divided by; no correction given is a correction of 1."""
    return max(n - (1 if correction is None else correction), 0)


def var_slope(F: Any, g: Any, self: Any, dim: Any, correction: Any) -> Any:
    """The rule of the variance."""
    n = dims.count(self.shape, dim)
    freedom = _freedom(n, correction)
    factor = 2.0 / freedom if freedom else np.nan
    return with_dims(F, g, self.shape, dim) * factor * (self - F.mean(self, dim, True))


general(
    "var(Tensor self, int[]? dim=None, *, Scalar? correction=None, bool keepdim=False) -> Tensor",
    var_kernel,
    var_slope,
)


def std_kernel(
    self: np.ndarray,
    dim: Sequence[int] | None = None,
    correction: Any = None,
    keepdim: bool = False,
) -> Any:
    """The square root of the variance."""
    return np.sqrt(var_kernel(self, dim, correction, keepdim))


general(
    "std(Tensor self, int[]? dim=None, *, Scalar? correction=None, bool keepdim=False) -> Tensor",
    std_kernel,
    lambda F, g, self, dim, correction, result: var_slope(
        F, F.where(result == 0, 0.0, g / (2 * result)), self, dim, correction
    ),
)


def _logsumexp(self: np.ndarray, dim: Sequence[int], keepdim: bool = False) -> Any:
    axis = _axes(dim, self.ndim)
    if self.dtype.kind not in "fc":
        self = self.astype(current.context.default_dtype)
    if self.size == 0:
        return np.log(_total(np.exp(self), axis=axis, keepdims=keepdim))
    top = np.maximum.reduce(self.real, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0).astype(top.dtype)
    total = np.log(_total(np.exp(self - top), axis=axis, keepdims=True)) + top
    return total if keepdim else total.squeeze(dims.many(dim, self.ndim))


general(
    "logsumexp(Tensor self, int[] dim, bool keepdim=False) -> Tensor",
    _logsumexp,
    lambda F, g, self, dim, result: (
        with_dims(F, g, self.shape, dim)
        * F.conj(F.exp(self - with_dims(F, result, self.shape, dim)))
    ),
    places=("torch", "Tensor", "special"),
)


def vector_norm(
    self: np.ndarray,
    ord: Any = 2,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    dtype: np.dtype | None = None,
) -> Any:
    """The kernel of `linalg.vector_norm`."""
    _require_float(self, "linalg.vector_norm")
    if isinstance(ord, complex):
        raise EngineError("BAD_VALUE", f"a norm's order must be real, not {ord}", argument="ord")
    axis = _axes(dim, self.ndim)
    size = np.abs(self if dtype is None else self.astype(dtype))
    if size.dtype == np.float16:
        # Powers of halves overflow where the norm does not.
        wide = vector_norm(size.astype(np.float32), ord, dim, keepdim)
        return np.asarray(wide).astype(np.float16)
    if ord == 0:
        return _total(size != 0, axis=axis, keepdims=keepdim, dtype=size.dtype)
    if ord == 1:
        return _total(size, axis=axis, keepdims=keepdim)
    if ord == 2:
        return np.sqrt(_total(size * size, axis=axis, keepdims=keepdim))
    if np.isinf(ord):
        _require_elements(self, "linalg.vector_norm", axis)
        function: Any = np.maximum if ord > 0 else np.minimum
        return function.reduce(size, axis=axis, keepdims=keepdim)
    return _total(size**ord, axis=axis, keepdims=keepdim) ** (1 / ord)


def norm_slope(F: Any, g: Any, self: Any, ord: Any, dim: Any, result: Any) -> Any:
    """The subgradient at 0 is 0, as in PyTorch. Counting the elements has none at all."""
    if ord == 0:
        return None
    shape = self.shape
    g, norm = with_dims(F, g, shape, dim), with_dims(F, result, shape, dim)
    if ord == 1:
        return g * F.sgn(self)
    if ord == 2:
        return F.where(norm == 0, 0.0, g * (self / F.where(norm == 0, 1.0, norm)))
    size = F.abs(self)
    if np.isinf(ord):
        hit = size == norm
        return g * F.sgn(self) * hit / F.sum(hit, dim, True)
    if ord < 1:
        slope = F.where(size == 0, 0.0, F.pow(F.where(size == 0, 1.0, size), ord - 1))
    else:
        slope = F.pow(size, ord - 1)
    scale = F.where(norm == 0, 0.0, g / F.pow(F.where(norm == 0, 1.0, norm), ord - 1))
    return F.sgn(self) * slope * scale


general(
    "linalg.vector_norm(Tensor self, Scalar ord=2, int[]? dim=None, bool keepdim=False, *, "
    "ScalarType? dtype=None) -> Tensor",
    vector_norm,
    norm_slope,
    grad_fn="LinalgVectorNormBackward0",
    places=("linalg",),
)
composite(
    "norm(Tensor self, Scalar p=2, int[]? dim=None, bool keepdim=False) -> Tensor",
    lambda F, self, p, dim, keepdim: F.linalg__vector_norm(self, p, dim, keepdim),
)
