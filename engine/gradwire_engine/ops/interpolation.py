"""Interpolation: images in another size, one dimension after the other.

Along each dimension a result is a weighted sum of a few elements; the weights are a matrix, whose
transpose carries gradients back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.declare import composite, linear
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.blocks import wide

# The cubic's free parameter, as in PyTorch.
_CUBIC = -0.75

_NODES = {
    "nearest": "UpsampleNearest",
    "nearest-exact": "UpsampleNearestExact",
    "linear": "UpsampleLinear",
    "bilinear": "UpsampleBilinear",
    "trilinear": "UpsampleTrilinear",
    "bicubic": "UpsampleBicubic",
}
_RANKS = {"linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}


def through_matrices(array: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Each of the last dimensions through a matrix (out, in) of its own."""
    for axis, matrix in enumerate(matrices, array.ndim - len(matrices)):
        array = np.moveaxis(np.matmul(np.moveaxis(array, axis, -1), matrix.T), -1, axis)
    return np.ascontiguousarray(array)


def _positions(size: int, count: int, scale: float, align_corners: bool) -> np.ndarray:
    """Where the centres of `count` results lie among `size` elements."""
    at = np.arange(count, dtype=np.float64)
    if align_corners:
        return at * ((size - 1) / (count - 1) if count > 1 else 0.0)
    step = 1 / scale if scale > 0 else size / max(count, 1)
    return (at + 0.5) * step - 0.5


def _nearest(size: int, count: int, scale: float, exact: bool) -> np.ndarray:
    step = np.float32(1 / scale) if scale > 0 else np.float32(size / max(count, 1))
    at = np.arange(count, dtype=np.float32)
    return np.minimum(((at + np.float32(0.5 if exact else 0)) * step).astype(np.int64), size - 1)


def _cubic(t: np.ndarray) -> np.ndarray:
    """Weights of the four elements around a position, the fraction t after the second."""
    a = _CUBIC

    def near(x: np.ndarray) -> np.ndarray:
        return np.asarray(((a + 2) * x - (a + 3)) * x * x + 1)

    def far(x: np.ndarray) -> np.ndarray:
        return np.asarray(((a * x - 5 * a) * x + 8 * a) * x - 4 * a)

    return np.stack([far(t + 1), near(t), near(1 - t), far(2 - t)])


def _matrix(
    size: int, count: int, mode: str, align_corners: bool, scale: float, dtype: np.dtype
) -> np.ndarray:
    """The matrix (count, size) of one dimension."""
    current.context.admit((count, size), "interpolate's table of weights")
    matrix = np.zeros((count, size))
    rows = np.arange(count)
    if mode.startswith("nearest"):
        matrix[rows, _nearest(size, count, scale, mode == "nearest-exact")] = 1
        return matrix.astype(dtype)
    at = _positions(size, count, scale, align_corners)
    if mode == "bicubic":
        first = np.floor(at)
        weights = _cubic(at - first)
        for nr in range(4):
            column = np.clip(first.astype(np.int64) + nr - 1, 0, size - 1)
            np.add.at(matrix, (rows, column), weights[nr])
        return matrix.astype(dtype)
    at = np.maximum(at, 0)
    left = np.minimum(at.astype(np.int64), size - 1)
    right = np.minimum(left + 1, size - 1)
    np.add.at(matrix, (rows, left), 1 - (at - left))
    np.add.at(matrix, (rows, right), at - left)
    return matrix.astype(dtype)


def _matrices(
    size: Sequence[int],
    output_size: Sequence[int],
    mode: str,
    align_corners: bool,
    scales: Sequence[float],
    dtype: np.dtype,
) -> list[np.ndarray]:
    return [
        _matrix(n, count, mode, align_corners, scale, dtype)
        for n, count, scale in zip(size, output_size, scales, strict=True)
    ]


def _resize(
    self: np.ndarray,
    output_size: Sequence[int],
    mode: str,
    align_corners: bool,
    scales: Sequence[float],
) -> np.ndarray:
    given = wide(self) if self.dtype.kind == "f" else self.astype(np.float32)
    matrices = _matrices(self.shape[2:], output_size, mode, align_corners, scales, given.dtype)
    made = through_matrices(given, matrices)
    if self.dtype.kind in "iu":
        limits = np.iinfo(self.dtype)
        made = np.clip(np.rint(made), limits.min, limits.max)
    return made.astype(self.dtype, copy=False)


