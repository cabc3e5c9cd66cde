"""Reading and writing by tensors of indices: `x[i]`, `x[i] = y`, embedding, one_hot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import linear, nondiff
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.accumulation import add_at, add_rows
from gradwire_engine.ops.index_checks import require_in_range, require_index


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
        require_index(index, op)
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
        add_at(out, key, values)
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
    require_index(indices, "embedding")
    require_in_range(indices, weight.shape[0], "embedding", "indices")
    return np.asarray(weight[indices])


def _embedding_shape(weight: np.ndarray, indices: np.ndarray, *rest: Any) -> tuple[int, ...]:
    return (*indices.shape, *weight.shape[1:])


def _embedding_backward(
    grad: np.ndarray, indices: np.ndarray, num_weights: int, padding_idx: int
) -> np.ndarray:
    """Sum rows by index."""
    features = grad.shape[-1]
    flat = indices.reshape(-1)
    rows = grad.reshape(len(flat), features)
    if padding_idx >= 0:
        kept = flat != padding_idx
        rows, flat = rows[kept], flat[kept]
    out = np.zeros((num_weights, features), grad.dtype)
    add_rows(out, flat, rows)
    return out


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
    require_index(self, "one_hot")
    classes = num_classes if num_classes >= 0 else int(self.max()) + 1 if self.size else 0
    require_in_range(self, classes, "one_hot", "self")
    return (*self.shape, classes)


nondiff(
    "one_hot(Tensor self, int num_classes=-1) -> Tensor",
    _one_hot,
    shape=_one_hot_shape,
    places=("nn.functional",),
)
