"""Comparisons, logic and tests: results that have no gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradwire_engine.declare import nondiff
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims

_Functions = dict[str, Callable[..., Any]]

_BINARY: _Functions = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": dims.ordered("lt", np.less),
    "le": dims.ordered("le", np.less_equal),
    "gt": dims.ordered("gt", np.greater),
    "ge": dims.ordered("ge", np.greater_equal),
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}


def _node_name(name: str) -> Callable[..., str]:
    return lambda self, other: f"{name.capitalize()}Backward{1 if other is None else 0}"


for _name, _function in _BINARY.items():
    # In place a comparison writes zeros and ones to what may require grad, and has a node for that.
    _compares = not _name.startswith("logical")
    nondiff(
        f"{_name}(Tensor self, Tensor other) -> Tensor",
        _function,
        promotion="promote",
        in_place=True,
        in_place_grad_fn=_node_name(_name) if _compares else None,
    )

_UNARY: _Functions = {
    "logical_not": np.logical_not,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
}
for _name, _function in _UNARY.items():
    nondiff(f"{_name}(Tensor self) -> Tensor", _function, in_place=_name.startswith("logical"))


def _infinite(op: str, value: float) -> Callable[..., Any]:
    def kernel(self: np.ndarray) -> Any:
        dims.require_order(self, op)
        return self == value

    return kernel


nondiff("isposinf(Tensor self) -> Tensor", _infinite("isposinf", np.inf))
nondiff("isneginf(Tensor self) -> Tensor", _infinite("isneginf", -np.inf))
nondiff("isreal(Tensor self) -> Tensor", np.isreal)


def _bitwise(name: str, function: Any) -> Any:
    def kernel(self: Any, *other: Any) -> Any:
        kinds = [each.dtype.kind for each in (self, *other) if isinstance(each, np.ndarray)]
        if any(kind in "fc" for kind in kinds):
            raise EngineError(
                "DTYPE_MISMATCH",
                f"{name}: needs integer or bool tensors; compare first, for example x > 0",
                op=name,
            )
        return function(self, *other)

    return kernel


_BITWISE: _Functions = {
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
}
for _name, _function in _BITWISE.items():
    nondiff(
        f"{_name}(Tensor self, Tensor other) -> Tensor",
        _bitwise(_name, _function),
        promotion="promote",
        in_place=True,
    )
nondiff("bitwise_not(Tensor self) -> Tensor", _bitwise("bitwise_not", np.invert), in_place=True)
