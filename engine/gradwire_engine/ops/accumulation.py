"""Sums at indices, some of which repeat: the kernels under what adds rows or elements by index."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

# Below this many rows the sparse product's set-up costs more than it saves.
_SPARSE_ROWS = 64


def add_rows(out: np.ndarray, index: np.ndarray, rows: np.ndarray) -> None:
    """Add `rows[i]` to `out[index[i]]`, where an index that repeats adds again.

    A sparse transposed product sums many rows far faster than `np.add.at`.

    Args:
        out: of shape (n, features), changed.
        index: of shape (m,), integers in [0, n).
        rows: of shape (m, features).
    """
    features = out.shape[1]
    if features == 1:
        # np.add.at is fast where both sides are flat.
        np.add.at(out[:, 0], index, rows[:, 0])
    elif len(index) < _SPARSE_ROWS or out.dtype == np.float16 or out.dtype.kind == "b":
        np.add.at(out, index, rows)
    else:
        ones = np.ones(len(index), out.dtype)
        choose = sparse.csr_array(
            (ones, index, np.arange(len(index) + 1)), shape=(len(index), len(out))
        )
        out += choose.T @ rows


def add_at(out: np.ndarray, key: Sequence[Any], values: Any) -> None:
    """`out[key] += values`, where an element that is named twice is added to twice.

    Args:
        out: changed; C-contiguous.
        key: slices and integer arrays, as NumPy takes them, in range.
        values: of a shape that broadcasts to that of `out[key]`.
    """
    arrays = [each for each in key if isinstance(each, np.ndarray)]
    if not arrays or len(arrays) != len(key) or not out.size:
        np.add.at(out, tuple(key), values)
        return
    leading, features = out.shape[: len(arrays)], math.prod(out.shape[len(arrays) :])
    points = np.broadcast_shapes(*(each.shape for each in arrays))
    flat: Any = 0
    for each, size in zip(arrays, leading, strict=True):
        flat = flat * size + np.where(each < 0, each + size, each)
    flat = np.broadcast_to(flat, points).reshape(-1)
    rows = np.broadcast_to(values, (*points, *out.shape[len(arrays) :]))
    add_rows(out.reshape(-1, features), flat, rows.reshape(len(flat), features))
