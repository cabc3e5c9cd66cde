"""Arithmetic and elementary functions, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.declare import composite, elementwise, general, linear, nondiff
from gradwire_engine.dtypes import category, complex_dtype, number_dtype, result_dtype, wrapped
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims
from gradwire_engine.transforms import leave

_NUMBERS = (bool, int, float, complex)


def _conj(value: Any) -> Any:
    return value.conjugate() if isinstance(value, complex) else value


def _negative(self: np.ndarray) -> np.ndarray:
    if self.dtype.kind == "b":
        raise EngineError(
            "DTYPE_MISMATCH", "neg: a bool tensor has no negative; use logical_not", op="neg"
        )
    return np.asarray(np.negative(self))


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


linear("neg(Tensor self) -> Tensor", _negative, lambda F, g: -g, in_place=True)
linear(
    "add(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor",
    _add,
    {"self": lambda F, g: g, "other": lambda F, g, alpha: g if alpha == 1 else g * _conj(alpha)},
    promotion="promote",
    in_place=True,
)
linear(
    "sub(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor",
    _subtract,
    {"self": lambda F, g: g, "other": lambda F, g, alpha: g * -_conj(alpha)},
    promotion="promote",
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
# Products and quotients by numbers as PyTorch's own compositions record them.
linear(
    "mul.Scalar(Tensor self, Scalar other) -> Tensor",
    np.multiply,
    lambda F, g, other: g * _conj(other),
    grad_fn="MulBackward1",
    places=(),
)
linear(
    "div.Scalar(Tensor self, Scalar other) -> Tensor",
    np.true_divide,
    lambda F, g, other: g / _conj(other),
    grad_fn="DivBackward1",
    places=(),
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
    if isinstance(exponent, _NUMBERS):
        if exponent == 0:
            return F.zeros_like(g)
        slope = exponent * F._power(self, exponent - 1)
        return g * F.conj(slope)
    slope = exponent * F.pow(self, exponent - 1)
    return F.where(exponent == 0, 0.0, g * F.conj(slope))


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

linear(
    "_conj(Tensor self) -> Tensor",
    np.conj,
    lambda F, g: F.conj(g),
    places=(),
)
composite(
    "conj(Tensor self) -> Tensor",
    lambda F, self: F._conj(self) if self.dtype.kind == "c" else self,
    kernel=lambda self: np.conj(self) if self.dtype.kind == "c" else self,
)


def _require_complex(self: Any, op: str) -> None:
    if self.dtype.kind != "c":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: needs a complex tensor, not {self.dtype}",
            argument="self",
            dtype=self.dtype,
        )


def _view_as_real(self: np.ndarray) -> np.ndarray:
    _require_complex(self, "view_as_real")
    # A NumPy scalar's real part would be a copy of half of what the strides lead through.
    self = np.asarray(self)
    part = self.real
    shape, strides = (*self.shape, 2), (*self.strides, part.itemsize)
    return np.lib.stride_tricks.as_strided(part, shape, strides)


def _view_as_complex(self: np.ndarray) -> np.ndarray:
    if self.dtype.name not in ("float32", "float64"):
        raise EngineError(
            "DTYPE_MISMATCH",
            f"view_as_complex: needs float32 or float64, not {self.dtype}",
            argument="self",
            dtype=self.dtype,
        )
    complete = self.ndim > 0 and self.shape[-1] == 2
    if complete and not self.size:
        return np.empty(self.shape[:-1], complex_dtype(self.dtype))
    if not complete or self.strides[-1] != self.itemsize:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"view_as_complex: needs pairs of neighbours along the last dimension, not the shape "
            f"{self.shape} with strides {self.strides}; clone() brings pairs together",
            argument="self",
            shape=self.shape,
        )
    return self.view(complex_dtype(self.dtype))[..., 0]


linear(
    "view_as_real(Tensor self) -> Tensor",
    _view_as_real,
    lambda F, g: F.view_as_complex(F.clone(g)),
    is_view=True,
    shape=lambda self: (*self.shape, 2),
    places=("torch",),
)
linear(
    "view_as_complex(Tensor self) -> Tensor",
    _view_as_complex,
    lambda F, g: F.view_as_real(g),
    is_view=True,
    places=("torch",),
)


def _imag(F: Any, self: Any) -> Any:
    _require_complex(self, "imag")
    return F.select(F.view_as_real(self), -1, 1)


composite(
    "real(Tensor self) -> Tensor",
    lambda F, self: F.select(F.view_as_real(self), -1, 0) if self.dtype.kind == "c" else self,
    kernel=lambda self: self.real,
    places=("torch",),
)
composite("imag(Tensor self) -> Tensor", _imag, places=("torch",))


# ---------------------------------------------------------------- selection


def _clip(self: Any, min: Any = None, max: Any = None) -> Any:
    if min is None and max is None:
        raise EngineError("WRONG_ARITY", "clamp: at least one of min and max is needed", op="clamp")
    dims.require_order(self, "clamp")
    result = self
    if min is not None:
        result = np.maximum(result, min)
    if max is not None:
        result = np.minimum(result, max)
    return result


def _inside(F: Any, g: Any, self: Any, min: Any, max: Any) -> Any:
    """Clamp is inclusive: at a bound the gradient passes."""
    if min is not None:
        g = F.where(self >= min, g, 0.0)
    return g if max is None else F.where(self <= max, g, 0.0)


def _below(F: Any, g: Any, self: Any, min: Any, max: Any) -> Any:
    mask = self < min
    if max is not None:
        mask = F.logical_and(mask, min < max)
    return F.where(mask, g, 0.0)


def _above(F: Any, g: Any, self: Any, min: Any, max: Any) -> Any:
    mask = self > max
    if min is not None:
        mask = F.logical_or(mask, max < min)
    return F.where(mask, g, 0.0)


elementwise(
    "clamp(Tensor self, Tensor? min=None, Tensor? max=None) -> Tensor",
    _clip,
    vjp={"self": _inside, "min": _below, "max": _above},
    grad_fn=lambda self, min, max: "ClampBackward0" if min is max is None else "ClampBackward1",
    edges_for_numbers=False,
    in_place=True,
)


def _share_of(greater: bool) -> Any:
    def share(F: Any, g: Any, self: Any, other: Any) -> Any:
        wins = self > other if greater else self < other
        return F.where(wins, g, F.where(self == other, g / 2, 0.0))

    return share


def _share_of_other(greater: bool) -> Any:
    def share(F: Any, g: Any, self: Any, other: Any) -> Any:
        wins = self < other if greater else self > other
        return F.where(wins, g, F.where(self == other, g / 2, 0.0))

    return share


elementwise(
    "maximum(Tensor self, Tensor other) -> Tensor",
    dims.ordered("maximum", np.maximum),
    vjp={"self": _share_of(True), "other": _share_of_other(True)},
)
elementwise(
    "minimum(Tensor self, Tensor other) -> Tensor",
    dims.ordered("minimum", np.minimum),
    vjp={"self": _share_of(False), "other": _share_of_other(False)},
)


def _require_bool(condition: np.ndarray, op: str, argument: str) -> None:
    if condition.dtype.kind != "b":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: {argument} must be a bool tensor, not {condition.dtype}; compare first, for "
            "example x > 0",
            argument=argument,
            dtype=condition.dtype,
        )


def _where(condition: np.ndarray, self: Any, other: Any) -> np.ndarray:
    _require_bool(condition, "where", "condition")
    dtype = result_dtype((self, other))
    return np.where(condition, _cast(self, dtype), _cast(other, dtype))


def _cast(value: Any, dtype: np.dtype) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value.astype(dtype, copy=False)
    return np.asarray(value, dtype)


def _broadcast(*values: Any) -> tuple[int, ...]:
    return np.broadcast_shapes(*[v.shape for v in values if isinstance(v, np.ndarray)])


general(
    "where(Tensor condition, Tensor self, Tensor other) -> Tensor",
    _where,
    {
        "self": lambda F, g, condition: F.where(condition, g, 0.0),
        "other": lambda F, g, condition: F.where(condition, 0.0, g),
    },
    shape=_broadcast,
    numbers=("self", "other"),
    places=("torch",),
)


def _masked_fill(self: np.ndarray, mask: np.ndarray, value: Any) -> np.ndarray:
    _require_bool(mask, "masked_fill", "mask")
    if isinstance(value, np.ndarray) and value.ndim:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"masked_fill: value must be a number or a 0-d tensor, not of shape {value.shape}",
            argument="value",
        )
    return np.where(mask, wrapped(value, self.dtype, "masked_fill"), self)


general(
    "masked_fill(Tensor self, Tensor mask, Tensor value) -> Tensor",
    _masked_fill,
    {
        "self": lambda F, g, mask: F.where(mask, 0.0, g),
        "value": lambda F, g, mask: F.where(mask, g, 0.0),
    },
    shape=_broadcast,
    numbers=("value",),
    grad_fn=lambda self, mask, value: (
        "MaskedFillBackward1" if value is None else "MaskedFillBackward0"
    ),
    edges_for_numbers=False,
    in_place=True,
    places=("torch", "Tensor"),
)

# ------------------------------------------------------------ dtype, copies

linear(
    "_to_copy(Tensor self, ScalarType dtype) -> Tensor",
    lambda self, dtype: self.astype(dtype),
    lambda F, g: g,
    places=(),
)
composite(
    "to(Tensor self, ScalarType dtype) -> Tensor",
    lambda F, self, dtype: self if self.dtype == dtype else F._to_copy(self, dtype),
    kernel=lambda self, dtype: self.astype(dtype, copy=False),
    places=(),
)
linear("clone(Tensor self) -> Tensor", lambda self: self.copy(), lambda F, g: g)
nondiff("detach(Tensor self) -> Tensor", lambda self: self[...], is_view=True)
composite(
    "_detach_from(Tensor self, Tensor[] variables) -> Tensor",
    lambda F, self, variables: leave(self, variables),
    places=(),
)


def _copy(self: np.ndarray, src: np.ndarray) -> np.ndarray:
    try:
        return np.broadcast_to(src, self.shape).astype(self.dtype)
    except ValueError:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"a source of shape {src.shape} does not broadcast to the shape {self.shape} of what "
            "it is copied to",
            argument="src",
            shape=self.shape,
            src_shape=src.shape,
        ) from None


def _assign(self: np.ndarray, src: np.ndarray) -> np.ndarray:
    surplus = src.ndim - self.ndim
    if surplus > 0 and src.shape[:surplus] == (1,) * surplus:
        src = src.reshape(src.shape[surplus:])
    return _copy(self, src)


linear(
    "copy(Tensor self, Tensor src) -> Tensor",
    _copy,
    {"self": lambda F, g: F.zeros_like(g), "src": lambda F, g: g},
    grad_fn="CopyBackwards",
    in_place_only=True,
)
# What `x[i] = src` copies with: the source may have leading dimensions of size 1 too many.
linear(
    "_assign(Tensor self, Tensor src) -> Tensor",
    _assign,
    {"self": lambda F, g: F.zeros_like(g), "src": lambda F, g: g},
    grad_fn="CopyBackwards",
    in_place_only=True,
    places=(),
)
linear(
    "fill(Tensor self, Tensor value) -> Tensor",
    lambda self, value: np.full(self.shape, wrapped(value, self.dtype, "fill"), self.dtype),
    {"self": lambda F, g: F.zeros_like(g), "value": lambda F, g: g},
    # The in-place form is the public one, and its nodes have numbers of their own.
    grad_fn=lambda self, value: "FillBackward3" if value is None else "FillBackward2",
    edges_for_numbers=False,
    numbers=("value",),
    in_place_only=True,
)
linear(
    "zero(Tensor self) -> Tensor", np.zeros_like, lambda F, g: F.zeros_like(g), in_place_only=True
)
