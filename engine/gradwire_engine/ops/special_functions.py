"""Special functions, computed by SciPy: around erf and gamma, Bessel functions, logit, xlogy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from gradwire_engine.context import current
from gradwire_engine.declare import composite, elementwise, general, nondiff
from gradwire_engine.dtypes import FLOAT32
from gradwire_engine.errors import EngineError

_ROOT_OF_PI = math.sqrt(math.pi)
_ROOT_HALF = math.sqrt(0.5)
_TOP = ("torch", "Tensor", "special")


def of_real(op: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel of a SciPy function of real numbers, with results in the dtype of its arguments.

    SciPy has none for float16, which goes through float32.
    """

    def kernel(*given: Any) -> Any:
        dtypes = [each.dtype for each in given if hasattr(each, "dtype")]
        if any(dtype.kind == "c" for dtype in dtypes):
            raise EngineError(
                "DTYPE_MISMATCH",
                f"{op}: is a function of real numbers here; take real() or imag()",
                op=op,
            )
        if dtypes[0] == np.float16:
            wide = [each.astype(FLOAT32) if hasattr(each, "astype") else each for each in given]
            return function(*wide).astype(np.float16)
        # A plain number must not widen float32.
        return function(*given).astype(dtypes[0], copy=False)

    return kernel


_Slope = Callable[..., Any]
_FUNCTIONS: dict[str, tuple[Callable[..., Any], _Slope, tuple[str, ...]]] = {
    "erfc": (special.erfc, lambda F, self: (-2 / _ROOT_OF_PI) * F.exp(-self * self), _TOP),
    "erfinv": (
        special.erfinv,
        lambda F, result: (0.5 * _ROOT_OF_PI) * F.exp(result * result),
        _TOP,
    ),
    "lgamma": (special.gammaln, lambda F, self: F.digamma(self), ("torch", "Tensor")),
    "digamma": (special.digamma, lambda F, self: F.polygamma(1, self), _TOP),
    "i0": (special.i0, lambda F, self: F.special__i1(self), _TOP),
}

for _name, (_function, _slope, _places) in _FUNCTIONS.items():
    elementwise(
        f"{_name}(Tensor self) -> Tensor",
        of_real(_name, _function),
        _slope,
        promotion="float",
        in_place=True,
        places=_places,
    )


def _polygamma(n: int, self: np.ndarray) -> Any:
    if n < 0:
        raise EngineError(
            "BAD_VALUE", f"polygamma: n must not be negative, not {n}", argument="n", n=n
        )
    return of_real("polygamma", lambda x: special.polygamma(n, x))(self)


elementwise(
    "polygamma(int n, Tensor self) -> Tensor",
    _polygamma,
    {"self": lambda F, n, self: F.polygamma(n + 1, self)},
    promotion="float",
    places=_TOP,
)


def _halves_below(F: Any, self: Any, p: int) -> Any:
    """x, x - 1/2, ..., x - (p - 1)/2 along a new last dimension."""
    return F.unsqueeze(self, -1) - F.arange(0.0, p / 2, 0.5, dtype=self.dtype)


def _mvlgamma(self: np.ndarray, p: int) -> Any:
    constant = p * (p - 1) / 4 * math.log(math.pi)
    below = self[..., None] - np.arange(p, dtype=self.dtype) / 2
    return of_real("mvlgamma", lambda x: special.gammaln(x).sum(-1) + constant)(below)


def _mvlgamma_shape(self: np.ndarray, p: int) -> tuple[int, ...]:
    """Of the terms that are summed up."""
    if p < 1:
        raise EngineError(
            "BAD_VALUE", f"mvlgamma: p must be at least 1, not {p}", argument="p", p=p
        )
    return (*self.shape, p)


elementwise(
    "mvlgamma(Tensor self, int p) -> Tensor",
    _mvlgamma,
    lambda F, self, p: F.sum(F.digamma(_halves_below(F, self, p)), (-1,)),
    promotion="float",
    shape=_mvlgamma_shape,
    in_place=True,
)


