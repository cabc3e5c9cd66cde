"""Discrete Fourier transforms, by SciPy, which keeps float32.

Each public transform is a composite of three: complex to complex, real to half of the complex
spectrum (or all of it), and half of a spectrum to real, whose adjoints are one another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import fft

from gradwire_engine.context import current
from gradwire_engine.declare import composite, linear, nondiff
from gradwire_engine.dtypes import complex_dtype
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims

_FFT = ("fft",)
_DIVISIONS: dict[str | None, tuple[str, str]] = {
    None: ("none", "n"),
    "backward": ("none", "n"),
    "ortho": ("root", "root"),
    "forward": ("n", "none"),
}
"""For each `norm` what a transform and its inverse are divided by: nothing, n, or its root."""


def _norm_of(division: str, forward: bool) -> str:
    """SciPy's `norm` for a division in a direction."""
    if division == "root":
        return "ortho"
    return "backward" if (division == "none") == forward else "forward"


def _division(norm: str | None, forward: bool, op: str) -> str:
    if norm not in _DIVISIONS:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: norm must be 'forward', 'backward' or 'ortho', not {norm!r}",
            argument="norm",
        )
    return _DIVISIONS[norm][0 if forward else 1]


def _c2c(self: np.ndarray, dim: Sequence[int], division: str, forward: bool) -> Any:
    function = fft.fftn if forward else fft.ifftn
    return function(self, axes=tuple(dim), norm=_norm_of(division, forward))


linear(
    "_fft_c2c(Tensor self, int[] dim, str division, bool forward) -> Tensor",
    _c2c,
    lambda F, g, dim, division, forward: F._fft_c2c(g, dim, division, not forward),
    grad_fn="FftC2CBackward0",
    places=(),
)


def _r2c(self: np.ndarray, dim: Sequence[int], division: str, onesided: bool) -> Any:
    if onesided:
        return fft.rfftn(self, axes=tuple(dim), norm=_norm_of(division, True))
    return fft.fftn(self, axes=tuple(dim), norm=_norm_of(division, True))


def _r2c_slope(
    F: Any, g: Any, self_shape: Any, dim: Sequence[int], division: str, onesided: bool
) -> Any:
    if onesided:
        # The half that was left out has no gradient.
        last = dim[-1]
        whole = (*g.shape[:last], self_shape[last], *g.shape[last + 1 :])
        if g.shape[last] != whole[last]:
            g = F.slice_backward(g, whole, last, 0, g.shape[last], 1)
    return F.real(F._fft_c2c(g, dim, division, False))


linear(
    "_fft_r2c(Tensor self, int[] dim, str division, bool onesided) -> Tensor",
    _r2c,
    _r2c_slope,
    grad_fn="FftR2CBackward0",
    places=(),
)


def _c2r(self: np.ndarray, dim: Sequence[int], division: str, last_dim_size: int) -> Any:
    sizes = [self.shape[each] for each in dim]
    sizes[-1] = last_dim_size
    return fft.irfftn(self, sizes, axes=tuple(dim), norm=_norm_of(division, False))


def _c2r_slope(F: Any, g: Any, dim: Sequence[int], division: str, last_dim_size: int) -> Any:
    """A frequency that has a mirror image in the other half counts for both."""
    half = F._fft_r2c(g, dim, division, True)
    mirrored = last_dim_size - half.shape[dim[-1]]
    if mirrored <= 0:
        return half
    doubled = F.slice(half, dim[-1], 1, 1 + mirrored, 1)
    return half + F.slice_backward(doubled, half.shape, dim[-1], 1, 1 + mirrored, 1)


linear(
    "_fft_c2r(Tensor self, int[] dim, str division, int last_dim_size) -> Tensor",
    _c2r,
    _c2r_slope,
    grad_fn="FftC2RBackward0",
    shape=lambda self, dim, division, last_dim_size: (
        *self.shape[: dim[-1]],
        last_dim_size,
        *self.shape[dim[-1] + 1 :],
    ),
    places=(),
)
linear(
    "_conj_physical(Tensor self) -> Tensor",
    np.conj,
    lambda F, g: F.conj(g),
    grad_fn="ConjPhysicalBackward0",
    places=(),
)


def _promoted(F: Any, self: Any, to_complex: bool, op: str) -> Any:
    dtype = self.dtype
    if dtype == np.float16:
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: there is no transform of float16; convert with to() to float32",
            argument="self",
            dtype=dtype,
        )
    if dtype.kind not in "fc":
        dtype = current.context.default_dtype
    if to_complex and dtype.kind == "f":
        dtype = complex_dtype(dtype)
    return F.to(self, dtype)


def _require_real(self: Any, op: str) -> None:
    if self.dtype.kind == "c":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: needs a real tensor, not {self.dtype}; fft transforms complex ones",
            argument="self",
            dtype=self.dtype,
        )


