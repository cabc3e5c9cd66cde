"""Views by strides over the memory of a tensor: as_strided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import composite, linear
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.accumulation import add_rows
from gradwire_engine.tensor import Tensor


def _check(self: np.ndarray, size: Sequence[int], stride: Sequence[int], offset: int) -> None:
    """Refuse what would reach beyond the elements of the tensor.

    Raises:
        EngineError: BAD_VALUE, INDEX_OUT_OF_RANGE.
    """
    if len(size) != len(stride) or min((*size, *stride, offset)) < 0:
        raise EngineError(
            "BAD_VALUE",
            f"as_strided: size={list(size)} and stride={list(stride)} must be of one length, and "
            f"they and the offset {offset} not negative",
            argument="stride",
            size=size,
            stride=stride,
        )
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= self.size:
        raise EngineError(
            "INDEX_OUT_OF_RANGE",
            f"as_strided: size={list(size)}, stride={list(stride)} and offset {offset} reach the "
            f"element {last} of a tensor whose memory has {self.size}",
            argument="size",
            index=last,
            size=self.size,
        )


def _overlaps(size: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether elements may share memory: steps that do not reach over all smaller ones."""
    reach = 0
    for step, n in sorted(zip(stride, size, strict=True)):
        if n > 1:
            if step <= reach:
                return True
            reach += (n - 1) * step
    return False


def _strided(
    self: np.ndarray, size: Sequence[int], stride: Sequence[int], storage_offset: int
) -> np.ndarray:
    _check(self, size, stride, storage_offset)
    if 0 in size:
        return np.empty(size, self.dtype)
    width = self.itemsize
    made: np.ndarray = np.ndarray(
        size,
        self.dtype,
        self.reshape(-1),
        storage_offset * width,
        tuple(step * width for step in stride),
    )
    if _overlaps(size, stride):
        made.flags.writeable = False
    return made


def _size(self: Any, size: Sequence[int], *rest: Any) -> Sequence[int]:
    return size


def _back(F: Any, g: Any, self_shape: Any, size: Any, stride: Any, storage_offset: int) -> Any:
    return F._add_strided(g, self_shape, size, stride, storage_offset)


linear(
    "_as_strided(Tensor self, int[] size, int[] stride, int storage_offset) -> Tensor",
    _strided,
    _back,
    is_view=True,
    shape=_size,
    places=(),
)
linear(
    "_take_strided(Tensor self, int[] size, int[] stride, int storage_offset) -> Tensor",
    lambda self, size, stride, storage_offset: _strided(self, size, stride, storage_offset).copy(),
    _back,
    shape=_size,
    places=(),
)


def _add_strided(
    self: np.ndarray,
    input_sizes: Sequence[int],
    size: Sequence[int],
    stride: Sequence[int],
    storage_offset: int,
) -> np.ndarray:
    """The transpose: zeros, with each element added where it was taken from."""
    out = np.zeros(input_sizes, self.dtype)
    places = _strided(np.arange(out.size), size, stride, storage_offset)
    add_rows(out.reshape(-1, 1), places.reshape(-1), self.reshape(-1, 1))
    return out


linear(
    "_add_strided(Tensor self, int[] input_sizes, int[] size, int[] stride, int storage_offset) "
    "-> Tensor",
    _add_strided,
    lambda F, g, size, stride, storage_offset: F._take_strided(g, size, stride, storage_offset),
    shape=lambda self, input_sizes, *rest: input_sizes,
    places=(),
)


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def _as_strided(
    F: Any, self: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None
) -> Any:
    base = self if self.view is None else self.view.base
    if base.dtype != self.dtype:
        base = self
    if not base.data.flags.c_contiguous:
        raise EngineError(
            "BAD_VALUE",
            "as_strided: the elements of the tensor (or of that whose view it is) do not lie in "
            "memory in order of their indices; take contiguous() first",
            argument="self",
        )
    if storage_offset is None:
        storage_offset = (_address(self.data) - _address(base.data)) // base.data.itemsize
    return F._as_strided(base, size, stride, storage_offset)


composite(
    "as_strided(Tensor self, int[] size, int[] stride, int? storage_offset=None) -> Tensor",
    _as_strided,
)
