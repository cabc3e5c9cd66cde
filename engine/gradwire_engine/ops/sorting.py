"""Order along a dimension: sort, topk, kthvalue, median, mode, and searching what is sorted."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.declare import composite, general, nondiff
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims
from gradwire_engine.tensor import Tensor


def _order(self: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    """The stable order of the elements; NaN counts as the largest."""
    if not descending:
        return np.argsort(self, axis, kind="stable")
    backwards = np.flip(self, axis)
    return np.flip(self.shape[axis] - 1 - np.argsort(backwards, axis, kind="stable"), axis)


def _sort(
    self: np.ndarray, dim: int = -1, descending: bool = False, stable: bool | None = None
) -> tuple[np.ndarray, np.ndarray]:
    dims.require_order(self, "sort")
    axis = dims.one(dim, self.ndim)
    if not self.ndim:
        return self.copy(), np.zeros((), np.int64)
    indices = _order(self, axis, descending)
    return np.take_along_axis(self, indices, axis), indices


def _put_back(F: Any, g: Any, self_shape: Any, dim: int, indices: Any) -> Any:
    """Each gradient to the element that came to its place; an index comes at most once."""
    return F.scatter(F.zeros(self_shape, dtype=g.dtype), dim, indices, g)


general(
    "sort(Tensor self, int dim=-1, bool descending=False, bool? stable=None) -> "
    "(Tensor values, Tensor indices)",
    _sort,
    _put_back,
    grad_fn=lambda self, dim, descending, stable: (
        "SortBackward0" if stable is None else "SortBackward1"
    ),
)
composite("msort(Tensor self) -> Tensor", lambda F, self: F.sort(self, 0)[0])
nondiff(
    "argsort(Tensor self, int dim=-1, bool descending=False, bool stable=False) -> Tensor",
    lambda self, dim=-1, descending=False, stable=False: _sort(self, dim, descending)[1],
)


def _require_rank(self: np.ndarray, k: int, axis: int, op: str, least: int) -> int:
    """The size of the dimension, of which k elements are to be had."""
    size = self.shape[axis] if self.ndim else 1
    if not least <= k <= size:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: k must be between {least} and {size}, the size of dimension {axis}, not {k}",
            argument="k",
            k=k,
            size=size,
        )
    return size


def _topk(
    self: np.ndarray, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    dims.require_order(self, "topk")
    axis = dims.one(dim, self.ndim)
    size = _require_rank(self, k, axis, "topk", 0)
    if not self.ndim:
        return self.copy(), np.zeros((), np.int64)
    if k == 0:
        none = self.take([], axis)
        return none, np.zeros(none.shape, np.int64)
    # Dividing at the k-th takes linear time, and only the k are sorted.
    bound = size - k if largest else k - 1
    parts = np.argpartition(self, bound, axis)
    chosen = np.take(parts, range(bound, size) if largest else range(k), axis)
    values = np.take_along_axis(self, chosen, axis)
    order = _order(values, axis, largest)
    return np.take_along_axis(values, order, axis), np.take_along_axis(chosen, order, axis)


general(
    "topk(Tensor self, int k, int dim=-1, bool largest=True, bool sorted=True) -> "
    "(Tensor values, Tensor indices)",
    _topk,
    _put_back,
)


def _picked(
    self: np.ndarray, indices: np.ndarray, axis: int, keepdim: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The elements at indices that have the dimension as 1, and the indices."""
    values = np.take_along_axis(self, indices, axis)
    return (values, indices) if keepdim else (values.squeeze(axis), indices.squeeze(axis))


def _put_one_back(F: Any, g: Any, self_shape: Any, dim: int, keepdim: bool, indices: Any) -> Any:
    if not self_shape:
        return g
    if not keepdim:
        g, indices = F.unsqueeze(g, dim), F.unsqueeze(indices, dim)
    return _put_back(F, g, self_shape, dim, indices)


def _require_elements(self: np.ndarray, axis: int, op: str) -> None:
    if self.ndim and not self.shape[axis]:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: dimension {axis} of shape {self.shape} has no elements to choose from",
            argument="self",
            shape=self.shape,
        )


