"""A tensor's storage and its place in the graph, taken apart: `.data`, `detach_`, `_base`."""

from __future__ import annotations

from typing import Any

from gradwire_engine.context import current
from gradwire_engine.declare import composite, mutating
from gradwire_engine.dtypes import is_differentiable
from gradwire_engine.errors import EngineError
from gradwire_engine.tensor import NO_VERSION, Tensor


def _detach_(F: Any, self: Tensor) -> Tensor:
    if self.view is not None:
        raise EngineError(
            "BAD_VALUE",
            "detach_: a view cannot be detached in place, for its base would stay in the graph; "
            "use detach()",
            argument="self",
        )
    self.edge = None
    self.leaf_requires_grad = False
    return self


mutating("detach_(Tensor self) -> Tensor", _detach_)


def _data(F: Any, self: Tensor) -> Tensor:
    """The same storage outside of the graph, with a version counter of its own."""
    alias = Tensor(self.own()[...])
    if self.is_inference or current.context.inference:
        alias.version = NO_VERSION
    return alias


composite("data(Tensor self) -> Tensor", _data, places=())


def _set_data_(F: Any, self: Tensor, new_data: Tensor) -> Tensor:
    """Give a tensor the storage of another; it stays what it is in the graph."""
    if self.requires_grad and not is_differentiable(new_data.data.dtype):
        raise EngineError(
            "DTYPE_NO_GRAD",
            "the data of a tensor that requires grad must be of floating-point or complex dtype, "
            f"not {new_data.data.dtype}; convert it first, for example to float32",
            argument="new_data",
            dtype=new_data.data.dtype,
        )
    held = new_data.own()[...]
    if self.edge is not None and (held.shape, held.dtype) != (self.data.shape, self.data.dtype):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"a tensor of shape {self.data.shape} and dtype {self.data.dtype} that an operator "
            f"made cannot be given data of shape {held.shape} and dtype {held.dtype}: gradients "
            "would not fit its node; detach() it first",
            argument="new_data",
            shape=held.shape,
            dtype=held.dtype,
        )
    self.data = held
    # The accumulator knows shape and dtype of what it accumulates.
    self._accumulator = None
    return self


mutating("set_data_(Tensor self, Tensor new_data) -> Tensor", _set_data_, places=())


def _base(F: Any, self: Tensor) -> Tensor:
    """The very tensor that a view is a view of."""
    if self.view is None:
        raise EngineError(
            "BAD_VALUE", "_base: this tensor is no view, so it has no base", argument="self"
        )
    return self.view.base


composite("_base(Tensor self) -> Tensor", _base, places=(), inner=False)
