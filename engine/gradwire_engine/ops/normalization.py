"""Normalization over features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import general
from gradwire_engine.errors import EngineError


def _over(shape: Sequence[int], normalized_shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(len(shape) - len(normalized_shape), len(shape)))


def _layer_norm(
    self: np.ndarray,
    normalized_shape: Sequence[int],
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 1e-5,
) -> np.ndarray:
    shape = tuple(normalized_shape)
    if not shape or self.shape[-len(shape) :] != shape:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"layer_norm: an input of shape {self.shape} does not end in normalized_shape "
            f"{list(shape)}",
            argument="normalized_shape",
            shape=self.shape,
            normalized_shape=shape,
        )
    for name, given in (("weight", weight), ("bias", bias)):
        if given is not None and given.shape != shape:
            raise EngineError(
                "SHAPE_MISMATCH",
                f"layer_norm: {name} has shape {given.shape}, normalized_shape is {list(shape)}",
                argument=name,
                shape=given.shape,
            )
    over = _over(self.shape, shape)
    n = math.prod(shape)
    out = self - np.add.reduce(self, axis=over, keepdims=True) / n
    out *= 1 / np.sqrt(np.add.reduce(out * out, axis=over, keepdims=True) / n + eps)
    if weight is not None:
        out *= weight
    if bias is not None:
        out += bias
    return out


def _normalized(F: Any, self: Any, over: tuple[int, ...], eps: float) -> tuple[Any, Any]:
    """The normalized input and the reciprocal deviation."""
    centred = self - F.mean(self, over, True)
    scale = F.rsqrt(F.mean(centred * centred, over, True) + eps)
    return centred * scale, scale


def _by_input(F: Any, g: Any, self: Any, weight: Any, normalized_shape: Any, eps: float) -> Any:
    over = _over(self.shape, normalized_shape)
    x, scale = _normalized(F, self, over, eps)
    g = g if weight is None else g * weight
    return scale * (g - F.mean(g, over, True) - x * F.mean(g * x, over, True))


def _by_weight(F: Any, g: Any, self: Any, normalized_shape: Any, eps: float) -> Any:
    x, _ = _normalized(F, self, _over(self.shape, normalized_shape), eps)
    return g * x  # summed to the weight's shape by the engine


general(
    "layer_norm(Tensor self, int[] normalized_shape, Tensor? weight=None, Tensor? bias=None, "
    "float eps=1e-05) -> Tensor",
    _layer_norm,
    {"self": _by_input, "weight": _by_weight, "bias": lambda F, g: g},
    grad_fn="NativeLayerNormBackward0",
    promotion="same",
    places=("nn.functional",),
)
