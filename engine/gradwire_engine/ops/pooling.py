"""Pooling: the largest element, or the mean, of windows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.declare import composite, general, linear
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims
from gradwire_engine.ops.blocks import wide
from gradwire_engine.ops.max_windows import largest
from gradwire_engine.ops.windows import Sizes, Windows, even_slices, spread
from gradwire_engine.threads import share

_FUNCTIONAL = ("nn.functional",)

# Of the pixels to which a thread brings gradients at a time: they should stay in its cache.
_PART_BYTES: Final = 1 << 19


def _spatial(self: Any, rank: int, op: str) -> Sizes:
    """The sizes of the spatial dimensions, which must not be empty; nor must the channels."""
    if self.ndim not in (rank + 1, rank + 2) or 0 in self.shape[self.ndim - rank - 1 :]:
        raise wrong_rank(self, rank, op)
    size: Sizes = self.shape[self.ndim - rank :]
    return size


def wrong_rank(self: Any, rank: int, op: str) -> EngineError:
    """What is said of an input that no pooling takes."""
    return EngineError(
        "SHAPE_MISMATCH",
        f"{op}: an input has shape (n, channels, {rank} spatial sizes), or the same without n, of "
        f"which only n may be 0; this one is {self.shape}",
        argument="self",
        shape=self.shape,
    )


def _pool_windows(
    self: Any,
    rank: int,
    op: str,
    kernel_size: Sequence[int],
    stride: Sequence[int] | None,
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Windows:
    """The windows of a pooling; with `ceil_mode` also those that only begin inside."""
    size = _spatial(self, rank, op)
    kernel = spread(kernel_size, rank, op, "kernel_size", 1)
    steps = spread(stride, rank, op, "stride", 1) if stride else kernel
    margins = spread(padding, rank, op, "padding", 0)
    gaps = spread(dilation, rank, op, "dilation", 1)
    out: list[int] = []
    for n, k, s, p, d in zip(size, kernel, steps, margins, gaps, strict=True):
        reach = d * (k - 1) + 1
        if p > reach // 2:
            raise EngineError(
                "BAD_VALUE",
                f"{op}: padding {list(margins)} must be at most half of the kernel "
                f"{list(kernel)} (dilation {list(gaps)}): a window must not lie in it wholly",
                argument="padding",
                value=list(margins),
            )
        count = (n + 2 * p - reach + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (count - 1) * s >= n + p:
            count -= 1
        out.append(count)
    if min(out) < 1:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: a kernel of size {list(kernel)} does not fit into an input of size "
            f"{list(size)} with padding {list(margins)}",
            op=op,
            size=size,
            kernel_size=kernel,
        )
    return Windows.of(op, size, kernel, steps, margins, gaps, tuple(out))


def _as_batch(self: np.ndarray, rank: int) -> np.ndarray:
    return self if self.ndim == rank + 2 else self[None]


def _largest(rank: int, op: str) -> Any:
    def kernel(
        self: np.ndarray,
        kernel_size: Sequence[int],
        stride: Sequence[int] | None = None,
        padding: Sequence[int] = (0,),
        dilation: Sequence[int] = (1,),
        ceil_mode: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        dims.require_order(self, op)
        windows = _pool_windows(self, rank, op, kernel_size, stride, padding, dilation, ceil_mode)
        best, pixels = largest(_as_batch(self, rank), windows)
        whole = (*self.shape[: self.ndim - rank], *windows.out)
        return best.reshape(whole), pixels.reshape(whole)

    return kernel


def _over_pixels(array: np.ndarray, spatial: int) -> np.ndarray:
    """Spatial dimensions as one."""
    lead = array.ndim - spatial
    return array.reshape(*array.shape[:lead], math.prod(array.shape[lead:]))


def _at_pixels(self: np.ndarray, indices: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Elements of images at positions in them; `size` is that of the images."""
    spatial = len(size)
    found = np.take_along_axis(_over_pixels(self, spatial), _over_pixels(indices, spatial), -1)
    return found.reshape(indices.shape)


