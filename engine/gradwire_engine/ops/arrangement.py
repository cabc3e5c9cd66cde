"""The same elements in another order, or more than once: flip, roll, rot90, repeat, tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import composite, linear, nondiff
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims


def _flip(self: np.ndarray, dims_: Sequence[int]) -> np.ndarray:
    # A copy: what only looks flipped would make every later reader go backwards.
    return np.flip(self, dims.many(dims_, self.ndim) if dims_ else ()).copy()


linear("flip(Tensor self, int[] dims) -> Tensor", _flip, lambda F, g, dims: F.flip(g, dims))


def _require_rank(self: Any, least: int, op: str) -> None:
    if len(self.shape) < least:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: needs at least {least} dimensions, not a tensor of shape {tuple(self.shape)}",
            argument="self",
            shape=tuple(self.shape),
        )


def _flip_one(op: str, dim: int) -> Any:
    def formula(F: Any, self: Any) -> Any:
        _require_rank(self, dim + 1, op)
        return F.flip(self, (dim,))

    return formula


composite("fliplr(Tensor self) -> Tensor", _flip_one("fliplr", 1))
composite("flipud(Tensor self) -> Tensor", _flip_one("flipud", 0))


def _roll(self: np.ndarray, shifts: Sequence[int], dims_: Sequence[int] = ()) -> np.ndarray:
    if len(shifts) != len(dims_) and not (len(shifts) == 1 and not dims_):
        raise EngineError(
            "BAD_VALUE",
            f"roll: {len(shifts)} shifts for {len(dims_)} dimensions; give one each, or one shift "
            "alone for the flattened tensor",
            argument="shifts",
            shifts=shifts,
            dims=dims_,
        )
    if not dims_:
        return np.roll(self, shifts[0])
    _require_rank(self, 1, "roll")
    return np.roll(self, shifts, tuple(dims.one(each, self.ndim) for each in dims_))


linear(
    "roll(Tensor self, int[] shifts, int[] dims=[]) -> Tensor",
    _roll,
    lambda F, g, shifts, dims: F.roll(g, tuple(-each for each in shifts), dims),
)


def _rot90(self: np.ndarray, k: int = 1, dims_: Sequence[int] = (0, 1)) -> np.ndarray:
    _require_rank(self, 2, "rot90")
    if len(dims_) != 2 or dims.one(dims_[0], self.ndim) == dims.one(dims_[1], self.ndim):
        raise EngineError(
            "BAD_VALUE",
            f"rot90: dims must be two different dimensions, not {list(dims_)}",
            argument="dims",
            dims=dims_,
        )
    return np.rot90(self, k, (dims_[0], dims_[1])).copy()


linear(
    "rot90(Tensor self, int k=1, int[] dims=[0, 1]) -> Tensor",
    _rot90,
    lambda F, g, k, dims: F.rot90(g, -k, dims),
)


def _repeated_shape(self: np.ndarray, repeats: Sequence[int]) -> tuple[int, ...]:
    if len(repeats) < self.ndim or any(each < 0 for each in repeats):
        raise EngineError(
            "BAD_VALUE",
            f"repeat: repeats={list(repeats)} must have a number, at least 0, for each of the "
            f"{self.ndim} dimensions",
            argument="repeats",
            repeats=repeats,
            ndim=self.ndim,
        )
    shape = (1,) * (len(repeats) - self.ndim) + self.shape
    return tuple(size * times for size, times in zip(shape, repeats, strict=True))


def _summed_repeats(F: Any, g: Any, self_shape: tuple[int, ...], repeats: Sequence[int]) -> Any:
    """The sum over all copies of each element."""
    if 0 in repeats:
        return F.zeros(self_shape, dtype=g.dtype)
    shape = (1,) * (len(repeats) - len(self_shape)) + self_shape
    apart = [each for times, size in zip(repeats, shape, strict=True) for each in (times, size)]
    copies = tuple(range(0, len(apart), 2))
    summed = F.sum(F.reshape(g, tuple(apart)), copies) if copies else g
    return F.reshape(summed, self_shape)


linear(
    "repeat(Tensor self, int[] repeats) -> Tensor",
    lambda self, repeats: np.tile(self, repeats) if repeats else self.copy(),
    _summed_repeats,
    shape=_repeated_shape,
    places=("Tensor",),
)


def _tile(F: Any, self: Any, dims: Sequence[int]) -> Any:
    return F.repeat(self, (1,) * (len(self.shape) - len(dims)) + tuple(dims))


composite("tile(Tensor self, int[] dims) -> Tensor", _tile)


def _repeat_interleave(
    F: Any, self: Any, repeats: Any, dim: int | None, output_size: int | None
) -> Any:
    if isinstance(repeats, int):
        return _interleave_alike(F, self, repeats, 0 if dim is None else dim, dim is None)
    if dim is None:
        self, dim = F.reshape(self, (-1,)), 0
    axis = dims.one(dim, len(self.shape))
    size = self.shape[axis] if self.shape else 1
    return F.index_select(self, axis, F._repeated_places(repeats, size, output_size))


def _interleave_alike(F: Any, self: Any, repeats: int, dim: int, flat: bool) -> Any:
    if repeats < 0:
        raise EngineError(
            "BAD_VALUE", f"repeat_interleave: repeats must not be {repeats}", argument="repeats"
        )
    if flat:
        self = F.reshape(self, (-1,))
    axis = dims.one(dim, len(self.shape))
    shape = self.shape
    spread = F.expand(
        F.unsqueeze(self, axis + 1), (*shape[: axis + 1], repeats, *shape[axis + 1 :])
    )
    return F.flatten(F.clone(spread), axis, axis + 1)


def _repeated_places_shape(
    repeats: np.ndarray, size: int, output_size: int | None = None
) -> tuple[int, ...]:
    if repeats.dtype.kind not in "iu":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"repeat_interleave: repeats must be integers, not {repeats.dtype}",
            argument="repeats",
            dtype=repeats.dtype,
        )
    if repeats.ndim > 1 or (repeats.size not in (1, size)):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"repeat_interleave: repeats of shape {repeats.shape} must be one number, or one for "
            f"each of the {size} slices",
            argument="repeats",
            shape=repeats.shape,
            size=size,
        )
    if repeats.size and int(repeats.min()) < 0:
        raise EngineError(
            "BAD_VALUE", "repeat_interleave: repeats must not be negative", argument="repeats"
        )
    total = int(np.broadcast_to(repeats.reshape(-1), (size,)).sum(dtype=np.int64))
    if output_size is not None and output_size != total:
        raise EngineError(
            "BAD_VALUE",
            f"repeat_interleave: output_size is {output_size}, and repeats add up to {total}",
            argument="output_size",
        )
    return (total,)


nondiff(
    "_repeated_places(Tensor repeats, int size, int? output_size=None) -> Tensor",
    lambda repeats, size, output_size=None: np.repeat(np.arange(size), repeats.reshape(-1)),
    shape=_repeated_places_shape,
    places=(),
)
composite(
    "repeat_interleave(Tensor self, Tensor repeats, int? dim=None, *, int? output_size=None)"
    " -> Tensor",
    _repeat_interleave,
    numbers=("repeats",),
)
