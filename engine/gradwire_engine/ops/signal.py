"""Signals: window functions, and Fourier transforms of short parts of a signal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.declare import composite, linear, nondiff
from gradwire_engine.errors import EngineError

Window = Callable[..., np.ndarray]


def _cosines(count: int, *weights: float) -> np.ndarray:
    """Σ ±weight·cos(k·t) over a period, signs alternating."""
    at = 2 * math.pi * np.arange(count) / max(count - 1, 1)
    terms = [(-1) ** k * weight * np.cos(k * at) for k, weight in enumerate(weights)]
    return np.asarray(sum(terms[1:], terms[0]))


def _hamming(count: int, alpha: float = 0.54, beta: float = 0.46) -> np.ndarray:
    return _cosines(count, alpha, beta)


def _kaiser(count: int, beta: float = 12.0) -> np.ndarray:
    return np.kaiser(count, beta)


WINDOWS: Final[dict[str, tuple[Window, str]]] = {
    "hann": (lambda count: _cosines(count, 0.5, 0.5), ""),
    "hamming": (_hamming, ", float alpha=0.54, float beta=0.46"),
    "blackman": (lambda count: _cosines(count, 0.42, 0.5, 0.08), ""),
    "bartlett": (np.bartlett, ""),
    "kaiser": (_kaiser, ", float beta=12.0"),
}
"""Symmetric windows of so many points, and what else their schemas have."""


def _window(op: str, function: Window) -> Callable[..., np.ndarray]:
    def kernel(length: int, periodic: bool = True, *rest: Any) -> np.ndarray:
        *parameters, dtype = rest or (None,)
        dtype = current.context.default_dtype if dtype is None else dtype
        if dtype.kind != "f":
            raise EngineError(
                "DTYPE_MISMATCH",
                f"{op}: windows are of floating-point dtype, not {dtype}",
                argument="dtype",
                dtype=dtype,
            )
        if length < 2:
            return np.ones(length, dtype)
        # A periodic window is a symmetric one whose last point is the first of the next period.
        return function(length + periodic, *parameters)[:length].astype(dtype)

    return kernel


def _window_shape(length: int, *rest: Any) -> Sequence[int]:
    if length < 0:
        raise EngineError(
            "BAD_VALUE",
            f"window_length must not be negative, not {length}",
            argument="window_length",
        )
    return (length,)


for _name, (_function, _more) in WINDOWS.items():
    nondiff(
        f"{_name}_window(int window_length, bool periodic=True{_more}, *, ScalarType? dtype=None) "
        "-> Tensor",
        _window(f"{_name}_window", _function),
        shape=_window_shape,
        places=("torch",),
    )


def _require(fits: bool, op: str, argument: str, said: str) -> None:
    if not fits:
        raise EngineError("BAD_VALUE", f"{op}: {said}", argument=argument)


def _framing(
    F: Any,
    op: str,
    self: Any,
    n_fft: int,
    hop_length: int | None,
    win_length: int | None,
    window: Any,
) -> tuple[int, Any]:
    """The distance between frames, and the window, with zeros to both sides up to `n_fft`."""
    hop = n_fft // 4 if hop_length is None else hop_length
    length = n_fft if win_length is None else win_length
    _require(hop > 0, op, "hop_length", f"hop_length must be at least 1, not {hop}")
    _require(
        0 < length <= n_fft,
        op,
        "win_length",
        f"win_length must be from 1 to n_fft, which is {n_fft}, not {length}",
    )
    if window is not None:
        _require(
            window.shape == (length,),
            op,
            "window",
            f"window must be of shape ({length},), as win_length says, not {window.shape}",
        )
    if length < n_fft:
        if window is None:
            window = F.ones((length,), dtype=self.dtype)
        left = (n_fft - length) // 2
        window = F.constant_pad_nd(window, (left, n_fft - length - left))
    return hop, window


def _stft(
    F: Any,
    self: Any,
    n_fft: int,
    hop_length: int | None,
    win_length: int | None,
    window: Any,
    center: bool,
    pad_mode: str,
    normalized: bool,
    onesided: bool | None,
    return_complex: bool | None,
) -> Any:
    rank, is_complex = len(self.shape), self.dtype.kind == "c"
    if self.dtype.kind not in "fc" or rank not in (1, 2):
        raise EngineError(
            "SHAPE_MISMATCH" if rank not in (1, 2) else "DTYPE_MISMATCH",
            "stft: needs a signal, or rows of signals, of floating-point or complex dtype, not "
            f"{self.dtype} of shape {self.shape}",
            argument="self",
            shape=self.shape,
        )
    complex_window = window is not None and window.dtype.kind == "c"
    if return_complex is None:
        _require(
            is_complex or complex_window,
            "stft",
            "return_complex",
            "return_complex must be given for a real signal: True for complex numbers",
        )
        return_complex = True
    if center:
        # The padding takes a batch of channels.
        extra = (1,) * (3 - rank)
        shaped = F.view(self, (*extra, *self.shape))
        padded = F.pad(shaped, (n_fft // 2, n_fft // 2), pad_mode)
        self = F.view(padded, padded.shape[-rank:])
    if rank == 1:
        self = F.unsqueeze(self, 0)
    length = self.shape[1]
    _require(
        0 < n_fft <= length,
        "stft",
        "n_fft",
        f"n_fft must be from 1 to the length of the signal, {length}, not {n_fft}",
    )
    hop, window = _framing(F, "stft", self, n_fft, hop_length, win_length, window)
    parts = F.unfold(self, 1, n_fft, hop)
    if window is not None:
        parts = F.mul(parts, window)
    is_complex = is_complex or complex_window
    onesided = not is_complex if onesided is None else onesided
    _require(
        not (onesided and is_complex),
        "stft",
        "onesided",
        "onesided must be False for complex numbers, whose spectrum has two different sides",
    )
    division = "root" if normalized else "none"
    if is_complex:
        spectrum = F._fft_c2c(parts, (2,), division, True)
    else:
        spectrum = F._fft_r2c(parts, (2,), division, onesided)
    spectrum = F.transpose(spectrum, 1, 2)
    if rank == 1:
        spectrum = F.squeeze(spectrum, (0,))
    return spectrum if return_complex else F.view_as_real(spectrum)


composite(
    "stft(Tensor self, int n_fft, int? hop_length=None, int? win_length=None, "
    'Tensor? window=None, bool center=True, str pad_mode="reflect", bool normalized=False, '
    "bool? onesided=None, bool? return_complex=None) -> Tensor",
    _stft,
)


def _covered(self: np.ndarray) -> np.ndarray:
    _require(
        not self.size or float(np.abs(self).min()) > 1e-11,
        "istft",
        "window",
        "the window is 0 where only one frame has a part of the signal, which cannot be had back",
    )
    return self


linear("_covered(Tensor self) -> Tensor", _covered, lambda F, g: g, places=())


def _istft(
    F: Any,
    self: Any,
    n_fft: int,
    hop_length: int | None,
    win_length: int | None,
    window: Any,
    center: bool,
    normalized: bool,
    onesided: bool | None,
    length: int | None,
    return_complex: bool,
) -> Any:
    rank = len(self.shape)
    if self.dtype.kind != "c" or rank not in (2, 3) or 0 in self.shape:
        raise EngineError(
            "SHAPE_MISMATCH" if self.dtype.kind == "c" else "DTYPE_MISMATCH",
            "istft: needs the complex spectra of some frames, (frequencies, frames) or rows of "
            f"such, not {self.dtype} of shape {self.shape}",
            argument="self",
            shape=self.shape,
        )
    frequencies, frames = self.shape[-2:]
    onesided = frequencies != n_fft if onesided is None else onesided
    expected = n_fft // 2 + 1 if onesided else n_fft
    _require(
        frequencies == expected,
        "istft",
        "n_fft",
        f"n_fft={n_fft} and onesided={onesided} mean {expected} frequencies, not {frequencies}",
    )
    _require(
        not (onesided and return_complex),
        "istft",
        "return_complex",
        "a complex signal has a spectrum of two sides: return_complex needs onesided=False",
    )
    hop, window = _framing(F, "istft", self, n_fft, hop_length, win_length, window)
    _require(hop <= n_fft, "istft", "hop_length", f"frames of {n_fft} leave gaps in steps of {hop}")
    if window is None:
        window = F.ones((n_fft,), dtype=F.real(self).dtype)
    _require(
        return_complex or window.dtype.kind != "c",
        "istft",
        "window",
        "a complex window gives a complex signal: it needs return_complex=True",
    )
    pairs = F.view_as_real(self)
    if rank == 2:
        pairs = F.unsqueeze(pairs, 0)
    division = "root" if normalized else "n"
    spectrum = F.view_as_complex(F.transpose(pairs, 1, 2))
    if return_complex:
        parts = F._fft_c2c(spectrum, (2,), division, False)
    else:
        if not onesided:
            spectrum = F.slice(spectrum, 2, 0, n_fft // 2 + 1, 1)
        parts = F._fft_c2r(spectrum, (2,), division, n_fft)
    whole = n_fft + hop * (frames - 1)
    parts = F.mul(parts, F.view(window, (1, 1, n_fft)))
    signal = F.unfold_backward(parts, (spectrum.shape[0], whole), 1, n_fft, hop)
    squares = F.expand(F.pow(window, 2), (1, frames, n_fft))
    envelope = F.unfold_backward(squares, (1, whole), 1, n_fft, hop)
    start = n_fft // 2 if center else 0
    end = whole - start if length is None else min(start + length, whole)
    signal = F.slice(signal, 1, start, end, 1)
    signal = F.div(signal, F._covered(F.slice(envelope, 1, start, end, 1)))
    if rank == 2:
        signal = F.squeeze(signal, (0,))
    missing = 0 if length is None else length - (end - start)
    return F.constant_pad_nd(signal, (0, missing)) if missing > 0 else signal


composite(
    "istft(Tensor self, int n_fft, int? hop_length=None, int? win_length=None, "
    "Tensor? window=None, bool center=True, bool normalized=False, bool? onesided=None, "
    "int? length=None, bool return_complex=False) -> Tensor",
    _istft,
)
