"""Windows as columns and back; channels as pixels and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import linear
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.windows import Windows, spread


def _windows(
    op: str,
    size: tuple[int, ...],
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Windows:
    return Windows.of(
        op,
        size,
        spread(kernel_size, 2, op, "kernel_size", 1),
        spread(stride, 2, op, "stride", 1),
        spread(padding, 2, op, "padding", 0),
        spread(dilation, 2, op, "dilation", 1),
    )


def _require_images(self: Any) -> None:
    if self.ndim not in (3, 4) or 0 in self.shape[-3:]:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"unfold: an input has shape (n, channels, h, w), or without n, not {self.shape}",
            argument="self",
            shape=self.shape,
        )


def _im2col_shape(self: Any, *geometry: Any) -> tuple[int, ...]:
    _require_images(self)
    windows = _windows("unfold", self.shape[-2:], *geometry)
    return (*self.shape[:-3], self.shape[-3] * windows.taps, math.prod(windows.out))


def _im2col(self: np.ndarray, *geometry: Any) -> np.ndarray:
    windows = _windows("unfold", self.shape[-2:], *geometry)
    images = self.reshape(-1, *self.shape[-3:])
    padded = windows.pad(images)
    columns = windows.columns(padded, 0, windows.out[0], flat=False)
    return np.ascontiguousarray(columns).reshape(_im2col_shape(self, *geometry))


def _fold_windows(self: Any, output_size: Sequence[int], *geometry: Any) -> Windows:
    size = spread(output_size, 2, "fold", "output_size", 1)
    windows = _windows("fold", size, *geometry)
    rows, columns = self.shape[-2:] if self.ndim in (2, 3) else (0, 0)
    if not rows or rows % windows.taps or columns != math.prod(windows.out):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"fold: an input of shape {self.shape} does not fit: expected (n, channels · "
            f"{windows.taps}, {math.prod(windows.out)}), or without n, for kernels of size "
            f"{list(windows.kernel)} in an output of size {list(size)}",
            argument="self",
            shape=self.shape,
        )
    return windows


def _col2im_shape(self: Any, output_size: Sequence[int], *geometry: Any) -> tuple[int, ...]:
    windows = _fold_windows(self, output_size, *geometry)
    return (*self.shape[:-2], self.shape[-2] // windows.taps, *windows.size)


def _col2im(self: np.ndarray, output_size: Sequence[int], *geometry: Any) -> np.ndarray:
    windows = _fold_windows(self, output_size, *geometry)
    channels = self.shape[-2] // windows.taps
    parts = self.reshape(-1, channels, *windows.kernel, *windows.out)
    images = windows.empty((len(parts), channels), self.dtype)
    columns = windows.columns(images, 0, windows.out[0], flat=False)
    for tap in np.ndindex(windows.kernel):
        at = (slice(None), slice(None), *tap)
        target = columns[at]
        np.add(target, parts[at], out=target)
    made = windows.inside(images).reshape(_col2im_shape(self, output_size, *geometry))
    return np.ascontiguousarray(made)


_GEOMETRY = "int[] kernel_size, int[] dilation=[1], int[] padding=[0], int[] stride=[1]"

linear(
    f"im2col(Tensor self, {_GEOMETRY}) -> Tensor",
    _im2col,
    lambda F, g, self_shape, kernel_size, dilation, padding, stride: F.col2im(
        g, self_shape[-2:], kernel_size, dilation, padding, stride
    ),
    grad_fn="Im2ColBackward0",
    shape=_im2col_shape,
    places=(),
)
linear(
    f"col2im(Tensor self, int[] output_size, {_GEOMETRY}) -> Tensor",
    _col2im,
    lambda F, g, kernel_size, dilation, padding, stride: F.im2col(
        g, kernel_size, dilation, padding, stride
    ),
    grad_fn="Col2ImBackward0",
    shape=_col2im_shape,
    places=(),
)


def _require_factor(op: str, self: Any, factor: int, fits: bool) -> None:
    if factor < 1 or self.ndim < 3 or not fits:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: a tensor of shape {self.shape} does not split by {factor}; expected "
            "(*, channels, h, w) with sizes that are multiples",
            argument="self",
            shape=self.shape,
        )


def _pixel_shuffle(self: np.ndarray, upscale_factor: int) -> np.ndarray:
    r = upscale_factor
    fits = self.ndim >= 3 and r > 0 and self.shape[-3] % (r * r) == 0
    _require_factor("pixel_shuffle", self, r, fits)
    *lead, channels, h, w = self.shape
    split = self.reshape(math.prod(lead), channels // (r * r), r, r, h, w)
    return split.transpose(0, 1, 4, 2, 5, 3).reshape(*lead, channels // (r * r), h * r, w * r)


def _pixel_unshuffle(self: np.ndarray, downscale_factor: int) -> np.ndarray:
    r = downscale_factor
    fits = self.ndim >= 3 and r > 0 and self.shape[-2] % r == 0 and self.shape[-1] % r == 0
    _require_factor("pixel_unshuffle", self, r, fits)
    *lead, channels, h, w = self.shape
    split = self.reshape(math.prod(lead), channels, h // r, r, w // r, r)
    return split.transpose(0, 1, 3, 5, 2, 4).reshape(*lead, channels * r * r, h // r, w // r)


linear(
    "pixel_shuffle(Tensor self, int upscale_factor) -> Tensor",
    _pixel_shuffle,
    lambda F, g, upscale_factor: F.pixel_unshuffle(g, upscale_factor),
    places=("torch", "nn.functional"),
)
linear(
    "pixel_unshuffle(Tensor self, int downscale_factor) -> Tensor",
    _pixel_unshuffle,
    lambda F, g, downscale_factor: F.pixel_shuffle(g, downscale_factor),
    places=("torch", "nn.functional"),
)


def _channel_shuffle(self: np.ndarray, groups: int) -> np.ndarray:
    fits = self.ndim >= 3 and groups > 0 and self.shape[1] % groups == 0
    _require_factor("channel_shuffle", self, groups, fits)
    n, channels, *rest = self.shape
    split = self.reshape(n, groups, channels // groups, *rest)
    return split.swapaxes(1, 2).reshape(self.shape)


linear(
    "channel_shuffle(Tensor self, int groups) -> Tensor",
    _channel_shuffle,
    lambda F, g, self_shape, groups: F.channel_shuffle(g, self_shape[1] // groups),
    places=("torch", "nn.functional"),
)
