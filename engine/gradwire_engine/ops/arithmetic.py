"""Arithmetic and powers, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.declare import composite, elementwise, linear, mutating, nondiff
from gradwire_engine.dtypes import category, number_dtype, wrapped
from gradwire_engine.errors import EngineError

_NUMBERS = (bool, int, float, complex)


def _conj(value: Any) -> Any:
    return value.conjugate() if isinstance(value, complex) else value


def _negative(self: np.ndarray) -> Any:
    if self.dtype.kind == "b":
        raise EngineError(
            "DTYPE_MISMATCH", "neg: a bool tensor has no negative; use logical_not", op="neg"
        )
    return np.negative(self)


def _add(self: Any, other: Any, alpha: Any = 1) -> Any:
    return np.add(self, other) if alpha == 1 else np.add(self, _times(other, alpha, self))


def _array_of(self: Any, other: Any) -> Any:
    """The one of two operands that is not a Python number."""
    return self if isinstance(self, (np.ndarray, np.generic)) else other


def _times(other: Any, alpha: Any, self: Any) -> Any:
    """`other * alpha`, where alpha must fit the dtype that the operands have come to."""
    dtype = _array_of(self, other).dtype
    if category(number_dtype(alpha)) > max(category(dtype), 1):
        raise EngineError(
            "DTYPE_MISMATCH",
            f"alpha={alpha!r} does not fit {dtype} tensors; convert them first, for example with "
            "to()",
            argument="alpha",
            alpha=alpha,
            dtype=dtype,
        )
    return other * wrapped(alpha, dtype)


def _subtract(self: Any, other: Any, alpha: Any = 1) -> Any:
    if getattr(self, "dtype", None) == np.bool_:
        raise EngineError(
            "DTYPE_MISMATCH", "sub: bool tensors do not subtract; use logical_xor", op="sub"
        )
    return np.subtract(self, other) if alpha == 1 else np.subtract(self, _times(other, alpha, self))


linear(
    "neg(Tensor self) -> Tensor",
    _negative,
    lambda F, g: -g,
    ufunc=np.negative,
    is_pointwise=True,
    in_place=True,
)
linear(
    "add(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor",
    _add,
    {"self": lambda F, g: g, "other": lambda F, g, alpha: g if alpha == 1 else g * _conj(alpha)},
    promotion="promote",
    ufunc=np.add,
    is_pointwise=True,
    in_place=True,
)
linear(
    "sub(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor",
    _subtract,
    {"self": lambda F, g: g, "other": lambda F, g, alpha: g * -_conj(alpha)},
    promotion="promote",
    ufunc=np.subtract,
    is_pointwise=True,
    in_place=True,
)
linear(
    "rsub(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor",
    lambda self, other, alpha=1: _subtract(other, self, alpha),
    {"self": lambda F, g, alpha: g * -_conj(alpha), "other": lambda F, g: g},
    promotion="promote",
    grad_fn=lambda self, other, alpha: "RsubBackward0" if other is None else "RsubBackward1",
    edges_for_numbers=False,
    places=("torch",),
)
elementwise(
    "mul(Tensor self, Tensor other) -> Tensor",
    np.multiply,
    {"self": lambda F, other: other, "other": lambda F, self: self},
    in_place=True,
)


def _divide(self: Any, other: Any, rounding_mode: str | None = None) -> Any:
    dtype = _array_of(self, other).dtype
    if rounding_mode is None:
        if dtype.kind in "fc":
            return np.true_divide(self, other)
        dtype = current.context.default_dtype
        return np.true_divide(self, other, dtype=dtype)
    if rounding_mode not in ("floor", "trunc"):
        raise EngineError(
            "BAD_VALUE",
            f"div: rounding_mode must be None, 'floor' or 'trunc', not {rounding_mode!r}",
            argument="rounding_mode",
        )
    if dtype.kind not in "fiu":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"div: {dtype} quotients have no order to round by; leave rounding_mode out",
            argument="rounding_mode",
            dtype=dtype,
        )
    if dtype.kind == "f":
        return np.floor_divide(self, other) if rounding_mode == "floor" else _truncated(self, other)
    if not np.all(other):
        raise EngineError(
            "BAD_VALUE",
            "div: an integer is divided by zero; convert to a floating-point dtype to get inf",
            argument="other",
        )
    quotient = np.floor_divide(self, other)
    if rounding_mode == "floor":
        return quotient
    return quotient + ((quotient < 0) & (quotient * other != self))


def _truncated(self: Any, other: Any) -> Any:
    return np.trunc(np.true_divide(self, other))


def _quotient_by_divisor(F: Any, g: Any, self: Any, other: Any, rounding_mode: Any) -> Any:
    if rounding_mode is not None:
        return F.zeros_like(g)
    return -g * F.conj(self / other / other)


elementwise(
    "div(Tensor self, Tensor other, *, str? rounding_mode=None) -> Tensor",
    _divide,
    ufunc=np.true_divide,
    vjp={
        "self": lambda F, g, other, rounding_mode: (
            g / (F.conj(other) if not isinstance(other, _NUMBERS) else _conj(other))
            if rounding_mode is None
            else F.zeros_like(g)
        ),
        "other": _quotient_by_divisor,
    },
    grad_fn=lambda self, other, rounding_mode: (
        "DivBackward0" if rounding_mode is None else "DivBackward2"
    ),
    in_place=True,
)


def _with_number(function: np.ufunc) -> Any:
    """A kernel of a tensor and a number, in PyTorch's dtype of the two."""

    def kernel(self: np.ndarray, other: Any) -> Any:
        if self.dtype.kind in "biu" and isinstance(other, float):
            self = self.astype(current.context.default_dtype)
        return function(self, other)

    return kernel


