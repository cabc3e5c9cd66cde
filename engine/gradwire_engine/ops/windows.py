"""Windows that slide over the spatial dimensions of images: convolution, pooling, unfold.

Images are (n, channels, *size), with one to three spatial dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gradwire_engine.context import current
from gradwire_engine.errors import EngineError

Sizes = tuple[int, ...]

# Of the columns that are worked on at a time: they should stay in the cache that cores share.
_BLOCK_BYTES = 1 << 21

# By how much laying the columns out over the padded rows may enlarge them.
_WASTE = 1.25


def spread(value: Sequence[int], count: int, op: str, argument: str, least: int) -> Sizes:
    """One number for each spatial dimension; a single one stands for all.

    Raises:
        EngineError: BAD_VALUE if there is another count, or a number below `least`.
    """
    sizes = tuple(value) * count if len(value) == 1 else tuple(value)
    if len(sizes) != count:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: {argument} must be one number or {count}, one for each spatial dimension, "
            f"not {list(value)}",
            argument=argument,
            op=op,
            value=list(value),
        )
    if min(sizes, default=least) < least:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: {argument} must be at least {least} everywhere, not {list(value)}",
            argument=argument,
            op=op,
            value=list(value),
        )
    return sizes


class Scratch:
    """Memory that the blocks of one kernel use one after the other."""

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype = dtype
        self._held: dict[str, np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, ...], *, zeroed: bool = False) -> np.ndarray:
        """An array of this shape. It holds what it held before; `zeroed`, at first zeros."""
        size = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.size < size:
            make = np.zeros if zeroed else np.empty
            held = self._held[name] = make(size, self._dtype)
        return held[:size].reshape(shape)


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of one kernel in images of one size.

    Attributes:
        size: of the images.
        kernel: the window's size, before dilation.
        padding: added on both sides of each dimension.
        out: how many windows there are along each dimension.
        padded: size of the padded images.
        flat: a row of windows is laid out as the padded row is, so that it is one run of memory;
            what is then computed beyond the last window of a row is left out of the result.
    """

    size: Sizes
    kernel: Sizes
    stride: Sizes
    padding: Sizes
    dilation: Sizes
    out: Sizes
    padded: Sizes
    flat: bool

    @classmethod
    def of(
        cls,
        op: str,
        size: Sizes,
        kernel: Sizes,
        stride: Sizes,
        padding: Sizes,
        dilation: Sizes,
        out: Sizes | None = None,
    ) -> Windows:
        """The windows that fit, or the first of them: `out` in number.

        Raises:
            EngineError: SHAPE_MISMATCH if there is none.
        """
        padded = tuple(s + 2 * p for s, p in zip(size, padding, strict=True))
        reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
        if out is None and any(r > p for r, p in zip(reach, padded, strict=True)):
            raise EngineError(
                "SHAPE_MISMATCH",
                f"{op}: a kernel of size {list(kernel)} (dilation {list(dilation)}) does not fit "
                f"into an input of size {list(size)} with padding {list(padding)}",
                op=op,
                size=size,
                kernel_size=kernel,
            )
        if out is None:
            out = tuple((p - r) // s + 1 for p, r, s in zip(padded, reach, stride, strict=True))
        # The last windows of a pooling may reach beyond the padding.
        padded = tuple(
            max(p, (o - 1) * s + r) for p, o, s, r in zip(padded, out, stride, reach, strict=True)
        )
        dense = all(s == 1 for s in stride)
        flat = dense and math.prod(padded[1:]) <= _WASTE * math.prod(out[1:])
        return cls(size, kernel, stride, padding, dilation, out, padded, flat)

    @property
    def taps(self) -> int:
        """Elements of the kernel."""
        return math.prod(self.kernel)

    @property
    def row(self) -> int:
        """Positions that one row (of the first spatial dimension) of windows takes."""
        return math.prod(self.padded[1:] if self.flat else self.out[1:])

    @property
    def is_pointwise(self) -> bool:
        """Whether each window is one pixel, and each pixel a window."""
        return self.taps == 1 and self.out == self.size and not any(self.padding)

    def blocks(
        self, n: int, channels: int, dtype: np.dtype
    ) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
        """Parts of the work that fit into the cache: `(first, last, rows)`.

        Raises:
            EngineError: LIMIT_EXCEEDED if the windows of one row are more than is admitted.
        """
        current.context.admit((self.row, channels, self.taps), "a row of a convolution's windows")
        rows, bytes_row = self.out[0], max(self.row * channels * self.taps * dtype.itemsize, 1)
        images = max(1, min(n, _BLOCK_BYTES // (rows * bytes_row)))
        step = max(1, min(rows, _BLOCK_BYTES // bytes_row)) if images == 1 else rows
        # Parts of one size: the last should not be a remnant.
        step = -(-rows // -(-rows // step))
        ranges = [(at, min(at + step, rows)) for at in range(0, rows, step)]
        for first in range(0, n, images):
            yield first, min(first + images, n), ranges

    def pad(self, images: np.ndarray, scratch: Scratch) -> np.ndarray:
        """The images in zeros, as (n, channels, pixels), with a few pixels more than there are.

        A scratch of its own for each kind of window: what is padding stays as it is.
        """
        buffer = scratch.take("padded", self._whole(images.shape[:2]), zeroed=True)
        self.inside(buffer)[...] = images
        return buffer

    def empty(self, shape: tuple[int, ...], dtype: np.dtype, fill: object = 0) -> np.ndarray:
        """Padded images (*shape, pixels) of `fill` alone."""
        return np.full(self._whole(shape), fill, dtype)

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        # The last row of a flat layout reaches beyond the last pixel.
        tail = sum(
            d * (k - 1) * math.prod(self.padded[i + 1 :])
            for i, (d, k) in enumerate(zip(self.dilation, self.kernel, strict=True))
            if i
        )
        whole = (*shape, math.prod(self.padded) + tail)
        current.context.admit(whole, "the padded input")
        return whole

    @property
    def interior(self) -> tuple[Any, ...]:
        """The index of images in padded ones."""
        return (..., *(slice(p, p + s) for p, s in zip(self.padding, self.size, strict=True)))

    def inside(self, buffer: np.ndarray) -> np.ndarray:
        """The images in their padding, as a view."""
        whole = buffer[..., : math.prod(self.padded)].reshape(*buffer.shape[:-1], *self.padded)
        images: np.ndarray = whole[self.interior]
        return images

    def columns(
        self, buffer: np.ndarray, first: int, last: int, *, flat: bool | None = None
    ) -> np.ndarray:
        """A view (n, channels, *kernel, *positions) of the windows in some rows.

        Positions are one dimension in a flat layout and else (rows, *out[1:]).
        """
        pixel = buffer.strides[-1]
        steps = [pixel * math.prod(self.padded[i + 1 :]) for i in range(len(self.padded))]
        taps = tuple(step * d for step, d in zip(steps, self.dilation, strict=True))
        moves = tuple(step * s for step, s in zip(steps, self.stride, strict=True))
        if self.flat if flat is None else flat:
            positions: Sizes = ((last - first) * self.row,)
            moves = (pixel,)
        else:
            positions = (last - first, *self.out[1:])
        return as_strided(
            buffer[..., first * self.stride[0] * math.prod(self.padded[1:]) :],
            (*buffer.shape[:-1], *self.kernel, *positions),
            (*buffer.strides[:-1], *taps, *moves),
        )

    def results(self, block: np.ndarray, rows: int) -> np.ndarray:
        """A block (n, channels, positions) as (n, channels, rows, *out[1:]), a view."""
        shape = (*block.shape[:2], rows)
        if not self.flat:
            return block.reshape(*shape, *self.out[1:])
        whole = block.reshape(*shape, *self.padded[1:])
        inside: tuple[Any, ...] = (..., *(slice(size) for size in self.out[1:]))
        results: np.ndarray = whole[inside]
        return results
