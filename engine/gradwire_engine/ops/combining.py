"""Two or three numbers made into one, element by element: hypot, logaddexp, lerp, addcmul, ..."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradwire_engine.declare import elementwise, general, nondiff
from gradwire_engine.dtypes import wrapped
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims

_NUMBERS = (bool, int, float, complex)


def _conj(value: Any) -> Any:
    return value.conjugate() if isinstance(value, complex) else value


def _require_float(op: str, function: Callable[..., Any], kinds: str = "f") -> Callable[..., Any]:
    """The function, refusing tensors of other dtypes."""

    def kernel(*given: Any) -> Any:
        for each in given:
            if isinstance(each, np.ndarray) and each.dtype.kind not in kinds:
                raise EngineError(
                    "DTYPE_MISMATCH",
                    f"{op}: needs floating-point tensors, not {each.dtype}; convert with to()",
                    op=op,
                    dtype=each.dtype,
                )
        return function(*given)

    return kernel


elementwise(
    "hypot(Tensor self, Tensor other) -> Tensor",
    _require_float("hypot", np.hypot),
    {
        "self": lambda F, self, result: self / result,
        "other": lambda F, other, result: other / result,
    },
    in_place=True,
)


def logaddexp(a: Any, b: Any) -> Any:
    """log(exp(a) + exp(b)), of complex numbers too.

    As in PyTorch, the phase is that of the larger and is not brought back to (-pi, pi].
    """
    if a.dtype.kind != "c":
        return np.logaddexp(a, b)
    first = a.real >= b.real
    high, low = np.where(first, a, b), np.where(first, b, a)
    return np.where(high.real == -np.inf, high, np.log1p(np.exp(low - high)) + high)


elementwise(
    "logaddexp(Tensor self, Tensor other) -> Tensor",
    _require_float("logaddexp", logaddexp, "fc"),
    {
        "self": lambda F, self, other: 1 / (1 + F.exp(other - self)),
        "other": lambda F, self, other: 1 / (1 + F.exp(self - other)),
    },
    numbers=(),
)
elementwise(
    "logaddexp2(Tensor self, Tensor other) -> Tensor",
    _require_float("logaddexp2", np.logaddexp2),
    {
        "self": lambda F, self, other: 1 / (1 + F.exp2(other - self)),
        "other": lambda F, self, other: 1 / (1 + F.exp2(self - other)),
    },
    numbers=(),
)


def _copysign_slope(F: Any, g: Any, self: Any, result: Any) -> Any:
    zero = self == 0
    return F.where(zero, 0.0, g * (result / F.where(zero, 1.0, self)))


elementwise(
    "copysign(Tensor self, Tensor other) -> Tensor",
    dims.ordered("copysign", np.copysign),
    vjp={"self": _copysign_slope, "other": lambda F, g: F.zeros_like(g)},
    promotion="float",
    grad_fn=lambda self, other: "CopysignBackward0" if other is None else "CopysignBackward1",
    edges_for_numbers=False,
    in_place=True,
)


def _power_of_two(exponent: Any) -> Any:
    return np.exp2(exponent) if exponent.dtype.kind == "f" else np.power(2, exponent)


elementwise(
    "ldexp(Tensor self, Tensor other) -> Tensor",
    lambda self, other: self * _power_of_two(other),
    {
        "self": lambda F, other: F.exp2(other),
        "other": lambda F, result: result * math.log(2),
    },
    promotion="float",
    in_place=True,
    numbers=(),
)


def _heaviside(self: Any, values: Any) -> Any:
    if self.dtype != values.dtype:
        raise EngineError(
            "DTYPE_MISMATCH",
            f"heaviside: both tensors must have one dtype, not {self.dtype} and {values.dtype}",
            argument="values",
            dtypes=f"{self.dtype}, {values.dtype}",
        )
    dims.require_order(self, "heaviside")
    return np.where(self == 0, values, (self > 0).astype(self.dtype))


def _broadcast(*given: Any) -> tuple[int, ...]:
    return np.broadcast_shapes(*[each.shape for each in given if hasattr(each, "shape")])


nondiff(
    "heaviside(Tensor self, Tensor values) -> Tensor",
    _heaviside,
    shape=_broadcast,
    numbers=(),
    in_place=True,
)


def _lerp(self: Any, end: Any, weight: Any) -> Any:
    """From the nearer end, so that weights of 0 and 1 give the ends exactly."""
    for each in (self, end, weight):
        if isinstance(each, np.ndarray) and each.dtype.kind not in "fc":
            raise EngineError(
                "DTYPE_MISMATCH",
                f"lerp: needs floating-point tensors, not {each.dtype}; convert with to()",
                op="lerp",
                dtype=each.dtype,
            )
    if isinstance(weight, _NUMBERS):
        weight = wrapped(weight, self.dtype, "lerp")
    step = end - self
    return np.where(np.abs(weight) < 0.5, self + weight * step, end - step * (1 - weight))


def _lerp_share(F: Any, g: Any, weight: Any) -> Any:
    return g * (_conj(weight) if isinstance(weight, _NUMBERS) else F.conj(weight))


elementwise(
    "lerp(Tensor self, Tensor end, Tensor weight) -> Tensor",
    _lerp,
    vjp={
        "self": lambda F, g, weight: g - _lerp_share(F, g, weight),
        "end": _lerp_share,
        "weight": lambda F, g, self, end: g * F.conj(end - self),
    },
    promotion="same",
    shape=_broadcast,
    numbers=("weight",),
    grad_fn=lambda self, end, weight: "LerpBackward1" if weight is None else "LerpBackward0",
    edges_for_numbers=False,
    in_place=True,
)


def _value(value: Any, like: Any, op: str) -> Any:
    """The factor, which must fit the tensors."""
    return wrapped(value, like.dtype, op)


def _addcmul(self: Any, tensor1: Any, tensor2: Any, value: Any = 1) -> Any:
    product = tensor1 * tensor2
    return self + (product if value == 1 else product * _value(value, product, "addcmul"))


def _addcdiv(self: Any, tensor1: Any, tensor2: Any, value: Any = 1) -> Any:
    if self.dtype.kind not in "fc":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"addcdiv: does not divide {self.dtype} tensors; convert to a floating-point dtype",
            op="addcdiv",
            dtype=self.dtype,
        )
    quotient = tensor1 / tensor2
    return self + (quotient if value == 1 else quotient * _value(value, quotient, "addcdiv"))


def _times(g: Any, value: Any) -> Any:
    return g if value == 1 else g * _conj(value)


general(
    "addcmul(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor",
    _addcmul,
    {
        "self": lambda F, g: g,
        "tensor1": lambda F, g, tensor2, value: _times(g, value) * F.conj(tensor2),
        "tensor2": lambda F, g, tensor1, value: _times(g, value) * F.conj(tensor1),
    },
    promotion="promote",
    numbers=(),
    in_place=True,
)
general(
    "addcdiv(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor",
    _addcdiv,
    {
        "self": lambda F, g: g,
        "tensor1": lambda F, g, tensor2, value: _times(g, value) / F.conj(tensor2),
        "tensor2": lambda F, g, tensor1, tensor2, value: (
            -_times(g, value) * F.conj(tensor1 / tensor2 / tensor2)
        ),
    },
    promotion="promote",
    numbers=(),
    in_place=True,
)