def _to_pixels(
    grad_output: np.ndarray, indices: np.ndarray, size: Sequence[int], distinct: bool
) -> np.ndarray:
    """Elements added up where the positions say, which are `distinct` in each image or not."""
    spatial = len(size)
    lead = grad_output.shape[: grad_output.ndim - spatial]
    planes, pixels = math.prod(lead), math.prod(size)
    out = np.zeros(planes * pixels, grad_output.dtype)
    if grad_output.size:
        at, values = indices.reshape(planes, -1), grad_output.reshape(planes, -1)
        parts = even_slices(planes, _PART_BYTES // (pixels * out.itemsize))

        def work(numbers: Iterable[int]) -> None:
            for nr in numbers:
                some = parts[nr]
                first = np.arange(some.start * pixels, some.stop * pixels, pixels)
                chosen, added = (at[some] + first[:, None]).reshape(-1), values[some].reshape(-1)
                if distinct:
                    out[chosen] = added
                else:
                    np.add.at(out, chosen, added)

        share(work, len(parts))
    return out.reshape(*lead, *size)


linear(
    "_to_pixels(Tensor grad_output, Tensor indices, int[] size, bool distinct) -> Tensor",
    _to_pixels,
    {"grad_output": lambda F, g, indices, size: F._at_pixels(g, indices, size)},
    shape=lambda grad_output, indices, size, distinct: (
        *grad_output.shape[: grad_output.ndim - len(size)],
        *size,
    ),
    places=(),
)
linear(
    "_at_pixels(Tensor self, Tensor indices, int[] size) -> Tensor",
    _at_pixels,
    {"self": lambda F, g, indices, size: F._to_pixels(g, indices, size, False)},
    places=(),
)


def _pooled_shape(rank: int, op: str) -> Any:
    def shape(
        self: Any,
        kernel_size: Sequence[int],
        stride: Sequence[int] | None,
        padding: Sequence[int],
        *rest: Any,
    ) -> Sizes:
        dilation, ceil_mode = rest if len(rest) == 2 else ((1,), rest[0])
        windows = _pool_windows(self, rank, op, kernel_size, stride, padding, dilation, ceil_mode)
        return (*self.shape[: self.ndim - rank], *windows.out)

    return shape


def _is_disjoint(
    rank: int, kernel_size: Sequence[int], stride: Sequence[int] | None, dilation: Sequence[int]
) -> bool:
    """Whether no two windows share an element."""
    kernel, gaps, steps = (
        tuple(each) * (rank // len(each)) for each in (kernel_size, dilation, stride or kernel_size)
    )
    return all(d * (k - 1) < s for k, d, s in zip(kernel, gaps, steps, strict=True))


def _declare_max_pool(rank: int) -> None:
    general(
        f"max_pool{rank}d_with_indices(Tensor self, int[] kernel_size, int[]? stride=None, "
        f"int[] padding={[0] * rank}, int[] dilation={[1] * rank}, bool ceil_mode=False) "
        "-> (Tensor result, Tensor indices)",
        _largest(rank, f"max_pool{rank}d"),
        lambda F, g, self_shape, indices, kernel_size, stride, dilation: F._to_pixels(
            g, indices, self_shape[-rank:], _is_disjoint(rank, kernel_size, stride, dilation)
        ),
        grad_fn=f"MaxPool{rank}DWithIndicesBackward0",
        shape=_pooled_shape(rank, f"max_pool{rank}d"),
        places=_FUNCTIONAL,
    )
    composite(
        f"max_pool{rank}d(Tensor self, int[] kernel_size, int[]? stride=None, "
        f"int[] padding={[0] * rank}, int[] dilation={[1] * rank}, bool ceil_mode=False) "
        "-> Tensor",
        lambda F, *args: getattr(F, f"max_pool{rank}d_with_indices")(*args)[0],
        places=("torch", "nn.functional"),
    )


for _rank in (2, 3):
    _declare_max_pool(_rank)


def _line_as_image(F: Any, self: Any, op: str) -> Any:
    """One spatial dimension as the second of two."""
    _spatial(self, 1, op)
    return F.unsqueeze(self, -2)


def _one_dimensional(op: str, values: Sequence[int], argument: str) -> Sizes:
    return spread(values, 1, op, argument, 0) if values else ()


def _max_pool1d_with_indices(
    F: Any,
    self: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int] | None,
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> tuple[Any, Any]:
    op = "max_pool1d"
    pooled = F.max_pool2d_with_indices(
        _line_as_image(F, self, op),
        (1, *_one_dimensional(op, kernel_size, "kernel_size")),
        (1, *_one_dimensional(op, stride or kernel_size, "stride")),
        (0, *_one_dimensional(op, padding, "padding")),
        (1, *_one_dimensional(op, dilation, "dilation")),
        ceil_mode,
    )
    return F.squeeze(pooled[0], (-2,)), F.squeeze(pooled[1], (-2,))


composite(
    "max_pool1d_with_indices(Tensor self, int[] kernel_size, int[]? stride=None, "
    "int[] padding=[0], int[] dilation=[1], bool ceil_mode=False) "
    "-> (Tensor result, Tensor indices)",
    _max_pool1d_with_indices,
    places=("torch", "nn.functional"),
)
composite(
    "max_pool1d(Tensor self, int[] kernel_size, int[]? stride=None, int[] padding=[0], "
    "int[] dilation=[1], bool ceil_mode=False) -> Tensor",
    lambda F, *args: _max_pool1d_with_indices(F, *args)[0],
    places=("torch", "nn.functional"),
)


def _box(windows: Windows, array: np.ndarray) -> np.ndarray:
    """Sums over windows of padded images, one dimension after the other."""
    spatial = len(windows.size)
    for axis, (k, s, o) in enumerate(
        zip(windows.kernel, windows.stride, windows.out, strict=True), array.ndim - spatial
    ):
        lines = [slice(None)] * array.ndim
        total: np.ndarray | None = None
        for tap in range(k):
            lines[axis] = slice(tap, tap + s * (o - 1) + 1, s)
            part = array[tuple(lines)]
            total = part.copy() if total is None else np.add(total, part, out=total)
        assert total is not None
        array = total
    return array


def _unbox(windows: Windows, array: np.ndarray) -> np.ndarray:
    """The adjoint: each element of a padded image gets the sum over its windows."""
    spatial = len(windows.size)
    for axis, (k, s, o) in enumerate(
        zip(windows.kernel, windows.stride, windows.out, strict=True), array.ndim - spatial
    ):
        lines = [slice(None)] * array.ndim
        shape = list(array.shape)
        shape[axis] = windows.padded[axis - array.ndim + spatial]
        total = np.zeros(shape, array.dtype)
        for tap in range(k):
            lines[axis] = slice(tap, tap + s * (o - 1) + 1, s)
            target = total[tuple(lines)]
            np.add(target, array, out=target)
        array = total
    return array


def _divisor(windows: Windows, count_include_pad: bool, override: int | None) -> Any:
    """What the sum of each window is divided by; of shape `out` if not the same everywhere."""
    if override is not None:
        return override
    counts = []
    for n, k, s, p, o in zip(
        windows.size, windows.kernel, windows.stride, windows.padding, windows.out, strict=True
    ):
        first = np.arange(o) * s - p
        last = np.minimum(first + k, n + p)
        if not count_include_pad:
            first, last = np.maximum(first, 0), np.minimum(last, n)
        counts.append(last - first)
    if all((each == k).all() for each, k in zip(counts, windows.kernel, strict=True)):
        return windows.taps
    return math.prod(np.ix_(*counts))


def _average_windows(
    self: Any, rank: int, arguments: Sequence[Any]
) -> tuple[Windows, bool, int | None]:
    kernel_size, stride, padding, ceil_mode, count_include_pad, override = arguments
    op = f"avg_pool{rank}d"
    if override == 0:
        raise EngineError(
            "BAD_VALUE", f"{op}: divisor_override must not be 0", argument="divisor_override"
        )
    windows = _pool_windows(self, rank, op, kernel_size, stride, padding, (1,), ceil_mode)
    return windows, count_include_pad, override


def _divided(total: np.ndarray, divisor: Any, dtype: np.dtype) -> np.ndarray:
    if dtype.kind in "iu":
        return np.asarray(np.trunc(total / divisor)).astype(dtype)
    if isinstance(divisor, np.ndarray):
        divisor = divisor.astype(total.dtype)
    total /= divisor
    return total.astype(dtype, copy=False)


def _average(rank: int) -> Any:
    def kernel(
        self: np.ndarray,
        kernel_size: Sequence[int],
        stride: Sequence[int] | None = None,
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> np.ndarray:
        arguments = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        windows, included, override = _average_windows(self, rank, arguments)
        batch = wide(self)
        if windows.padded != windows.size:
            shape = (*self.shape[: self.ndim - rank], *windows.padded)
            current.context.admit(shape, "the padded input")
            buffer = np.zeros(shape, batch.dtype)
            buffer[windows.interior] = batch
            batch = buffer
        return _divided(_box(windows, batch), _divisor(windows, included, override), self.dtype)

    return kernel


def _average_back(rank: int) -> Any:
    def kernel(grad_output: np.ndarray, self_size: Sequence[int], *arguments: Any) -> np.ndarray:
        shaped = np.broadcast_to(np.zeros(()), tuple(self_size))
        windows, included, override = _average_windows(shaped, rank, arguments)
        divisor = _divisor(windows, included, override)
        widened = wide(grad_output)
        if isinstance(divisor, np.ndarray):
            divisor = divisor.astype(widened.dtype)
        spread_out = _unbox(windows, widened / divisor)[windows.interior]
        return np.ascontiguousarray(spread_out, grad_output.dtype)

    return kernel


def _average_rule(rank: int) -> Any:
    def pull(
        F: Any,
        g: Any,
        self_shape: Any,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: int | None,
    ) -> Any:
        arguments = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return getattr(F, f"_avg_pool{rank}d_back")(g, self_shape, *arguments)

    return pull


def _declare_avg_pool(rank: int) -> None:
    rest = (
        "int[] kernel_size, int[]? stride, int[] padding, bool ceil_mode, "
        "bool count_include_pad, int? divisor_override"
    )
    linear(
        f"avg_pool{rank}d(Tensor self, int[] kernel_size, int[]? stride=None, "
        f"int[] padding={[0] * rank}, bool ceil_mode=False, bool count_include_pad=True, "
        "int? divisor_override=None) -> Tensor",
        _average(rank),
        _average_rule(rank),
        grad_fn=f"AvgPool{rank}DBackward0",
        shape=lambda self, *rest: (
            *self.shape[: self.ndim - rank],
            *_average_windows(self, rank, rest)[0].out,
        ),
        places=_FUNCTIONAL,
    )
    linear(
        f"_avg_pool{rank}d_back(Tensor grad_output, int[] self_size, {rest}) -> Tensor",
        _average_back(rank),
        lambda F, g, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override: (
            getattr(F, f"avg_pool{rank}d")(
                g, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
            )
        ),
        shape=lambda grad_output, self_size, *rest: self_size,
        places=(),
    )


for _rank in (2, 3):
    _declare_avg_pool(_rank)


def _avg_pool1d(
    F: Any,
    self: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int] | None,
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
) -> Any:
    op = "avg_pool1d"
    pooled = F.avg_pool2d(
        _line_as_image(F, self, op),
        (1, *_one_dimensional(op, kernel_size, "kernel_size")),
        (1, *_one_dimensional(op, stride or kernel_size, "stride")),
        (0, *_one_dimensional(op, padding, "padding")),
        ceil_mode,
        count_include_pad,
        None,
    )
    return F.squeeze(pooled, (-2,))


composite(
    "avg_pool1d(Tensor self, int[] kernel_size, int[]? stride=None, int[] padding=[0], "
    "bool ceil_mode=False, bool count_include_pad=True) -> Tensor",
    _avg_pool1d,
    places=("torch", "nn.functional"),
)


def _declare_lp_pool(rank: int) -> None:
    def formula(
        F: Any,
        self: Any,
        norm_type: float,
        kernel_size: Sequence[int],
        stride: Sequence[int] | None,
        ceil_mode: bool,
    ) -> Any:
        kernel = spread(kernel_size, rank, f"lp_pool{rank}d", "kernel_size", 1)
        average = getattr(F, f"avg_pool{rank}d")
        means = average(F.pow(self, norm_type), kernel, stride, (0,), ceil_mode)
        # An odd power may have a negative mean, which has no root.
        positive = F.sign(means) * F.relu(F.abs(means))
        return F.pow(positive * math.prod(kernel), 1.0 / norm_type)

    composite(
        f"lp_pool{rank}d(Tensor self, float norm_type, int[] kernel_size, int[]? stride=None, "
        "bool ceil_mode=False) -> Tensor",
        formula,
        places=_FUNCTIONAL,
    )


for _rank in (1, 2, 3):
    _declare_lp_pool(_rank)