def _divided(self: np.ndarray, other: Any) -> Any:
    if self.dtype.kind in "biu":
        self = self.astype(current.context.default_dtype)
    return np.true_divide(self, other)


# Sums, products and quotients by numbers as PyTorch's own compositions record them.
linear(
    "mul.Scalar(Tensor self, Scalar other) -> Tensor",
    _with_number(np.multiply),
    lambda F, g, other: g * _conj(other),
    grad_fn="MulBackward1",
    places=(),
)
linear(
    "add.Scalar(Tensor self, Scalar other) -> Tensor",
    _with_number(np.add),
    lambda F, g: g,
    grad_fn="AddBackward1",
    places=(),
)
linear(
    "sub.Scalar(Tensor self, Scalar other) -> Tensor",
    _with_number(np.subtract),
    lambda F, g: g,
    grad_fn="SubBackward1",
    places=(),
)
linear(
    "div.Scalar(Tensor self, Scalar other) -> Tensor",
    _divided,
    lambda F, g, other: g / _conj(other),
    grad_fn="DivBackward1",
    places=(),
)
composite(
    "true_divide(Tensor self, Tensor other) -> Tensor",
    lambda F, self, other: F.div(self, other),
    numbers=("self", "other"),
)
mutating(
    "true_divide_(Tensor self, Tensor other) -> Tensor", lambda F, self, other: F.div_(self, other)
)


def _modulus(op: str, function: np.ufunc) -> Any:
    def kernel(self: Any, other: Any) -> Any:
        dtype = _array_of(self, other).dtype
        if dtype.kind not in "fiu":
            raise EngineError(
                "DTYPE_MISMATCH",
                f"{op}: {dtype} tensors do not divide with a rest",
                op=op,
                dtype=dtype,
            )
        if dtype.kind in "iu" and not np.all(other):
            raise EngineError(
                "BAD_VALUE",
                f"{op}: an integer is divided by zero; convert to a floating-point dtype to get "
                "nan",
                argument="other",
            )
        return function(self, other)

    return kernel


def _by_modulus(rounding_mode: str) -> Any:
    """The derivative by the divisor: how often it is taken off."""

    def pull(F: Any, g: Any, self: Any, other: Any) -> Any:
        if not isinstance(self, _NUMBERS) and self.dtype.kind == "b":
            self = F.to(self, g.dtype)
        return -g * F.div(self, other, rounding_mode=rounding_mode)

    return pull


