"""Dropout: elements, or whole channels, left out at random in training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.declare import composite, mutating, nondiff
from gradwire_engine.errors import EngineError

_FUNCTIONAL = ("nn.functional",)

# The negative saturation value of selu: alpha-dropout keeps its mean and variance.
_ALPHA = 1.7580993408473766


def _require_probability(op: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: p is the probability to be left out, from 0 to 1, not {p}",
            argument="p",
            value=p,
        )


def _kept(self: np.ndarray, p: float, channels: bool) -> np.ndarray:
    """Ones, or zeros with probability p; the same for a whole channel with `channels`."""
    shape = self.shape
    if channels:
        shape = (*shape[:2], *(1 for _ in shape[2:]))
    generator = current.context.generator
    # 16 random bits for each element are as good as a float, and twice as quick.
    bits = generator.integers(0, 1 << 16, shape, np.uint16)
    return np.asarray(bits >= round(p * (1 << 16)))


nondiff("_kept(Tensor self, float p, bool channels) -> Tensor", _kept, places=())


def _noise(self: np.ndarray, p: float, channels: bool) -> np.ndarray:
    """What dropout multiplies by: 0 with probability p, else 1 / (1 - p)."""
    kept = _kept(self, p, channels)
    dtype = self.dtype if self.dtype.kind in "fc" else current.context.default_dtype
    noise: np.ndarray = kept * np.asarray(1 / (1 - p), dtype)
    return noise


nondiff("_dropout_noise(Tensor self, float p, bool channels) -> Tensor", _noise, places=())


def _dropped(F: Any, op: str, self: Any, p: float, training: bool, channels: bool) -> Any:
    """The factor to multiply by; None where nothing is left out."""
    _require_probability(op, p)
    if not training or p == 0 or 0 in self.shape:
        return None
    if channels and len(self.shape) < 2:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: leaves out channels, so the input needs at least 2 dimensions; its shape is "
            f"{self.shape}",
            argument="input",
            shape=self.shape,
        )
    if p == 1:
        return F.zeros((), dtype=self.dtype)
    return F._dropout_noise(self, p, channels)


def _shifted(F: Any, op: str, self: Any, p: float, training: bool, channels: bool) -> Any:
    """The factor and the summand of alpha-dropout."""
    factor = _dropped(F, op, self, p, training, channels)
    if factor is None or p == 1:
        return factor, None
    scale = 1 / math.sqrt((_ALPHA * _ALPHA * p + 1) * (1 - p))
    kept = F.to(F._kept(self, p, channels), self.dtype)
    return kept * scale, (kept - 1) * (_ALPHA * scale) + _ALPHA * scale * p


def _declare(name: str, alpha: bool, channels: bool, rank: int | None = None) -> None:
    arguments = f"(Tensor input, float p=0.5, bool training={not alpha}) -> Tensor"

    def plain(F: Any, input: Any, p: float, training: bool) -> Any:
        factor = _dropped(F, name, input, p, training, channels)
        return input if factor is None else F.mul(input, factor)

    def in_place(F: Any, input: Any, p: float, training: bool) -> Any:
        factor = _dropped(F, name, input, p, training, channels)
        return input if factor is None else F.mul_(input, factor)

    def plain_alpha(F: Any, input: Any, p: float, training: bool) -> Any:
        factor, summand = _shifted(F, name, input, p, training, channels)
        if factor is None:
            return input
        product = F.mul(input, factor)
        return product if summand is None else F.add(product, summand)

    def in_place_alpha(F: Any, input: Any, p: float, training: bool) -> Any:
        factor, summand = _shifted(F, name, input, p, training, channels)
        if factor is None:
            return input
        product = F.mul_(input, factor)
        return product if summand is None else F.add_(product, summand)

    def of_batch(F: Any, input: Any, p: float, training: bool) -> Any:
        """Without a batch the first dimension is the channels."""
        if rank is None or len(input.shape) != rank + 1:
            return plain(F, input, p, training)
        return F.squeeze(plain(F, F.unsqueeze(input, 0), p, training), (0,))

    composite(f"{name}{arguments}", plain_alpha if alpha else of_batch, places=_FUNCTIONAL)
    mutating(f"{name}_{arguments}", in_place_alpha if alpha else in_place, places=())


_declare("dropout", alpha=False, channels=False)
_declare("dropout1d", alpha=False, channels=True, rank=1)
_declare("dropout2d", alpha=False, channels=True)
_declare("dropout3d", alpha=False, channels=True, rank=3)
_declare("alpha_dropout", alpha=True, channels=False)
_declare("feature_alpha_dropout", alpha=True, channels=True)
