"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.declare import composite, general, linear
from gradwire_engine.errors import EngineError

_FUNCTIONAL = ("nn.functional",)


def _require_reduction(reduction: str, op: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise EngineError(
            "BAD_VALUE",
            f"{op}: reduction must be 'mean', 'sum' or 'none', not {reduction!r}",
            argument="reduction",
        )


def _mse_loss(self: np.ndarray, target: np.ndarray, reduction: str = "mean") -> Any:
    _require_reduction(reduction, "mse_loss")
    error = self - target
    squares = error * error
    if reduction == "none":
        return squares
    total = np.add.reduce(squares, axis=None)
    return total if reduction == "sum" else total / max(squares.size, 1)


def _mse_slope(F: Any, g: Any, self: Any, target: Any, reduction: str) -> Any:
    error = self - target
    factor = 2.0
    if reduction == "mean":
        count = 1
        for size in error.shape:
            count *= size
        factor = 2.0 / max(count, 1)
    return g * (error * factor)


general(
    'mse_loss(Tensor self, Tensor target, str reduction="mean") -> Tensor',
    _mse_loss,
    {
        "self": _mse_slope,
        "target": lambda F, g, self, target, reduction: -_mse_slope(F, g, self, target, reduction),
    },
    promotion="promote",
    places=_FUNCTIONAL,
)


# -------------------------------------------------- negative log likelihood


def _classes_axis(self: np.ndarray) -> int:
    return 0 if self.ndim == 1 else 1


def _check_classes(self: np.ndarray, target: np.ndarray, ignore_index: int) -> None:
    expected = self.shape[:0] if self.ndim == 1 else (self.shape[0], *self.shape[2:])
    if self.ndim == 0 or target.shape != expected:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"nll_loss: a target of shape {target.shape} does not fit an input of shape "
            f"{self.shape}; "
            f"expected {expected}: one class index for each row of classes",
            argument="target",
            shape=self.shape,
            target_shape=target.shape,
        )
    if target.dtype.kind not in "iu":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"nll_loss: target must hold class indices (int64), not {target.dtype}",
            argument="target",
            dtype=target.dtype,
        )
    classes = self.shape[_classes_axis(self)]
    wrong = target[(target != ignore_index) & ((target < 0) | (target >= classes))]
    if wrong.size:
        raise EngineError(
            "INDEX_OUT_OF_RANGE",
            f"nll_loss: target {wrong.flat[0]} is out of range for {classes} classes",
            argument="target",
            index=wrong.flat[0],
            size=classes,
        )


def _row_weights(
    target: np.ndarray, weight: np.ndarray | None, ignore_index: int, dtype: np.dtype
) -> np.ndarray:
    counted = target != ignore_index
    if weight is None:
        return np.asarray(counted, dtype)
    return np.where(counted, weight[np.where(counted, target, 0)], 0).astype(dtype)


def _picked(self: np.ndarray, target: np.ndarray, ignore_index: int) -> np.ndarray:
    index = np.where(target == ignore_index, 0, target)
    axis = _classes_axis(self)
    return np.take_along_axis(self, np.expand_dims(index, axis), axis).squeeze(axis)


def _nll_loss(
    self: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    _require_reduction(reduction, "nll_loss")
    _check_classes(self, target, ignore_index)
    rows = _row_weights(target, weight, ignore_index, self.dtype)
    losses = -_picked(self, target, ignore_index) * rows
    if reduction == "none":
        return losses
    total = np.add.reduce(losses, axis=None)
    return total if reduction == "sum" else total / np.add.reduce(rows, axis=None)


def _nll_loss_backward(
    grad: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    ignore_index: int,
    reduction: str,
    input_sizes: Any,
) -> np.ndarray:
    out = np.zeros(input_sizes, grad.dtype)
    rows = _row_weights(target, weight, ignore_index, grad.dtype)
    if reduction == "mean":
        rows = rows / np.add.reduce(rows, axis=None)
    axis = _classes_axis(out)
    index = np.expand_dims(np.where(target == ignore_index, 0, target), axis)
    np.put_along_axis(out, index, np.expand_dims(-grad * rows, axis), axis)
    return out


linear(
    "nll_loss(Tensor self, Tensor target, Tensor? weight=None, int ignore_index=-100, "
    'str reduction="mean") -> Tensor',
    _nll_loss,
    {
        "self": lambda F, g, target, weight, ignore_index, reduction, self_shape: (
            F.nll_loss_backward(g, target, weight, ignore_index, reduction, self_shape)
        )
    },
    places=_FUNCTIONAL,
)
linear(
    "nll_loss_backward(Tensor grad_output, Tensor target, Tensor? weight, int ignore_index, "
    "str reduction, int[] input_sizes) -> Tensor",
    _nll_loss_backward,
    {
        "grad_output": lambda F, g, target, weight, ignore_index, reduction: F.nll_loss(
            g, target, weight, ignore_index, reduction
        )
    },
    places=(),
)


def _cross_entropy(
    F: Any,
    self: Any,
    target: Any,
    weight: Any,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Any:
    _require_reduction(reduction, "cross_entropy")
    axis = 0 if len(self.shape) == 1 else 1
    log_p = F.log_softmax(self, axis)
    if target.dtype.kind != "f" and not label_smoothing:
        return F.nll_loss(log_p, target, weight, ignore_index, reduction)
    if target.dtype.kind != "f" or not 0.0 <= label_smoothing <= 1.0 or weight is not None:
        raise EngineError(
            "BAD_VALUE",
            "cross_entropy: label_smoothing and weight go with class indices or probabilities as "
            "targets, not together; smooth or weight the probabilities before the call",
            argument="label_smoothing" if label_smoothing else "weight",
        )
    if target.shape != self.shape:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"cross_entropy: probabilities of shape {target.shape} must have the input's shape "
            f"{self.shape}",
            argument="target",
        )
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / self.shape[axis]
    losses = -F.sum(log_p * target, (axis,))
    if reduction == "none":
        return losses
    total = F.sum(losses)
    rows = 1
    for size in losses.shape:
        rows *= size
    return total if reduction == "sum" else total / rows


composite(
    "cross_entropy(Tensor self, Tensor target, Tensor? weight=None, int ignore_index=-100, "
    'str reduction="mean", float label_smoothing=0.0) -> Tensor',
    _cross_entropy,
    places=_FUNCTIONAL,
)