elementwise(
    "fmod(Tensor self, Tensor other) -> Tensor",
    _modulus("fmod", np.fmod),
    vjp={
        "self": lambda F, g: g,
        "other": _by_modulus("trunc"),
    },
    grad_fn=lambda self, other: "FmodBackward1" if other is None else "FmodBackward0",
    edges_for_numbers=False,
    in_place=True,
)
elementwise(
    "remainder(Tensor self, Tensor other) -> Tensor",
    _modulus("remainder", np.remainder),
    vjp={
        "self": lambda F, g: g,
        "other": _by_modulus("floor"),
    },
    grad_fn=lambda self, other: "RemainderBackward1" if other is None else "RemainderBackward0",
    in_place=True,
)
nondiff(
    "floor_divide(Tensor self, Tensor other) -> Tensor",
    lambda self, other: _divide(self, other, "floor"),
    promotion="promote",
    in_place=True,
)
elementwise(
    "reciprocal(Tensor self) -> Tensor",
    lambda self: 1 / self,
    lambda F, result: -result * result,
    promotion="float",
    in_place=True,
)


def _power(self: Any, exponent: Any) -> Any:
    """Powers that have a cheaper form take it: `x**3` is 7 times slower than `x*x*x`."""
    if exponent.__class__ in (int, float):
        if exponent == 2:
            return np.square(self)
        if exponent == 1:
            return self if self.dtype.kind != "b" else self.astype(np.int64)
        if exponent == 3:
            return self * self * self
        if self.dtype.kind in "fc":
            if exponent == 0.5:
                return np.sqrt(self)
            if exponent == -0.5:
                return 1 / np.sqrt(self)
            if exponent == -1:
                return 1 / self
    if exponent.__class__ is int and exponent < 0 and self.dtype.kind in "iub":
        raise EngineError(
            "BAD_VALUE",
            "pow: integers to negative integer powers are not integers; convert to float first",
            argument="exponent",
        )
    if self.__class__ is np.ndarray and self.dtype.kind == "b":
        return np.power(self, exponent, dtype=np.uint8).astype(np.bool_)
    return np.power(self, exponent)


def _copied_power(self: Any, exponent: Any) -> Any:
    result = _power(self, exponent)
    return result.copy() if result is self else result


def _power_by_base(F: Any, g: Any, self: Any, exponent: Any) -> Any:
    # What has no name NumPy may overwrite, and so it does with a large factor of g.
    if isinstance(exponent, _NUMBERS):
        if exponent == 0:
            return F.zeros_like(g)
        return g * F.conj(exponent * F._power(self, exponent - 1))
    return F.where(exponent == 0, 0.0, g * F.conj(exponent * F.pow(self, exponent - 1)))


def _power_by_exponent(F: Any, g: Any, self: Any, exponent: Any, result: Any) -> Any:
    if isinstance(self, _NUMBERS):
        if self == 0:
            return F.where(exponent >= 0, 0.0, g * F.conj(result * -np.inf))
        return g * F.conj(result * np.log(self))
    slope = g * F.conj(result * F.log(self))
    if exponent.dtype.kind == "c":
        return F.where(F.logical_and(self == 0, F.real(exponent) >= 0), 0.0, slope)
    return F.where(F.logical_and(self == 0, exponent >= 0), 0.0, slope)


def _power_name(self: Any, exponent: Any) -> str:
    if exponent is not None:
        return "PowBackward0"
    return "PowBackward1" if self is None else "PowBackward2"


elementwise(
    "pow(Tensor self, Tensor exponent) -> Tensor",
    _copied_power,
    vjp={"self": _power_by_base, "exponent": _power_by_exponent},
    grad_fn=_power_name,
    edges_for_numbers=False,
    in_place=True,
)
elementwise(
    "_power(Tensor self, Tensor exponent) -> Tensor",
    _power,
    vjp={"self": _power_by_base},
    grad_fn=_power_name,
    edges_for_numbers=False,
    places=(),
)
composite("square(Tensor self) -> Tensor", lambda F, self: F.pow(self, 2), kernel=np.square)
mutating("square_(Tensor self) -> Tensor", lambda F, self: F.pow_(self, 2))
