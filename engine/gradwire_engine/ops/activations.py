"""Activation functions, element by element."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from scipy import special

from gradwire_engine.declare import composite, elementwise, general
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims

_FUNCTIONAL = ("nn.functional",)


def _in_own_dtype(function: Any) -> Any:
    """A SciPy function whose float16 results are float16; SciPy's own are float64."""

    def kernel(self: np.ndarray) -> Any:
        if self.dtype == np.float16:
            return function(self.astype(np.float32)).astype(np.float16)
        return function(self)

    return kernel


_real_sigmoid = _in_own_dtype(special.expit)


def _sigmoid(self: np.ndarray) -> Any:
    if self.dtype.kind == "c":
        return 1 / (1 + np.exp(-self))
    return _real_sigmoid(self)


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
    is_real=True,
)
elementwise(
    "leaky_relu(Tensor self, Scalar negative_slope=0.01) -> Tensor",
    lambda self, negative_slope=0.01: np.where(self > 0, self, self * negative_slope),
    vjp=lambda F, g, self, negative_slope: F.leaky_relu_backward(g, self, negative_slope),
    in_place=True,
    in_place_grad_fn="LeakyReluBackward1",
    places=_FUNCTIONAL,
    is_real=True,
)


_BITS: Final = {np.dtype(np.float32): np.int32, np.dtype(np.float64): np.int64}


def _above(grad_output: np.ndarray, self: np.ndarray, threshold: float) -> np.ndarray:
    """The gradient where the tensor is above the threshold, and 0 elsewhere."""
    small = self <= threshold
    if type(grad_output) is not np.ndarray or grad_output.dtype not in _BITS:
        return np.where(small, 0, grad_output)
    # By its bits, which are all kept or none: a tenth of the time of a branch for each element.
    bits = _BITS[grad_output.dtype]
    kept = np.bitwise_and(grad_output.view(bits), np.asarray(small).view(np.int8) - np.int8(1))
    return np.asarray(kept).view(grad_output.dtype)


# Slopes that are constant nearly everywhere, with operators of their own: a second derivative is
# then 0 rather than unknown.
elementwise(
    "threshold_backward(Tensor grad_output, Tensor self, Scalar threshold) -> Tensor",
    _above,
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
    is_real=True,
)


def _silu_slope(F: Any, g: Any, self: Any) -> Any:
    s = F.sigmoid(self)
    return g * F.conj(s * (1 + self * (1 - s)))


elementwise(
    "erf(Tensor self) -> Tensor",
    _in_own_dtype(special.erf),
    lambda F, self: (2 / math.sqrt(math.pi)) * F.exp(-self * self),
    promotion="float",
    in_place=True,
    places=("torch", "Tensor", "special"),
    is_real=True,
)


def _log_sigmoid(self: np.ndarray) -> np.ndarray:
    return np.asarray(np.minimum(self, 0) - np.log1p(np.exp(-np.abs(self))))


elementwise(
    "logsigmoid(Tensor self) -> Tensor",
    _log_sigmoid,
    vjp=lambda F, g, self: g * F.sigmoid(-self),
    promotion="float",
    grad_fn="LogSigmoidBackward0",
    places=_FUNCTIONAL,
    is_real=True,
)


def _mish_slope(F: Any, g: Any, self: Any) -> Any:
    t = F.tanh(F.softplus(self))
    return g * (t + self * F.sigmoid(self) * (1 - t * t))


elementwise(
    "mish(Tensor self) -> Tensor",
    lambda self: self * np.tanh(np.logaddexp(self, 0)),
    vjp=_mish_slope,
    promotion="float",
    in_place=True,
    places=_FUNCTIONAL,
)
composite(
    "softsign(Tensor self) -> Tensor",
    lambda F, self: self / (F.abs(self) + 1),
    places=_FUNCTIONAL,
)
composite(
    "tanhshrink(Tensor self) -> Tensor",
    lambda F, self: self - F.tanh(self),
    places=_FUNCTIONAL,
)


def _halves(self: Any, dim: int) -> tuple[int, int]:
    """The dimension that is split, and half of its size."""
    axis = dims.one(dim, len(self.shape))
    size = self.shape[axis] if self.shape else 1
    if size % 2:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"glu: dimension {dim} is split into halves, so its size must be even, not {size}",
            argument="dim",
            shape=self.shape,
        )
    return axis, size // 2


def _glu(self: np.ndarray, dim: int = -1) -> np.ndarray:
    if self.dtype.kind != "f":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"glu: needs a floating-point tensor, not {self.dtype}; convert it with to()",
            argument="self",
        )
    axis, half = _halves(self, dim)
    values, gates = np.split(self, [half], axis)
    return np.asarray(values * _real_sigmoid(gates))


def _glu_slope(F: Any, g: Any, self: Any, dim: int) -> Any:
    axis, half = _halves(self, dim)
    values, gates = F.narrow(self, axis, 0, half), F.narrow(self, axis, half, half)
    s = F.sigmoid(gates)
    by_values = g * s
    return F.cat([by_values, by_values * values * (1 - s)], axis)


general("glu(Tensor self, int dim=-1) -> Tensor", _glu, _glu_slope, places=_FUNCTIONAL)
