"""Plain arguments of operators: checked, and brought to the types that travel."""

import operator
from collections.abc import Iterable
from typing import SupportsIndex, cast

import numpy as np

from gradwire.dtypes import as_dtype, dtype
from gradwire.errors import ArgumentError, refused
from gradwire.location import locate, mark

Number = bool | int | float | complex
IntList = SupportsIndex | Iterable[SupportsIndex]

_INT64_MIN = -(1 << 63)
_INT64_MAX = (1 << 63) - 1


def wrong_type(op: str, argument: str, expected: str, value: object) -> ArgumentError:
    """The TypeError for an argument of the wrong type."""
    shown = type(value).__name__
    return ArgumentError(
        f"{op}(): argument '{argument}' must be {expected}, not {shown}",
        reason="BAD_ATTRIBUTE",
        code="INVALID_ARGUMENT",
        metadata={"op": op, "argument": argument, "expected": expected, "found": shown},
        location=locate(mark()),
    )


def number_or_none(value: object) -> Number | None:
    """A Python number of exactly one of the four built-in types; None if it is no number."""
    kind = value.__class__
    if kind is float or kind is bool:
        return cast(float, value)
    if kind is int:
        return _within_int64(cast(int, value))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return _within_int64(int(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, complex):
        return complex(value)
    return None


def _within_int64(value: int) -> int:
    if not _INT64_MIN <= value <= _INT64_MAX:
        raise refused("BAD_VALUE", f"{value} does not fit into 64 bits", value=value)
    return value


def to_number(op: str, name: str, value: object) -> Number:
    """An argument of type `Scalar`; a tensor of one element is read."""
    number = number_or_none(value)
    if number is None:
        # A tensor of a session that does not block has an `item` to be awaited.
        read = getattr(value, "_only", None) or getattr(value, "item", None)
        number = number_or_none(read()) if read is not None else None
    if number is None:
        raise wrong_type(op, name, "a number", value)
    return number


def to_int(op: str, name: str, value: object) -> int:
    """An argument of type `int`."""
    try:
        return _within_int64(operator.index(cast(SupportsIndex, value)))
    except TypeError:
        raise wrong_type(op, name, "an int", value) from None


def to_ints(op: str, name: str, value: object) -> tuple[int, ...]:
    """An argument of type `int[]`; a single int is a list of one."""
    if isinstance(value, (tuple, list)):
        return tuple([to_int(op, name, each) for each in value])
    if isinstance(value, Iterable) and not hasattr(value, "__index__"):
        return tuple([to_int(op, name, each) for each in value])
    return (to_int(op, name, value),)


def to_float(op: str, name: str, value: object) -> float:
    """An argument of type `float`."""
    number = to_number(op, name, value)
    if isinstance(number, complex):
        raise wrong_type(op, name, "a real number", value)
    return float(number)


def to_floats(op: str, name: str, value: object) -> tuple[float, ...]:
    """An argument of type `float[]`; a single float is a list of one."""
    if isinstance(value, Iterable):
        return tuple([to_float(op, name, each) for each in value])
    return (to_float(op, name, value),)


def to_bool(op: str, name: str, value: object) -> bool:
    """An argument of type `bool`."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise wrong_type(op, name, "a bool", value)


def to_str(op: str, name: str, value: object) -> str:
    """An argument of type `str`."""
    if isinstance(value, str):
        return value
    raise wrong_type(op, name, "a str", value)


def to_order(op: str, name: str, value: object) -> Number | str:
    """An argument of type `Order`: a number, or a word such as `fro`."""
    return value if isinstance(value, str) else to_number(op, name, value)


def to_dtype(op: str, name: str, value: object) -> dtype:
    """An argument of type `ScalarType`."""
    try:
        return as_dtype(value)
    except TypeError:
        raise wrong_type(op, name, "a dtype", value) from None


def to_size(op: str, name: str, values: tuple[object, ...]) -> tuple[int, ...]:
    """An `int[]` given as several arguments or as one sequence: `view(2, 3)`, `view((2, 3))`."""
    if len(values) == 1 and isinstance(values[0], Iterable):
        return to_ints(op, name, values[0])
    return to_ints(op, name, values)
