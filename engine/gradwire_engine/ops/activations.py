"""Activation functions, softmax and its logarithm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from gradwire_engine.declare import composite, elementwise, general
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims

_FUNCTIONAL = ("nn.functional",)


def _in_own_dtype(function: Any) -> Any:
    """A SciPy function whose float16 results are float16; SciPy's own are float64."""

    def kernel(self: np.ndarray) -> np.ndarray:
        if self.dtype == np.float16:
            return np.asarray(function(self.astype(np.float32)).astype(np.float16))
        return np.asarray(function(self))

    return kernel


_real_sigmoid = _in_own_dtype(special.expit)
_normal_cdf = _in_own_dtype(special.ndtr)


def _sigmoid(self: np.ndarray) -> np.ndarray:
    if self.dtype.kind == "c":
        return np.asarray(1 / (1 + np.exp(-self)))
    return np.asarray(_real_sigmoid(self))


elementwise(
    "sigmoid(Tensor self) -> Tensor",
    _sigmoid,
    lambda F, result: result * (1 - result),
    promotion="float",
    in_place=True,
    places=("torch", "Tensor", "nn.functional"),
)
elementwise(
    "relu(Tensor self) -> Tensor",
    lambda self: np.maximum(self, 0),
    vjp=lambda F, g, result: F.threshold_backward(g, result, 0),
    in_place=True,
    places=("torch", "Tensor", "nn.functional"),
)
elementwise(
    "leaky_relu(Tensor self, Scalar negative_slope=0.01) -> Tensor",
    lambda self, negative_slope=0.01: np.where(self > 0, self, self * negative_slope),
    vjp=lambda F, g, self, negative_slope: F.leaky_relu_backward(g, self, negative_slope),
    in_place=True,
    in_place_grad_fn="LeakyReluBackward1",
    places=_FUNCTIONAL,
)
# Slopes that are constant nearly everywhere, with operators of their own: a second derivative is
# then 0 rather than unknown.
elementwise(
    "threshold_backward(Tensor grad_output, Tensor self, Scalar threshold) -> Tensor",
    lambda grad_output, self, threshold: np.where(self <= threshold, 0, grad_output),
    vjp={
        "grad_output": lambda F, g, self, threshold: F.threshold_backward(g, self, threshold),
        "self": lambda F, g: F.zeros_like(g),
    },
    grad_fn="ThresholdBackwardBackward0",
    places=(),
)
elementwise(
    "leaky_relu_backward(Tensor grad_output, Tensor self, Scalar negative_slope) -> Tensor",
    lambda grad_output, self, negative_slope: np.where(
        self > 0, grad_output, grad_output * negative_slope
    ),
    vjp={
        "grad_output": lambda F, g, self, negative_slope: F.leaky_relu_backward(
            g, self, negative_slope
        ),
        "self": lambda F, g: F.zeros_like(g),
    },
    grad_fn="LeakyReluBackwardBackward0",
    places=(),
)
elementwise(
    "silu(Tensor self) -> Tensor",
    lambda self: self * _sigmoid(self),
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
    return g * F.conj(s * (1 + self * (1 - s)))


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
    return np.asarray(self * _normal_cdf(self))


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
    _in_own_dtype(special.erf),
    lambda F, self: (2 / math.sqrt(math.pi)) * F.exp(-self * self),
    promotion="float",
    in_place=True,
    places=("torch", "Tensor", "special"),
)


def _require_real(self: np.ndarray, op: str) -> None:
    if self.dtype.kind != "f":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: needs a floating-point tensor, not {self.dtype}; "
            "pass dtype= or convert with to()",
            argument="self",
            dtype=self.dtype,
        )


def _softmax(self: np.ndarray, dim: int) -> np.ndarray:
    _require_real(self, "softmax")
    axis = dims.one(dim, self.ndim)
    if not self.ndim or not self.size:
        return np.ones_like(self)
    out = self - np.maximum.reduce(self, axis=axis, keepdims=True)
    np.exp(out, out=out)
    out /= np.add.reduce(out, axis=axis, keepdims=True)
    return out


def _softmax_slope(F: Any, g: Any, result: Any, dim: int) -> Any:
    product = g * result
    return product - result * F.sum(product, (dim,), True)


def _log_softmax(self: np.ndarray, dim: int) -> np.ndarray:
    _require_real(self, "log_softmax")
    axis = dims.one(dim, self.ndim)
    if not self.ndim or not self.size:
        return np.zeros_like(self)
    out = self - np.maximum.reduce(self, axis=axis, keepdims=True)
    out -= np.log(np.add.reduce(np.exp(out), axis=axis, keepdims=True))
    return out


general("_softmax(Tensor self, int dim) -> Tensor", _softmax, _softmax_slope, places=())
general(
    "_log_softmax(Tensor self, int dim) -> Tensor",
    _log_softmax,
    lambda F, g, result, dim: g - F.exp(result) * F.sum(g, (dim,), True),
    places=(),
)
composite(
    "softmax(Tensor self, int dim, ScalarType? dtype=None) -> Tensor",
    lambda F, self, dim, dtype: F._softmax(self if dtype is None else F.to(self, dtype), dim),
    places=("torch", "Tensor", "nn.functional", "special"),
)
composite(
    "log_softmax(Tensor self, int dim, ScalarType? dtype=None) -> Tensor",
    lambda F, self, dim, dtype: F._log_softmax(self if dtype is None else F.to(self, dtype), dim),
    places=("torch", "Tensor", "nn.functional", "special"),
)
