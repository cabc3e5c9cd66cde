"""Activation functions, softmax and its logarithm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from gradwire_engine.declare import elementwise, general
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims

_FUNCTIONAL = ("nn.functional",)

elementwise(
    "sigmoid(Tensor self) -> Tensor",
    special.expit,
    lambda F, result: result * (1 - result),
    promotion="float",
    in_place=True,
)
elementwise(
    "relu(Tensor self) -> Tensor",
    lambda self: np.maximum(self, 0),
    vjp=lambda F, g, result: F.where(result > 0, g, 0.0),
    in_place=True,
    places=("torch", "Tensor", "nn.functional"),
)
elementwise(
    "leaky_relu(Tensor self, Scalar negative_slope=0.01) -> Tensor",
    lambda self, negative_slope=0.01: np.where(self > 0, self, self * negative_slope),
    vjp=lambda F, g, self, negative_slope: F.where(self > 0, g, g * negative_slope),
    in_place=True,
    places=_FUNCTIONAL,
)
elementwise(
    "silu(Tensor self) -> Tensor",
    lambda self: self * special.expit(self),
    vjp=lambda F, g, self: _silu_slope(F, g, self),
    promotion="float",
    in_place=True,
    places=_FUNCTIONAL,
)
elementwise(
    "softplus(Tensor self, Scalar beta=1, Scalar threshold=20) -> Tensor",
    lambda self, beta=1, threshold=20: np.where(
        self * beta > threshold, self, np.log1p(np.exp(np.minimum(self * beta, threshold))) / beta
    ),
    vjp=lambda F, g, self, beta, threshold: F.where(
        self * beta > threshold, g, g * F.sigmoid(self * beta)
    ),
    promotion="float",
    places=_FUNCTIONAL,
)


def _silu_slope(F: Any, g: Any, self: Any) -> Any:
    s = F.sigmoid(self)
    return g * (s * (1 + self * (1 - s)))


_SQRT_HALF = math.sqrt(0.5)
_GAUSS = 1 / math.sqrt(2 * math.pi)
_TANH_SCALE = math.sqrt(2 / math.pi)
_TANH_CUBE = 0.044715


def _require_approximation(approximate: str) -> None:
    if approximate not in ("none", "tanh"):
        raise EngineError(
            "BAD_VALUE",
            f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}",
            argument="approximate",
        )


def _gelu(self: np.ndarray, approximate: str = "none") -> np.ndarray:
    _require_approximation(approximate)
    if approximate == "tanh":
        inner = _TANH_SCALE * (self + _TANH_CUBE * self * self * self)
        return np.asarray(0.5 * self * (1 + np.tanh(inner)))
    return np.asarray(self * special.ndtr(self))


def _gelu_slope(F: Any, g: Any, self: Any, approximate: str) -> Any:
    if approximate == "tanh":
        t = F.tanh(_TANH_SCALE * (self + _TANH_CUBE * self * self * self))
        inner = _TANH_SCALE * (1 + 3 * _TANH_CUBE * self * self)
        return g * (0.5 * (1 + t) + 0.5 * self * (1 - t * t) * inner)
    cdf = 0.5 * (1 + F.erf(self * _SQRT_HALF))
    return g * (cdf + self * (_GAUSS * F.exp(-0.5 * self * self)))


elementwise(
    'gelu(Tensor self, *, str approximate="none") -> Tensor',
    _gelu,
    vjp=_gelu_slope,
    promotion="float",
    places=_FUNCTIONAL,
)
elementwise(
    "erf(Tensor self) -> Tensor",
    special.erf,
    lambda F, self: (2 / math.sqrt(math.pi)) * F.exp(-self * self),
    promotion="float",
    in_place=True,
    places=("torch", "Tensor", "special"),
)


# ------------------------------------------------------------------ softmax


def _as_float(self: np.ndarray, dtype: np.dtype | None, op: str) -> np.ndarray:
    self = self if dtype is None else self.astype(dtype, copy=False)
    if self.dtype.kind != "f":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: needs a floating-point tensor, not {self.dtype}; "
            "pass dtype= or convert with to()",
            argument="self",
            dtype=self.dtype,
        )
    return self


def _softmax(self: np.ndarray, dim: int, dtype: np.dtype | None = None) -> np.ndarray:
    self = _as_float(self, dtype, "softmax")
    axis = dims.one(dim, self.ndim)
    if not self.ndim:
        return np.ones((), self.dtype)
    out = self - np.maximum.reduce(self, axis=axis, keepdims=True)
    np.exp(out, out=out)
    out /= np.add.reduce(out, axis=axis, keepdims=True)
    return out


def _softmax_slope(F: Any, g: Any, result: Any, dim: int) -> Any:
    product = g * result
    return product - result * F.sum(product, (dim,), True)


def _log_softmax(self: np.ndarray, dim: int, dtype: np.dtype | None = None) -> np.ndarray:
    self = _as_float(self, dtype, "log_softmax")
    axis = dims.one(dim, self.ndim)
    if not self.ndim:
        return np.zeros((), self.dtype)
    out = self - np.maximum.reduce(self, axis=axis, keepdims=True)
    out -= np.log(np.add.reduce(np.exp(out), axis=axis, keepdims=True))
    return out


general(
    "softmax(Tensor self, int dim, *, ScalarType? dtype=None) -> Tensor",
    _softmax,
    _softmax_slope,
    places=("torch", "Tensor", "nn.functional"),
)
general(
    "log_softmax(Tensor self, int dim, *, ScalarType? dtype=None) -> Tensor",
    _log_softmax,
    lambda F, g, result, dim: g - F.exp(result) * F.sum(g, (dim,), True),
    places=("torch", "Tensor", "nn.functional"),
)
