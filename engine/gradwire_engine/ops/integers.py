"""Operators on integers: shifts of bits, greatest common divisors and least common multiples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradwire_engine.declare import nondiff
from gradwire_engine.errors import EngineError


def _of_integers(op: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def kernel(self: Any, other: Any) -> Any:
        dtype = (self if isinstance(self, np.ndarray) else other).dtype
        if dtype.kind not in "iu":
            raise EngineError(
                "DTYPE_MISMATCH",
                f"{op}: needs integer tensors, not {dtype}; convert with to()",
                argument="self",
                dtype=dtype,
            )
        return function(self, other)

    return kernel


_SHIFTS: dict[str, Callable[..., Any]] = {
    "bitwise_left_shift": np.left_shift,
    "bitwise_right_shift": np.right_shift,
}
for _name, _function in _SHIFTS.items():
    nondiff(
        f"{_name}(Tensor self, Tensor other) -> Tensor",
        _of_integers(_name, _function),
        promotion="promote",
        in_place=True,
    )

_MULTIPLES: dict[str, Callable[..., Any]] = {"gcd": np.gcd, "lcm": np.lcm}
for _name, _function in _MULTIPLES.items():
    nondiff(
        f"{_name}(Tensor self, Tensor other) -> Tensor",
        _of_integers(_name, _function),
        promotion="promote",
        numbers=(),
        in_place=True,
    )
