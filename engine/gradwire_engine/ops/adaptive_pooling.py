"""Pooling into a given number of bins: the largest element, or the mean, of each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.declare import composite, general, linear
from gradwire_engine.ops import dims
from gradwire_engine.ops.blocks import wide
from gradwire_engine.ops.interpolation import through_matrices
from gradwire_engine.ops.max_windows import lowest
from gradwire_engine.ops.pooling import wrong_rank
from gradwire_engine.ops.windows import Sizes, spread

_FUNCTIONAL = ("nn.functional",)


def _bins(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last (exclusive) element of each of `count` bins, which may overlap."""
    at = np.arange(count)
    return at * size // count, -((-(at + 1) * size) // count)


def _output_size(self: Any, output_size: Sequence[int], rank: int, op: str) -> Sizes:
    """The number of bins along each spatial dimension; -1 stands for the input's size."""
    size = self.shape[len(self.shape) - rank :]
    if len(self.shape) not in (rank + 1, rank + 2) or 0 in size:
        raise wrong_rank(self, rank, op)
    wanted = spread(output_size, rank, op, "output_size", -1)
    counts = tuple(n if each == -1 else each for n, each in zip(size, wanted, strict=True))
    for n, count in zip(size, counts, strict=True):
        current.context.admit((count, n), f"{op}'s table of bins")
    return counts


def _adaptive_shape(rank: int, op: str) -> Any:
    return lambda self, output_size: (
        *self.shape[: self.ndim - rank],
        *_output_size(self, output_size, rank, op),
    )


def _bin_means(size: int, count: int, dtype: np.dtype) -> np.ndarray:
    """The matrix (count, size) that takes the mean of each bin."""
    first, last = _bins(size, count)
    at = np.arange(size)
    inside = (at >= first[:, None]) & (at < last[:, None])
    matrix: np.ndarray = (inside / (last - first)[:, None]).astype(dtype)
    return matrix


def _bin_averages(rank: int, op: str) -> Any:
    def kernel(self: np.ndarray, output_size: Sequence[int]) -> np.ndarray:
        count = _output_size(self, output_size, rank, op)
        widened = wide(self)
        matrices = [
            _bin_means(size, each, widened.dtype)
            for size, each in zip(self.shape[-rank:], count, strict=True)
        ]
        return through_matrices(widened, matrices).astype(self.dtype, copy=False)

    return kernel


def _bin_averages_back(grad_output: np.ndarray, size: Sequence[int]) -> np.ndarray:
    rank = len(size)
    widened = wide(grad_output)
    matrices = [
        _bin_means(each, count, widened.dtype).T
        for each, count in zip(size, grad_output.shape[-rank:], strict=True)
    ]
    return through_matrices(widened, matrices).astype(grad_output.dtype, copy=False)


linear(
    "_adaptive_avg_pool_back(Tensor grad_output, int[] size) -> Tensor",
    _bin_averages_back,
    lambda F, g, grad_output_shape, size: getattr(F, f"_adaptive_avg_pool{len(size)}d")(
        g, grad_output_shape[-len(size) :]
    ),
    shape=lambda grad_output, size: (
        *grad_output.shape[: grad_output.ndim - len(size)],
        *size,
    ),
    places=(),
)


def _adaptive_average(rank: int, op: str) -> Any:
    def formula(F: Any, self: Any, output_size: Sequence[int]) -> Any:
        count = _output_size(self, output_size, rank, op)
        if math.prod(count) == 1:
            return F.mean(self, tuple(range(-rank, 0)) if rank == 3 else (-1, -2), True)
        return getattr(F, f"_adaptive_avg_pool{rank}d")(self, count)

    return formula


