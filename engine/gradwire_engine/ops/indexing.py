"""Reading and writing by index: gather, scatter, indexing by tensors, embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from gradwire_engine.declare import linear, nondiff
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims

# Below this many rows the sparse product's set-up costs more than it saves.
_SPARSE_ROWS = 64


def _require_index(index: np.ndarray, op: str) -> None:
    if index.dtype.kind not in "iu":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: index must be an integer tensor, not {index.dtype}",
            argument="index",
            dtype=index.dtype,
        )


def _require_in_range(index: np.ndarray, size: int, op: str, argument: str = "index") -> None:
    if index.size and (int(index.min()) < 0 or int(index.max()) >= size):
        wrong = next(int(each) for each in index.flat if not 0 <= each < size)
        raise EngineError(
            "INDEX_OUT_OF_RANGE",
            f"{op}: index {wrong} is out of range for size {size}",
            argument=argument,
            index=wrong,
            size=size,
        )


def _grid(index: np.ndarray, axis: int) -> tuple[Any, ...]:
    """The open grid that reads or writes element (i, j, ...) at index along `axis`."""
    grid: list[Any] = list(np.ogrid[tuple(slice(size) for size in index.shape)])
    grid[axis] = index
    return tuple(grid)


def _check_gather(self: np.ndarray, dim: int, index: np.ndarray, op: str) -> int:
    _require_index(index, op)
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
            "apart "
            f"from dimension {dim} no size may be larger",
            argument="index",
            shape=self.shape,
            index_shape=index.shape,
        )
    _require_in_range(index, self.shape[axis] if self.ndim else 1, op)
    return axis


def _gather(self: np.ndarray, dim: int, index: np.ndarray) -> np.ndarray:
    axis = _check_gather(self, dim, index, "gather")
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
)


def _scatter_add(self: np.ndarray, dim: int, index: np.ndarray, src: np.ndarray) -> np.ndarray:
    axis = _check_gather(self, dim, index, "scatter_add")
    if self.dtype != src.dtype:
        raise EngineError(
            "DTYPE_MISMATCH",
            f"scatter_add: src is {src.dtype} and the tensor {self.dtype}; convert with to()",
            argument="src",
            dtypes=f"{self.dtype}, {src.dtype}",
        )
    out = self.copy()
    if index.size == 0:
        return out
    if (src.ndim or 1) != (index.ndim or 1) or any(
        a > b for a, b in zip(index.shape, src.shape, strict=False)
    ):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"scatter_add: src of shape {src.shape} is smaller than index of shape {index.shape}",
            argument="src",
            shape=src.shape,
            index_shape=index.shape,
        )
    if not index.ndim:
        index = index.reshape(1)
    part = src.reshape(src.shape or (1,))[tuple(slice(size) for size in index.shape)]
    np.add.at(out.reshape(self.shape or (1,)), _grid(index, axis), part)
    return out


linear(
    "scatter_add(Tensor self, int dim, Tensor index, Tensor src) -> Tensor",
    _scatter_add,
    {
        "self": lambda F, g: g,
        "src": lambda F, g, dim, index: F.gather(g, dim, index),
    },
    in_place=True,
)


def _key(self: np.ndarray, indices: Sequence[np.ndarray | None], op: str) -> tuple[Any, ...]:
    """The NumPy index that stands for a list of index tensors; None takes a whole dimension."""
    key: list[Any] = []
    taken = 0
    for position, index in enumerate(indices):
        if index is None:
            key.append(slice(None))
            taken += 1
            continue
        if index.dtype.kind == "b":
            if index.shape != self.shape[taken : taken + index.ndim]:
                raise EngineError(
                    "SHAPE_MISMATCH",
                    f"{op}: mask {position} of shape {index.shape} does not fit "
                    f"dimensions {taken} to "
                    f"{taken + index.ndim - 1} of shape {self.shape}",
                    argument="indices",
                    shape=self.shape,
                    mask_shape=index.shape,
                )
            key.extend(index.nonzero())
            taken += index.ndim
            continue
        _require_index(index, op)
        if taken >= self.ndim:
            raise EngineError(
                "INDEX_OUT_OF_RANGE",
                f"{op}: {len(indices)} indices for a tensor of {self.ndim} dimensions",
                argument="indices",
            )
        size = self.shape[taken]
        if index.size and (int(index.min()) < -size or int(index.max()) >= size):
            wrong = int(index.max()) if int(index.max()) >= size else int(index.min())
            raise EngineError(
                "INDEX_OUT_OF_RANGE",
                f"{op}: index {wrong} is out of range for dimension {taken} of size {size}",
                argument="indices",
                size=size,
            )
        key.append(index)
        taken += 1
    return tuple(key)


def _index_shape(self: np.ndarray, indices: Sequence[np.ndarray | None]) -> tuple[int, ...]:
    """The shape of `self[indices]`, found without reading it."""
    probe = np.broadcast_to(np.empty((), np.bool_), self.shape)
    key = _key(self, indices, "index")
    drawn = [each for each in key if isinstance(each, np.ndarray)]
    try:
        points = np.broadcast_shapes(*(each.shape for each in drawn))
    except ValueError:
        text = ", ".join(str(each.shape) for each in drawn)
        raise EngineError(
            "SHAPE_MISMATCH",
            f"index: index tensors of shapes {text} do not broadcast",
            argument="indices",
            shapes=text,
        ) from None
    positions = [i for i, each in enumerate(key) if isinstance(each, np.ndarray)]
    rest = [size for i, size in enumerate(probe.shape) if i not in positions]
    if positions and positions[-1] - positions[0] == len(positions) - 1:
        return (*rest[: positions[0]], *points, *rest[positions[0] :])
    return (*points, *rest)


def _index(self: np.ndarray, indices: Sequence[np.ndarray | None]) -> np.ndarray:
    return np.asarray(self[_key(self, indices, "index")])


linear(
    "index(Tensor self, Tensor?[] indices) -> Tensor",
    _index,
    {
        "self": lambda F, g, self_shape, indices: F.index_put(
            F.zeros(self_shape, dtype=g.dtype), indices, g, True
        )
    },
    shape=_index_shape,
    places=(),
)


def _index_put(
    self: np.ndarray,
    indices: Sequence[np.ndarray | None],
    values: Any,
    accumulate: bool = False,
) -> np.ndarray:
    if isinstance(values, np.ndarray) and values.dtype != self.dtype:
        _require_mask_and_scalar(self, indices, values)
    out = self.copy()
    key = _key(self, indices, "index_put")
    if accumulate:
        np.add.at(out, key, values)
    else:
        out[key] = values
    return out


def _require_mask_and_scalar(
    self: np.ndarray, indices: Sequence[np.ndarray | None], values: np.ndarray
) -> None:
    """Refuse values of another dtype, but for a 0-d one where masks say."""
    if values.ndim or any(each is not None and each.dtype.kind != "b" for each in indices):
        raise EngineError(
            "DTYPE_MISMATCH",
            f"index_put: the values are {values.dtype} and the tensor {self.dtype}; they must have "
            "the same dtype, convert with to()",
            argument="values",
            dtypes=f"{self.dtype}, {values.dtype}",
        )


def _kept_by_index_put(F: Any, g: Any, indices: Any, accumulate: bool) -> Any:
    if accumulate:
        return g
    return F.index_put(g, indices, F.zeros((), dtype=g.dtype), False)


linear(
    "index_put(Tensor self, Tensor?[] indices, Tensor values, bool accumulate=False) -> Tensor",
    _index_put,
    {
        "self": _kept_by_index_put,
        "values": lambda F, g, indices: F.index(g, indices),
    },
    numbers=("values",),
    in_place=True,
)


def _embedding(weight: np.ndarray, indices: np.ndarray, padding_idx: int = -1) -> np.ndarray:
    if weight.ndim != 2:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"embedding: weight must have shape (rows, features), not {weight.shape}",
            argument="weight",
            shape=weight.shape,
        )
    _require_index(indices, "embedding")
    _require_in_range(indices, weight.shape[0], "embedding", "indices")
    return np.asarray(weight[indices])


def _embedding_shape(weight: np.ndarray, indices: np.ndarray, *rest: Any) -> tuple[int, ...]:
    return (*indices.shape, *weight.shape[1:])


def _embedding_backward(
    grad: np.ndarray, indices: np.ndarray, num_weights: int, padding_idx: int
) -> np.ndarray:
    """Sum rows by index: a sparse transposed product, many times faster than np.add.at."""
    features = grad.shape[-1]
    flat = indices.reshape(-1)
    rows = grad.reshape(len(flat), features)
    if padding_idx >= 0:
        kept = flat != padding_idx
        rows, flat = rows[kept], flat[kept]
    if len(flat) < _SPARSE_ROWS or rows.dtype.kind == "c":
        out = np.zeros((num_weights, features), grad.dtype)
        np.add.at(out, flat, rows)
        return out
    ones = np.ones(len(flat), rows.dtype)
    choose = sparse.csr_array(
        (ones, flat, np.arange(len(flat) + 1)), shape=(len(flat), num_weights)
    )
    return np.asarray(choose.T @ rows)


linear(
    "embedding(Tensor weight, Tensor indices, int padding_idx=-1) -> Tensor",
    _embedding,
    {
        "weight": lambda F, g, weight_shape, indices, padding_idx: F.embedding_dense_backward(
            g, indices, weight_shape[0], padding_idx
        )
    },
    shape=_embedding_shape,
    places=(),
)


def _embedding_back_again(F: Any, g: Any, indices: Any, padding_idx: int) -> Any:
    rows = F.embedding(g, indices, padding_idx)
    if padding_idx < 0:
        return rows
    return F.where(F.unsqueeze(indices == padding_idx, -1), 0.0, rows)


linear(
    "embedding_dense_backward(Tensor grad_output, Tensor indices, int num_weights, "
    "int padding_idx) -> Tensor",
    _embedding_backward,
    {"grad_output": _embedding_back_again},
    shape=lambda grad_output, indices, num_weights, padding_idx: (
        num_weights,
        grad_output.shape[-1] if grad_output.ndim else 1,
    ),
    places=(),
)


def _one_hot(self: np.ndarray, num_classes: int = -1) -> np.ndarray:
    out = np.zeros(_one_hot_shape(self, num_classes), np.int64)
    np.put_along_axis(out, self[..., None], 1, -1)
    return out


def _one_hot_shape(self: np.ndarray, num_classes: int = -1) -> tuple[int, ...]:
    _require_index(self, "one_hot")
    classes = num_classes if num_classes >= 0 else int(self.max()) + 1 if self.size else 0
    _require_in_range(self, classes, "one_hot", "self")
    return (*self.shape, classes)


nondiff(
    "one_hot(Tensor self, int num_classes=-1) -> Tensor",
    _one_hot,
    shape=_one_hot_shape,
    places=("nn.functional",),
)
