"""Values of images between their pixels: grid_sample, and affine_grid that says where.

A place of the grid reads several pixels along each dimension, its taps: one if the nearest is
taken, two between which it lies, or four of a cubic curve.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradwire_engine.declare import composite, general, linear, nondiff
from gradwire_engine.dtypes import INT64
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import RAW

_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")
# Of the cubic curve, as in PyTorch.
_A = -0.75


@dataclass(frozen=True, slots=True)
class _Tap:
    """What one dimension contributes: all of the shape of the grid.

    Attributes:
        index: of the pixel, within the image.
        inside: 1 where there is such a pixel, 0 where there is none.
        weight: its share.
        slope: of the share by the grid; None if it does not change.
    """

    index: Any
    inside: Any
    weight: Any
    slope: Any


def _clipped(F: Any, x: Any, slope: Any, size: int) -> tuple[Any, Any]:
    within = F.logical_and(x > 0, x < size - 1)
    return F.clamp(x, 0, size - 1), F.where(within, slope, 0.0)


def _reflected(F: Any, x: Any, slope: Any, low: float, high: float) -> tuple[Any, Any]:
    """Mirrored at both ends until it lies between them."""
    span = high - low
    if span <= 0:
        return F.zeros_like(x), F.zeros_like(x)
    x = x - low
    slope = F.where(x < 0, -slope, slope)
    x = F.abs(x)
    rest = F.fmod(x, span)
    is_even = F.fmod(F.floor(x / span), 2) == 0
    return F.where(is_even, rest, span - rest) + low, F.where(is_even, slope, -slope)


def _padded(F: Any, x: Any, slope: Any, size: int, padding: str, align: bool) -> tuple[Any, Any]:
    """A coordinate in pixels, and its slope by the grid, brought into the image if so wanted."""
    if padding == "reflection":
        ends = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
        x, slope = _reflected(F, x, slope, *ends)
    return (x, slope) if padding == "zeros" else _clipped(F, x, slope, size)


def _tap(F: Any, index: Any, size: int, weight: Any, slope: Any) -> _Tap:
    inside = F.logical_and(index >= 0, index < size)
    places = F.to(F.where(inside, index, 0.0), INT64)
    return _Tap(places, F.to(inside, weight.dtype), weight, slope)


def _taps(F: Any, grid: Any, size: int, mode: str, padding: str, align: bool) -> list[_Tap]:
    """The taps along one dimension.

    Args:
        grid: coordinates from -1 to 1.
        size: pixels.
    """
    scale = (size - 1) / 2 if align else size / 2
    x = (grid + 1) * scale if align else (grid + 1) * scale - 0.5
    slope = F.full(grid.shape, scale, dtype=grid.dtype)
    if mode == "bicubic":
        return _cubic_taps(F, x, slope, size, padding, align)
    x, slope = _padded(F, x, slope, size, padding, align)
    if mode == "nearest":
        return [_tap(F, F.round(x), size, F.ones_like(x), None)]
    before = F.floor(x)
    share = x - before
    return [
        _tap(F, before, size, 1 - share, -slope),
        _tap(F, before + 1, size, share, slope),
    ]


def _cubic_taps(F: Any, x: Any, slope: Any, size: int, padding: str, align: bool) -> list[_Tap]:
    before = F.floor(x)
    share = x - before
    made: list[_Tap] = []
    for offset in (-1, 0, 1, 2):
        away = F.abs(share - offset)
        sign = 1 if offset <= 0 else -1
        if offset in (0, 1):
            weight = ((_A + 2) * away - (_A + 3)) * away * away + 1
            by_share = (3 * (_A + 2) * away - 2 * (_A + 3)) * away
        else:
            weight = ((_A * away - 5 * _A) * away + 8 * _A) * away - 4 * _A
            by_share = (3 * _A * away - 10 * _A) * away + 8 * _A
        index, _ = _padded(F, before + offset, slope, size, padding, align)
        if padding != "zeros":
            index = F.round(index)
        made.append(_tap(F, index, size, weight, by_share * sign * slope))
    return made


def _all_taps(
    F: Any, self: Any, grid: Any, mode: str, padding: str, align: bool
) -> list[list[_Tap]]:
    """The taps of each spatial dimension, with the places of the grid in one row an image."""
    rank = grid.shape[-1]
    rows = F.reshape(grid, (grid.shape[0], math.prod(grid.shape[1:-1]), rank))
    # The grid's last coordinate is of the first spatial dimension.
    return [
        _taps(F, F.select(rows, 2, rank - 1 - at), self.shape[2 + at], mode, padding, align)
        for at in range(rank)
    ]


def _place(taps: Sequence[_Tap], sizes: Sequence[int]) -> Any:
    """The index of a pixel in its flattened image."""
    flat: Any = 0
    for tap, size in zip(taps, sizes, strict=True):
        flat = flat * size + tap.index
    return flat


def _product(factors: Sequence[Any]) -> Any:
    made = factors[0]
    for each in factors[1:]:
        made = made * each
    return made


def _read(F: Any, flat: Any, place: Any) -> Any:
    """Pixels of all channels: (n, c, pixels) at (n, places) gives (n, c, places)."""
    n, c = flat.shape[:2]
    return F.gather(flat, 2, F.expand(F.unsqueeze(place, 1), (n, c, place.shape[1])))


def _sampled(
    self: np.ndarray, grid: np.ndarray, mode: str, padding_mode: str, align_corners: bool
) -> np.ndarray:
    n, c, *sizes = self.shape
    flat = self.reshape(n, c, math.prod(sizes))
    out = np.zeros((n, c, math.prod(grid.shape[1:-1])), self.dtype)
    every = _all_taps(RAW, self, grid, mode, padding_mode, align_corners)
    for taps in itertools.product(*every):
        weight = _product([tap.weight * tap.inside for tap in taps])
        out += _read(RAW, flat, _place(taps, sizes)) * weight[:, None]
    return out.reshape(n, c, *grid.shape[1:-1])


def _sampled_slopes(
    F: Any,
    gs: Any,
    needs: Any,
    self: Any,
    grid: Any,
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> tuple[Any, Any]:
    n, c, *sizes = self.shape
    places = math.prod(grid.shape[1:-1])
    pixels = math.prod(sizes)
    g = F.reshape(gs[0], (n, c, places))
    flat = F.reshape(self, (n, c, pixels))
    by_image = F.zeros((n, c, pixels), dtype=g.dtype)
    by_grid: list[Any] = [F.zeros((n, places), dtype=g.dtype) for _ in sizes]
    every = _all_taps(F, self, grid, mode, padding_mode, align_corners)
    for taps in itertools.product(*every):
        place = _place(taps, sizes)
        inside = _product([tap.inside for tap in taps])
        weights = [tap.weight for tap in taps]
        if needs[0]:
            share = g * F.unsqueeze(_product(weights) * inside, 1)
            at = F.expand(F.unsqueeze(place, 1), (n, c, places))
            by_image = F.scatter_add(by_image, 2, at, share)
        if not needs[1] or taps[0].slope is None:
            continue
        value = F.sum(g * _read(F, flat, place), (1,)) * inside
        for at, tap in enumerate(taps):
            others = [weight for i, weight in enumerate(weights) if i != at]
            by_grid[at] = by_grid[at] + value * _product([tap.slope, *others])
    return (
        F.reshape(by_image, self.shape) if needs[0] else None,
        F.reshape(F.stack(by_grid[::-1], 2), grid.shape) if needs[1] else None,
    )


def _sampled_work(self: Any, grid: Any, *rest: Any) -> int:
    rank = grid.shape[-1]
    return int(4 * 2**rank * self.shape[1] * math.prod(grid.shape) + 1)


for _rank in (2, 3):
    general(
        f"_sample_grid_{_rank}d(Tensor self, Tensor grid, str mode, str padding_mode, "
        "bool align_corners) -> Tensor",
        _sampled,
        {"self grid": _sampled_slopes},
        grad_fn=f"GridSampler{_rank}DBackward0",
        promotion="same",
        shape=lambda self, grid, *rest: (*self.shape[:2], *grid.shape[1:-1]),
        flops=_sampled_work,
        places=(),
    )


def _one_of(op: str, name: str, value: str, words: Sequence[str]) -> None:
    if value not in words:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: {name} must be one of {', '.join(words)}, not {value!r}",
            argument=name,
        )


def _grid_sample(
    F: Any, self: Any, grid: Any, mode: str, padding_mode: str, align_corners: bool | None
) -> Any:
    op = "grid_sample"
    _one_of(op, "mode", mode, _MODES)
    _one_of(op, "padding_mode", padding_mode, _PADDINGS)
    if self.dtype.kind != "f":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: needs floating-point images, not {self.dtype}",
            argument="self",
        )
    rank = len(self.shape) - 2
    fits = rank in (2, 3) and len(grid.shape) == rank + 2 and grid.shape[-1] == rank
    if not fits or grid.shape[0] != self.shape[0] or 0 in self.shape[2:]:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: a grid of shape {grid.shape} does not fit images of shape {self.shape}: "
            "expected (n, h, w, 2) for (n, c, height, width), or (n, d, h, w, 3) for volumes, of "
            "at least one pixel",
            argument="grid",
            shapes=f"{self.shape} and {grid.shape}",
        )
    if mode == "bicubic" and rank == 3:
        raise EngineError("BAD_VALUE", f"{op}: bicubic is for images only", argument="mode")
    sample: Callable[..., Any] = F._sample_grid_2d if rank == 2 else F._sample_grid_3d
    return sample(self, grid, mode, padding_mode, bool(align_corners))


composite(
    "grid_sample(Tensor self, Tensor grid, str mode='bilinear', str padding_mode='zeros', "
    "bool? align_corners=None) -> Tensor",
    _grid_sample,
    places=("nn.functional",),
)


def _base_grid(size: Sequence[int], align_corners: bool, dtype: np.dtype) -> np.ndarray:
    """Homogeneous coordinates of all pixels: (pixels, rank + 1), from -1 to 1."""
    axes = []
    for n in size:
        line = np.linspace(-1, 1, n) if n > 1 else np.zeros(n)
        axes.append(line if align_corners else line * (n - 1) / n)
    mesh = np.meshgrid(*axes, indexing="ij")
    rows = [each.reshape(-1) for each in mesh[::-1]]
    return np.stack([*rows, np.ones(math.prod(size))], -1).astype(dtype)


nondiff(
    "_base_grid(int[] size, bool align_corners, ScalarType dtype) -> Tensor",
    _base_grid,
    shape=lambda size, *rest: (math.prod(size), len(size) + 1),
    places=(),
)


def _affine(theta: np.ndarray, size: Sequence[int], align_corners: bool) -> np.ndarray:
    base = _base_grid(size[2:], align_corners, theta.dtype)
    made: np.ndarray = np.matmul(base, theta.swapaxes(1, 2))
    return made.reshape(size[0], *size[2:], len(size) - 2)


def _affine_back(F: Any, g: Any, theta_dtype: Any, size: Any, align_corners: bool) -> Any:
    base = F._base_grid(tuple(size[2:]), align_corners, theta_dtype)
    rows = F.reshape(g, (size[0], math.prod(size[2:]), len(size) - 2))
    return F.matmul(F.transpose(rows, 1, 2), base)


linear(
    "_affine_grid(Tensor theta, int[] size, bool align_corners) -> Tensor",
    _affine,
    _affine_back,
    grad_fn="AffineGridGeneratorBackward0",
    shape=lambda theta, size, *rest: (size[0], *size[2:], len(size) - 1),
    places=(),
)


def _affine_grid(F: Any, theta: Any, size: Sequence[int], align_corners: bool | None) -> Any:
    op = "affine_grid"
    rank = len(size) - 2
    if theta.dtype.kind != "f":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: needs a floating-point theta, not {theta.dtype}",
            argument="theta",
        )
    if rank not in (2, 3) or tuple(theta.shape) != (size[0], rank, rank + 1):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: theta of shape {theta.shape} does not fit size {list(size)}: expected "
            "(n, 2, 3) for (n, c, height, width), or (n, 3, 4) for volumes",
            argument="theta",
            shape=theta.shape,
        )
    if min(size) < 1:
        raise EngineError(
            "BAD_VALUE", f"{op}: sizes must be at least 1, not {list(size)}", argument="size"
        )
    return F._affine_grid(theta, tuple(size), bool(align_corners))


composite(
    "affine_grid(Tensor theta, int[] size, bool? align_corners=None) -> Tensor",
    _affine_grid,
    places=("nn.functional",),
)
