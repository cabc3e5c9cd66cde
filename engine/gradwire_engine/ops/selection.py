"""Choosing between values: clamp, maximum, minimum, where, masked_fill."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.declare import elementwise, general
from gradwire_engine.dtypes import result_dtype, wrapped
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims


def _clip(self: Any, min: Any = None, max: Any = None) -> Any:
    if min is None and max is None:
        raise EngineError("WRONG_ARITY", "clamp: at least one of min and max is needed", op="clamp")
    dims.require_order(self, "clamp")
    result = self
    if min is not None:
        result = np.maximum(result, min)
    if max is not None:
        result = np.minimum(result, max)
    return result


def _inside(F: Any, g: Any, self: Any, min: Any, max: Any) -> Any:
    """Clamp is inclusive: at a bound the gradient passes."""
    if min is not None:
        g = F.where(self >= min, g, 0.0)
    return g if max is None else F.where(self <= max, g, 0.0)


def _below(F: Any, g: Any, self: Any, min: Any, max: Any) -> Any:
    mask = self < min
    if max is not None:
        mask = F.logical_and(mask, min < max)
    return F.where(mask, g, 0.0)


def _above(F: Any, g: Any, self: Any, min: Any, max: Any) -> Any:
    mask = self > max
    if min is not None:
        mask = F.logical_or(mask, max < min)
    return F.where(mask, g, 0.0)


elementwise(
    "clamp(Tensor self, Tensor? min=None, Tensor? max=None) -> Tensor",
    _clip,
    vjp={"self": _inside, "min": _below, "max": _above},
    grad_fn=lambda self, min, max: "ClampBackward0" if min is max is None else "ClampBackward1",
    edges_for_numbers=False,
    in_place=True,
)


elementwise(
    "clamp_min(Tensor self, Tensor min) -> Tensor",
    dims.ordered("clamp_min", np.maximum),
    vjp={
        "self": lambda F, g, self, min: F.where(self >= min, g, 0.0),
        "min": lambda F, g, self, min: F.where(self < min, g, 0.0),
    },
    grad_fn=lambda self, min: "ClampMinBackward1" if min is None else "ClampMinBackward0",
    edges_for_numbers=False,
    in_place=True,
)
elementwise(
    "clamp_max(Tensor self, Tensor max) -> Tensor",
    dims.ordered("clamp_max", np.minimum),
    vjp={
        "self": lambda F, g, self, max: F.where(self <= max, g, 0.0),
        "max": lambda F, g, self, max: F.where(self > max, g, 0.0),
    },
    grad_fn=lambda self, max: "ClampMaxBackward1" if max is None else "ClampMaxBackward0",
    edges_for_numbers=False,
    in_place=True,
)


def _share_of(greater: bool) -> Any:
    def share(F: Any, g: Any, self: Any, other: Any) -> Any:
        wins = self > other if greater else self < other
        return F.where(wins, g, F.where(self == other, g / 2, 0.0))

    return share


def _share_of_other(greater: bool) -> Any:
    def share(F: Any, g: Any, self: Any, other: Any) -> Any:
        wins = self < other if greater else self > other
        return F.where(wins, g, F.where(self == other, g / 2, 0.0))

    return share


elementwise(
    "maximum(Tensor self, Tensor other) -> Tensor",
    dims.ordered("maximum", np.maximum),
    vjp={"self": _share_of(True), "other": _share_of_other(True)},
)
elementwise(
    "minimum(Tensor self, Tensor other) -> Tensor",
    dims.ordered("minimum", np.minimum),
    vjp={"self": _share_of(False), "other": _share_of_other(False)},
)


def _takes(F: Any, self: Any, other: Any, greater: bool) -> Any:
    """Where the first of two is taken: also where the second is NaN."""
    wins = self >= other if greater else self <= other
    return F.logical_or(wins, F.isnan(other))


elementwise(
    "fmax(Tensor self, Tensor other) -> Tensor",
    dims.ordered("fmax", np.fmax),
    vjp={
        "self": lambda F, g, self, other: F.where(_takes(F, self, other, True), g, 0.0),
        "other": lambda F, g, self, other: F.where(_takes(F, self, other, True), 0.0, g),
    },
)
elementwise(
    "fmin(Tensor self, Tensor other) -> Tensor",
    dims.ordered("fmin", np.fmin),
    vjp={
        "self": lambda F, g, self, other: F.where(_takes(F, self, other, False), g, 0.0),
        "other": lambda F, g, self, other: F.where(_takes(F, self, other, False), 0.0, g),
    },
)


def _require_bool(condition: np.ndarray, op: str, argument: str) -> None:
    if condition.dtype.kind != "b":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: {argument} must be a bool tensor, not {condition.dtype}; compare first, for "
            "example x > 0",
            argument=argument,
            dtype=condition.dtype,
        )


def _where(condition: np.ndarray, self: Any, other: Any) -> np.ndarray:
    _require_bool(condition, "where", "condition")
    dtype = result_dtype((self, other))
    return np.where(condition, _cast(self, dtype), _cast(other, dtype))


def _cast(value: Any, dtype: np.dtype) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value.astype(dtype, copy=False)
    return np.asarray(value, dtype)


def _broadcast(*values: Any) -> tuple[int, ...]:
    return np.broadcast_shapes(*[v.shape for v in values if isinstance(v, np.ndarray)])


general(
    "where(Tensor condition, Tensor self, Tensor other) -> Tensor",
    _where,
    {
        "self": lambda F, g, condition: F.where(condition, g, 0.0),
        "other": lambda F, g, condition: F.where(condition, 0.0, g),
    },
    shape=_broadcast,
    numbers=("self", "other"),
    places=("torch",),
)


def _masked_fill(self: np.ndarray, mask: np.ndarray, value: Any) -> np.ndarray:
    _require_bool(mask, "masked_fill", "mask")
    if isinstance(value, np.ndarray) and value.ndim:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"masked_fill: value must be a number or a 0-d tensor, not of shape {value.shape}",
            argument="value",
        )
    return np.where(mask, wrapped(value, self.dtype, "masked_fill"), self)


general(
    "masked_fill(Tensor self, Tensor mask, Tensor value) -> Tensor",
    _masked_fill,
    {
        "self": lambda F, g, mask: F.where(mask, 0.0, g),
        "value": lambda F, g, mask: F.where(mask, g, 0.0),
    },
    shape=_broadcast,
    numbers=("value",),
    grad_fn=lambda self, mask, value: (
        "MaskedFillBackward1" if value is None else "MaskedFillBackward0"
    ),
    edges_for_numbers=False,
    in_place=True,
    places=("torch", "Tensor"),
)
