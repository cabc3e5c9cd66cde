"""Convolutions of one to three dimensions, and transposed ones.

Three maps are each other's adjoints: images by weights (`_convolution_output`), results back to
images (`_convolution_input`, which also is the transposed convolution), and images by results to
weights (`_convolution_weight`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import bilinear, composite, general
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.correlation import correlate, scatter, weigh
from gradwire_engine.ops.windows import Sizes, Windows, spread

_SPATIAL = {"1d": 1, "2d": 2, "3d": 3}


def _geometry(
    op: str,
    rank: int,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> tuple[Sizes, Sizes, Sizes]:
    """Stride, padding and dilation for each spatial dimension."""
    if groups < 1:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: groups must be at least 1, not {groups}",
            argument="groups",
            value=groups,
        )
    return (
        spread(stride, rank, op, "stride", 1),
        spread(padding, rank, op, "padding", 0),
        spread(dilation, rank, op, "dilation", 1),
    )


def _refuse_shapes(op: str, input: Any, weight: Any, why: str) -> EngineError:
    return EngineError(
        "SHAPE_MISMATCH",
        f"{op}: an input of shape {input.shape} and a weight of shape {weight.shape} do not fit: "
        f"{why}",
        argument="weight",
        shape=input.shape,
        weight_shape=weight.shape,
    )


def _windows(
    input: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Windows:
    """The windows of a call, after a look at all its arguments.

    Of a transposed convolution, those in its result.
    """
    op = "conv_transpose" if transposed else "conv"
    rank = weight.ndim - 2
    if rank not in (1, 2, 3) or input.ndim != weight.ndim:
        raise _refuse_shapes(
            op,
            input,
            weight,
            "both have a dimension for the batch or the results, one for the "
            "channels, and the same one to three spatial ones",
        )
    steps, margins, gaps = _geometry(op, rank, stride, padding, dilation, groups)
    channels = weight.shape[0] if transposed else weight.shape[1] * groups
    outputs = weight.shape[1] * groups if transposed else weight.shape[0]
    if input.shape[1] != channels:
        raise _refuse_shapes(
            op, input, weight, f"with groups={groups} the input must have {channels} channels"
        )
    if weight.shape[0] % groups or not weight.shape[0]:
        raise _refuse_shapes(
            op, input, weight, f"the weight's first size must be a multiple of groups={groups}"
        )
    if bias is not None and bias.shape != (outputs,):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: bias has shape {bias.shape}; it needs ({outputs},), a number for each channel",
            argument="bias",
            shape=bias.shape,
        )
    kernel = weight.shape[2:]
    if not transposed:
        return Windows.of(op, input.shape[2:], kernel, steps, margins, gaps)
    extra = spread(output_padding, rank, op, "output_padding", 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, steps, gaps, strict=True)):
        raise EngineError(
            "BAD_VALUE",
            f"{op}: output_padding {list(extra)} must be smaller than stride {list(steps)} or "
            f"dilation {list(gaps)}",
            argument="output_padding",
            value=extra,
        )
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(
            input.shape[2:], steps, margins, gaps, kernel, extra, strict=True
        )
    )
    if min(size) < 1:
        raise _refuse_shapes(op, input, weight, f"the result would have size {list(size)}")
    return Windows.of(op, size, kernel, steps, margins, gaps, input.shape[2:])


def _convolution(
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> np.ndarray:
    windows = _windows(
        input, weight, bias, stride, padding, dilation, transposed, output_padding, groups
    )
    if not transposed:
        return correlate(input, weight, bias, windows, groups)
    out = scatter(input, weight, windows, groups)
    if bias is not None:
        out += bias.reshape(-1, *(1 for _ in windows.size))
    return out


def _convolution_shape(input: Any, weight: Any, *rest: Any) -> Sizes:
    windows = _windows(input, weight, *rest)
    transposed, groups = rest[4], rest[6]
    if transposed:
        return (input.shape[0], weight.shape[1] * groups, *windows.size)
    return (input.shape[0], weight.shape[0], *windows.out)


def _convolution_flops(input: Any, weight: Any, *rest: Any) -> int:
    """Each window of each image is multiplied with all of the weight."""
    windows = _windows(input, weight, *rest)
    flops: int = 2 * input.shape[0] * math.prod(windows.out) * math.prod(weight.shape) + 1
    return flops


def _by_input(
    F: Any,
    g: Any,
    input_shape: Any,
    weight: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    groups: int,
) -> Any:
    back = F._convolution_output if transposed else F._convolution_input
    return back(g, F.conj(weight), input_shape[2:], stride, padding, dilation, groups)


def _by_weight(
    F: Any,
    g: Any,
    input: Any,
    weight_shape: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    groups: int,
) -> Any:
    images, results = (g, F.conj(input)) if transposed else (F.conj(input), g)
    kernel = weight_shape[2:]
    return F._convolution_weight(images, results, kernel, stride, padding, dilation, groups)


def _over_pixels(F: Any, g: Any) -> Any:
    return F.sum(g, (0, *range(2, len(g.shape))))


general(
    "convolution(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, "
    "int[] dilation, bool transposed, int[] output_padding, int groups) -> Tensor",
    _convolution,
    {"input": _by_input, "weight": _by_weight, "bias": _over_pixels},
    promotion="same",
    shape=_convolution_shape,
    flops=_convolution_flops,
    places=("torch",),
)


def _with_size(
    input: np.ndarray,
    weight: np.ndarray,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> np.ndarray:
    rank = weight.ndim - 2
    geometry = _geometry("convolution", rank, stride, padding, dilation, groups)
    windows = Windows.of("convolution", input.shape[2:], weight.shape[2:], *geometry, tuple(size))
    return correlate(input, weight, None, windows, groups)


def _back_to_images(
    grad_output: np.ndarray,
    weight: np.ndarray,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> np.ndarray:
    rank = weight.ndim - 2
    geometry = _geometry("convolution", rank, stride, padding, dilation, groups)
    out = grad_output.shape[2:]
    windows = Windows.of("convolution", tuple(size), weight.shape[2:], *geometry, out)
    return scatter(grad_output, weight, windows, groups)


def _back_to_weight(
    input: np.ndarray,
    grad_output: np.ndarray,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> np.ndarray:
    geometry = _geometry("convolution", input.ndim - 2, stride, padding, dilation, groups)
    out = grad_output.shape[2:]
    windows = Windows.of("convolution", input.shape[2:], tuple(kernel), *geometry, out)
    return weigh(input, grad_output, windows, groups)


_REST = "int[] stride, int[] padding, int[] dilation, int groups) -> Tensor"

bilinear(
    f"_convolution_output(Tensor input, Tensor weight, int[] size, {_REST}",
    _with_size,
    {
        "input": lambda F, g, input_shape, weight, stride, padding, dilation, groups: (
            F._convolution_input(
                g, F.conj(weight), input_shape[2:], stride, padding, dilation, groups
            )
        ),
        "weight": lambda F, g, input, weight_shape, stride, padding, dilation, groups: (
            F._convolution_weight(
                F.conj(input), g, weight_shape[2:], stride, padding, dilation, groups
            )
        ),
    },
    shape=lambda input, weight, size, stride, padding, dilation, groups: (
        input.shape[0],
        weight.shape[0],
        *size,
    ),
    places=(),
)
bilinear(
    f"_convolution_input(Tensor grad_output, Tensor weight, int[] size, {_REST}",
    _back_to_images,
    {
        "grad_output": lambda F, g, grad_output_shape, weight, stride, padding, dilation, groups: (
            F._convolution_output(
                g, F.conj(weight), grad_output_shape[2:], stride, padding, dilation, groups
            )
        ),
        "weight": lambda F, g, grad_output, weight_shape, stride, padding, dilation, groups: (
            F._convolution_weight(
                g, F.conj(grad_output), weight_shape[2:], stride, padding, dilation, groups
            )
        ),
    },
    shape=lambda grad_output, weight, size, stride, padding, dilation, groups: (
        grad_output.shape[0],
        weight.shape[1] * groups,
        *size,
    ),
    places=(),
)
bilinear(
    f"_convolution_weight(Tensor input, Tensor grad_output, int[] kernel, {_REST}",
    _back_to_weight,
    {
        "input": lambda F, g, input_shape, grad_output, stride, padding, dilation, groups: (
            F._convolution_input(
                F.conj(grad_output), g, input_shape[2:], stride, padding, dilation, groups
            )
        ),
        "grad_output": lambda F, g, grad_output_shape, input, stride, padding, dilation, groups: (
            F._convolution_output(
                F.conj(input), g, grad_output_shape[2:], stride, padding, dilation, groups
            )
        ),
    },
    shape=lambda input, grad_output, kernel, stride, padding, dilation, groups: (
        grad_output.shape[1],
        input.shape[1] // groups,
        *kernel,
    ),
    places=(),
)


def _of_one_or_many(F: Any, op: str, rank: int, input: Any, run: Any) -> Any:
    """Apply `run` to a batch; an image alone is a batch of one."""
    if len(input.shape) == rank + 2:
        return run(input)
    if len(input.shape) != rank + 1:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: an input has {rank + 2} dimensions, or {rank + 1} without a batch; this one "
            f"has shape {input.shape}",
            argument="input",
            shape=input.shape,
        )
    return F.squeeze(run(F.unsqueeze(input, 0)), (0,))


def _conv(op: str, rank: int) -> Any:
    def formula(
        F: Any,
        input: Any,
        weight: Any,
        bias: Any,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Any:
        return _of_one_or_many(
            F,
            op,
            rank,
            input,
            lambda images: F.convolution(
                images, weight, bias, stride, padding, dilation, False, (0,) * rank, groups
            ),
        )

    return formula


def _conv_transpose(op: str, rank: int) -> Any:
    def formula(
        F: Any,
        input: Any,
        weight: Any,
        bias: Any,
        stride: Sequence[int],
        padding: Sequence[int],
        output_padding: Sequence[int],
        groups: int,
        dilation: Sequence[int],
    ) -> Any:
        return _of_one_or_many(
            F,
            op,
            rank,
            input,
            lambda images: F.convolution(
                images, weight, bias, stride, padding, dilation, True, output_padding, groups
            ),
        )

    return formula


def _conv_padded_as(op: str, rank: int) -> Any:
    """Padding given as a word: "valid" is none, "same" keeps the size."""

    def formula(
        F: Any,
        input: Any,
        weight: Any,
        bias: Any,
        stride: Sequence[int],
        padding: str,
        dilation: Sequence[int],
        groups: int,
    ) -> Any:
        if padding not in ("same", "valid"):
            raise EngineError(
                "BAD_VALUE",
                f"{op}: padding must be numbers, 'same' or 'valid', not {padding!r}",
                argument="padding",
                value=padding,
            )
        margins: Sizes = (0,) * rank
        surplus: list[int] = []
        if padding == "same" and len(weight.shape) == rank + 2:
            if any(each != 1 for each in stride):
                raise EngineError(
                    "BAD_VALUE",
                    f"{op}: padding='same' keeps the size, so the stride must be 1, not "
                    f"{list(stride)}",
                    argument="stride",
                    value=stride,
                )
            gaps = spread(dilation, rank, op, "dilation", 1)
            total = [d * (k - 1) for d, k in zip(gaps, weight.shape[2:], strict=True)]
            margins = tuple(each // 2 for each in total)
            # What does not halve is one pixel more behind, so it is padded before.
            surplus = [side for each in reversed(total) for side in (0, each % 2)]

        def run(images: Any) -> Any:
            if any(surplus):
                images = F.constant_pad_nd(images, surplus, 0)
            return F.convolution(
                images, weight, bias, stride, margins, dilation, False, (0,) * rank, groups
            )

        return _of_one_or_many(F, op, rank, input, run)

    return formula


for _suffix, _rank in _SPATIAL.items():
    _ones, _zeros = str([1] * _rank), str([0] * _rank)
    composite(
        f"conv{_suffix}(Tensor input, Tensor weight, Tensor? bias=None, int[] stride={_ones}, "
        f"int[] padding={_zeros}, int[] dilation={_ones}, int groups=1) -> Tensor",
        _conv(f"conv{_suffix}", _rank),
        places=("torch", "nn.functional"),
    )
    composite(
        f"conv{_suffix}.padding(Tensor input, Tensor weight, Tensor? bias=None, "
        f'int[] stride={_ones}, str padding="valid", int[] dilation={_ones}, int groups=1) '
        "-> Tensor",
        _conv_padded_as(f"conv{_suffix}", _rank),
        places=(),
    )
    composite(
        f"conv_transpose{_suffix}(Tensor input, Tensor weight, Tensor? bias=None, "
        f"int[] stride={_ones}, int[] padding={_zeros}, int[] output_padding={_zeros}, "
        f"int groups=1, int[] dilation={_ones}) -> Tensor",
        _conv_transpose(f"conv_transpose{_suffix}", _rank),
        places=("torch", "nn.functional"),
    )
