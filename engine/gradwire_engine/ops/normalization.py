"""Normalization over features and over groups of channels; and what that over a batch shares.

Kernels work on rows or channels of three-dimensional views. The rules of normalized arguments are
composites with kernels: the kernel for a plain backward, the formula for one that is recorded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import composite, general
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.blocks import row_blocks, wide

_FUNCTIONAL = ("nn.functional",)

Needs = Sequence[bool]


def narrow(results: Sequence[np.ndarray | None], dtype: np.dtype) -> tuple[Any, ...]:
    """Results in the dtype of the operator, after sums in a wider one."""
    return tuple(None if each is None else each.astype(dtype, copy=False) for each in results)


def _require_shape(op: str, name: str, given: Any, shape: tuple[int, ...], why: str) -> None:
    if given is not None and given.shape != shape:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: {name} has shape {given.shape}, but {why} it needs {shape}",
            argument=name,
            shape=given.shape,
        )


def _require_float(op: str, self: Any) -> None:
    if self.dtype.kind not in "fc":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: needs a floating-point tensor, not {self.dtype}; convert it with to()",
            argument="input",
            dtype=self.dtype,
        )


def through(F: Any, g: Any, x: Any, scale: Any, over: tuple[int, ...]) -> Any:
    """The gradient before a normalization over some dimensions: `x` is what it gave."""
    return scale * (g - F.mean(g, over, True) - x * F.mean(g * x, over, True))


def normalized(F: Any, self: Any, over: tuple[int, ...], eps: float) -> tuple[Any, Any]:
    """The normalized input and the reciprocal deviation."""
    centred = self - F.mean(self, over, True)
    scale = F.rsqrt(F.mean(centred * centred, over, True) + eps)
    return centred * scale, scale


def _require_ending(op: str, input: Any, shape: tuple[int, ...]) -> None:
    if not shape or input.shape[-len(shape) :] != shape:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: an input of shape {input.shape} does not end in normalized_shape {list(shape)}",
            argument="normalized_shape",
            shape=input.shape,
            normalized_shape=shape,
        )


def _check_layer_norm(self: Any, normalized_shape: Sequence[int], weight: Any, bias: Any) -> None:
    shape = tuple(normalized_shape)
    _require_ending("layer_norm", self, shape)
    for name, given in (("weight", weight), ("bias", bias)):
        _require_shape("layer_norm", name, given, shape, "to be like normalized_shape")


def _native_layer_norm(
    self: np.ndarray,
    normalized_shape: Sequence[int],
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 1e-5,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    _check_layer_norm(self, normalized_shape, weight, bias)
    _require_float("layer_norm", self)
    n = math.prod(normalized_shape)
    x = wide(self).reshape(-1, n) if n else wide(self).reshape(0, 0)
    out = np.empty_like(x)
    mean, scale = np.empty(len(x), x.dtype), np.empty(len(x), x.dtype)
    ones = np.full(n, 1 / max(n, 1), x.dtype)
    factor = None if weight is None else weight.reshape(n)
    shift = None if bias is None else bias.reshape(n)
    for rows in row_blocks(x):
        block, made = x[rows], out[rows]
        np.matmul(block, ones, out=mean[rows])
        np.subtract(block, mean[rows, None], out=made)
        spread = np.einsum("ij,ij->i", made, made)
        spread /= n
        spread += eps
        np.sqrt(spread, out=spread)
        np.reciprocal(spread, out=scale[rows])
        made *= scale[rows, None]
        if factor is not None:
            made *= factor
        if shift is not None:
            made += shift
    kept = (*self.shape[: self.ndim - len(normalized_shape)], *(1 for _ in normalized_shape))
    return (
        out.reshape(self.shape).astype(self.dtype, copy=False),
        mean.reshape(kept if n else 0),
        scale.reshape(kept if n else 0),
    )


def _layer_norm_gradients(
    grad_output: np.ndarray,
    self: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    scale: np.ndarray,
    normalized_shape: Sequence[int],
    eps: float,
    needs: Needs,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    n = math.prod(normalized_shape)
    x, g = wide(self).reshape(-1, n or 1), wide(grad_output).reshape(-1, n or 1)
    by_self = np.empty_like(x) if needs[0] else None
    by_weight = np.zeros(n, x.dtype) if needs[1] else None
    by_bias = np.zeros(n, x.dtype) if needs[2] else None
    middle, scale = mean.reshape(-1, 1), scale.reshape(-1, 1)
    factor = np.ones(n, x.dtype) if weight is None else wide(weight).reshape(n)
    share = factor / max(n, 1)
    for rows in row_blocks(x):
        block = g[rows]
        ones = np.ones(len(block), x.dtype)
        if by_bias is not None:
            by_bias += ones @ block
        if by_self is None and by_weight is None:
            continue
        normal = x[rows] - middle[rows]
        normal *= scale[rows]
        product = block * normal
        if by_weight is not None:
            by_weight += ones @ product
        if by_self is not None:
            made = by_self[rows]
            np.multiply(block, factor, out=made)
            normal *= (product @ share)[:, None]
            normal += (block @ share)[:, None]
            made -= normal
            made *= scale[rows]
    shapes = (self.shape, normalized_shape, normalized_shape)
    found = (by_self, by_weight, by_bias)
    shaped = [
        None if each is None else each.reshape(shape)
        for each, shape in zip(found, shapes, strict=True)
    ]
    by_self, by_weight, by_bias = narrow(shaped, self.dtype)
    return by_self, by_weight, by_bias


def _layer_norm_formula(
    F: Any,
    g: Any,
    self: Any,
    weight: Any,
    mean: Any,
    scale: Any,
    normalized_shape: Sequence[int],
    eps: float,
    needs: Needs,
) -> tuple[Any, Any, Any]:
    rank = len(self.shape) - len(normalized_shape)
    over = tuple(range(rank, len(self.shape)))
    x, scale = normalized(F, self, over, eps)
    weighted = g if weight is None else g * weight
    return (
        through(F, weighted, x, scale, over) if needs[0] else None,
        # Summed to the shape of weight and bias by the engine.
        g * x if needs[1] else None,
        g,
    )


composite(
    "_layer_norm_backward(Tensor grad_output, Tensor self, Tensor? weight, Tensor mean, "
    "Tensor scale, int[] normalized_shape, float eps, bool[] needs) "
    "-> (Tensor self, Tensor weight, Tensor bias)",
    _layer_norm_formula,
    kernel=_layer_norm_gradients,
    places=(),
)
general(
    "_layer_norm(Tensor self, int[] normalized_shape, Tensor? weight=None, Tensor? bias=None, "
    "float eps=1e-05) -> (Tensor result, Tensor mean, Tensor scale)",
    _native_layer_norm,
    {
        "self weight bias": lambda F, gs, needs, self, normalized_shape, weight, eps, mean, scale: (
            F._layer_norm_backward(gs[0], self, weight, mean, scale, normalized_shape, eps, needs)
        )
    },
    grad_fn="NativeLayerNormBackward0",
    promotion="same",
    places=(),
)
composite(
    "layer_norm(Tensor self, int[] normalized_shape, Tensor? weight=None, Tensor? bias=None, "
    "float eps=1e-05) -> Tensor",
    lambda F, *arguments: F._layer_norm(*arguments)[0],
    places=_FUNCTIONAL,
)


def check_channels(op: str, input: Any, **by_name: Any) -> int:
    """The number of channels; what is given for each channel must be as many."""
    if input.ndim < 2:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: an input has shape (n, channels, ...), not {input.shape}",
            argument="input",
            shape=input.shape,
        )
    _require_float(op, input)
    channels: int = input.shape[1]
    for name, given in by_name.items():
        _require_shape(op, name, given, (channels,), "for each channel")
    return channels


def _check_group_norm(input: Any, num_groups: int, weight: Any, bias: Any) -> None:
    channels = check_channels("group_norm", input, weight=weight, bias=bias)
    if num_groups < 1 or channels % num_groups:
        raise EngineError(
            "BAD_VALUE",
            f"group_norm: {channels} channels cannot be split into num_groups={num_groups} equal "
            "groups",
            argument="num_groups",
            value=num_groups,
        )


def by_channel(array: np.ndarray) -> np.ndarray:
    """(n, channels, pixels)."""
    return array.reshape(*array.shape[:2], math.prod(array.shape[2:]))


def _group_norm(
    input: np.ndarray,
    num_groups: int,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 1e-5,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    _check_group_norm(input, num_groups, weight, bias)
    x = by_channel(wide(input))
    n, channels, pixels = x.shape
    size = channels // num_groups * pixels
    rows = x.reshape(n * num_groups, size)
    mean = np.add.reduce(rows, axis=1) / max(size, 1)
    out = rows - mean[:, None]
    scale = 1 / np.sqrt(np.einsum("ij,ij->i", out, out) / max(size, 1) + eps)
    scale = scale.astype(x.dtype, copy=False)
    out *= scale[:, None]
    out = out.reshape(x.shape)
    if weight is not None:
        out *= weight[:, None]
    if bias is not None:
        out += bias[:, None]
    shape = (n, num_groups)
    return (
        out.reshape(input.shape).astype(input.dtype, copy=False),
        mean.reshape(shape),
        scale.reshape(shape),
    )


def _group_norm_gradients(
    grad_output: np.ndarray,
    input: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    scale: np.ndarray,
    num_groups: int,
    eps: float,
    needs: Needs,
) -> tuple[Any, ...]:
    x, g = by_channel(wide(input)), by_channel(wide(grad_output))
    n, channels, pixels = x.shape
    each = channels // num_groups
    sums = np.add.reduce(g, axis=2)
    # Of g by the normalized input: a sum for each channel of each image.
    centre, deviation = np.repeat(mean, each, 1), np.repeat(scale, each, 1)
    products = (np.einsum("ncp,ncp->nc", g, x) - centre * sums) * deviation
    by_input = None
    if needs[0]:
        factor = np.ones(channels, x.dtype) if weight is None else wide(weight)
        size = max(each * pixels, 1)
        along = np.add.reduce((products * factor).reshape(n, num_groups, each), axis=2) / size
        level = np.add.reduce((sums * factor).reshape(n, num_groups, each), axis=2) / size
        slope = -along * scale * scale
        offset = -slope * mean - level * scale
        by_input = g * (factor * deviation)[:, :, None]
        grouped = by_input.reshape(n, num_groups, each * pixels)
        grouped += x.reshape(grouped.shape) * slope[:, :, None]
        grouped += offset[:, :, None]
        by_input = by_input.reshape(input.shape)
    found = (
        by_input,
        np.add.reduce(products, axis=0) if needs[1] else None,
        np.add.reduce(sums, axis=0) if needs[2] else None,
    )
    return narrow(found, input.dtype)


def _group_norm_formula(
    F: Any,
    g: Any,
    input: Any,
    weight: Any,
    mean: Any,
    scale: Any,
    num_groups: int,
    eps: float,
    needs: Needs,
) -> tuple[Any, Any, Any]:
    shape = input.shape
    grouped = (shape[0], num_groups, math.prod(shape[1:]) // num_groups)
    channels = (1, shape[1], *(1 for _ in shape[2:]))
    x, scale = normalized(F, F.reshape(input, grouped), (2,), eps)
    pixels = (0, *range(2, len(shape)))
    by_input = None
    if needs[0]:
        weighted = g if weight is None else g * F.reshape(weight, channels)
        by_input = through(F, F.reshape(weighted, grouped), x, scale, (2,))
        by_input = F.reshape(by_input, shape)
    return (
        by_input,
        F.sum(g * F.reshape(x, shape), pixels) if needs[1] else None,
        F.sum(g, pixels) if needs[2] else None,
    )


composite(
    "_group_norm_backward(Tensor grad_output, Tensor input, Tensor? weight, Tensor mean, "
    "Tensor scale, int num_groups, float eps, bool[] needs) "
    "-> (Tensor input, Tensor weight, Tensor bias)",
    _group_norm_formula,
    kernel=_group_norm_gradients,
    places=(),
)
general(
    "_group_norm(Tensor input, int num_groups, Tensor? weight=None, Tensor? bias=None, "
    "float eps=1e-05) -> (Tensor result, Tensor mean, Tensor scale)",
    _group_norm,
    {
        "input weight bias": lambda F, gs, needs, input, num_groups, weight, eps, mean, scale: (
            F._group_norm_backward(gs[0], input, weight, mean, scale, num_groups, eps, needs)
        )
    },
    grad_fn="NativeGroupNormBackward0",
    promotion="same",
    places=(),
)
composite(
    "group_norm(Tensor input, int num_groups, Tensor? weight=None, Tensor? bias=None, "
    "float eps=1e-05) -> Tensor",
    lambda F, *arguments: F._group_norm(*arguments)[0],
    places=("torch", "nn.functional"),
)


def _rms_norm(
    F: Any, input: Any, normalized_shape: Sequence[int], weight: Any, eps: float | None
) -> Any:
    shape = tuple(normalized_shape)
    _require_float("rms_norm", input)
    _require_ending("rms_norm", input, shape)
    _require_shape("rms_norm", "weight", weight, shape, "to be like normalized_shape")
    if eps is None:
        eps = float(np.finfo(input.dtype).eps)
    over = tuple(range(len(input.shape) - len(shape), len(input.shape)))
    narrow = input.dtype == np.float16
    wide = F.to(input, np.dtype(np.float32)) if narrow else input
    scale = F.rsqrt(F.add__Scalar(F.mean(F.pow(wide, 2), over, True), eps))
    result = wide * scale
    if weight is not None:
        result = result * weight
    return F.to(result, input.dtype) if narrow else result


composite(
    "rms_norm(Tensor input, int[] normalized_shape, Tensor? weight=None, float? eps=None) "
    "-> Tensor",
    _rms_norm,
    places=("torch", "nn.functional"),
)


def _local_response_norm(F: Any, input: Any, size: int, alpha: float, beta: float, k: float) -> Any:
    rank = len(input.shape)
    if rank < 3 or size < 1:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"local_response_norm: needs an input of at least 3 dimensions, not {rank}, and a size "
            f"of at least 1, not {size}",
            argument="input",
            shape=input.shape,
        )
    if 0 in input.shape:
        return input
    square = F.unsqueeze(F.mul(input, input), 1)
    before, after = size // 2, (size - 1) // 2
    if rank == 3:
        padded = F.pad(square, (0, 0, before, after))
        means = F.squeeze(F.avg_pool2d(padded, (size, 1), (1,)), (1,))
    else:
        n, channels, *sizes = input.shape
        cubes = F.view(square, (n, 1, channels, sizes[0], -1))
        padded = F.pad(cubes, (0, 0, 0, 0, before, after))
        pooled = F.squeeze(F.avg_pool3d(padded, (size, 1, 1), (1,)), (1,))
        means = F.view(pooled, input.shape)
    return input / F.pow(F.add(F.mul(means, alpha), k), beta)


composite(
    "local_response_norm(Tensor input, int size, float alpha=0.0001, float beta=0.75, "
    "float k=1.0) -> Tensor",
    _local_response_norm,
    places=_FUNCTIONAL,
)
