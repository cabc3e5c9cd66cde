"""Windows that slide over the spatial dimensions of images: convolution, pooling, unfold.

Images are (n, channels, *size), with one to three spatial dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.errors import EngineError

Sizes = tuple[int, ...]

# Of the columns that a thread works on at a time: they should stay in its cache.
_PART_BYTES = 3 << 19

# What is large enough is split into as many parts, for threads to share.
_PARTS = 4
_LEAST_BYTES = 1 << 17

# Up to so much, parts are as large as what they are multiplied with.
_FACTOR_BYTES = 1 << 23

_PADDED = "the padded input"

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


def even_slices(count: int, most: int) -> list[slice]:
    """range(count) in slices of at most so many, or one: of one size, the last no remnant."""
    step = -(-count // -(-count // max(most, 1))) if count else 1
    return [slice(at, min(at + step, count)) for at in range(0, count, step)]


def strided(
    memory: np.ndarray, shape: Sizes, strides: tuple[int, ...], first: int = 0
) -> np.ndarray:
    """A view of contiguous memory, from one of its elements on. NumPy refuses what lies beyond."""
    view: np.ndarray = np.ndarray(shape, memory.dtype, memory, first * memory.itemsize, strides)
    return view


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of one kernel in images of one size.

    Attributes:
        size: of the images.
        kernel: the window's size, before dilation.
        padding: added on both sides of each dimension.
        out: how many windows there are along each dimension.
        padded: size of the padded images.
        moves: by how many padded pixels, taken as one dimension, neighbours in the kernel differ.
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
    moves: Sizes
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
        moves = tuple(d * math.prod(padded[i:]) for i, d in enumerate(dilation, 1))
        return cls(size, kernel, stride, padding, dilation, out, padded, moves, flat)

    @property
    def taps(self) -> int:
        """Elements of the kernel."""
        return math.prod(self.kernel)

    @property
    def span(self) -> int:
        """How many padded pixels, taken as one dimension, lie from a window's first to its last."""
        return sum((k - 1) * move for k, move in zip(self.kernel, self.moves, strict=True))

    @property
    def row(self) -> int:
        """Positions that one row (of the first spatial dimension) of windows takes."""
        return math.prod(self.padded[1:] if self.flat else self.out[1:])

    @property
    def is_pointwise(self) -> bool:
        """Whether each window is one pixel, and each pixel a window."""
        return self.taps == 1 and self.out == self.size and not any(self.padding)

    def pixels(self, rows: slice) -> slice:
        """Rows of windows as places in all of them, taken as one dimension."""
        across = math.prod(self.out[1:])
        return slice(rows.start * across, rows.stop * across)

    def split(
        self, n: int, channels: int, dtype: np.dtype, factor: int, steps: int = 1
    ) -> tuple[list[slice], list[slice]]:
        """Parts whose windows fit into the cache: ranges of images, and of rows of windows.

        They do not depend on how many threads there are, as sums over them would then, too.

        Args:
            factor: bytes of what each part is multiplied with: smaller parts would be lost in it.
            steps: so many elements of the kernel's first dimension share their windows.

        Raises:
            EngineError: LIMIT_EXCEEDED if the windows of one row, or the padded images, are more
                than is admitted.
        """
        current.context.admit((self.row, channels, self.taps), "a row of a convolution's windows")
        taps = self.taps // steps
        rows, bytes_row = self.out[0], max(self.row * channels * taps * dtype.itemsize, 1)
        bytes_image = rows * bytes_row
        most = min(max(n * bytes_image // _PARTS, _LEAST_BYTES), _PART_BYTES)
        most = max(most, min(factor, _FACTOR_BYTES))
        images = even_slices(n, most // bytes_image)
        current.context.admit(self._padded((images[0].stop if n else 0, channels)), _PADDED)
        return images, even_slices(rows, most // bytes_row if most < bytes_image else rows)

    def frame(self, shape: tuple[int, ...], rows: int, dtype: np.dtype) -> np.ndarray:
        """Zeros for what so many rows of windows see of images, as (*shape, pixels).

        There are a few pixels more.
        """
        return np.zeros(self._padded(shape, self._lines(rows)), dtype)

    def filler(self, frame: np.ndarray, rows: int) -> Callable[[np.ndarray, slice], None]:
        """What writes to such a frame what rows of windows see of images: so many, whichever."""
        lines, across = self._lines(rows), self.padded[1:]
        band = frame[..., : lines * math.prod(across)].reshape(*frame.shape[:-1], lines, *across)
        band = band[(..., slice(None), *self.interior[2:])]
        first, last, step = self.padding[0], self.padding[0] + self.size[0], self.stride[0]

        def fill(images: np.ndarray, rows: slice) -> None:
            low = rows.start * step
            start, stop = min(max(low, first), last), max(min(low + lines, last), first)
            before, behind = max(start - low, 0), max(stop - low, 0)
            if before:
                band[:, :, :before] = 0
            if behind < lines:
                band[:, :, behind:] = 0
            band[:, :, before:behind] = images[:, :, start - first : stop - first]

        return fill

    def pad(self, images: np.ndarray) -> np.ndarray:
        """The images in zeros, as (n, channels, pixels), with a few pixels more than there are."""
        buffer = np.zeros(self._whole(images.shape[:2]), images.dtype)
        self.inside(buffer)[...] = images
        return buffer

    def _lines(self, rows: int) -> int:
        """How many lines of padded images so many rows of windows see."""
        return (rows - 1) * self.stride[0] + self.dilation[0] * (self.kernel[0] - 1) + 1

    def empty(self, shape: tuple[int, ...], dtype: np.dtype, fill: object = 0) -> np.ndarray:
        """Padded images (*shape, pixels) of `fill` alone."""
        return np.full(self._whole(shape), fill, dtype)

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        whole = self._padded(shape)
        current.context.admit(whole, _PADDED)
        return whole

    def _padded(self, shape: tuple[int, ...], lines: int | None = None) -> tuple[int, ...]:
        """The shape of padded images, or of some lines of them."""
        # The last row of a flat layout reaches beyond the last pixel.
        tail = sum((k - 1) * move for k, move in zip(self.kernel[1:], self.moves[1:], strict=True))
        lines = self.padded[0] if lines is None else lines
        return (*shape, lines * math.prod(self.padded[1:]) + tail)

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
        taps = tuple(pixel * move for move in self.moves)
        moves = tuple(
            pixel * s * math.prod(self.padded[i + 1 :]) for i, s in enumerate(self.stride)
        )
        if self.flat if flat is None else flat:
            positions: Sizes = ((last - first) * self.row,)
            moves = (pixel,)
        else:
            positions = (last - first, *self.out[1:])
        return strided(
            buffer,
            (*buffer.shape[:-1], *self.kernel, *positions),
            (*buffer.strides[:-1], *taps, *moves),
            first * self.stride[0] * math.prod(self.padded[1:]),
        )

    def lines(self, frame: np.ndarray, rows: int) -> np.ndarray:
        """Of a flat layout, windows of all but the kernel's first dimension, at all pixels seen.

        A view (n, channels, *kernel[1:], pixels): `moves[0]` of them further are the windows of the
        next element of that dimension.
        """
        pixel = frame.itemsize
        return strided(
            frame,
            (*frame.shape[:-1], *self.kernel[1:], self._lines(rows) * self.row),
            (*frame.strides[:-1], *(pixel * move for move in self.moves[1:]), pixel),
        )

    def tap(self, axis: int, nr: int) -> tuple[slice, ...]:
        """The index, along an axis of padded images, of an element of the kernel in all windows."""
        spatial = axis - 2
        first, step = nr * self.dilation[spatial], self.stride[spatial]
        last = first + step * (self.out[spatial] - 1)
        return (*(slice(None),) * axis, slice(first, last + 1, step))

    def taps_of(self, columns: np.ndarray) -> list[np.ndarray]:
        """Of windows (n, channels, *kernel, *positions) each element of the kernel, as views."""
        return [columns[(slice(None), slice(None), *tap)] for tap in np.ndindex(self.kernel)]

    def results(self, block: np.ndarray, rows: int) -> np.ndarray:
        """A block (n, channels, positions) as (n, channels, rows, *out[1:]), a view."""
        shape = (*block.shape[:2], rows)
        if not self.flat:
            return block.reshape(*shape, *self.out[1:])
        whole = block.reshape(*shape, *self.padded[1:])
        inside: tuple[Any, ...] = (..., *(slice(size) for size in self.out[1:]))
        results: np.ndarray = whole[inside]
        return results
