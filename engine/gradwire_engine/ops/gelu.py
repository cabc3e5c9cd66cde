"""The Gaussian error linear unit x·Φ(x), and its approximation by tanh."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from gradwire_engine.declare import composite, elementwise
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.blocks import by_blocks

_SQRT_HALF = math.sqrt(0.5)
_GAUSS = 1 / math.sqrt(2 * math.pi)
_TANH_SCALE = math.sqrt(2 / math.pi)
_TANH_CUBE = 0.044715

# erf(x) ≈ x·P(x²) / Q(x²) on [-4, 4], to the precision of float32 (the coefficients of Eigen's
# vectorized erf). SciPy's goes element by element and takes four times as long.
_ERF_P = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_Q = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def _polynomial(out: np.ndarray, x: np.ndarray, coefficients: tuple[float, ...]) -> None:
    first, *rest = coefficients
    np.multiply(x, first, out=out)
    for nr, each in enumerate(rest):
        if nr:
            out *= x
        out += each


def _normal_cdf(out: np.ndarray, x: np.ndarray) -> None:
    if x.dtype != np.float32:
        special.ndtr(x, out=out)
        return
    z = x * np.float32(_SQRT_HALF)
    np.clip(z, -4, 4, out=z)
    square, divisor = z * z, np.empty_like(z)
    _polynomial(out, square, _ERF_P)
    _polynomial(divisor, square, _ERF_Q)
    out *= z
    out /= divisor
    out += 1
    out *= 0.5


def _tanh_part(out: np.ndarray, x: np.ndarray) -> None:
    """tanh(√(2/π)·(x + 0.044715·x³))."""
    np.multiply(x, x, out=out)
    out *= _TANH_SCALE * _TANH_CUBE
    out += _TANH_SCALE
    out *= x
    np.tanh(out, out=out)


def _exact(out: np.ndarray, x: np.ndarray) -> None:
    _normal_cdf(out, x)
    out *= x


def _by_tanh(out: np.ndarray, x: np.ndarray) -> None:
    _tanh_part(out, x)
    out += 1
    out *= x
    out *= 0.5


def _exact_slope(out: np.ndarray, g: np.ndarray, x: np.ndarray) -> None:
    cdf = np.empty_like(x)
    _normal_cdf(cdf, x)
    np.multiply(x, x, out=out)
    out *= -0.5
    np.exp(out, out=out)
    out *= _GAUSS
    out *= x
    out += cdf
    out *= g


def _tanh_slope(out: np.ndarray, g: np.ndarray, x: np.ndarray) -> None:
    t = np.empty_like(x)
    _tanh_part(t, x)
    inner = x * x
    inner *= 3 * _TANH_SCALE * _TANH_CUBE
    inner += _TANH_SCALE
    inner *= x
    np.multiply(t, t, out=out)
    np.subtract(1, out, out=out)
    out *= inner
    out += t
    out += 1
    out *= 0.5
    out *= g


def _gelu(self: np.ndarray, approximate: str = "none") -> np.ndarray:
    if approximate not in ("none", "tanh"):
        raise EngineError(
            "BAD_VALUE",
            f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}",
            argument="approximate",
        )
    return by_blocks(_by_tanh if approximate == "tanh" else _exact, self)


def _gelu_slope(F: Any, g: Any, self: Any, approximate: str) -> Any:
    if approximate == "tanh":
        t = F.tanh(_TANH_SCALE * (self + _TANH_CUBE * self * self * self))
        inner = _TANH_SCALE * (1 + 3 * _TANH_CUBE * self * self)
        return g * (0.5 * (1 + t) + 0.5 * self * (1 - t * t) * inner)
    cdf = 0.5 * (1 + F.erf(self * _SQRT_HALF))
    return g * (cdf + self * (_GAUSS * F.exp(-0.5 * self * self)))


composite(
    "_gelu_backward(Tensor grad_output, Tensor self, str approximate) -> Tensor",
    _gelu_slope,
    kernel=lambda grad_output, self, approximate: by_blocks(
        _tanh_slope if approximate == "tanh" else _exact_slope, grad_output, self
    ),
    places=(),
)
elementwise(
    'gelu(Tensor self, *, str approximate="none") -> Tensor',
    _gelu,
    vjp=lambda F, g, self, approximate: F._gelu_backward(g, self, approximate),
    promotion="float",
    places=("nn.functional",),
    is_real=True,
)
