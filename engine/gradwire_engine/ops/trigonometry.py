"""Trigonometric and hyperbolic functions beyond sin and cos, their inverses, and degrees."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradwire_engine.declare import elementwise
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims

_Declared = dict[str, tuple[Callable[..., Any], Callable[..., Any]]]


def _acosh_slope(F: Any, self: Any) -> Any:
    if self.dtype.kind == "c":
        # One root of the product would be on the wrong branch.
        return F.rsqrt(self + 1) * F.rsqrt(self - 1)
    return F.rsqrt(self * self - 1)


_FUNCTIONS: _Declared = {
    "tan": (np.tan, lambda F, result: result * result + 1),
    "asin": (np.arcsin, lambda F, self: F.rsqrt(1 - self * self)),
    "acos": (np.arccos, lambda F, self: -F.rsqrt(1 - self * self)),
    "atan": (np.arctan, lambda F, self: 1 / (self * self + 1)),
    "sinh": (np.sinh, lambda F, self: F.cosh(self)),
    "cosh": (np.cosh, lambda F, self: F.sinh(self)),
    "asinh": (np.arcsinh, lambda F, self: F.rsqrt(self * self + 1)),
    "acosh": (np.arccosh, _acosh_slope),
    "atanh": (np.arctanh, lambda F, self: 1 / (1 - self * self)),
}

for _name, (_kernel, _slope) in _FUNCTIONS.items():
    elementwise(
        f"{_name}(Tensor self) -> Tensor", _kernel, _slope, promotion="float", in_place=True
    )


def _by_first(F: Any, g: Any, self: Any, other: Any) -> Any:
    return g * (other * _inverse_square(F, self, other))


def _by_second(F: Any, g: Any, self: Any, other: Any) -> Any:
    return g * (-self * _inverse_square(F, self, other))


def _inverse_square(F: Any, self: Any, other: Any) -> Any:
    """1 / r² of the points, and 0 at the origin."""
    square = self * self + other * other
    return F.where(square == 0, 0.0, 1 / F.where(square == 0, 1.0, square))


elementwise(
    "atan2(Tensor self, Tensor other) -> Tensor",
    dims.ordered("atan2", np.arctan2),
    vjp={"self": _by_first, "other": _by_second},
    promotion="float",
    in_place=True,
)


def _require_real(self: np.ndarray, op: str) -> None:
    if self.dtype.kind == "c":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: an angle is real, not {self.dtype}",
            argument="self",
            dtype=self.dtype,
        )


def _scaled(op: str, factor: float) -> Callable[..., Any]:
    def kernel(self: np.ndarray) -> Any:
        _require_real(self, op)
        return self * factor

    return kernel


elementwise(
    "rad2deg(Tensor self) -> Tensor",
    _scaled("rad2deg", 180 / math.pi),
    vjp=lambda F, g: g * (180 / math.pi),
    promotion="float",
    grad_fn="Rad2DegBackward0",
    in_place=True,
)
elementwise(
    "deg2rad(Tensor self) -> Tensor",
    _scaled("deg2rad", math.pi / 180),
    vjp=lambda F, g: g * (math.pi / 180),
    promotion="float",
    grad_fn="Deg2RadBackward0",
    in_place=True,
)
