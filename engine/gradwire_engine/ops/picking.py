"""Elements picked by a mask or by their place in the flattened tensor: masked_select, take, put."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwire_engine.declare import composite, linear
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims
from gradwire_engine.ops.accumulation import add_at
from gradwire_engine.ops.index_checks import require_index, require_same_dtype


def _broadcast_shape(self: np.ndarray, mask: np.ndarray, *rest: Any) -> tuple[int, ...]:
    return np.broadcast_shapes(self.shape, mask.shape)


def _require_mask(mask: np.ndarray, op: str) -> None:
    if mask.dtype.kind != "b":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: mask must be a bool tensor, not {mask.dtype}; compare first, for example x > 0",
            argument="mask",
            dtype=mask.dtype,
        )


def _masked_select(self: np.ndarray, mask: np.ndarray) -> np.ndarray:
    _require_mask(mask, "masked_select")
    shape = np.broadcast_shapes(self.shape, mask.shape)
    return np.asarray(np.broadcast_to(self, shape)[np.broadcast_to(mask, shape)])


linear(
    "masked_select(Tensor self, Tensor mask) -> Tensor",
    _masked_select,
    {
        "self": lambda F, g, self_shape, mask: F.masked_scatter(
            F.zeros(np.broadcast_shapes(self_shape, mask.shape), dtype=g.dtype), mask, g
        )
    },
    shape=_broadcast_shape,
)


def _masked_scatter(self: np.ndarray, mask: np.ndarray, source: np.ndarray) -> np.ndarray:
    _require_mask(mask, "masked_scatter")
    require_same_dtype(self, source, "masked_scatter", "source")
    shape = np.broadcast_shapes(self.shape, mask.shape)
    out = np.array(np.broadcast_to(self, shape), order="C")
    mask = np.broadcast_to(mask, shape)
    count = int(np.count_nonzero(mask))
    if count > source.size:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"masked_scatter: the mask takes {count} elements, and source has {source.size}",
            argument="source",
            count=count,
            elements=source.size,
        )
    out[mask] = source.reshape(-1)[:count]
    return out


def _masked_source(F: Any, g: Any, mask: Any, source_shape: tuple[int, ...]) -> Any:
    picked = F.masked_select(g, mask)
    elements, count = math.prod(source_shape), picked.shape[0]
    if count < elements:
        picked = F.slice_backward(picked, (elements,), 0, 0, count, 1)
    return F.reshape(picked, source_shape)


linear(
    "masked_scatter(Tensor self, Tensor mask, Tensor source) -> Tensor",
    _masked_scatter,
    {"self": lambda F, g, mask: F.masked_fill(g, mask, 0), "source": _masked_source},
    shape=_broadcast_shape,
    in_place=True,
)


def _places(self: np.ndarray, index: np.ndarray, op: str) -> np.ndarray:
    """Indices into the flattened tensor, counted from the front."""
    require_index(index, op)
    size = self.size
    if index.size and (int(index.min()) < -size or int(index.max()) >= size):
        wrong = int(index.max()) if int(index.max()) >= size else int(index.min())
        raise EngineError(
            "INDEX_OUT_OF_RANGE",
            f"{op}: index {wrong} is out of range for a tensor of {size} elements",
            argument="index",
            index=wrong,
            size=size,
        )
    return np.where(index < 0, index + size, index)


def _put(
    self: np.ndarray, index: np.ndarray, source: np.ndarray, accumulate: bool = False
) -> np.ndarray:
    places = _places(self, index, "put")
    require_same_dtype(self, source, "put", "source")
    if source.size != index.size:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"put: {source.size} elements of source for {index.size} indices",
            argument="source",
            shape=source.shape,
            index_shape=index.shape,
        )
    out = np.array(self, order="C")
    flat = out.reshape(-1)
    if accumulate:
        add_at(flat, (places.reshape(-1),), source.reshape(-1))
    else:
        flat[places.reshape(-1)] = source.reshape(-1)
    return out


def _kept_by_put(F: Any, g: Any, index: Any, accumulate: bool) -> Any:
    return g if accumulate else F.put(g, index, F.zeros(index.shape, dtype=g.dtype), False)


linear(
    "take(Tensor self, Tensor index) -> Tensor",
    lambda self, index: self.reshape(-1)[_places(self, index, "take")],
    {
        "self": lambda F, g, self_shape, index: F.put(
            F.zeros(self_shape, dtype=g.dtype), index, g, True
        )
    },
    shape=lambda self, index: index.shape,
)
linear(
    "put(Tensor self, Tensor index, Tensor source, bool accumulate=False) -> Tensor",
    _put,
    {
        "self": _kept_by_put,
        "source": lambda F, g, index, source_shape: F.reshape(F.take(g, index), source_shape),
    },
    in_place=True,
)


def _take_along_dim(F: Any, self: Any, indices: Any, dim: int | None) -> Any:
    if dim is None:
        return F.gather(F.reshape(self, (-1,)), 0, F.reshape(indices, (-1,)))
    if len(self.shape) != len(indices.shape):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"take_along_dim: the tensor has shape {self.shape} and the indices {indices.shape}; "
            "they must have the same number of dimensions",
            argument="indices",
            shape=self.shape,
            index_shape=indices.shape,
        )
    axis = dims.one(dim, len(self.shape))

    def along(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
        return (*shape[:axis], size, *shape[axis + 1 :])

    try:
        common = np.broadcast_shapes(along(self.shape, 1), along(indices.shape, 1))
    except ValueError:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"take_along_dim: the tensor has shape {self.shape} and the indices {indices.shape}; "
            f"but for dimension {axis} they must broadcast",
            argument="indices",
            shape=self.shape,
            index_shape=indices.shape,
        ) from None
    size = self.shape[axis]
    indices = F.where(indices < 0, indices + size, indices)
    return F.gather(
        F.expand(self, along(common, size)),
        axis,
        F.expand(indices, along(common, indices.shape[axis])),
    )


composite("take_along_dim(Tensor self, Tensor indices, int? dim=None) -> Tensor", _take_along_dim)