def _sized(F: Any, self: Any, sizes: Sequence[int], dim: Sequence[int], op: str) -> Any:
    """Cut, or filled with zeros, to these sizes; -1 keeps a size."""
    padding = [0] * (2 * len(self.shape))
    fill = False
    for size, axis in zip(sizes, dim, strict=True):
        have = self.shape[axis]
        if size == -1 or size == have:
            continue
        if size < have:
            self = F.slice(self, axis, 0, size, 1)
        else:
            # constant_pad_nd takes the last dimension first.
            padding[2 * (len(self.shape) - 1 - axis) + 1] = size - have
            fill = True
    return F.constant_pad_nd(self, tuple(padding)) if fill else self


def _lengths(
    self: Any, s: Sequence[int] | None, dim: Sequence[int] | None, op: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The dimensions to transform, and the lengths to bring them to; -1 keeps a length."""
    rank = len(self.shape)
    if dim is not None:
        axes = tuple(dims.one(each, rank) for each in dim)
        if len(set(axes)) != len(axes):
            raise EngineError(
                "BAD_VALUE", f"{op}: a dimension appears twice in dim={list(dim)}", argument="dim"
            )
    else:
        axes = tuple(range(rank)) if s is None else tuple(range(rank - len(s), rank))
    lengths = (-1,) * len(axes) if s is None else tuple(s)
    if len(lengths) != len(axes) or any(axis < 0 for axis in axes) or not rank:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: {len(lengths)} lengths for {len(axes)} dimensions of a tensor of {rank}",
            argument="s",
        )
    for length, axis in zip(lengths, axes, strict=True):
        _require_length(self.shape[axis] if length == -1 else length, op)
    return axes, lengths


def _require_length(length: int, op: str) -> None:
    if length < 1:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: cannot transform {length} points; lengths are at least 1",
            argument="n",
            n=length,
        )


def _one_axis(F: Any, self: Any, n: int | None, dim: int, op: str) -> tuple[Any, int]:
    """The tensor with n points along the axis, and the axis."""
    axis = dims.one(dim, len(self.shape))
    if not self.shape:
        raise EngineError(
            "DIM_OUT_OF_RANGE", f"{op}: a 0-d tensor has no dimension to transform", argument="dim"
        )
    _require_length(self.shape[axis] if n is None else n, op)
    return (self if n is None else _sized(F, self, (n,), (axis,), op)), axis


def _fft(op: str, forward: bool) -> Any:
    def formula(F: Any, self: Any, n: int | None, dim: int, norm: str | None) -> Any:
        division = _division(norm, forward, op)
        real = self.dtype.kind != "c"
        self, axis = _one_axis(F, _promoted(F, self, False, op), n, dim, op)
        if not real:
            return F._fft_c2c(self, (axis,), division, forward)
        spectrum = F._fft_r2c(self, (axis,), division, False)
        return spectrum if forward else F.conj(spectrum)

    return formula


def _rfft(op: str, forward: bool) -> Any:
    def formula(F: Any, self: Any, n: int | None, dim: int, norm: str | None) -> Any:
        division = _division(norm, forward, op)
        _require_real(self, op)
        self, axis = _one_axis(F, _promoted(F, self, False, op), n, dim, op)
        spectrum = F._fft_r2c(self, (axis,), division, True)
        return spectrum if forward else F.conj(spectrum)

    return formula


def _irfft(op: str, forward: bool) -> Any:
    def formula(F: Any, self: Any, n: int | None, dim: int, norm: str | None) -> Any:
        division = _division(norm, forward, op)
        self = _promoted(F, self, True, op)
        axis = dims.one(dim, len(self.shape))
        size = 2 * (self.shape[axis] - 1) if n is None and self.shape else n
        _require_length(size or 0, op)
        self, _ = _one_axis(F, self, None if n is None else n // 2 + 1, axis, op)
        if forward:
            self = F.conj(self)
        return F._fft_c2r(self, (axis,), division, size)

    return formula


def _fftn(op: str, forward: bool) -> Any:
    def formula(F: Any, self: Any, s: Any, dim: Any, norm: str | None) -> Any:
        division = _division(norm, forward, op)
        self = _promoted(F, self, True, op)
        axes, lengths = _lengths(self, s, dim, op)
        self = _sized(F, self, lengths, axes, op)
        return F._fft_c2c(self, axes, division, forward) if axes else self

    return formula


def _require_axes(axes: Sequence[int], op: str) -> None:
    if not axes:
        raise EngineError("BAD_VALUE", f"{op}: must transform at least one dimension")


def _rfftn(op: str) -> Any:
    def formula(F: Any, self: Any, s: Any, dim: Any, norm: str | None) -> Any:
        division = _division(norm, True, op)
        _require_real(self, op)
        self = _promoted(F, self, False, op)
        axes, lengths = _lengths(self, s, dim, op)
        _require_axes(axes, op)
        return F._fft_r2c(_sized(F, self, lengths, axes, op), axes, division, True)

    return formula


def _halved(self: Any, s: Any, dim: Any, op: str) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Axes and lengths of half a spectrum, and the length of what it is the spectrum of."""
    axes, lengths = _lengths(self, s, dim, op)
    _require_axes(axes, op)
    given = lengths[-1] if s is not None else -1
    size = 2 * (self.shape[axes[-1]] - 1) if given == -1 else given
    _require_length(size, op)
    return axes, (*lengths[:-1], size // 2 + 1), size


def _irfftn(op: str) -> Any:
    def formula(F: Any, self: Any, s: Any, dim: Any, norm: str | None) -> Any:
        division = _division(norm, False, op)
        self = _promoted(F, self, True, op)
        axes, lengths, size = _halved(self, s, dim, op)
        return F._fft_c2r(_sized(F, self, lengths, axes, op), axes, division, size)

    return formula


def _hfftn(op: str) -> Any:
    def formula(F: Any, self: Any, s: Any, dim: Any, norm: str | None) -> Any:
        division = _division(norm, True, op)
        self = _promoted(F, self, True, op)
        axes, lengths, size = _halved(self, s, dim, op)
        self = _sized(F, self, lengths, axes, op)
        if len(axes) > 1:
            self = F._fft_c2c(self, axes[:-1], division, True)
        return F._fft_c2r(F.conj(self), axes[-1:], division, size)

    return formula


def _ihfftn(op: str) -> Any:
    def formula(F: Any, self: Any, s: Any, dim: Any, norm: str | None) -> Any:
        division = _division(norm, False, op)
        _require_real(self, op)
        self = _promoted(F, self, False, op)
        axes, lengths = _lengths(self, s, dim, op)
        _require_axes(axes, op)
        half = F._fft_r2c(_sized(F, self, lengths, axes, op), axes[-1:], division, True)
        if len(axes) == 1:
            return F.conj(half)
        return F._fft_c2c(F._conj_physical(half), axes[:-1], division, False)

    return formula


for _name, _formula in {
    "fft": _fft("fft.fft", True),
    "ifft": _fft("fft.ifft", False),
    "rfft": _rfft("fft.rfft", True),
    "ihfft": _rfft("fft.ihfft", False),
    "irfft": _irfft("fft.irfft", False),
    "hfft": _irfft("fft.hfft", True),
}.items():
    composite(
        f"fft.{_name}(Tensor self, int? n=None, int dim=-1, str? norm=None) -> Tensor",
        _formula,
        places=_FFT,
    )

for _name, _formula in {
    "fft": _fftn("fft.fftn", True),
    "ifft": _fftn("fft.ifftn", False),
    "rfft": _rfftn("fft.rfftn"),
    "irfft": _irfftn("fft.irfftn"),
    "hfft": _hfftn("fft.hfftn"),
    "ihfft": _ihfftn("fft.ihfftn"),
}.items():
    composite(
        f"fft.{_name}2(Tensor self, int[]? s=None, int[] dim=[-2, -1], str? norm=None) -> Tensor",
        _formula,
        places=_FFT,
    )
    composite(
        f"fft.{_name}n(Tensor self, int[]? s=None, int[]? dim=None, str? norm=None) -> Tensor",
        _formula,
        places=_FFT,
    )


def _shift(inverse: bool) -> Any:
    def formula(F: Any, self: Any, dim: Sequence[int] | None) -> Any:
        axes = tuple(range(len(self.shape))) if dim is None else tuple(dim)
        shape = self.shape or (1,)
        sizes = [shape[dims.one(each, len(self.shape))] for each in axes]
        return F.roll(self, tuple((n + 1) // 2 if inverse else n // 2 for n in sizes), axes)

    return formula


composite("fft.fftshift(Tensor self, int[]? dim=None) -> Tensor", _shift(False), places=_FFT)
composite("fft.ifftshift(Tensor self, int[]? dim=None) -> Tensor", _shift(True), places=_FFT)


def _frequencies(op: str, whole: bool) -> Any:
    function = fft.fftfreq if whole else fft.rfftfreq

    def kernel(n: int, d: float = 1.0, dtype: np.dtype | None = None) -> Any:
        if d == 0 or not math.isfinite(d):
            raise EngineError("BAD_VALUE", f"{op}: d must not be {d}", argument="d")
        return function(n, d).astype(current.context.default_dtype if dtype is None else dtype)

    return kernel


def _frequencies_shape(n: int, *rest: Any) -> tuple[int, ...]:
    _require_length(n, "fftfreq")
    return (n,)


for _name, _whole in {"fftfreq": True, "rfftfreq": False}.items():
    nondiff(
        f"fft.{_name}(int n, float d=1.0, *, ScalarType? dtype=None) -> Tensor",
        _frequencies(f"fft.{_name}", _whole),
        shape=_frequencies_shape,
        places=_FFT,
    )