def _sinc(self: np.ndarray) -> Any:
    return np.sinc(self).astype(self.dtype, copy=False)


def _sinc_slope(F: Any, self: Any) -> Any:
    x = self * math.pi
    slope = (F.cos(x) * x - F.sin(x)) / F.where(self == 0, 1.0, x * self)
    return F.where(self == 0, 0.0, slope)


elementwise(
    "sinc(Tensor self) -> Tensor",
    _sinc,
    _sinc_slope,
    promotion="float",
    in_place=True,
    places=_TOP,
)


def _divided(F: Any, numerator: Any, self: Any, at_zero: float) -> Any:
    """Numerator / x, and its limit where x is 0."""
    return F.where(self == 0, at_zero, numerator / F.where(self == 0, 1.0, self))


# Under the names that they have in torch.special. PyTorch differentiates the first ones.
_IN_SPECIAL: dict[str, tuple[Callable[..., Any], _Slope]] = {
    "i0e": (special.i0e, lambda F, self, result: F.special__i1e(self) - F.sign(self) * result),
    "i1": (special.i1, lambda F, self, result: F.i0(self) - _divided(F, result, self, 0.5)),
    "i1e": (
        special.i1e,
        lambda F, self, result: (
            F.special__i0e(self) - F.sign(self) * result - _divided(F, result, self, 0.5)
        ),
    ),
    "erfcx": (special.erfcx, lambda F, self, result: 2 * self * result - 2 / _ROOT_OF_PI),
    "ndtri": (
        special.ndtri,
        lambda F, result: math.sqrt(2 * math.pi) * F.exp(0.5 * result * result),
    ),
    "log_ndtr": (
        special.log_ndtr,
        lambda F, self: math.sqrt(2 / math.pi) / F.special__erfcx(self * -_ROOT_HALF),
    ),
    "entr": (special.entr, lambda F, self: -1 - F.log(self)),
    "bessel_j0": (special.j0, lambda F, self: -F.special__bessel_j1(self)),
    "bessel_j1": (
        special.j1,
        lambda F, self, result: F.special__bessel_j0(self) - _divided(F, result, self, 0.5),
    ),
    "bessel_y0": (special.y0, lambda F, self: -F.special__bessel_y1(self)),
    "bessel_y1": (special.y1, lambda F, self, result: F.special__bessel_y0(self) - result / self),
    "modified_bessel_i0": (special.i0, lambda F, self: F.special__i1(self)),
    "modified_bessel_i1": (
        special.i1,
        lambda F, self, result: F.i0(self) - _divided(F, result, self, 0.5),
    ),
    "modified_bessel_k0": (special.k0, lambda F, self: -F.special__modified_bessel_k1(self)),
    "modified_bessel_k1": (
        special.k1,
        lambda F, self, result: -F.special__modified_bessel_k0(self) - result / self,
    ),
    "scaled_modified_bessel_k0": (
        special.k0e,
        lambda F, self, result: result - F.special__scaled_modified_bessel_k1(self),
    ),
    "scaled_modified_bessel_k1": (
        special.k1e,
        lambda F, self, result: result - F.special__scaled_modified_bessel_k0(self) - result / self,
    ),
    "spherical_bessel_j0": (
        lambda x: special.spherical_jn(0, x),
        lambda F, self, result: _divided(F, F.cos(self) - result, self, 0.0),
    ),
}


def _node(name: str) -> str:
    return "Special" + "".join(w[:1].upper() + w[1:] for w in name.split("_")) + "Backward0"


_NODES = {"i0e": "SpecialI0EBackward0", "i1e": "SpecialI1EBackward0"}

for _name, (_function, _slope) in _IN_SPECIAL.items():
    elementwise(
        f"special.{_name}(Tensor self) -> Tensor",
        of_real(f"special.{_name}", _function),
        _slope,
        promotion="float",
        grad_fn=_NODES.get(_name, _node(_name)),
        places=("special",),
    )

