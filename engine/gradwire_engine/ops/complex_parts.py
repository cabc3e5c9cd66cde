"""Complex numbers: conjugate, parts, and views as pairs of reals."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.declare import composite, general, linear
from gradwire_engine.dtypes import complex_dtype
from gradwire_engine.errors import EngineError

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


def _angle(self: np.ndarray) -> Any:
    if self.dtype.kind == "c":
        return np.angle(self)
    return np.where(np.isnan(self), self, np.where(self < 0, self.dtype.type(np.pi), 0)).astype(
        self.dtype
    )


def _angle_slope(F: Any, g: Any, self: Any) -> Any:
    if self.dtype.kind != "c":
        return F.zeros_like(g)
    zero = self == 0
    square = F.abs(self) * F.abs(self)
    return F.where(zero, 0.0, g * 1j * self / F.where(zero, 1.0, square))


general("angle(Tensor self) -> Tensor", _angle, _angle_slope, promotion="float")


def _require_parts(first: np.ndarray, second: np.ndarray, op: str) -> None:
    if first.dtype != second.dtype or first.dtype.name not in ("float32", "float64"):
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: both tensors must be float32 or both float64, not {first.dtype} and "
            f"{second.dtype}",
            op=op,
            dtypes=f"{first.dtype}, {second.dtype}",
        )


def _together(first: np.ndarray, second: np.ndarray) -> tuple[int, ...]:
    return np.broadcast_shapes(first.shape, second.shape)


def _complex(real: np.ndarray, imag: np.ndarray) -> np.ndarray:
    _require_parts(real, imag, "complex")
    out = np.empty(_together(real, imag), complex_dtype(real.dtype))
    out.real, out.imag = real, imag
    return out


linear(
    "complex(Tensor real, Tensor imag) -> Tensor",
    _complex,
    {"real": lambda F, g: F.real(g), "imag": lambda F, g: F.imag(g)},
    shape=_together,
    numbers=(),
    places=("torch",),
)


def _polar(abs: np.ndarray, angle: np.ndarray) -> np.ndarray:
    _require_parts(abs, angle, "polar")
    return _complex(np.asarray(abs * np.cos(angle)), np.asarray(abs * np.sin(angle)))


general(
    "polar(Tensor abs, Tensor angle) -> Tensor",
    _polar,
    {
        "abs": lambda F, g, angle: F.real(g) * F.cos(angle) + F.imag(g) * F.sin(angle),
        "angle": lambda F, g, result: F.imag(g * F.conj(result)),
    },
    shape=_together,
    numbers=(),
    places=("torch",),
)
# PyTorch has lazy conjugates, and functions that settle them. Here a conjugate is settled at once.
composite("resolve_conj(Tensor self) -> Tensor", lambda F, self: self)
composite("resolve_neg(Tensor self) -> Tensor", lambda F, self: self)
