"""Kernels of convolutions: each is one product of matrices for a few images in the cache.

Parts of the work are shared by threads. A thread lays out its memory once for parts of one shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from gradwire_engine.ops.windows import Windows, even_slices, strided
from gradwire_engine.threads import share_products

# Of the sums of a gradient by weights that are made at the same time, and their bytes.
_SUMS: Final = 16
_SUM_BYTES: Final = 1 << 23

# Of numbers that are multiplied pixel by pixel, from which on waking another thread is worth it.
_FEW_PRODUCTS: Final = 1 << 24

# With fewer rows of windows for each element of a kernel's first dimension, these go together.
_LEAST_INNER: Final = 8


@dataclass(frozen=True, slots=True)
class _Part:
    """Some images, and some rows of their windows."""

    images: slice
    rows: slice


_Run = Callable[[_Part, int], None]


def _parts(images: Sequence[slice], bands: Sequence[slice]) -> list[_Part]:
    return [_Part(some, rows) for some in images for rows in bands]


def _parts_of_work(
    windows: Windows, n: int, channels: int, outputs: int, dtype: np.dtype, steps: int = 1
) -> list[_Part]:
    """The parts of a convolution; a few pixels, which are multiplied as they are, are one.

    Args:
        outputs: for each group of channels.
    """
    numbers = channels * outputs * windows.taps
    if windows.is_pointwise and n * numbers * math.prod(windows.out) < _FEW_PRODUCTS:
        return [_Part(slice(0, n), slice(0, windows.out[0]))]
    return _parts(*windows.split(n, channels, dtype, numbers * dtype.itemsize, steps))


def _share(runs: Sequence[Sequence[_Part]], prepare: Callable[[int, int], _Run]) -> None:
    """Work on all parts, each with the number of its run; threads share the runs.

    Args:
        prepare: what works on parts of so many images and rows, with memory of its own.
    """

    def work(numbers: Iterable[int]) -> None:
        prepared: dict[tuple[int, int], _Run] = {}
        for nr in numbers:
            for part in runs[nr]:
                images, rows = part.images, part.rows
                shape = images.stop - images.start, rows.stop - rows.start
                run = prepared.get(shape)
                if run is None:
                    run = prepared[shape] = prepare(*shape)
                run(part, nr)

    share_products(work, len(runs))


def _wide(dtype: np.dtype) -> np.dtype:
    """The dtype to add up in."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def correlate(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, windows: Windows, groups: int
) -> np.ndarray:
    """Images (n, c, *size) by weights (o, c / groups, *kernel): (n, o, *out)."""
    channels, outputs = x.shape[1], weight.shape[0]
    dtype = _wide(x.dtype)
    shift = None if bias is None else bias.reshape(-1, *(1 for _ in windows.out))
    if windows.is_pointwise:
        matrix = weight.reshape(groups, outputs // groups, -1).astype(dtype, copy=False)
        whole = _by_pixels(matrix, x, windows)
        if shift is not None:
            whole += shift
        return np.asarray(whole, x.dtype)
    turned = _turned_windows(windows) if channels > outputs else None
    if turned is not None and _is_for_shifts(len(x), channels, outputs, weight, turned):
        return _by_shifts(x, _turned(weight, groups), shift, turned, groups)
    return _by_windows(x, weight, shift, windows, groups)


def scatter(g: np.ndarray, weight: np.ndarray, windows: Windows, groups: int) -> np.ndarray:
    """Results (n, o, *out) by weights, back to the images: the adjoint of `correlate`."""
    outputs, channels = g.shape[1], weight.shape[1] * groups
    dtype = _wide(g.dtype)
    if windows.is_pointwise:
        return np.asarray(_by_pixels(_transposed(weight, groups, dtype), g, windows), g.dtype)
    turned = _turned_windows(windows)
    if turned is not None and not _is_for_shifts(len(g), outputs, channels, weight, windows):
        return _by_windows(g, _turned(weight, groups), None, turned, groups)
    return _by_shifts(g, weight, None, windows, groups)


def _by_pixels(matrix: np.ndarray, images: np.ndarray, windows: Windows) -> np.ndarray:
    """Images by a matrix for each group, pixel by pixel."""
    groups, outputs, inputs = matrix.shape
    pixels = images.reshape(len(images), groups, inputs, -1).astype(matrix.dtype, copy=False)
    out = np.empty((len(images), groups, outputs, pixels.shape[-1]), matrix.dtype)

    def run(part: _Part, nr: int) -> None:
        some = (part.images, ..., windows.pixels(part.rows))
        np.matmul(matrix, pixels[some], out=out[some])

    parts = _parts_of_work(windows, len(images), groups * inputs, outputs, matrix.dtype)
    _share([[part] for part in parts], lambda count, rows: run)
    return out.reshape(len(images), groups * outputs, *windows.size)


def _is_for_shifts(n: int, inputs: int, outputs: int, weight: np.ndarray, windows: Windows) -> bool:
    """Whether products with each tap, added up, cost less than windows side by side.

    Either is several times as large as the images that it is made for: windows of the inputs,
    products for the outputs, which are the images of `windows`.
    """
    if 2 * inputs < 3 * outputs:
        return False
    _, bands = windows.split(n, outputs, _wide(weight.dtype), weight.nbytes)
    return inputs > 2 * outputs or _is_moved(windows, bands)


def _is_moved(windows: Windows, bands: Sequence[slice]) -> bool:
    """Whether a tap's products are moved as a whole.

    Between those of two taps there are zeros: not more of them than of the products.
    """
    return windows.flat and bands[0].stop * windows.row >= windows.span


def _transposed(weight: np.ndarray, groups: int, dtype: np.dtype) -> np.ndarray:
    """A weight (o, c / groups, *kernel) as (groups, c / groups · taps, o / groups)."""
    matrix = weight.reshape(groups, len(weight) // groups, -1).swapaxes(1, 2)
    return np.ascontiguousarray(matrix, dtype)


def _by_windows(
    x: np.ndarray, weight: np.ndarray, shift: np.ndarray | None, windows: Windows, groups: int
) -> np.ndarray:
    """`correlate` by windows side by side, which are multiplied by one matrix."""
    n, channels = x.shape[:2]
    outputs = weight.shape[0]
    dtype = _wide(x.dtype)
    matrix = weight.reshape(groups, outputs // groups, -1).astype(dtype, copy=False)
    out = np.empty((n, outputs, *windows.out), x.dtype)
    by_channel = channels == groups == outputs

    def prepare(count: int, rows: int) -> _Run:
        seen = windows.frame((count, channels), rows, dtype)
        fill, columns = windows.filler(seen, rows), windows.columns(seen, 0, rows)
        product = np.empty((count, outputs, rows * windows.row), dtype)
        result = windows.results(product, rows)
        if by_channel:
            multiply = _multiply_taps(matrix[:, 0], windows.taps_of(columns), product)
        else:
            multiply = _multiply(matrix, columns, product)

        def run(part: _Part, nr: int) -> None:
            fill(x[part.images], part.rows)
            multiply()
            _write(result, shift, out[part.images, :, part.rows])

        return run

    parts = _parts_of_work(windows, n, channels, outputs // groups, dtype)
    _share([[part] for part in parts], prepare)
    return out


def _write(result: np.ndarray, shift: np.ndarray | None, target: np.ndarray) -> None:
    if shift is None:
        target[...] = result
    else:
        np.add(result, shift, out=target, casting="same_kind")


def _multiply(matrix: np.ndarray, columns: np.ndarray, product: np.ndarray) -> Callable[[], None]:
    """The product of a matrix for each group by all the windows."""
    packed = np.empty(columns.shape, columns.dtype)
    groups, outputs, inner = matrix.shape
    windows = packed.reshape(len(columns), groups, inner, -1)
    products = product.reshape(len(columns), groups, outputs, -1)

    def multiply() -> None:
        packed[...] = columns
        np.matmul(matrix, windows, out=products)

    return multiply


def _multiply_taps(
    factors: np.ndarray, taps: Sequence[np.ndarray], product: np.ndarray
) -> Callable[[], None]:
    """One kernel for each channel: a product of matrices would have one row."""
    total = product.reshape(taps[0].shape)
    part = np.empty_like(total)
    columns = [each.reshape(-1, *(1 for _ in total.shape[2:])) for each in factors.T]

    def multiply() -> None:
        np.multiply(taps[0], columns[0], out=total)
        for tap, factor in zip(taps[1:], columns[1:], strict=True):
            np.add(total, np.multiply(tap, factor, out=part), out=total)

    return multiply


def _by_shifts(
    g: np.ndarray, weight: np.ndarray, shift: np.ndarray | None, windows: Windows, groups: int
) -> np.ndarray:
    """`scatter` by one product with the taps of the weight, added up where their pixels are."""
    n, channels = g.shape[0], weight.shape[1] * groups
    dtype = _wide(g.dtype)
    matrix = _transposed(weight, groups, dtype)
    out = np.empty((n, channels, *windows.size), g.dtype)
    images, bands = windows.split(n, channels, dtype, weight.nbytes)
    heights = {band.stop - band.start for band in bands}
    is_moved = _is_moved(windows, bands)
    overwrites = is_moved and len(bands) == 1

    def prepare(count: int, rows: int) -> _Run:
        frame = windows.empty((count, channels), dtype)
        image = windows.inside(frame)
        adder = partial(_add_shifted, overwrites) if is_moved else _add_windows
        adders = {height: adder(matrix, windows, frame, height) for height in heights}

        def run(part: _Part, nr: int) -> None:
            if not overwrites:
                frame.fill(0)
            for band in bands:
                adders[band.stop - band.start](g[part.images, :, band], band)
            _write(image, shift, out[part.images])

        return run

    # The bands of an image overlap where they are added up, so one thread has them all.
    _share([[part] for part in _parts(images, [slice(0, windows.out[0])])], prepare)
    return out


_Add = Callable[[np.ndarray, slice], None]


def _add_windows(matrix: np.ndarray, windows: Windows, frame: np.ndarray, rows: int) -> _Add:
    """Add products of a matrix by some rows of results to the pixels of their windows."""
    results, factors = _laid_out(matrix, windows, len(frame), rows, frame.dtype)
    products = np.empty(windows.columns(frame, 0, rows).shape, frame.dtype)
    product = products.reshape(len(frame), *matrix.shape[:2], -1)

    def add(g: np.ndarray, band: slice) -> None:
        results[...] = g
        np.matmul(matrix, factors, out=product)
        columns = windows.columns(frame, band.start, band.stop)
        for target, part in zip(windows.taps_of(columns), windows.taps_of(products), strict=True):
            np.add(target, part, out=target)

    return add


def _add_shifted(
    overwrites: bool, matrix: np.ndarray, windows: Windows, frame: np.ndarray, rows: int
) -> _Add:
    """The same for a flat layout, where each tap's products are moved by some pixels as a whole.

    So the sum over the taps is that over the kernel's dimensions of a view.
    """
    (count, channels), dtype = frame.shape[:2], frame.dtype
    results, factors = _laid_out(matrix, windows, count, rows, dtype)
    pixel, positions, moves = dtype.itemsize, rows * windows.row, windows.moves
    # What is moved beyond the positions of a tap reads the zeros between them and another one's.
    between = windows.span
    tap = pixel * (positions + between)
    channel = windows.taps * tap
    memory = np.zeros(count * channels * channel // pixel, dtype)
    product = strided(
        memory,
        (count, *matrix.shape[:2], positions),
        (channels * channel, matrix.shape[1] * tap, tap, pixel),
    )
    reached = positions + (windows.kernel[0] - 1) * moves[0]
    moved = strided(
        memory,
        (count, channels, *windows.kernel, reached),
        (
            channels * channel,
            channel,
            *(
                math.prod(windows.kernel[i:]) * tap - pixel * move
                for i, move in enumerate(moves, 1)
            ),
            pixel,
        ),
    )
    taps = tuple(range(2, 2 + len(moves)))
    total = frame[..., :reached] if overwrites else np.empty((*moved.shape[:2], reached), dtype)

    def add(g: np.ndarray, band: slice) -> None:
        results[...] = g
        np.matmul(matrix, factors, out=product)
        np.add.reduce(moved, taps, out=total)
        if not overwrites:
            first = band.start * windows.row
            target = frame[..., first : first + reached]
            np.add(target, total, out=target)

    return add


def _laid_out(
    matrix: np.ndarray, windows: Windows, count: int, rows: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Where to write some rows of results, and what to multiply then: zeros where no window is."""
    groups, _, by_group = matrix.shape
    block = np.zeros((count, groups * by_group, rows * windows.row), dtype)
    return windows.results(block, rows), block.reshape(count, groups, by_group, -1)


def _turned(weight: np.ndarray, groups: int) -> np.ndarray:
    outputs, inputs, *kernel = weight.shape
    flipped = np.flip(weight, tuple(range(2, weight.ndim)))
    split = flipped.reshape(groups, outputs // groups, inputs, *kernel)
    return split.swapaxes(1, 2).reshape(groups * inputs, outputs // groups, *kernel)


def _turned_windows(windows: Windows) -> Windows | None:
    """The windows of the way back, where that is a convolution by the kernel turned around."""
    reach = [d * (k - 1) for d, k in zip(windows.dilation, windows.kernel, strict=True)]
    padding = tuple(r - p for r, p in zip(reach, windows.padding, strict=True))
    if min(padding) < 0 or any(s != 1 for s in windows.stride):
        return None
    return Windows.of(
        "convolution",
        windows.out,
        windows.kernel,
        windows.stride,
        padding,
        windows.dilation,
        windows.size,
    )


def weigh(x: np.ndarray, g: np.ndarray, windows: Windows, groups: int) -> np.ndarray:
    """Images by results, added up over both to weights (o, c / groups, *kernel)."""
    n, channels = x.shape[:2]
    outputs = g.shape[1]
    dtype = _wide(x.dtype)
    shape = (outputs, channels // groups, *windows.kernel)
    by_channel = channels == groups == outputs
    inner = channels // groups * math.prod(windows.kernel[1:])
    by_line = windows.flat and inner >= _LEAST_INNER and not by_channel
    steps = windows.kernel[0] if by_line else 1
    matrix = (groups, steps, outputs // groups, channels // groups * windows.taps // steps)
    parts = _parts_of_work(windows, n, channels, outputs // groups, dtype, steps)
    # Each run of parts has its own sum, the runs being the same however many threads there are.
    most = max(1, min(_SUMS, _SUM_BYTES // max(math.prod(matrix) * dtype.itemsize, 1)))
    runs = [parts[run] for run in even_slices(len(parts), -(-len(parts) // most))]
    totals = np.zeros((len(runs), *matrix), dtype)

    def prepare(count: int, rows: int) -> _Run:
        seen = windows.frame((count, channels), rows, dtype)
        fill = windows.filler(seen, rows)
        # Zeros where there is no window.
        block = np.zeros((count, outputs, rows * windows.row), dtype)
        results = windows.results(block, rows)
        columns = windows.lines(seen, rows) if by_line else windows.columns(seen, 0, rows)
        if by_channel:
            add_up = _add_up_taps(windows.taps_of(columns), block)
        else:
            add_up = _add_up(columns, block, matrix, windows.moves[0])

        def run(part: _Part, nr: int) -> None:
            fill(x[part.images], part.rows)
            results[...] = g[part.images, :, part.rows]
            add_up(totals[nr])

        return run

    if windows.is_pointwise:
        add_pixels = _add_up_pixels(x, g, totals, windows)
        _share(runs, lambda count, rows: add_pixels)
    else:
        _share(runs, prepare)
    summed: np.ndarray = np.add.reduce(totals).swapaxes(1, 2)
    lines = summed.reshape(outputs, steps, channels // groups, -1)
    return lines.swapaxes(1, 2).reshape(shape).astype(x.dtype, copy=False)


def _add_up(
    columns: np.ndarray, block: np.ndarray, matrix: tuple[int, int, int, int], move: int
) -> Callable[[np.ndarray], None]:
    """The products of results by all the windows, added up over the images.

    Windows are those of one step, and of the next one so many positions further.
    """
    packed = np.empty(columns.shape, columns.dtype)
    groups, steps, outputs, inner = matrix
    results = block.reshape(len(packed), groups, 1, outputs, -1)
    flat = packed.reshape(len(packed), groups, inner, -1)
    windows = strided(
        flat,
        (len(packed), groups, steps, results.shape[-1], inner),
        (*flat.strides[:2], flat.itemsize * move, flat.itemsize, flat.strides[2]),
    )
    product = np.empty(matrix, columns.dtype)

    def add_up(total: np.ndarray) -> None:
        packed[...] = columns
        for one, other in zip(results, windows, strict=True):
            np.matmul(one, other, out=product)
            np.add(total, product, out=total)

    return add_up


def _add_up_pixels(x: np.ndarray, g: np.ndarray, totals: np.ndarray, windows: Windows) -> _Run:
    """The products of results by the pixels they are of, added up over the images."""
    _, groups, _, outputs, inputs = totals.shape
    pixels = x.reshape(len(x), groups, 1, inputs, -1)
    results = g.reshape(len(g), groups, 1, outputs, -1)

    def run(part: _Part, nr: int) -> None:
        some = (part.images, ..., windows.pixels(part.rows))
        for one, other in zip(results[some], pixels[some].swapaxes(3, 4), strict=True):
            totals[nr] += np.matmul(one, other, dtype=totals.dtype)

    return run


def _add_up_taps(taps: Sequence[np.ndarray], block: np.ndarray) -> Callable[[np.ndarray], None]:
    """One kernel for each channel: its products with the results, added up over the images."""
    results = block.reshape(taps[0].shape)
    at = "xyz"[: results.ndim - 2]
    subscripts = f"nc{at},nc{at}->c"

    def add_up(total: np.ndarray) -> None:
        for nr, tap in enumerate(taps):
            total[:, 0, 0, nr] += np.einsum(subscripts, results, tap)

    return add_up
