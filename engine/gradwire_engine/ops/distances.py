"""Distances: of two tensors, of all pairs of rows; and slices brought to a length."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwire_engine.declare import composite, general
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims
from gradwire_engine.ops.matrices import batches
from gradwire_engine.ops.reductions import norm_slope, vector_norm

_FLOATS = ("float32", "float64")


def _dist_slope(F: Any, g: Any, self: Any, other: Any, p: Any, result: Any) -> Any:
    slope = norm_slope(F, g, self - other, p, None, result)
    return F.zeros_like(self - other) if slope is None else slope


def _by_other(F: Any, g: Any, self: Any, other: Any, p: Any, result: Any) -> Any:
    return -_dist_slope(F, g, self, other, p, result)


general(
    "dist(Tensor self, Tensor other, Scalar p=2) -> Tensor",
    lambda self, other, p=2: vector_norm(self - other, p),
    {"self": _dist_slope, "other": _by_other},
    promotion="promote",
    numbers=(),
)


def _require_rows(op: str, p: float, *given: Any) -> None:
    for each in given:
        if len(each.shape) < 2:
            raise EngineError(
                "SHAPE_MISMATCH",
                f"{op}: needs rows, of shape (..., n, d), not shape {tuple(each.shape)}",
                argument="self",
                shape=tuple(each.shape),
            )
    names = [each.dtype.name for each in given]
    if any(name not in _FLOATS for name in names) or len(set(names)) > 1:
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: needs float32 or float64 tensors, of one dtype, not {' and '.join(names)}",
            argument="self",
        )
    if not p >= 0:
        raise EngineError("BAD_VALUE", f"{op}: p must not be negative, not {p}", argument="p", p=p)


def _pairs_shape(x1: Any, x2: Any, *rest: Any) -> tuple[int, ...]:
    """Of the differences, which are more than the distances."""
    return (*batches(x1, x2), x1.shape[-2], x2.shape[-2], x1.shape[-1])


def _pairs_work(*args: Any) -> int:
    return 4 * math.prod(_pairs_shape(*args)) + 1


def _pairs(x1: np.ndarray, x2: np.ndarray, p: float) -> Any:
    return vector_norm(x1[..., :, None, :] - x2[..., None, :, :], p, (-1,))


def _pairs_slope(
    F: Any, gs: Any, needs: Any, x1: Any, x2: Any, p: float, result: Any
) -> tuple[Any, Any]:
    if p == 0:
        return F.zeros_like(x1), F.zeros_like(x2)
    apart = F.unsqueeze(x1, -2) - F.unsqueeze(x2, -3)
    slope = norm_slope(F, gs[0], apart, p, (len(apart.shape) - 1,), result)
    return (
        F.sum(slope, (-2,)) if needs[0] else None,
        -F.sum(slope, (-3,)) if needs[1] else None,
    )


general(
    "_cdist_rows(Tensor x1, Tensor x2, float p) -> Tensor",
    _pairs,
    {"x1 x2": _pairs_slope},
    grad_fn="CdistBackward0",
    shape=_pairs_shape,
    flops=_pairs_work,
    places=(),
)


def _squares(x: np.ndarray) -> Any:
    return np.add.reduce(x * x, axis=-1, keepdims=True)


def _euclidean(x1: np.ndarray, x2: np.ndarray) -> Any:
    """By one product: |x - y|² = |x|² - 2xy + |y|²."""
    one1, one2 = np.ones_like(x1[..., :1]), np.ones_like(x2[..., :1])
    left = np.concatenate((-2 * x1, _squares(x1), one1), -1)
    right = np.concatenate((x2, one2, _squares(x2)), -1)
    return np.sqrt(np.maximum(np.matmul(left, right.swapaxes(-2, -1)), 0))


def _euclidean_slope(F: Any, gs: Any, needs: Any, x1: Any, x2: Any, result: Any) -> tuple[Any, Any]:
    share = F.where(result == 0, 0.0, gs[0] / F.where(result == 0, 1.0, result))
    turned = F.transpose(share, -2, -1)
    return (
        x1 * F.sum(share, (-1,), True) - F.matmul(share, x2) if needs[0] else None,
        x2 * F.sum(turned, (-1,), True) - F.matmul(turned, x1) if needs[1] else None,
    )


general(
    "_euclidean_dist(Tensor x1, Tensor x2) -> Tensor",
    _euclidean,
    {"x1 x2": _euclidean_slope},
    shape=lambda x1, x2: (*batches(x1, x2), x1.shape[-2], x2.shape[-2]),
    flops=_pairs_work,
    places=(),
)

_NEVER = "donot_use_mm_for_euclid_dist"
_ALWAYS = "use_mm_for_euclid_dist"
_IF_MANY = "use_mm_for_euclid_dist_if_necessary"
_MANY_ROWS = 25


def _cdist(F: Any, x1: Any, x2: Any, p: float, compute_mode: str) -> Any:
    _require_rows("cdist", p, x1, x2)
    if x1.shape[-1] != x2.shape[-1]:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"cdist: rows of {x1.shape[-1]} and of {x2.shape[-1]} elements have no distance",
            argument="x2",
            shapes=f"{x1.shape} and {x2.shape}",
        )
    if compute_mode not in (_NEVER, _ALWAYS, _IF_MANY):
        raise EngineError(
            "BAD_VALUE",
            f"cdist: compute_mode must be '{_IF_MANY}', '{_ALWAYS}' or '{_NEVER}', not "
            f"{compute_mode!r}",
            argument="compute_mode",
        )
    rows1, rows2, width = x1.shape[-2], x2.shape[-2], x1.shape[-1]
    many = compute_mode == _ALWAYS or (compute_mode == _IF_MANY and max(rows1, rows2) > _MANY_ROWS)
    batch = batches(x1, x2)
    count = math.prod(batch)
    if p != 2 or not many or 0 in (rows1, rows2, width, count):
        return F._cdist_rows(x1, x2, p)
    if count == 1:
        made = F._euclidean_dist(x1, x2)
    else:
        one, other = (
            F.reshape(F.expand(each, (*batch, *each.shape[-2:])), (count, *each.shape[-2:]))
            for each in (x1, x2)
        )
        made = F._euclidean_dist(one, other)
    return F.view(made, (*batch, rows1, rows2))


composite(
    f'cdist(Tensor x1, Tensor x2, float p=2.0, str compute_mode="{_IF_MANY}") -> Tensor',
    _cdist,
    places=("torch",),
)


def _pdist_shape(self: np.ndarray, p: float = 2.0) -> tuple[int, ...]:
    if self.ndim != 2:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"pdist: needs rows, of shape (n, d), not shape {self.shape}",
            argument="self",
            shape=self.shape,
        )
    _require_rows("pdist", p, self)
    count = len(self)
    return (count * (count - 1) // 2, self.shape[1])


def _pdist(self: np.ndarray, p: float = 2.0) -> Any:
    one, other = np.triu_indices(len(self), 1)
    return vector_norm(self[one] - self[other], p, (-1,))


def _pdist_slope(F: Any, g: Any, self: Any, p: float, result: Any) -> Any:
    if p == 0:
        return F.zeros_like(self)
    at = F.triu_indices(self.shape[0], self.shape[0], 1)
    one, other = F.select(at, 0, 0), F.select(at, 0, 1)
    apart = F.index_select(self, 0, one) - F.index_select(self, 0, other)
    slope = norm_slope(F, g, apart, p, (1,), result)
    return F.index_add(F.index_add(F.zeros_like(self), 0, one, slope), 0, other, -slope)


general(
    "pdist(Tensor self, float p=2.0) -> Tensor",
    _pdist,
    _pdist_slope,
    shape=_pdist_shape,
    flops=lambda self, p: 4 * (math.prod(self.shape[:1]) + 1) * math.prod(self.shape) + 1,
    places=("torch", "nn.functional"),
)

# What torch adds to a norm before it divides by it.
_TINY = 1e-7


def _others(ndim: int, dim: int) -> tuple[int, ...]:
    axis = dims.one(dim, ndim)
    return tuple(each for each in range(ndim) if each != axis)


def _renorm(self: np.ndarray, p: Any, dim: int, maxnorm: Any) -> Any:
    if self.ndim < 2:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"renorm: needs at least 2 dimensions, not shape {self.shape}",
            argument="self",
            shape=self.shape,
        )
    if isinstance(p, complex) or isinstance(maxnorm, complex) or not (p > 0 and maxnorm >= 0):
        raise EngineError(
            "BAD_VALUE",
            f"renorm: p must be positive and maxnorm not negative, not {p} and {maxnorm}",
            argument="p",
        )
    norm = vector_norm(self, p, _others(self.ndim, dim), True)
    return self * np.where(norm > maxnorm, maxnorm / (norm + _TINY), 1).astype(norm.dtype)


def _renorm_slope(F: Any, g: Any, self: Any, p: Any, dim: int, maxnorm: Any) -> Any:
    others = _others(len(self.shape), dim)
    norm = F.linalg__vector_norm(self, p, others, True)
    inverse = 1 / (norm + _TINY)
    shrunk = norm > maxnorm
    along = g * F.conj(self)
    if along.dtype.kind == "c":
        along = F.real(along)
    by_norm = F.sum(along, others, True) * (-maxnorm * inverse * inverse)
    pulled = g * inverse * maxnorm + norm_slope(F, by_norm, self, p, others, norm)
    return F.where(shrunk, pulled, g)


general(
    "renorm(Tensor self, Scalar p, int dim, Scalar maxnorm) -> Tensor",
    _renorm,
    _renorm_slope,
    in_place=True,
)
