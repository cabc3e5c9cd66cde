"""Kernels of convolutions: each is one product of matrices for a block of images in the cache."""

from __future__ import annotations

import numpy as np

from gradwire_engine.ops.windows import Scratch, Windows


def _wide(dtype: np.dtype) -> np.dtype:
    """The dtype to add up in."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def correlate(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, windows: Windows, groups: int
) -> np.ndarray:
    """Images (n, c, *size) by weights (o, c / groups, *kernel): (n, o, *out)."""
    n, channels = x.shape[:2]
    outputs = weight.shape[0]
    dtype = _wide(x.dtype)
    matrix = weight.reshape(groups, outputs // groups, -1).astype(dtype, copy=False)
    shift = None if bias is None else bias.reshape(-1, *(1 for _ in windows.out))
    if windows.is_pointwise:
        pixels = x.reshape(n, groups, channels // groups, -1).astype(dtype, copy=False)
        whole = np.matmul(matrix, pixels).reshape(n, outputs, *windows.out)
        if shift is not None:
            whole += shift
        return np.asarray(whole, x.dtype)
    out = np.empty((n, outputs, *windows.out), x.dtype)
    scratch = Scratch(dtype)
    by_channel = channels == groups == outputs
    for first, last, rows in windows.blocks(n, channels, dtype):
        image = windows.pad(x[first:last], scratch)
        for top, bottom in rows:
            columns = windows.columns(image, top, bottom)
            shape = (last - first, outputs, (bottom - top) * windows.row)
            product = scratch.take("product", shape)
            if by_channel:
                _multiply_taps(matrix[:, 0], columns, windows, product, scratch)
            else:
                grouped = (last - first, groups, outputs // groups, shape[2])
                packed = _packed(columns, windows, groups, scratch)
                np.matmul(matrix, packed, out=product.reshape(grouped))
            target = out[first:last, :, top:bottom]
            result = windows.results(product, bottom - top)
            if shift is None:
                target[...] = result
            else:
                np.add(result, shift, out=target, casting="same_kind")
    return out


def _packed(columns: np.ndarray, windows: Windows, groups: int, scratch: Scratch) -> np.ndarray:
    """The windows side by side: (n, groups, channels / groups · taps, positions)."""
    packed = scratch.take("columns", columns.shape)
    packed[...] = columns
    n, channels = columns.shape[:2]
    return packed.reshape(n, groups, channels // groups * windows.taps, -1)


def _multiply_taps(
    factors: np.ndarray,
    columns: np.ndarray,
    windows: Windows,
    product: np.ndarray,
    scratch: Scratch,
) -> None:
    """One kernel for each channel: a product of matrices would have one row."""
    total = product.reshape(*columns.shape[:2], *columns.shape[2 + len(windows.kernel) :])
    part = scratch.take("part", total.shape)
    for nr, tap in enumerate(np.ndindex(windows.kernel)):
        factor = factors[:, nr].reshape(-1, *(1 for _ in total.shape[2:]))
        values = columns[(slice(None), slice(None), *tap)]
        if nr:
            total += np.multiply(values, factor, out=part)
        else:
            np.multiply(values, factor, out=total)


def scatter(g: np.ndarray, weight: np.ndarray, windows: Windows, groups: int) -> np.ndarray:
    """Results (n, o, *out) by weights, back to the images: the adjoint of `correlate`."""
    n, outputs = g.shape[:2]
    inputs = weight.shape[1]
    channels = inputs * groups
    dtype = _wide(g.dtype)
    matrix = weight.reshape(groups, outputs // groups, -1).swapaxes(1, 2)
    matrix = np.ascontiguousarray(matrix, dtype)
    if windows.is_pointwise:
        pixels = g.reshape(n, groups, outputs // groups, -1).astype(dtype, copy=False)
        flat = np.matmul(matrix, pixels).reshape(n, channels, *windows.size)
        return np.asarray(flat, g.dtype)
    if _turns(windows) and outputs <= 2 * channels:
        return correlate(g, _turned(weight, groups), None, _turned_windows(windows), groups)
    out = np.empty((n, channels, *windows.size), g.dtype)
    scratch = Scratch(dtype)
    for first, last, rows in windows.blocks(n, channels, dtype):
        count = last - first
        image = windows.empty((count, channels), dtype)
        for top, bottom in rows:
            block = _laid_out(g[first:last, :, top:bottom], windows, bottom - top, scratch)
            columns = windows.columns(image, top, bottom)
            parts = scratch.take("columns", columns.shape)
            np.matmul(
                matrix,
                block.reshape(count, groups, outputs // groups, -1),
                out=parts.reshape(count, groups, matrix.shape[1], -1),
            )
            for tap in np.ndindex(windows.kernel):
                at = (slice(None), slice(None), *tap)
                target = columns[at]
                np.add(target, parts[at], out=target)
        out[first:last] = windows.inside(image)
    return out


def _turns(windows: Windows) -> bool:
    """Whether going back is a convolution itself: by the kernel turned around."""
    return all(s == 1 for s in windows.stride) and all(
        p <= d * (k - 1)
        for p, d, k in zip(windows.padding, windows.dilation, windows.kernel, strict=True)
    )


def _turned(weight: np.ndarray, groups: int) -> np.ndarray:
    outputs, inputs, *kernel = weight.shape
    flipped = np.flip(weight, tuple(range(2, weight.ndim)))
    split = flipped.reshape(groups, outputs // groups, inputs, *kernel)
    return split.swapaxes(1, 2).reshape(groups * inputs, outputs // groups, *kernel)


def _turned_windows(windows: Windows) -> Windows:
    padding = tuple(
        d * (k - 1) - p
        for p, d, k in zip(windows.padding, windows.dilation, windows.kernel, strict=True)
    )
    return Windows.of(
        "convolution",
        windows.out,
        windows.kernel,
        windows.stride,
        padding,
        windows.dilation,
        windows.size,
    )


def _laid_out(g: np.ndarray, windows: Windows, rows: int, scratch: Scratch) -> np.ndarray:
    """Rows of results as columns are laid out, with zeros where there is no window."""
    block = scratch.take("results", (*g.shape[:2], rows * windows.row), zeroed=windows.flat)
    windows.results(block, rows)[...] = g
    return block


def weigh(x: np.ndarray, g: np.ndarray, windows: Windows, groups: int) -> np.ndarray:
    """Images by results, added up over both to weights (o, c / groups, *kernel)."""
    n, channels = x.shape[:2]
    outputs = g.shape[1]
    dtype = _wide(x.dtype)
    shape = (outputs, channels // groups, *windows.kernel)
    total = np.zeros((groups, outputs // groups, channels // groups * windows.taps), dtype)
    scratch = Scratch(dtype)
    by_channel = channels == groups == outputs
    if windows.is_pointwise:
        pixels = x.reshape(n, groups, channels // groups, -1).astype(dtype, copy=False)
        results = g.reshape(n, groups, outputs // groups, -1).astype(dtype, copy=False)
        for one, other in zip(results, pixels, strict=True):
            total += np.matmul(one, other.swapaxes(1, 2))
        return total.reshape(shape).astype(x.dtype, copy=False)
    for first, last, rows in windows.blocks(n, channels, dtype):
        image = windows.pad(x[first:last], scratch)
        for top, bottom in rows:
            columns = windows.columns(image, top, bottom)
            block = _laid_out(g[first:last, :, top:bottom], windows, bottom - top, scratch)
            if by_channel:
                positions = columns.shape[2 + len(windows.kernel) :]
                results = block.reshape(*block.shape[:2], *positions)
                at = "xyz"[: len(positions)]
                for nr, tap in enumerate(np.ndindex(windows.kernel)):
                    values = columns[(slice(None), slice(None), *tap)]
                    total[:, 0, nr] += np.einsum(f"nc{at},nc{at}->c", results, values)
                continue
            block = block.reshape(last - first, groups, outputs // groups, -1)
            packed = _packed(columns, windows, groups, scratch)
            for one, other in zip(block, packed, strict=True):
                total += np.matmul(one, other.swapaxes(1, 2))
    return total.reshape(shape).astype(x.dtype, copy=False)
