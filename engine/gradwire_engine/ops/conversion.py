"""Copies, dtypes, and writing to a tensor as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import composite, linear, nondiff
from gradwire_engine.dtypes import Number, wrapped
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import TRACED
from gradwire_engine.transforms import leave

linear(
    "_to_copy(Tensor self, ScalarType dtype) -> Tensor",
    lambda self, dtype: self.astype(dtype),
    lambda F, g: g,
    places=(),
)
composite(
    "to(Tensor self, ScalarType dtype) -> Tensor",
    lambda F, self, dtype: self if self.dtype == dtype else F._to_copy(self, dtype),
    kernel=lambda self, dtype: self.astype(dtype, copy=False),
    places=(),
)
linear("clone(Tensor self) -> Tensor", lambda self: self.copy(), lambda F, g: g)
nondiff("detach(Tensor self) -> Tensor", lambda self: self[...], is_view=True)


def _detach_from(F: Any, self: Any, variables: Sequence[Any]) -> Any:
    if F is not TRACED:
        raise TypeError("it looks at the graph behind it")
    return leave(self, variables)


composite(
    "_detach_from(Tensor self, Tensor[] variables) -> Tensor",
    _detach_from,
    places=(),
    inner=False,
)


def _copy(self: np.ndarray, src: np.ndarray) -> np.ndarray:
    try:
        return np.broadcast_to(src, self.shape).astype(self.dtype)
    except ValueError:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"a source of shape {src.shape} does not broadcast to the shape {self.shape} of what "
            "it is copied to",
            argument="src",
            shape=self.shape,
            src_shape=src.shape,
        ) from None


def _assign(self: np.ndarray, src: np.ndarray) -> np.ndarray:
    surplus = src.ndim - self.ndim
    if surplus > 0 and src.shape[:surplus] == (1,) * surplus:
        src = src.reshape(src.shape[surplus:])
    return _copy(self, src)


linear(
    "copy(Tensor self, Tensor src) -> Tensor",
    _copy,
    {"self": lambda F, g: F.zeros_like(g), "src": lambda F, g: g},
    grad_fn="CopyBackwards",
    in_place_only=True,
)
# What `x[i] = src` copies with: the source may have leading dimensions of size 1 too many.
linear(
    "_assign(Tensor self, Tensor src) -> Tensor",
    _assign,
    {"self": lambda F, g: F.zeros_like(g), "src": lambda F, g: g},
    grad_fn="CopyBackwards",
    in_place_only=True,
    places=(),
    inner=False,
)


def _fill(self: np.ndarray, value: np.ndarray | Number) -> np.ndarray:
    if isinstance(value, np.ndarray) and value.ndim:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"fill_: value must be a number or a 0-d tensor, not of shape {value.shape}; use copy_",
            argument="value",
            shape=value.shape,
        )
    return np.full(self.shape, wrapped(value, self.dtype, "fill"), self.dtype)


linear(
    "fill(Tensor self, Tensor value) -> Tensor",
    _fill,
    {"self": lambda F, g: F.zeros_like(g), "value": lambda F, g: g},
    # The in-place form is the public one, and its nodes have numbers of their own.
    grad_fn=lambda self, value: "FillBackward3" if value is None else "FillBackward2",
    edges_for_numbers=False,
    numbers=("value",),
    in_place_only=True,
)
linear(
    "zero(Tensor self) -> Tensor", np.zeros_like, lambda F, g: F.zeros_like(g), in_place_only=True
)
