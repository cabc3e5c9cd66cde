"""Losses that ask for a margin between the score of a class and those of others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwire_engine.declare import general, nondiff
from gradwire_engine.dtypes import INT64
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import RAW
from gradwire_engine.ops.index_checks import require_in_range
from gradwire_engine.ops.losses import require_reduction

_FUNCTIONAL = ("nn.functional",)
_REDUCTION = 'str reduction="mean"'


def _require_scores(op: str, self: np.ndarray) -> None:
    if self.dtype.kind != "f":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: needs floating-point scores, not {self.dtype}",
            argument="self",
        )
    classes = self.shape[-1] if self.ndim else 1
    if self.ndim > 2 or not classes:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: scores have shape (classes,) or (n, classes), not {self.shape}",
            argument="self",
            shape=self.shape,
        )


def _require_classes(op: str, target: np.ndarray, shape: tuple[int, ...]) -> None:
    if target.dtype != INT64:
        raise EngineError(
            "DTYPE_MISMATCH", f"{op}: target must be int64, not {target.dtype}", argument="target"
        )
    if target.shape != shape and not (math.prod(shape) == target.size == 1 and target.ndim < 2):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: target of shape {target.shape} must have shape {shape}",
            argument="target",
            shape=target.shape,
            expected=shape,
        )


def _rows(F: Any, self: Any) -> Any:
    return F.reshape(self, (1, -1)) if len(self.shape) < 2 else self


def _reduced(losses: np.ndarray, self: np.ndarray, reduction: str) -> Any:
    if reduction == "none":
        return losses if self.ndim == 2 else losses.reshape(())
    return losses.sum() if reduction == "sum" else losses.mean()


def _share(F: Any, g: Any, count: int, reduction: str) -> Any:
    """The gradient of each sample's loss, as a column."""
    if reduction == "mean":
        g = g / count
    return F.reshape(g, (-1, 1))


def _require_weight(op: str, weight: np.ndarray | None, classes: int) -> None:
    if weight is not None and weight.shape != (classes,):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: weight of shape {weight.shape} must have one element for each of the {classes} "
            "classes",
            argument="weight",
            shape=weight.shape,
        )


def _terms(F: Any, rows: Any, target: Any, margin: float) -> tuple[Any, Any]:
    """By how much each other class comes too near, and the places of the own one."""
    target = F.reshape(target, (-1, 1))
    own = F.arange(0, rows.shape[1]) == target
    return rows - F.gather(rows, 1, target) + margin, own


def _multi_margin(
    self: np.ndarray,
    target: np.ndarray,
    p: Any = 1,
    margin: Any = 1.0,
    weight: np.ndarray | None = None,
    reduction: str = "mean",
) -> Any:
    op = "multi_margin_loss"
    require_reduction(reduction, op)
    _require_scores(op, self)
    _require_classes(op, target, self.shape[:-1])
    if p not in (1, 2):
        raise EngineError("BAD_VALUE", f"{op}: p must be 1 or 2, not {p}", argument="p")
    rows = np.atleast_2d(self)
    _require_weight(op, weight, rows.shape[1])
    require_in_range(target, rows.shape[1], op, "target")
    apart = rows - rows[np.arange(len(rows)), target.reshape(-1)][:, None] + margin
    apart = np.maximum(apart, 0)
    apart[np.arange(len(rows)), target.reshape(-1)] = 0
    losses = (apart if p == 1 else apart * apart).sum(1) / rows.shape[1]
    if weight is not None:
        losses = losses * weight[target.reshape(-1)]
    return _reduced(losses.astype(self.dtype, copy=False), self, reduction)


def _multi_margin_slope(
    F: Any, g: Any, self: Any, target: Any, p: Any, margin: Any, weight: Any, reduction: str
) -> Any:
    rows = _rows(F, self)
    apart, own = _terms(F, rows, target, margin)
    g = _share(F, g, rows.shape[0], reduction) / rows.shape[1]
    if weight is not None:
        g = g * F.reshape(F.index_select(weight, 0, F.reshape(target, (-1,))), (-1, 1))
    counted = F.logical_and(apart > 0, F.logical_not(own))
    others = F.where(counted, g if p == 1 else 2 * g * apart, 0.0)
    return F.reshape(F.where(own, -F.sum(others, (1,), True), others), self.shape)


general(
    "multi_margin_loss(Tensor self, Tensor target, Scalar p=1, Scalar margin=1.0, "
    f"Tensor? weight=None, {_REDUCTION}) -> Tensor",
    _multi_margin,
    _multi_margin_slope,
    places=_FUNCTIONAL,
)


def _labels(target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels up to the first -1: the classes, which of them count, and which classes are named."""
    named = np.logical_and.accumulate(target >= 0, axis=1)
    classes = np.where(named, target, 0)
    rows = np.broadcast_to(np.arange(len(target))[:, None], target.shape)
    is_target = np.zeros(target.shape, np.bool_)
    is_target[rows[named], classes[named]] = True
    return classes, named, is_target


nondiff(
    "_labels(Tensor target) -> (Tensor classes, Tensor named, Tensor is_target)",
    _labels,
    places=(),
)


def _pairs(F: Any, rows: Any, target: Any) -> tuple[Any, Any, Any]:
    """For each label (second) and each class that is none (third) how near they come."""
    classes, named, is_target = F._labels(target)
    apart = 1 - F.unsqueeze(F.gather(rows, 1, classes), 2) + F.unsqueeze(rows, 1)
    counted = F.logical_and(F.unsqueeze(named, 2), F.logical_not(F.unsqueeze(is_target, 1)))
    return F.logical_and(counted, apart > 0), apart, classes


def _multilabel_shape(
    self: np.ndarray, target: np.ndarray, reduction: str = "mean"
) -> tuple[int, ...]:
    op = "multilabel_margin_loss"
    require_reduction(reduction, op)
    _require_scores(op, self)
    _require_classes(op, target, self.shape)
    classes = self.shape[-1] if self.ndim else 1
    require_in_range(target[target >= 0], classes, op, "target")
    return (max(self.size // classes, 1), classes, classes)


def _multilabel_margin(self: np.ndarray, target: np.ndarray, reduction: str = "mean") -> Any:
    rows = np.atleast_2d(self)
    counted, apart, _ = _pairs(RAW, rows, target.reshape(rows.shape))
    losses = np.where(counted, apart, 0).sum((1, 2)) / rows.shape[1]
    return _reduced(losses.astype(self.dtype, copy=False), self, reduction)


def _multilabel_slope(F: Any, g: Any, self: Any, target: Any, reduction: str) -> Any:
    rows = _rows(F, self)
    counted, _, classes = _pairs(F, rows, F.reshape(target, rows.shape))
    g = _share(F, g, rows.shape[0], reduction) / rows.shape[1]
    shares = F.where(counted, F.unsqueeze(g, 2), 0.0)
    gradient = F.scatter_add(F.sum(shares, (1,)), 1, classes, -F.sum(shares, (2,)))
    return F.reshape(gradient, self.shape)


general(
    f"multilabel_margin_loss(Tensor self, Tensor target, {_REDUCTION}) -> Tensor",
    _multilabel_margin,
    _multilabel_slope,
    shape=_multilabel_shape,
    places=_FUNCTIONAL,
)
