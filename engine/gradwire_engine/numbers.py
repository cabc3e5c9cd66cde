"""Python numbers as arrays: a 0-d operand of the right dtype costs half of what a number does."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

_MAX_HELD: Final = 4096

_FLOAT32: Final = np.dtype(np.float32)
_FLOAT64: Final = np.dtype(np.float64)


class _Numbers(dict[float, Any]):
    """The arrays of one dtype, by number. They are read-only, and made when first asked for.

    What has none, because it would not be the same as an array, is given as it is.
    """

    def __init__(self, dtype: np.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __missing__(self, number: float) -> Any:
        # 0.0 and -0.0 are one key, and NaN is none.
        if not number or number != number:
            return number
        try:
            array = np.array(number, self._dtype)
        except OverflowError:
            return number
        array.flags.writeable = False
        if len(self) >= _MAX_HELD:
            self.clear()
        self[number] = array
        return array


numbers32: Final = _Numbers(_FLOAT32)
numbers64: Final = _Numbers(_FLOAT64)


def number_array(number: float, dtype: np.dtype) -> Any:
    """A number as a read-only 0-d array for an operation on float32 or float64.

    Itself for other dtypes, and where an array is not the same.
    """
    if dtype is _FLOAT32:
        return numbers32[number]
    if dtype is _FLOAT64:
        return numbers64[number]
    return number
