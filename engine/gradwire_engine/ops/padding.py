"""Padding: constants, or the tensor's own elements, around the last dimensions.

`pad` lists how much is added before and after, for the last dimension first; a negative amount
takes away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import composite, linear
from gradwire_engine.errors import EngineError

_MODES = {"reflect": "reflection_pad", "replicate": "replication_pad", "circular": "_circular_pad"}


def _amounts(pad: Sequence[int], ndim: int, op: str) -> list[tuple[int, int]]:
    """`(before, after)` for each of the last dimensions, in order.

    Raises:
        EngineError: BAD_VALUE.
    """
    if len(pad) % 2 or len(pad) > 2 * ndim:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: pad {list(pad)} must be pairs of numbers, at most one pair for each of the "
            f"{ndim} dimensions",
            argument="pad",
            value=list(pad),
        )
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    return pairs[::-1]


def _padded_shape(self: Any, pad: Sequence[int], op: str) -> tuple[int, ...]:
    amounts = _amounts(pad, self.ndim, op)
    shape = list(self.shape)
    for dim, (before, after) in enumerate(amounts, self.ndim - len(amounts)):
        shape[dim] += before + after
    if min(shape, default=0) < 0:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: pad {list(pad)} would make a tensor of shape {self.shape} smaller than nothing",
            argument="pad",
            shape=self.shape,
        )
    return tuple(shape)


def _constant_pad(self: np.ndarray, pad: Sequence[int], value: Any = 0) -> np.ndarray:
    shape = _padded_shape(self, pad, "pad")
    out = np.full(shape, value, self.dtype)
    target: list[slice] = [slice(None)] * self.ndim
    source: list[slice] = [slice(None)] * self.ndim
    amounts = _amounts(pad, self.ndim, "pad")
    for dim, (before, after) in enumerate(amounts, self.ndim - len(amounts)):
        target[dim] = slice(max(before, 0), shape[dim] - max(after, 0))
        source[dim] = slice(max(-before, 0), self.shape[dim] - max(-after, 0))
    out[tuple(target)] = self[tuple(source)]
    return out


linear(
    "constant_pad_nd(Tensor self, int[] pad, Scalar value=0) -> Tensor",
    _constant_pad,
    lambda F, g, pad: F.constant_pad_nd(g, tuple(-each for each in pad), 0),
    shape=lambda self, pad, value: _padded_shape(self, pad, "pad"),
    places=("torch",),
)


def _origins(size: int, before: int, after: int, mode: str) -> np.ndarray:
    """For each position of a padded dimension the position that its element comes from."""
    at = np.arange(-before, size + after)
    if mode == "replicate":
        return np.clip(at, 0, size - 1)
    if mode == "circular":
        # What a negative amount takes away is not repeated either.
        skipped = max(-before, 0)
        return skipped + (at - skipped) % (size - skipped - max(-after, 0))
    at = np.abs(at)
    return np.where(at >= size, 2 * (size - 1) - at, at)


def _require_room(self: Any, padding: Sequence[int], mode: str) -> tuple[int, ...]:
    """Refuse to take more elements than there are; the padded shape."""
    spatial = len(padding) // 2
    if spatial not in (1, 2, 3) or self.ndim not in (spatial + 1, spatial + 2):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"pad: in mode '{mode}' the last 1, 2 or 3 dimensions of a tensor of one or two more "
            f"are padded; {list(padding)} does not fit a tensor of shape {self.shape}",
            argument="pad",
            shape=self.shape,
        )
    amounts = _amounts(padding, self.ndim, "pad")
    for size, pair in zip(self.shape[-spatial:], amounts, strict=True):
        most = {"reflect": size - 1, "circular": size, "replicate": max(pair) if size else 0}[mode]
        if max(pair) > most:
            raise EngineError(
                "SHAPE_MISMATCH",
                f"pad: {list(padding)} takes more than there is along a dimension of size {size}: "
                f"at most {max(most, 0)} in mode '{mode}'",
                argument="pad",
                shape=self.shape,
            )
    if 0 in self.shape[1 if self.ndim == spatial + 2 else 0 :]:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"pad: a tensor of shape {self.shape} has no elements to repeat",
            argument="self",
            shape=self.shape,
        )
    shape = _padded_shape(self, padding, "pad")
    if min(shape[-spatial:]) < 1:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"pad: {list(padding)} leaves nothing of a tensor of shape {self.shape}",
            argument="pad",
            shape=self.shape,
        )
    return shape


def _pad_by_origin(self: np.ndarray, padding: Sequence[int], mode: str) -> np.ndarray:
    amounts = _amounts(padding, self.ndim, "pad")
    first = self.ndim - len(amounts)
    grid = np.ix_(
        *(
            _origins(size, *pair, mode)
            for size, pair in zip(self.shape[first:], amounts, strict=True)
        )
    )
    index: tuple[Any, ...] = (..., *grid)
    padded: np.ndarray = self[index]
    return padded


def _unpad(
    grad_output: np.ndarray, self_size: Sequence[int], padding: Sequence[int], mode: str
) -> np.ndarray:
    """The adjoint of padding: each element gets what its copies got."""
    out = grad_output
    amounts = _amounts(padding, len(self_size), "pad")
    for axis, pair in enumerate(amounts, len(self_size) - len(amounts)):
        if not any(pair):
            continue
        size = self_size[axis]
        origins = _origins(size, *pair, mode)
        before = max(pair[0], 0)
        inner = slice(before, len(origins) - max(pair[1], 0))
        lines = np.moveaxis(out, axis, 0)
        total = np.zeros((size, *lines.shape[1:]), out.dtype)
        total[origins[inner]] = lines[inner]
        for edge in (slice(before), slice(inner.stop, None)):
            np.add.at(total, origins[edge], lines[edge])
        out = np.moveaxis(total, 0, axis)
    return np.ascontiguousarray(out)


def _declare_padding(name: str, mode: str, grad_fn: str | None = None) -> None:
    linear(
        f"{name}(Tensor self, int[] padding) -> Tensor",
        lambda self, padding: _pad_by_origin(self, padding, mode),
        lambda F, g, self_shape, padding: F._unpad(g, self_shape, padding, mode),
        grad_fn=grad_fn,
        shape=lambda self, padding: _require_room(self, padding, mode),
        places=(),
    )


for _mode, _name in _MODES.items():
    if _mode == "circular":
        _declare_padding(_name, _mode)
    else:
        for _rank in (1, 2, 3):
            _node = {"reflect": "Reflection", "replicate": "Replication"}[_mode]
            _declare_padding(f"{_name}{_rank}d", _mode, f"{_node}Pad{_rank}DBackward0")


def _pad_of_mode(F: Any, g: Any, padding: Sequence[int], mode: str) -> Any:
    spatial = "" if mode == "circular" else f"{len(padding) // 2}d"
    return getattr(F, f"{_MODES[mode]}{spatial}")(g, padding)


linear(
    "_unpad(Tensor grad_output, int[] self_size, int[] padding, str mode) -> Tensor",
    _unpad,
    lambda F, g, padding, mode: _pad_of_mode(F, g, padding, mode),
    shape=lambda grad_output, self_size, padding, mode: self_size,
    places=(),
)


def _pad(F: Any, self: Any, pad: Sequence[int], mode: str, value: Any) -> Any:
    if mode == "constant":
        return F.constant_pad_nd(self, pad, 0 if value is None else value)
    if mode not in _MODES or (value is not None and value != 0):
        raise EngineError(
            "BAD_VALUE",
            f"pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', not {mode!r}, "
            "and only the first takes a value",
            argument="mode",
            value=mode,
        )
    _require_room(self, pad, mode)
    return _pad_of_mode(F, self, pad, mode)


composite(
    'pad(Tensor self, int[] pad, str mode="constant", float? value=None) -> Tensor',
    _pad,
    places=("nn.functional",),
)
