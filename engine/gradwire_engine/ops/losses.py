"""Losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwire_engine.declare import composite, general, linear
from gradwire_engine.errors import EngineError

_FUNCTIONAL = ("nn.functional",)


def require_reduction(reduction: str, op: str) -> None:
    """Refuse what is no reduction of losses.

    Raises:
        EngineError: BAD_VALUE.
    """
    if reduction not in ("mean", "sum", "none"):
        raise EngineError(
            "BAD_VALUE",
            f"{op}: reduction must be 'mean', 'sum' or 'none', not {reduction!r}",
            argument="reduction",
        )


def _mse_loss(self: np.ndarray, target: np.ndarray, reduction: str = "mean") -> Any:
    require_reduction(reduction, "mse_loss")
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


def _classes_axis(self: np.ndarray) -> int:
    return 0 if self.ndim == 1 else 1


def _count_alike(
    rank: int, target: np.ndarray, weight: np.ndarray | None, ignore_index: int
) -> bool:
    """Whether rows of classes all count for one, none being ignored, as far as is soon told."""
    return (
        rank == 2
        and weight is None
        and target.size > 0
        and bool(np.minimum.reduce(target, axis=None) > ignore_index)
    )


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
    if target.size and (
        np.minimum.reduce(target, axis=None) >= 0 and np.maximum.reduce(target, axis=None) < classes
    ):
        return
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
    if self.ndim == 2:
        picked: np.ndarray = self[np.arange(len(index)), index]
        return picked
    axis = _classes_axis(self)
    return np.take_along_axis(self, np.expand_dims(index, axis), axis).squeeze(axis)


def _nll_loss(
    self: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    require_reduction(reduction, "nll_loss")
    _check_classes(self, target, ignore_index)
    if _count_alike(self.ndim, target, weight, ignore_index):
        losses = -self[np.arange(len(target)), target]
        if reduction == "none":
            return losses
        total = np.add.reduce(losses, axis=None)
        return total if reduction == "sum" else total / self.dtype.type(len(target))
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
    if _count_alike(len(input_sizes), target, weight, ignore_index):
        share = grad.dtype.type(1)
        if reduction == "mean":
            share = share / grad.dtype.type(len(target))
        out[np.arange(len(target)), target] = -grad * share
        return out
    rows = _row_weights(target, weight, ignore_index, grad.dtype)
    if reduction == "mean":
        rows = rows / np.add.reduce(rows, axis=None)
    ignored = target == ignore_index
    index = np.where(ignored, 0, target)
    # Where all are ignored their share is no number, and still none of the gradient.
    slopes = np.where(ignored, grad.dtype.type(0), -grad * rows)
    if out.ndim == 2:
        out[np.arange(len(index)), index] = slopes
        return out
    axis = _classes_axis(out)
    np.put_along_axis(out, np.expand_dims(index, axis), np.expand_dims(slopes, axis), axis)
    return out


# Two names for one function: PyTorch has a kernel for rows of classes and one for images.
for _name, _node in {"_nll_loss": "NllLossBackward0", "_nll_loss2d": "NllLoss2DBackward0"}.items():
    linear(
        f"{_name}(Tensor self, Tensor target, Tensor? weight=None, int ignore_index=-100, "
        'str reduction="mean") -> Tensor',
        _nll_loss,
        {
            "self": lambda F, g, target, weight, ignore_index, reduction, self_shape: (
                F.nll_loss_backward(g, target, weight, ignore_index, reduction, self_shape)
            )
        },
        grad_fn=_node,
        places=(),
    )


def _nll_loss_of_any_rank(
    F: Any, self: Any, target: Any, weight: Any, ignore_index: int, reduction: str
) -> Any:
    rank = len(self.shape)
    if rank <= 2:
        return F._nll_loss(self, target, weight, ignore_index, reduction)
    require_reduction(reduction, "nll_loss")
    _check_classes(self.data, target.data, ignore_index)
    if rank == 4:
        return F._nll_loss2d(self, target, weight, ignore_index, reduction)
    rows, classes, *rest = self.shape
    points = math.prod(rest)
    image = F.reshape(self, (rows, classes, 1, points))
    chosen = F.reshape(target, (rows, 1, points))
    losses = F._nll_loss2d(image, chosen, weight, ignore_index, reduction)
    return F.view(losses, (rows, *rest)) if reduction == "none" else losses


composite(
    "nll_loss(Tensor self, Tensor target, Tensor? weight=None, int ignore_index=-100, "
    'str reduction="mean") -> Tensor',
    _nll_loss_of_any_rank,
    kernel=_nll_loss,
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
    shape=lambda grad_output, target, weight, ignore_index, reduction, input_sizes: input_sizes,
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
    require_reduction(reduction, "cross_entropy")
    if not 0.0 <= label_smoothing <= 1.0:
        raise EngineError(
            "BAD_VALUE",
            f"cross_entropy: label_smoothing must be between 0 and 1, not {label_smoothing}",
            argument="label_smoothing",
        )
    axis = 0 if len(self.shape) == 1 else 1
    # By class, along the axis of the classes.
    by_class = weight
    if weight is not None and len(self.shape) > 1:
        by_class = F.reshape(weight, (1, -1, *(1 for _ in self.shape[2:])))
    if target.dtype.kind == "f":
        return _of_probabilities(F, self, target, by_class, axis, reduction, label_smoothing)
    log_p = F.log_softmax(self, axis)
    loss = F.nll_loss(log_p, target, weight, ignore_index, reduction)
    if not label_smoothing:
        return loss
    smooth = F.neg(F.sum(log_p if by_class is None else log_p * by_class, (axis,)))
    ignored = target == ignore_index
    smooth = F.masked_fill(smooth, ignored, 0.0)
    if reduction != "none":
        smooth = F.sum(smooth)
    if reduction == "mean":
        smooth = smooth / F.sum(_counted(F, ignored, target, weight))
    share = label_smoothing / max(self.shape[axis], 1)
    return F.mul__Scalar(loss, 1 - label_smoothing) + F.mul__Scalar(smooth, share)


def _counted(F: Any, ignored: Any, target: Any, weight: Any) -> Any:
    """What each target counts for in a mean: its class's weight, or 1; 0 if it is ignored."""
    counted = F.logical_not(ignored)
    if weight is None:
        return counted
    chosen = F.reshape(F.where(ignored, 0, target), (-1,))
    return F.where(F.reshape(counted, (-1,)), F.gather(weight, 0, chosen), 0.0)


def _of_probabilities(
    F: Any,
    self: Any,
    target: Any,
    by_class: Any,
    axis: int,
    reduction: str,
    label_smoothing: float,
) -> Any:
    if target.shape != self.shape:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"cross_entropy: probabilities of shape {target.shape} must have the input's shape "
            f"{self.shape}",
            argument="target",
        )
    log_p = F.log_softmax(self, axis)
    classes = self.shape[axis]
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / max(classes, 1)
    losses = log_p * target
    if by_class is not None:
        losses = losses * by_class
    if reduction == "none":
        return F.neg(F.sum(losses, (axis,)))
    total = F.neg(F.sum(losses))
    if reduction == "sum":
        return total
    return F.div__Scalar(total, math.prod(self.shape) // max(classes, 1) or math.nan)


composite(
    "cross_entropy(Tensor self, Tensor target, Tensor? weight=None, int ignore_index=-100, "
    'str reduction="mean", float label_smoothing=0.0) -> Tensor',
    _cross_entropy,
    places=_FUNCTIONAL,
)
