"""Roots, exponentials, trigonometry, absolute value and rounding, element by element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwire_engine.declare import elementwise, general, nondiff
from gradwire_engine.errors import EngineError

elementwise(
    "sqrt(Tensor self) -> Tensor",
    np.sqrt,
    vjp=lambda F, g, result: g / (2 * F.conj(result)),
    promotion="float",
    in_place=True,
)
elementwise(
    "rsqrt(Tensor self) -> Tensor",
    lambda self: 1 / np.sqrt(self),
    lambda F, result: -0.5 * result * result * result,
    promotion="float",
    in_place=True,
)
elementwise(
    "exp(Tensor self) -> Tensor", np.exp, lambda F, result: result, promotion="float", in_place=True
)
elementwise(
    "expm1(Tensor self) -> Tensor",
    np.expm1,
    lambda F, result: result + 1,
    promotion="float",
    in_place=True,
    places=("torch", "Tensor", "special"),
)
elementwise(
    "log(Tensor self) -> Tensor",
    np.log,
    vjp=lambda F, g, self: g / F.conj(self),
    promotion="float",
    in_place=True,
)
elementwise(
    "log1p(Tensor self) -> Tensor",
    np.log1p,
    vjp=lambda F, g, self: g / F.conj(self + 1),
    promotion="float",
    grad_fn="Log1PBackward0",
    in_place=True,
    places=("torch", "Tensor", "special"),
)
elementwise(
    "sin(Tensor self) -> Tensor",
    np.sin,
    lambda F, self: F.cos(self),
    promotion="float",
    in_place=True,
)
elementwise(
    "cos(Tensor self) -> Tensor",
    np.cos,
    lambda F, self: -F.sin(self),
    promotion="float",
    in_place=True,
)
elementwise(
    "tanh(Tensor self) -> Tensor",
    np.tanh,
    lambda F, result: 1 - result * result,
    promotion="float",
    in_place=True,
    places=("torch", "Tensor", "nn.functional"),
)

elementwise(
    "log2(Tensor self) -> Tensor",
    np.log2,
    vjp=lambda F, g, self: g / (F.conj(self) * math.log(2)),
    promotion="float",
    in_place=True,
)
elementwise(
    "log10(Tensor self) -> Tensor",
    np.log10,
    vjp=lambda F, g, self: g / (F.conj(self) * math.log(10)),
    promotion="float",
    in_place=True,
)


def _as_float(self: np.ndarray) -> np.ndarray:
    """Rules call kernels with integers too, of which NumPy makes floats as narrow as they are."""
    return self if self.dtype.kind == "f" else self.astype(np.float64)


elementwise(
    "exp2(Tensor self) -> Tensor",
    lambda self: np.power(2, self) if self.dtype.kind == "c" else np.exp2(_as_float(self)),
    lambda F, result: result * math.log(2),
    promotion="float",
    in_place=True,
    places=("torch", "Tensor", "special"),
)

general(
    "abs(Tensor self) -> Tensor",
    lambda self: (
        np.absolute(self).astype(self.dtype, copy=False)
        if self.dtype.kind in "bu"
        else np.absolute(self)
    ),
    lambda F, g, self: g * F.sgn(self),
    in_place=True,
)


def _sgn_slope(F: Any, g: Any, self: Any) -> Any:
    if self.dtype.kind != "c":
        return F.zeros_like(g)
    # sgn(z) = z/|z|; Wirtinger calculus with g = dL/dz*, 0 where z is 0.
    size = F.abs(self)
    sign = F.sgn(self)
    radial = F.real(F.conj(g) * sign)
    return F.where(size == 0, 0.0, (g - sign * radial) / F.where(size == 0, 1.0, size))


def _sign(self: np.ndarray) -> np.ndarray:
    if self.dtype.kind == "b":
        return self.copy()
    sign: np.ndarray = np.sign(self)
    if sign.dtype.kind == "f":
        # PyTorch compares with 0, which is false for NaN.
        sign = np.where(np.isnan(sign), sign.dtype.type(0), sign)
    return sign


def _real_sign(self: np.ndarray) -> np.ndarray:
    if self.dtype.kind == "c":
        raise EngineError(
            "DTYPE_MISMATCH",
            "sign: a complex tensor has no sign; sgn gives z / |z|",
            argument="self",
            dtype=self.dtype,
        )
    return _sign(self)


general("sgn(Tensor self) -> Tensor", _sign, _sgn_slope, in_place=True)
elementwise(
    "sign(Tensor self) -> Tensor", _real_sign, vjp=lambda F, g: F.zeros_like(g), in_place=True
)

for _name, _function in {"floor": np.floor, "ceil": np.ceil, "trunc": np.trunc}.items():
    elementwise(
        f"{_name}(Tensor self) -> Tensor",
        _function,
        vjp=lambda F, g: F.zeros_like(g),
        in_place=True,
    )


def _require_real(self: np.ndarray, op: str, kinds: str = "fiu") -> None:
    if self.dtype.kind not in kinds:
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: a {self.dtype} tensor has nothing to round",
            argument="self",
            dtype=self.dtype,
        )


def _round(self: np.ndarray, decimals: int | None = None) -> Any:
    _require_real(self, "round", "fiu" if decimals is None else "f")
    if self.dtype.kind in "iu":
        return self.copy()
    return np.rint(self) if not decimals else np.round(self, decimals)


elementwise(
    "round(Tensor self, *, int? decimals=None) -> Tensor",
    _round,
    vjp=lambda F, g: F.zeros_like(g),
    grad_fn=lambda self, decimals: "RoundBackward0" if decimals is None else "RoundBackward1",
    in_place=True,
    places=("torch", "Tensor", "special"),
)


def _frac(self: np.ndarray) -> Any:
    _require_real(self, "frac", "f")
    return self - np.trunc(self)


elementwise("frac(Tensor self) -> Tensor", _frac, vjp=lambda F, g: g, in_place=True)


def _signbit(self: np.ndarray) -> Any:
    if self.dtype.kind == "b":
        return np.zeros(self.shape, np.bool_)
    return np.signbit(self) if self.dtype.kind == "f" else self < 0


nondiff("signbit(Tensor self) -> Tensor", _signbit, is_real=True)


def _nan_to_num(
    self: np.ndarray,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Any:
    if self.dtype.kind in "iub":
        return self.copy()
    limits = np.finfo(self.dtype)
    return np.nan_to_num(
        self,
        nan=0.0 if nan is None else nan,
        posinf=limits.max if posinf is None else posinf,
        neginf=limits.min if neginf is None else neginf,
    )


elementwise(
    "nan_to_num(Tensor self, float? nan=None, float? posinf=None, float? neginf=None) -> Tensor",
    _nan_to_num,
    vjp=lambda F, g, self: F.where(F.isfinite(self), g, 0.0),
    in_place=True,
)
