"""Python numbers as arrays: a 0-d operand of the right dtype costs half of what a number does."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

_MAX_HELD: Final = 4096

_FLOAT32: Final = np.dtype(np.float32)
_FLOAT64: Final = np.dtype(np.float64)
numbers32: Final[dict[float, np.ndarray]] = {}
numbers64: Final[dict[float, np.ndarray]] = {}


def number_array(number: float, dtype: np.dtype) -> Any:
    """A number as a read-only 0-d array for an operation on float32 or float64.

    Itself for other dtypes, and where an array is not the same.
    """
    if dtype is _FLOAT32:
        held = numbers32
    elif dtype is _FLOAT64:
        held = numbers64
    else:
        return number
    array = held.get(number)
    return _made(number, dtype, held) if array is None else array


def _made(number: float, dtype: np.dtype, held: dict[float, np.ndarray]) -> Any:
    # 0.0 and -0.0 are one key, and NaN is none.
    if not number or number != number:
        return number
    try:
        array = np.array(number, dtype)
    except OverflowError:
        return number
    array.flags.writeable = False
    if len(held) >= _MAX_HELD:
        held.clear()
    held[number] = array
    return array