def _resize_back(
    grad_output: np.ndarray,
    size: Sequence[int],
    mode: str,
    align_corners: bool,
    scales: Sequence[float],
) -> np.ndarray:
    g = wide(grad_output)
    matrices = _matrices(size, g.shape[2:], mode, align_corners, scales, g.dtype)
    return through_matrices(g, [each.T for each in matrices]).astype(grad_output.dtype, copy=False)


linear(
    "_resize(Tensor self, int[] output_size, str mode, bool align_corners, float[] scales) "
    "-> Tensor",
    _resize,
    lambda F, g, self_shape, mode, align_corners, scales: F._resize_back(
        g, self_shape[2:], mode, align_corners, scales
    ),
    grad_fn=lambda self, output_size, mode, align_corners, scales: (
        f"{_NODES[mode]}{len(output_size)}DBackward0"
    ),
    shape=lambda self, output_size, mode, align_corners, scales: (*self.shape[:2], *output_size),
    places=(),
)
linear(
    "_resize_back(Tensor grad_output, int[] size, str mode, bool align_corners, float[] scales) "
    "-> Tensor",
    _resize_back,
    lambda F, g, grad_output_shape, mode, align_corners, scales: F._resize(
        g, grad_output_shape[2:], mode, align_corners, scales
    ),
    shape=lambda grad_output, size, mode, align_corners, scales: (*grad_output.shape[:2], *size),
    places=(),
)


def _interpolate(
    F: Any,
    self: Any,
    size: Sequence[int] | None,
    scale_factor: Sequence[float] | None,
    mode: str,
    align_corners: bool | None,
    recompute_scale_factor: bool | None,
    antialias: bool,
) -> Any:
    rank = len(self.shape) - 2
    if mode not in (*_NODES, "area") or antialias:
        raise EngineError(
            "BAD_VALUE",
            f"interpolate: mode must be one of {', '.join([*_NODES, 'area'])}, without antialias, "
            f"not {mode!r}",
            argument="mode",
            value=mode,
        )
    if rank not in (1, 2, 3) or _RANKS.get(mode, rank) != rank or 0 in self.shape[1:]:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"interpolate: mode '{mode}' does not take an input of shape {self.shape}: expected "
            "(n, channels, *size), with one spatial dimension for linear, two for bilinear and "
            "bicubic, three for trilinear, and one to three for the others",
            argument="input",
            shape=self.shape,
        )
    if align_corners is not None and mode not in _RANKS:
        raise EngineError(
            "BAD_VALUE",
            f"interpolate: align_corners has no meaning in mode '{mode}'",
            argument="align_corners",
        )
    counts, scales = _counts(self.shape[2:], size, scale_factor, bool(recompute_scale_factor))
    if mode == "area":
        return getattr(F, f"adaptive_avg_pool{rank}d")(self, counts)
    return F._resize(self, counts, mode, bool(align_corners), scales)


def _counts(
    size: tuple[int, ...],
    wanted: Sequence[int] | None,
    scale_factor: Sequence[float] | None,
    recompute: bool,
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The result's size, and the factors to compute positions by (0 where sizes give them)."""
    if (wanted is None) == (scale_factor is None) or (recompute and wanted is not None):
        raise EngineError(
            "BAD_VALUE",
            "interpolate: needs either size or scale_factor, and can recompute only the latter",
            argument="size",
        )
    given: Sequence[float] = scale_factor if wanted is None else wanted  # type: ignore[assignment]
    each = tuple(given) * len(size) if len(given) == 1 else tuple(given)
    if len(each) != len(size) or not all(math.isfinite(factor) for factor in each):
        raise EngineError(
            "BAD_VALUE",
            f"interpolate: size or scale_factor must have one number, or {len(size)}, not {each}",
            argument="size",
        )
    nothing = (0.0,) * len(size)
    if wanted is not None:
        counts, scales = tuple(int(n) for n in each), nothing
    else:
        counts = tuple(math.floor(n * factor) for n, factor in zip(size, each, strict=True))
        scales = nothing if recompute else each
    if min(counts) < 1:
        raise EngineError(
            "BAD_VALUE",
            f"interpolate: the result would have size {list(counts)}",
            argument="size",
        )
    return counts, scales


composite(
    "interpolate(Tensor self, int[]? size=None, float[]? scale_factor=None, "
    'str mode="nearest", bool? align_corners=None, bool? recompute_scale_factor=None, '
    "bool antialias=False) -> Tensor",
    _interpolate,
    places=("nn.functional",),
)
