"""The largest element of each window, and the pixel where it lies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.ops.windows import Windows, even_slices
from gradwire_engine.threads import share

# Of the images that a thread works on at a time: what is made of them should stay in its cache.
_PART_BYTES: Final = 1 << 19


def largest(batch: np.ndarray, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """The largest element of each window of images (n, c, *size), and its pixel: (n, c, *out).

    Pixels are counted through all spatial dimensions, int64. Of equal elements the first is taken,
    of NaNs the last.

    Raises:
        EngineError: LIMIT_EXCEEDED if a padded image is more than is admitted.
    """
    shape = (*batch.shape[:2], *windows.out)
    best, pixels = np.empty(shape, batch.dtype), np.empty(shape, np.int64)
    parts = even_slices(len(batch), _PART_BYTES // max(batch[:1].nbytes, 1))
    is_padded = windows.padded != windows.size
    if is_padded:
        current.context.admit((1, batch.shape[1], *windows.padded), "the padded input")
    locate = _locator(windows)

    def work(numbers: Iterable[int]) -> None:
        for nr in numbers:
            images, part = batch[parts[nr]], parts[nr]
            if is_padded:
                images = np.full((*images.shape[:2], *windows.padded), lowest(batch.dtype))
                images[windows.interior] = batch[part]
            best[part], taps = _choose(images, windows)
            locate(taps, pixels[part])

    share(work, len(parts))
    return best, pixels


def lowest(dtype: np.dtype) -> Any:
    """Less than or equal to whatever is pooled."""
    return dtype.type(-np.inf) if dtype.kind == "f" else np.iinfo(dtype).min


def _choose(images: np.ndarray, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """The largest element of each window, and the number of its tap.

    One dimension of the kernel comes after the other: the first ones meet whole rows of pixels.
    """
    best, chosen = images, np.zeros((), np.uint8 if windows.taps <= 256 else np.int64)
    number = chosen.dtype.type
    for axis, count in enumerate(windows.kernel, 2):
        values, numbers = best, chosen
        best = values[windows.tap(axis, 0)]
        if numbers.ndim:
            chosen = numbers[windows.tap(axis, 0)] * number(count)
        for nr in range(1, count):
            tap = windows.tap(axis, nr)
            better = values[tap] > best
            if numbers.ndim:
                other = numbers[tap] * number(count) + number(nr)
                # Of equal elements the first in the order of all the taps.
                better |= (values[tap] == best) & (other < chosen)
                chosen ^= (chosen ^ other) * better
            else:
                chosen = np.maximum(chosen, better * number(nr))
            best = np.maximum(best, values[tap], out=best if nr > 1 else None)
    if not chosen.ndim:
        chosen = np.zeros(best.shape, chosen.dtype)
    if best.dtype.kind == "f" and np.isnan(best).any():
        for nr, taps in enumerate(np.ndindex(windows.kernel)):
            part = images
            for axis, each in enumerate(taps, 2):
                part = part[windows.tap(axis, each)]
            np.copyto(chosen, nr, where=np.isnan(part))
    return best, chosen


def _locator(windows: Windows) -> Callable[[np.ndarray, np.ndarray], None]:
    """What writes where in an image, as one dimension, the chosen tap of each window lies."""
    along = [
        np.arange(o) * s - p
        for o, s, p in zip(windows.out, windows.stride, windows.padding, strict=True)
    ]
    taps = [np.arange(k) * d for k, d in zip(windows.kernel, windows.dilation, strict=True)]
    pixels = _in_line(along, windows.size)
    offsets = np.ravel(_in_line(taps, windows.size))
    # Where all is -inf the first tap is taken, which may lie in the padding: the first inside.
    inside = [
        np.where(low < 0, -(low // d), 0) for low, d in zip(along, windows.dilation, strict=True)
    ]
    first = _in_line(inside, windows.kernel) if any(windows.padding) else None

    def locate(chosen: np.ndarray, out: np.ndarray) -> None:
        if first is not None:
            chosen = np.where(chosen == 0, first, chosen)
        np.take(offsets, chosen, out=out, mode="clip")
        np.add(out, pixels, out=out)

    return locate


def _in_line(places: list[np.ndarray], size: tuple[int, ...]) -> np.ndarray:
    """Places along each dimension as places in all of them, taken as one of this size."""
    steps = [math.prod(size[i + 1 :]) for i in range(len(size))]
    return np.asarray(sum(each * step for each, step in zip(np.ix_(*places), steps, strict=True)))
