"""Kernels of many passes, run on one block of their arguments after the other.

Each pass over a large array reads it from memory; over a block, from the cache of a core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

# Elements of a flat block: a few arrays of them fit into the second cache of a core.
_ELEMENTS = 1 << 14

# Of a block of rows.
_ROW_BYTES = 1 << 17


def wide(array: np.ndarray) -> np.ndarray:
    """Halves as float32, in which they are computed; others as they are."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def by_blocks(function: Callable[..., None], *arrays: np.ndarray) -> np.ndarray:
    """Run `function(out, *parts)` on parts of arrays of one shape; the whole result.

    Parts are one-dimensional, and the result's dtype is that of the first array.
    """
    first = arrays[0]
    if type(first) is not np.ndarray:
        # A plan has blocks of its own, which it shares with what comes before and after.
        parts = [wide(each) for each in arrays]
        made = np.empty_like(parts[0])
        function(made, *parts)
        return made.astype(first.dtype)
    lines = [np.ascontiguousarray(wide(each)).reshape(-1) for each in arrays]
    out = np.empty_like(lines[0])
    for at in range(0, len(out), _ELEMENTS):
        part = slice(at, at + _ELEMENTS)
        function(out[part], *[line[part] for line in lines])
    return out.reshape(first.shape).astype(first.dtype, copy=False)


def row_blocks(rows: np.ndarray) -> Iterator[slice]:
    """Blocks of the rows of a two-dimensional array."""
    step = max(1, _ROW_BYTES // max(rows.shape[1] * rows.itemsize, 1))
    for first in range(0, len(rows), step):
        yield slice(first, first + step)
