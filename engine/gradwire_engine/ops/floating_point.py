"""What a floating-point number is made of, its neighbours, and powers in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.declare import composite, elementwise, general, mutating
from gradwire_engine.errors import EngineError

_FLOAT64 = np.dtype(np.float64)
_COMPLEX128 = np.dtype(np.complex128)


def _frexp(self: np.ndarray) -> tuple[Any, Any]:
    if self.dtype.kind != "f":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"frexp: needs a floating-point tensor, not {self.dtype}; convert it with to()",
            argument="self",
            dtype=self.dtype,
        )
    mantissa, exponent = np.frexp(self)
    return mantissa, np.asarray(exponent, np.int32)


general(
    "frexp(Tensor self) -> (Tensor mantissa, Tensor exponent)",
    _frexp,
    # The exponent stays as it is in a neighbourhood of a number.
    lambda F, g, exponent: g / F.to(F.exp2(exponent), g.dtype),
)


def _nextafter(self: np.ndarray, other: np.ndarray) -> Any:
    if self.dtype.kind != "f":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"nextafter: needs floating-point tensors, not {self.dtype}; convert with to()",
            argument="self",
            dtype=self.dtype,
        )
    return np.nextafter(self, other)


elementwise(
    "nextafter(Tensor self, Tensor other) -> Tensor",
    _nextafter,
    vjp={
        "self": lambda F, g, self, other: F.where(self == other, 0.0, g),
        "other": lambda F, g, self, other: F.where(self == other, g, 0.0),
    },
    numbers=(),
    in_place=True,
)


def _is_complex(value: Any) -> bool:
    return isinstance(value, complex) or getattr(value, "dtype", _FLOAT64).kind == "c"


def _widened(F: Any, *operands: Any) -> list[Any]:
    """Tensors in the widest dtype, complex if one of the operands is; numbers as they are."""
    dtype = _COMPLEX128 if any(map(_is_complex, operands)) else _FLOAT64
    return [F.to(each, dtype) if hasattr(each, "dtype") else each for each in operands]


composite(
    "float_power(Tensor self, Tensor exponent) -> Tensor",
    lambda F, self, exponent: F.pow(*_widened(F, self, exponent)),
    numbers=("self", "exponent"),
)


def _float_power_in_place(F: Any, self: Any, exponent: Any) -> Any:
    wide, power = _widened(F, self, exponent)
    if self.dtype != wide.dtype:
        raise EngineError(
            "IN_PLACE_DTYPE",
            f"float_power_: the result is {wide.dtype} and does not fit a {self.dtype} tensor; use "
            "float_power",
            op="float_power_",
            dtype=self.dtype,
        )
    return F.pow_(self, power)


mutating("float_power_(Tensor self, Tensor exponent) -> Tensor", _float_power_in_place)


def _positive(F: Any, self: Any) -> Any:
    if self.dtype.kind == "b":
        raise EngineError("DTYPE_MISMATCH", "positive: does not take bool tensors", argument="self")
    return self


composite("positive(Tensor self) -> Tensor", _positive)
