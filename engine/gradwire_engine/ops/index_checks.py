"""What every operator that takes a tensor of indices asks of it."""

from __future__ import annotations

import numpy as np

from gradwire_engine.errors import EngineError


def require_index(index: np.ndarray, op: str) -> None:
    """Refuse what is not an integer tensor.

    Raises:
        EngineError: DTYPE_MISMATCH.
    """
    if index.dtype.kind not in "iu":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: index must be an integer tensor, not {index.dtype}",
            argument="index",
            dtype=index.dtype,
        )


def require_in_range(index: np.ndarray, size: int, op: str, argument: str = "index") -> None:
    """Refuse an index that is negative or not below `size`.

    Raises:
        EngineError: INDEX_OUT_OF_RANGE.
    """
    if index.size and (int(index.min()) < 0 or int(index.max()) >= size):
        wrong = next(int(each) for each in index.flat if not 0 <= each < size)
        raise EngineError(
            "INDEX_OUT_OF_RANGE",
            f"{op}: index {wrong} is out of range for size {size}",
            argument=argument,
            index=wrong,
            size=size,
        )


def require_same_dtype(self: np.ndarray, other: np.ndarray, op: str, argument: str) -> None:
    """Refuse values of another dtype than the tensor that they are written to.

    Raises:
        EngineError: DTYPE_MISMATCH.
    """
    if self.dtype != other.dtype:
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: {argument} is {other.dtype} and the tensor {self.dtype}; convert with to()",
            argument=argument,
            dtypes=f"{self.dtype}, {other.dtype}",
        )
