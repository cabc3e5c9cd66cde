"""Activations in pieces: linear, exponential or constant, from one bound to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.declare import composite, elementwise, general, mutating, nondiff
from gradwire_engine.errors import EngineError

_FUNCTIONAL = ("nn.functional",)
_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717


def _elu(self: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    return np.where(self > 0, self, np.expm1(np.minimum(self, 0)) * alpha)


def _elu_slope(F: Any, g: Any, self: Any, alpha: float) -> Any:
    return F.where(self > 0, g, g * (F.exp(F.clamp_max(self, 0)) * alpha))


elementwise(
    "elu(Tensor self, Scalar alpha=1.0) -> Tensor",
    _elu,
    vjp=_elu_slope,
    promotion="float",
    in_place=True,
    in_place_grad_fn="EluBackward1",
    places=_FUNCTIONAL,
    is_real=True,
)
elementwise(
    "selu(Tensor self) -> Tensor",
    lambda self: _SELU_SCALE * _elu(self, _SELU_ALPHA),
    vjp=lambda F, g, self: _SELU_SCALE * _elu_slope(F, g, self, _SELU_ALPHA),
    promotion="float",
    grad_fn="EluBackward0",
    in_place=True,
    in_place_grad_fn="EluBackward1",
    places=("torch", "nn.functional"),
    is_real=True,
)


def _require_scale(alpha: float) -> None:
    if alpha == 0:
        raise EngineError("BAD_VALUE", "celu: alpha must not be 0", argument="alpha")


def _celu(self: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    _require_scale(alpha)
    return np.where(self > 0, self, np.expm1(np.minimum(self / alpha, 0)) * alpha)


elementwise(
    "celu(Tensor self, Scalar alpha=1.0) -> Tensor",
    _celu,
    vjp=lambda F, g, self, alpha: F.where(self > 0, g, g * F.exp(F.clamp_max(self, 0) / alpha)),
    promotion="float",
    in_place=True,
    in_place_grad_fn="CeluBackward1",
    places=("torch", "nn.functional"),
    is_real=True,
)


def _clipped(self: np.ndarray, low: Any, high: Any, op: str) -> np.ndarray:
    if self.dtype.kind == "b":
        raise EngineError(
            "DTYPE_MISMATCH", f"{op}: truth values have no bounds; convert with to()", op=op
        )
    if low > high:
        raise EngineError(
            "BAD_VALUE", f"{op}: min_val {low} must not exceed max_val {high}", argument="min_val"
        )
    if self.dtype.kind in "iu":
        if self.dtype.kind == "u" and low < 0:
            raise EngineError(
                "BAD_VALUE", f"{op}: {self.dtype} has no number as low as {low}", argument="min_val"
            )
        low, high = int(low), int(high)
    return np.asarray(np.clip(self, low, high))


def _between(F: Any, g: Any, self: Any, low: Any, high: Any) -> Any:
    return F.where(F.logical_and(self > low, self < high), g, 0.0)


elementwise(
    "hardtanh(Tensor self, Scalar min_val=-1.0, Scalar max_val=1.0) -> Tensor",
    lambda self, min_val=-1.0, max_val=1.0: _clipped(self, min_val, max_val, "hardtanh"),
    vjp=lambda F, g, self, min_val, max_val: _between(F, g, self, min_val, max_val),
    promotion="keep",
    in_place=True,
    in_place_grad_fn="HardtanhBackward1",
    places=_FUNCTIONAL,
    is_real=True,
)
elementwise(
    "relu6(Tensor self) -> Tensor",
    lambda self: _clipped(self, 0, 6, "relu6"),
    vjp=lambda F, g, self: _between(F, g, self, 0, 6),
    promotion="keep",
    grad_fn="HardtanhBackward0",
    in_place=True,
    in_place_grad_fn="HardtanhBackward1",
    places=_FUNCTIONAL,
    is_real=True,
)
elementwise(
    "hardsigmoid(Tensor self) -> Tensor",
    lambda self: np.clip(self / 6 + 0.5, 0, 1),
    vjp=lambda F, g, self: _between(F, g / 6, self, -3, 3),
    promotion="float",
    in_place=True,
    places=_FUNCTIONAL,
    is_real=True,
)
elementwise(
    "hardswish(Tensor self) -> Tensor",
    lambda self: self * np.clip(self + 3, 0, 6) / 6,
    vjp=lambda F, g, self: F.where(self <= -3, 0.0, F.where(self < 3, g * (self / 3 + 0.5), g)),
    promotion="float",
    in_place=True,
    places=_FUNCTIONAL,
    is_real=True,
)


def _require_lambd(op: str, lambd: float) -> None:
    if lambd < 0:
        raise EngineError(
            "BAD_VALUE", f"{op}: lambd must be at least 0, not {lambd}", argument="lambd"
        )


def _softshrink(self: np.ndarray, lambd: float = 0.5) -> np.ndarray:
    _require_lambd("softshrink", lambd)
    return np.where(self > lambd, self - lambd, np.where(self < -lambd, self + lambd, self * 0))


elementwise(
    "softshrink(Tensor self, Scalar lambd=0.5) -> Tensor",
    _softshrink,
    vjp=lambda F, g, self, lambd: F.where(F.abs(self) <= lambd, 0.0, g),
    promotion="float",
    places=_FUNCTIONAL,
    is_real=True,
)
elementwise(
    "hardshrink(Tensor self, Scalar lambd=0.5) -> Tensor",
    lambda self, lambd=0.5: np.where(np.abs(self) <= lambd, 0, self),
    vjp=lambda F, g, self, lambd: F.where(F.abs(self) <= lambd, 0.0, g),
    promotion="float",
    places=("torch", "Tensor", "nn.functional"),
    is_real=True,
)


def _threshold(self: np.ndarray, threshold: Any, value: Any) -> np.ndarray:
    if self.dtype.kind in "iu":
        threshold, value = int(threshold), int(value)
    return np.where(self <= threshold, np.asarray(value, self.dtype), self)


elementwise(
    "threshold(Tensor self, Scalar threshold, Scalar value) -> Tensor",
    _threshold,
    vjp=lambda F, g, self, threshold: F.threshold_backward(g, self, threshold),
    promotion="keep",
    in_place=True,
    in_place_grad_fn="ThresholdBackward1",
    places=("torch", "nn.functional"),
    is_real=True,
)

general(
    "_prelu_kernel(Tensor self, Tensor weight) -> Tensor",
    lambda self, weight: np.where(self > 0, self, weight * self),
    {
        "self": lambda F, g, self, weight: F.where(self > 0, g, g * weight),
        "weight": lambda F, g, self: F.where(self > 0, 0.0, g * self),
    },
    promotion="same",
    places=(),
)


def _prelu(F: Any, self: Any, weight: Any) -> Any:
    rank, count = len(self.shape), weight.data.size
    channels = self.shape[1] if rank > 1 else 1
    if len(weight.shape) > 1 or (count != 1 and (rank == 0 or count != channels)):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"prelu: weight of shape {weight.shape} must be one number, or one for each of the "
            f"{channels} channels",
            argument="weight",
            shape=weight.shape,
        )
    if len(weight.shape) == 1 and rank != 1:
        shape = (1, count, *(1 for _ in range(rank - 2))) if rank > 1 else ()
        weight = F.reshape(weight, shape)
    elif len(weight.shape) == 0 and rank:
        weight = F.reshape(weight, (1,) * rank)
    return F._prelu_kernel(self, weight)


composite(
    "prelu(Tensor self, Tensor weight) -> Tensor",
    _prelu,
    places=("torch", "Tensor", "nn.functional"),
)


def _noise(self: np.ndarray, lower: float, upper: float, training: bool) -> np.ndarray:
    """The slopes: 1 where positive, else drawn from an interval, or its middle."""
    if not training:
        slope = np.asarray((lower + upper) / 2, self.dtype)
    else:
        slope = current.context.generator.uniform(lower, upper, self.shape).astype(self.dtype)
    return np.where(self <= 0, slope, self.dtype.type(1))


nondiff(
    "_rrelu_noise(Tensor self, float lower, float upper, bool training) -> Tensor",
    _noise,
    places=(),
)
elementwise(
    "_rrelu(Tensor self, Tensor noise) -> Tensor",
    np.multiply,
    vjp={"self": lambda F, g, noise: g * noise},
    promotion="same",
    grad_fn="RreluWithNoiseBackward0",
    in_place=True,
    in_place_grad_fn="RreluWithNoiseBackward1",
    places=(),
)


def _rrelu(in_place: bool) -> Callable[..., Any]:
    def formula(F: Any, self: Any, lower: float, upper: float, training: bool) -> Any:
        if self.dtype.kind != "f" or lower > upper:
            raise EngineError(
                "BAD_VALUE",
                f"rrelu: needs a floating-point tensor and lower <= upper, not {self.dtype}, "
                f"{lower} and {upper}",
                argument="lower",
            )
        noise = F._rrelu_noise(self, lower, upper, training)
        return F._rrelu_(self, noise) if in_place else F._rrelu(self, noise)

    return formula


_ARGUMENTS = "(Tensor self, float lower=0.125, float upper=0.3333333333333333, bool training=False)"
composite(f"rrelu{_ARGUMENTS} -> Tensor", _rrelu(False), places=("torch", "nn.functional"))
mutating(f"rrelu_{_ARGUMENTS} -> Tensor", _rrelu(True), places=())