def _declare_adaptive_avg_pool(rank: int) -> None:
    linear(
        f"_adaptive_avg_pool{rank}d(Tensor self, int[] output_size) -> Tensor",
        _bin_averages(rank, f"adaptive_avg_pool{rank}d"),
        lambda F, g, self_shape: F._adaptive_avg_pool_back(g, self_shape[-rank:]),
        grad_fn=f"AdaptiveAvgPool{rank}DBackward0",
        shape=_adaptive_shape(rank, f"adaptive_avg_pool{rank}d"),
        places=(),
    )
    composite(
        f"adaptive_avg_pool{rank}d(Tensor self, int[] output_size) -> Tensor",
        _adaptive_average(rank, f"adaptive_avg_pool{rank}d"),
        places=_FUNCTIONAL,
    )


for _rank in (2, 3):
    _declare_adaptive_avg_pool(_rank)


def _adaptive_avg_pool1d(F: Any, self: Any, output_size: Sequence[int]) -> Any:
    (count,) = _output_size(self, output_size, 1, "adaptive_avg_pool1d")
    return F.squeeze(F.adaptive_avg_pool2d(F.unsqueeze(self, -2), (1, count)), (-2,))


composite(
    "adaptive_avg_pool1d(Tensor self, int[] output_size) -> Tensor",
    _adaptive_avg_pool1d,
    places=("torch", "nn.functional"),
)


def _largest_of_bins(rank: int, op: str) -> Any:
    def kernel(self: np.ndarray, output_size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        dims.require_order(self, op)
        count = _output_size(self, output_size, rank, op)
        size = self.shape[-rank:]
        lead = self.shape[: self.ndim - rank]
        best = np.full((*lead, *count), lowest(self.dtype), self.dtype)
        indices = np.zeros((*lead, *count), np.int64)
        if not best.size:
            return best, indices
        # Element t of each bin; bins that are shorter have their last element again.
        taps = []
        for n, each in zip(size, count, strict=True):
            first, last = _bins(n, each)
            reach = int((last - first).max())
            taps.append([np.minimum(first + t, last - 1) for t in range(reach)])
        strides = [math.prod(size[i + 1 :]) for i in range(rank)]
        for nr, chosen in enumerate(itertools.product(*taps)):
            grid = np.ix_(*chosen)
            values = self[(..., *grid)]
            better = (values > best) | (values != values)
            if nr == 0:
                better[...] = True
            np.copyto(best, values, where=better)
            pixels = sum(each * step for each, step in zip(grid, strides, strict=True))
            np.copyto(indices, pixels, where=better)
        return best, indices

    return kernel


def _declare_adaptive_max_pool(rank: int) -> None:
    general(
        f"_adaptive_max_pool{rank}d(Tensor self, int[] output_size) "
        "-> (Tensor result, Tensor indices)",
        _largest_of_bins(rank, f"adaptive_max_pool{rank}d"),
        lambda F, g, self_shape, indices: F._to_pixels(g, indices, self_shape[-rank:], False),
        grad_fn=f"AdaptiveMaxPool{rank}DBackward0",
        shape=_adaptive_shape(rank, f"adaptive_max_pool{rank}d"),
        places=(),
    )
    composite(
        f"adaptive_max_pool{rank}d(Tensor self, int[] output_size) "
        "-> (Tensor result, Tensor indices)",
        lambda F, self, output_size: getattr(F, f"_adaptive_max_pool{rank}d")(self, output_size),
        places=_FUNCTIONAL,
    )


for _rank in (2, 3):
    _declare_adaptive_max_pool(_rank)


def _adaptive_max_pool1d(F: Any, self: Any, output_size: Sequence[int]) -> tuple[Any, Any]:
    (count,) = _output_size(self, output_size, 1, "adaptive_max_pool1d")
    pooled = F.adaptive_max_pool2d(F.unsqueeze(self, -2), (1, count))
    return F.squeeze(pooled[0], (-2,)), F.squeeze(pooled[1], (-2,))


composite(
    "adaptive_max_pool1d(Tensor self, int[] output_size) -> (Tensor result, Tensor indices)",
    _adaptive_max_pool1d,
    places=("torch", "nn.functional"),
)
