"""Element types and PyTorch's type promotion, which is not NumPy's.

The result of mixing operands depends on their category (bool < int < float < complex) and on
their rank: tensors with dimensions outweigh 0-d tensors, which outweigh Python numbers. A
lower-ranked operand changes the result only if its category is higher.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np

from gradwire_engine.errors import EngineError

Number = bool | int | float | complex

BOOL = np.dtype(np.bool_)
INT64 = np.dtype(np.int64)
FLOAT16 = np.dtype(np.float16)
FLOAT32 = np.dtype(np.float32)
COMPLEX64 = np.dtype(np.complex64)

SUPPORTED = tuple(
    np.dtype(name)
    for name in (
        "bool uint8 int8 int16 int32 int64 float16 float32 float64 complex64 complex128".split()
    )
)

_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
_REAL_PART: dict[str, np.dtype] = {
    "complex64": np.dtype(np.float32),
    "complex128": np.dtype(np.float64),
}
_COMPLEX_OF: dict[str, np.dtype] = {
    "float16": COMPLEX64,
    "float32": COMPLEX64,
    "float64": np.dtype(np.complex128),
}


def category(dtype: np.dtype) -> int:
    """0 for bool, 1 for integers, 2 for floating point, 3 for complex."""
    return _CATEGORY[dtype.kind]


def is_differentiable(dtype: np.dtype) -> bool:
    """Whether tensors of this dtype can require grad: floating point and complex."""
    return dtype.kind in "fc"


def real_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of the real part: float32 for complex64; the dtype itself unless complex."""
    return _REAL_PART.get(dtype.name, dtype)


def complex_dtype(dtype: np.dtype) -> np.dtype:
    """The complex dtype whose parts are of this floating-point dtype: complex64 for float32."""
    return _COMPLEX_OF[dtype.name]


def wrapped(value: np.ndarray | Number, dtype: np.dtype, op: str = "") -> np.ndarray:
    """A value as an array of this dtype; integers too large for it wrap around, as in C.

    Raises:
        EngineError: DTYPE_MISMATCH for a complex value where the dtype has no room for it.
    """
    array = np.asarray(value)
    if array.dtype.kind == "c" and dtype.kind not in "cb":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op + ': ' if op else ''}the complex value {value} does not fit a {dtype} tensor",
            value=value,
            dtype=dtype,
        )
    return array.astype(dtype)


@cache
def promote_types(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype that holds both, as `torch.promote_types`: int64 with float32 gives float32."""
    low, high = sorted((a, b), key=category)
    if category(high) < 2 or category(low) == category(high):
        return np.promote_types(a, b)
    if high.kind == "c" and low.kind == "f":
        return np.promote_types(high, _COMPLEX_OF[low.name])
    return high


def number_dtype(value: Number, default: np.dtype = FLOAT32) -> np.dtype:
    """The dtype that a Python number stands for; `default` is the default float dtype."""
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return INT64
    return default if isinstance(value, float) else _COMPLEX_OF[default.name]


def _outweigh(higher: np.dtype | None, lower: np.dtype | None) -> np.dtype | None:
    if higher is None or lower is None:
        return higher if lower is None else lower
    if higher.kind == "c" or category(lower) <= category(higher):
        return higher
    if higher.kind == "f":
        return _COMPLEX_OF[higher.name]
    return promote_types(higher, lower)


def result_dtype(operands: Iterable[np.ndarray | Number], default: np.dtype = FLOAT32) -> np.dtype:
    """The common dtype of arrays and numbers, as `torch.result_type`."""
    ranked: list[np.dtype | None] = [None, None, None]
    for operand in operands:
        # Arithmetic on 0-d arrays gives NumPy scalars, of which some are Python floats as well.
        if isinstance(operand, (np.ndarray, np.generic)):
            rank, dtype = (0 if operand.ndim else 1), operand.dtype
        else:
            rank, dtype = 2, number_dtype(operand, default)
        held = ranked[rank]
        ranked[rank] = dtype if held is None else promote_types(held, dtype)
    result = _outweigh(_outweigh(ranked[0], ranked[1]), ranked[2])
    if result is None:
        raise ValueError("result_dtype needs at least one operand")
    return result


def can_cast(source: np.dtype, target: np.dtype) -> bool:
    """Whether an in-place result of dtype `source` may be written to `target`."""
    return category(source) <= category(target)