def _kthvalue(
    self: np.ndarray, k: int, dim: int = -1, keepdim: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    dims.require_order(self, "kthvalue")
    axis = dims.one(dim, self.ndim)
    _require_rank(self, k, axis, "kthvalue", 1)
    if not self.ndim:
        return self.copy(), np.zeros((), np.int64)
    indices = np.take(np.argpartition(self, k - 1, axis), [k - 1], axis)
    return _picked(self, indices, axis, keepdim)


general(
    "kthvalue(Tensor self, int k, int dim=-1, bool keepdim=False) -> "
    "(Tensor values, Tensor indices)",
    _kthvalue,
    _put_one_back,
)


def _median(self: np.ndarray) -> Any:
    """Of an even number the lower of the two in the middle; NaN if there is one."""
    dims.require_order(self, "median")
    flat = self.reshape(-1)
    if not flat.size:
        return np.asarray(np.nan, self.dtype)
    nan = flat[flat != flat]
    return nan[0] if nan.size else np.partition(flat, (flat.size - 1) // 2)[(flat.size - 1) // 2]


def _nanmedian(self: np.ndarray) -> Any:
    flat = self.reshape(-1)
    kept = flat[flat == flat]
    return _median(kept if kept.size else flat[:1])


def _shared(F: Any, g: Any, self: Any, result: Any) -> Any:
    """Elements that are the result share its gradient evenly."""
    value = result.data if isinstance(result, Tensor) else result
    hit = F.isnan(self) if np.isnan(value) else self == result
    return F.where(hit, g / F.sum(hit), 0.0)


def _median_along(op: str, skip_nan: bool) -> Any:
    def kernel(self: np.ndarray, dim: int, keepdim: bool = False) -> tuple[Any, Any]:
        dims.require_order(self, op)
        axis = dims.one(dim, self.ndim)
        if not self.ndim:
            return self.copy(), np.zeros((), np.int64)
        _require_elements(self, axis, op)
        order = _order(self, axis, False)
        nans = np.count_nonzero(self != self, axis, keepdims=True)
        size = self.shape[axis]
        if skip_nan:
            place = np.maximum(size - nans - 1, 0) // 2
        else:
            # NaN comes last in the order: the first of them stands for all.
            place = np.where(nans > 0, size - nans, (size - 1) // 2)
        return _picked(self, np.take_along_axis(order, place, axis), axis, keepdim)

    return kernel


for _name, _function in {"median": _median, "nanmedian": _nanmedian}.items():
    general(f"{_name}(Tensor self) -> Tensor", _function, _shared)
    general(
        f"{_name}.dim(Tensor self, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)",
        _median_along(_name, _name == "nanmedian"),
        _put_one_back,
        grad_fn=f"{_name.capitalize()}Backward1",
    )


def _mode(self: np.ndarray, dim: int = -1, keepdim: bool = False) -> tuple[Any, Any]:
    dims.require_order(self, "mode")
    axis = dims.one(dim, self.ndim)
    if not self.ndim:
        return self.copy(), np.zeros((), np.int64)
    _require_elements(self, axis, "mode")
    order = np.moveaxis(_order(self, axis, False), axis, -1)
    ranked = np.take_along_axis(np.moveaxis(self, axis, -1), order, -1)
    # The length of the run of equal elements that ends at each place.
    places = np.arange(ranked.shape[-1])
    begins = np.ones(ranked.shape, np.bool_)
    begins[..., 1:] = ranked[..., 1:] != ranked[..., :-1]
    length = places - np.maximum.accumulate(np.where(begins, places, 0), -1)
    best = np.argmax(length, -1)[..., None]
    indices = np.moveaxis(np.take_along_axis(order, best, -1), -1, axis)
    return _picked(self, indices, axis, keepdim)


general(
    "mode(Tensor self, int dim=-1, bool keepdim=False) -> (Tensor values, Tensor indices)",
    _mode,
    _put_one_back,
)