nondiff(
    "special.airy_ai(Tensor x) -> Tensor",
    of_real("special.airy_ai", lambda x: special.airy(x)[0]),
    promotion="float",
    places=("special",),
)
nondiff(
    "special.zeta(Tensor self, Tensor other) -> Tensor",
    of_real("special.zeta", special.zeta),
    promotion="float",
    places=("special",),
)


def _no_slope_by_shape(F: Any, g: Any) -> Any:
    raise EngineError(
        "BAD_VALUE",
        "igamma and igammac are differentiated by their second argument alone; detach() the first",
        argument="self",
    )


def _gamma_density(F: Any, self: Any, other: Any) -> Any:
    return F.exp((self - 1) * F.log(other) - other - F.lgamma(self))


elementwise(
    "igamma(Tensor self, Tensor other) -> Tensor",
    of_real("igamma", special.gammainc),
    vjp={
        "self": _no_slope_by_shape,
        "other": lambda F, g, self, other: g * _gamma_density(F, self, other),
    },
    numbers=(),
    in_place=True,
)
elementwise(
    "igammac(Tensor self, Tensor other) -> Tensor",
    of_real("igammac", special.gammaincc),
    vjp={
        "self": _no_slope_by_shape,
        "other": lambda F, g, self, other: -g * _gamma_density(F, self, other),
    },
    numbers=(),
    in_place=True,
)


def _as_float(F: Any, self: Any) -> Any:
    return self if self.dtype.kind in "fc" else F.to(self, current.context.default_dtype)


composite(
    "special.ndtr(Tensor self) -> Tensor",
    lambda F, self: F.mul__Scalar(
        F.add__Scalar(F.erf(F.mul__Scalar(_as_float(F, self), _ROOT_HALF)), 1), 0.5
    ),
    kernel=of_real("special.ndtr", special.ndtr),
    places=("special",),
)


def _require_interval(eps: float | None) -> None:
    if eps is not None and not 0 <= eps <= 1:
        raise EngineError(
            "BAD_VALUE", f"logit: eps must be between 0 and 1, not {eps}", argument="eps", eps=eps
        )


def _logit(self: np.ndarray, eps: float | None = None) -> Any:
    _require_interval(eps)
    x = self if eps is None else np.minimum(np.maximum(self, eps), 1 - eps)
    return of_real("logit", special.logit)(x)


def _logit_slope(F: Any, g: Any, self: Any, eps: float | None) -> Any:
    low, high, outside = (0.0, 1.0, math.nan) if eps is None else (eps, 1 - eps, 0.0)
    inside = F.logical_and(self >= low, self <= high)
    return F.where(inside, g / (self * (1 - self)), outside)


general(
    "logit(Tensor self, float? eps=None) -> Tensor",
    _logit,
    _logit_slope,
    promotion="float",
    in_place=True,
    places=_TOP,
)


def _product_node(name: str) -> Callable[..., str]:
    """PyTorch's node: of two tensors, of a number and a tensor, of a tensor and a number."""
    return lambda self, other: (
        f"{name}Backward{0 if self is None is other else 2 if self is None else 1}"
    )


elementwise(
    "xlogy(Tensor self, Tensor other) -> Tensor",
    of_real("xlogy", special.xlogy),
    vjp={
        "self": lambda F, g, self, other: F.where(
            F.logical_and(self == 0, other <= 0), 0.0, F.xlogy(g, other)
        ),
        "other": lambda F, g, self, other: g * self / other,
    },
    promotion="float",
    grad_fn=_product_node("Xlogy"),
    edges_for_numbers=False,
    in_place=True,
    places=_TOP,
)
elementwise(
    "special.xlog1py(Tensor self, Tensor other) -> Tensor",
    of_real("special.xlog1py", special.xlog1py),
    vjp={
        "self": lambda F, g, self, other: F.where(
            F.logical_and(self == 0, other <= -1), 0.0, F.special__xlog1py(g, other)
        ),
        "other": lambda F, g, self, other: g * self / (other + 1),
    },
    promotion="float",
    grad_fn=_product_node("SpecialXlog1Py"),
    edges_for_numbers=False,
    places=("special",),
)
