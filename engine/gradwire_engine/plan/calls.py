"""The text of one step's call: with a result of its own, or written to an array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from gradwire_engine.plan.values import Kind, Step, Value

BITS: Final = 1 << 8
"""Elements from which on a selection by bits is faster than `np.where`."""

_EXTREMES: Final = frozenset({np.maximum, np.minimum, np.fmax, np.fmin})
"""Ufuncs that are ten times as fast on two arrays as on an array and a number."""

_NO_POSITION: Final = (np.maximum, np.minimum)
"""Ufuncs that take `out` by name only: NumPy means to take more operands there."""

Bind = Callable[[Any, Any], str]
"""The name of a thing that is the same in each run: the thing, and what it is known by."""


class Calls:
    """Writes calls."""

    def __init__(self, bind: Bind) -> None:
        self._bind = bind

    def _constant(self, held: Any, key: Any = None) -> str:
        return self._bind(held, key)

    def made(self, step: Step, names: Sequence[str]) -> str:
        """A call that allocates its result."""
        match step.kind:
            case Kind.REDUCE:
                return self._reduction(step, names[0], "None")
            case Kind.CAST:
                return f"{names[0]}.astype({self._constant(step.options[0])})"
            case _:
                return f"{self._constant(step.function)}({', '.join(names)})"

    def into(self, step: Step, names: Sequence[str], out: str, mask: str = "") -> str:
        """A call that writes its result to an array.

        Args:
            mask: for a step that `needs_mask`, an array of bytes to work in.
        """
        match step.kind:
            case Kind.REDUCE:
                return self._reduction(step, names[0], out)
            case Kind.CAST:
                return f"{self._constant(np.copyto)}({out}, {names[0]}, 'unsafe')"
            case Kind.SELECT:
                return self._selection(step, names, out, mask)
            case _ if step.function in _NO_POSITION:
                return f"{self._constant(step.function)}({', '.join(names)}, out={out})"
            case _:
                return f"{self._constant(step.function)}({', '.join([*names, out])})"

    def filled(self, value: Value, shape: tuple[int, ...]) -> str:
        """An array that holds one number."""
        (number,) = np.asarray(value.constant).reshape(1)
        key = ("filled", shape, value.dtype, number.tobytes())
        return self._constant(np.full(shape, number, value.dtype), key)

    def _reduction(self, step: Step, operand: str, out: str) -> str:
        axis, dtype, keepdims = step.options
        reduce = self._constant(step.function.reduce, ("reduce", step.function))  # type: ignore[attr-defined]
        dtype_name = "None" if dtype is None else self._constant(dtype)
        return f"{reduce}({operand}, {axis!r}, {dtype_name}, {out}, {keepdims!r})"

    def _selection(self, step: Step, names: Sequence[str], out: str, mask: str) -> str:
        """A selection; between a value and 0 by its bits, ten times as fast as by branches."""
        condition, one, other = names
        copyto = self._constant(np.copyto)
        kept = _kept_against_zero(step)
        if kept is None:
            first = "" if other == out else f"{copyto}({out}, {other}); "
            return f"{first}{copyto}({out}, {one}, 'same_kind', {condition})"
        bits = self._constant(np.dtype(f"i{step.results[0].dtype.itemsize}"))
        byte, and_ = self._constant(np.dtype(np.int8)), self._constant(np.bitwise_and)
        if kept == 1:
            masked = f"{self._constant(np.negative)}({condition}.view({byte}), {mask})"
        else:
            one_byte = self._constant(np.ones((), np.int8), "one byte")
            masked = f"{self._constant(np.subtract)}({condition}.view({byte}), {one_byte}, {mask})"
        return f"{and_}({names[kept]}.view({bits}), {masked}, {out}.view({bits}))"


def needs_mask(step: Step) -> Value | None:
    """What stands for the array of bytes that a selection works in; None if it needs none."""
    if step.kind is not Kind.SELECT or _kept_against_zero(step) is None:
        return None
    return Value(next(step.operands).shape, np.dtype(np.int8))


def wants_filled(step: Step, operand: Value) -> bool:
    """Whether an operand is a number that had better be an array of it."""
    held = operand.constant
    return step.function in _EXTREMES and held is not None and not operand.shape


def _kept_against_zero(step: Step) -> int | None:
    """Which operand a selection keeps where it does not give 0; None if it gives other things."""
    (value,) = step.results
    if value.size < BITS or value.dtype.kind not in "fiu" or value.dtype.itemsize == 16:
        return None
    _, one, other = step.operands
    for zero, kept in ((one, 2), (other, 1)):
        held = zero.constant
        if held is not None and not zero.shape and held.tobytes() == bytes(held.itemsize):
            return kept
    return None
