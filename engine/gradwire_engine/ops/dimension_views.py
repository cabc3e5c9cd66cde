"""Views that name dimensions otherwise: movedim, swapaxes, unflatten, unfold; and views like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import composite, linear
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims


def _movedim(F: Any, self: Any, source: Sequence[int], destination: Sequence[int]) -> Any:
    rank = len(self.shape)
    froms = [dims.one(each, rank) for each in source]
    tos = [dims.one(each, rank) for each in destination]
    if len(froms) != len(tos) or len(set(froms)) != len(froms) or len(set(tos)) != len(tos):
        raise EngineError(
            "BAD_VALUE",
            f"movedim: source={list(source)} and destination={list(destination)} must name as many "
            "dimensions, each once",
            argument="source",
        )
    if not rank:
        return self
    rest = iter(each for each in range(rank) if each not in froms)
    order = [froms[tos.index(at)] if at in tos else next(rest) for at in range(rank)]
    return F.permute(self, tuple(order))


for _name in ("movedim", "moveaxis"):
    composite(f"{_name}(Tensor self, int[] source, int[] destination) -> Tensor", _movedim)
composite(
    "swapaxes(Tensor self, int axis0, int axis1) -> Tensor",
    lambda F, self, axis0, axis1: F.transpose(self, axis0, axis1),
)


def _adjoint(F: Any, self: Any) -> Any:
    if len(self.shape) < 2:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"adjoint: needs matrices, of shape (..., m, n), not shape {self.shape}",
            argument="self",
            shape=self.shape,
        )
    return F.conj(F.transpose(self, -2, -1))


composite("adjoint(Tensor self) -> Tensor", _adjoint)


def _sum_to_size(F: Any, self: Any, size: Sequence[int]) -> Any:
    added = len(self.shape) - len(size)
    fits = added >= 0 and all(
        want in (1, have) for want, have in zip(size, self.shape[added:], strict=True)
    )
    if not fits:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"sum_to_size: shape {self.shape} does not sum up to {list(size)}: sizes are equal or "
            "1, compared from the last dimension",
            argument="size",
            shape=self.shape,
            size=size,
        )
    if not size:
        return F.sum(self)
    summed = tuple(
        at for at, have in enumerate(self.shape) if at < added or (size[at - added] == 1 != have)
    )
    made = F.sum(self, summed, True) if summed else self
    return F.view(made, tuple(size)) if added else made


composite("sum_to_size(Tensor self, int[] size) -> Tensor", _sum_to_size, places=("Tensor",))
composite(
    "swapdims(Tensor self, int dim0, int dim1) -> Tensor",
    lambda F, self, dim0, dim1: F.transpose(self, dim0, dim1),
)


def _unflatten(F: Any, self: Any, dim: int, sizes: Sequence[int]) -> Any:
    axis = dims.one(dim, len(self.shape))
    if not sizes or not self.shape:
        raise EngineError(
            "BAD_VALUE", "unflatten: sizes must not be empty", argument="sizes", sizes=sizes
        )
    parts = dims.infer(sizes, self.shape[axis])
    return F.view(self, (*self.shape[:axis], *parts, *self.shape[axis + 1 :]))


composite("unflatten(Tensor self, int dim, int[] sizes) -> Tensor", _unflatten)
composite("ravel(Tensor self) -> Tensor", lambda F, self: F.reshape(self, (-1,)))
composite(
    "view_as(Tensor self, Tensor other) -> Tensor",
    lambda F, self, other: F.view(self, other.shape),
    places=("Tensor",),
)
composite(
    "reshape_as(Tensor self, Tensor other) -> Tensor",
    lambda F, self, other: F.reshape(self, other.shape),
    places=("Tensor",),
)
composite(
    "expand_as(Tensor self, Tensor other) -> Tensor",
    lambda F, self, other: F.expand(self, other.shape),
    places=("Tensor",),
)
composite(
    "broadcast_to(Tensor self, int[] size) -> Tensor", lambda F, self, size: F.expand(self, size)
)


def _windows(self: np.ndarray, dimension: int, size: int, step: int) -> tuple[int, int]:
    """The axis, and how many windows lie along it."""
    axis = dims.one(dimension, self.ndim)
    length = self.shape[axis] if self.ndim else 1
    if not 0 <= size <= length or step < 1:
        raise EngineError(
            "BAD_VALUE",
            f"unfold: windows of size {size} at steps of {step} do not lie in dimension "
            f"{dimension} of size {length}",
            argument="size",
            size=size,
            step=step,
        )
    return axis, (length - size) // step + 1


def _unfold(self: np.ndarray, dimension: int, size: int, step: int) -> np.ndarray:
    axis, count = _windows(self, dimension, size, step)
    if not self.ndim:
        return np.lib.stride_tricks.as_strided(self, (size,), (self.itemsize,))
    stride = self.strides[axis]
    shape = (*self.shape[:axis], count, *self.shape[axis + 1 :], size)
    strides = (*self.strides[:axis], stride * step, *self.strides[axis + 1 :], stride)
    return np.lib.stride_tricks.as_strided(self, shape, strides)


def _unfold_shape(self: np.ndarray, dimension: int, size: int, step: int) -> tuple[int, ...]:
    axis, count = _windows(self, dimension, size, step)
    if not self.ndim:
        return (size,)
    return (*self.shape[:axis], count, *self.shape[axis + 1 :], size)


def _unfold_backward(
    self: np.ndarray, input_sizes: Sequence[int], dimension: int, size: int, step: int
) -> np.ndarray:
    """Each element with the sum of its places in the windows."""
    out = np.zeros(tuple(input_sizes), self.dtype)
    if not out.ndim:
        return np.asarray(self.sum(), self.dtype)
    axis, count = _windows(out, dimension, size, step)
    whole = np.moveaxis(out, axis, -1)
    parts = np.moveaxis(self, axis, -2)
    # By the shorter of the two ways: a window at a time, or a place in the windows at a time.
    if count < size:
        for at in range(count):
            whole[..., at * step : at * step + size] += parts[..., at, :]
    else:
        for at in range(size):
            whole[..., at : at + (count - 1) * step + 1 : step] += parts[..., at]
    return out


linear(
    "unfold(Tensor self, int dimension, int size, int step) -> Tensor",
    _unfold,
    lambda F, g, self_shape, dimension, size, step: F.unfold_backward(
        g, self_shape, dimension, size, step
    ),
    is_view=True,
    shape=_unfold_shape,
    places=("Tensor",),
)
linear(
    "unfold_backward(Tensor self, int[] input_sizes, int dimension, int size, int step) -> Tensor",
    _unfold_backward,
    lambda F, g, dimension, size, step: F.unfold(g, dimension, size, step),
    grad_fn="UnfoldBackwardBackward0",
    shape=lambda self, input_sizes, *rest: input_sizes,
    places=(),
)
composite(
    "contiguous(Tensor self) -> Tensor",
    lambda F, self: self if self.data.flags.c_contiguous else F.clone(self),
    places=("Tensor",),
)
