"""Losses between predictions and targets of the same shape: distances and likelihoods."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwire_engine.context import grad_mode
from gradwire_engine.declare import composite, general
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.losses import require_reduction

_FUNCTIONAL = ("nn.functional",)
_REDUCTION = 'str reduction="mean"'


def reduced(F: Any, op: str, losses: Any, reduction: str) -> Any:
    """All losses, their sum or their mean."""
    require_reduction(reduction, op)
    if reduction == "none":
        return losses
    return F.sum(losses) if reduction == "sum" else F.mean(losses)


def _added(op: str, losses: np.ndarray, reduction: str) -> Any:
    require_reduction(reduction, op)
    if reduction == "none":
        return losses
    total = np.add.reduce(losses, axis=None)
    return total if reduction == "sum" else total / max(losses.size, 1)


def _share(g: Any, losses: Any, reduction: str) -> Any:
    """The gradient of each loss."""
    return g / max(math.prod(losses.shape), 1) if reduction == "mean" else g


def _require_positive(op: str, name: str, value: float) -> None:
    if value <= 0:
        raise EngineError(
            "BAD_VALUE", f"{op}: {name} must be larger than 0, not {value}", argument=name
        )


composite(
    f"l1_loss(Tensor self, Tensor target, {_REDUCTION}) -> Tensor",
    lambda F, self, target, reduction: reduced(F, "l1_loss", F.abs(self - target), reduction),
    places=_FUNCTIONAL,
)


def _smooth_l1(self: np.ndarray, target: np.ndarray, reduction: str, beta: float) -> Any:
    size = np.abs(self - target)
    return _added(
        "smooth_l1_loss",
        np.where(size < beta, size * size * (0.5 / beta), size - 0.5 * beta),
        reduction,
    )


def _smooth_l1_slope(F: Any, g: Any, self: Any, target: Any, reduction: str, beta: float) -> Any:
    error = self - target
    g = _share(g, error, reduction)
    return F.where(F.abs(error) < beta, g * error / beta, g * F.sgn(error))


general(
    "_smooth_l1_loss(Tensor self, Tensor target, str reduction, float beta) -> Tensor",
    _smooth_l1,
    {
        "self": _smooth_l1_slope,
        "target": lambda F, g, self, target, reduction, beta: (
            -_smooth_l1_slope(F, g, self, target, reduction, beta)
        ),
    },
    promotion="promote",
    grad_fn="SmoothL1LossBackward0",
    places=(),
)


def _smooth_l1_loss(F: Any, self: Any, target: Any, reduction: str, beta: float) -> Any:
    if beta == 0:
        return F.l1_loss(self, target, reduction)
    _require_positive("smooth_l1_loss", "beta", beta)
    return F._smooth_l1_loss(self, target, reduction, beta)


composite(
    f"smooth_l1_loss(Tensor self, Tensor target, {_REDUCTION}, float beta=1.0) -> Tensor",
    _smooth_l1_loss,
    places=_FUNCTIONAL,
)


def _huber(
    self: np.ndarray, target: np.ndarray, reduction: str = "mean", delta: float = 1.0
) -> Any:
    _require_positive("huber_loss", "delta", delta)
    size = np.abs(self - target)
    losses = np.where(size <= delta, size * size * 0.5, delta * (size - 0.5 * delta))
    return _added("huber_loss", losses, reduction)


def _huber_slope(F: Any, g: Any, self: Any, target: Any, reduction: str, delta: float) -> Any:
    error = self - target
    g = _share(g, error, reduction)
    return F.where(F.abs(error) <= delta, g * error, g * F.sgn(error) * delta)


general(
    f"huber_loss(Tensor self, Tensor target, {_REDUCTION}, float delta=1.0) -> Tensor",
    _huber,
    {
        "self": _huber_slope,
        "target": lambda F, g, self, target, reduction, delta: (
            -_huber_slope(F, g, self, target, reduction, delta)
        ),
    },
    promotion="promote",
    places=_FUNCTIONAL,
    is_real=True,
)


def _weighted(losses: Any, weight: Any) -> Any:
    return losses if weight is None else losses * weight


def _require_same_shape(op: str, self: Any, target: Any) -> None:
    if self.shape != target.shape:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: a target of shape {target.shape} must have the input's shape {self.shape}",
            argument="target",
            shape=self.shape,
            target_shape=target.shape,
        )


def _bce(
    self: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None, reduction: str = "mean"
) -> Any:
    op = "binary_cross_entropy"
    _require_same_shape(op, self, target)
    if self.size and not (self.min() >= 0 and self.max() <= 1):
        raise EngineError(
            "BAD_VALUE",
            f"{op}: the input must be probabilities, from 0 to 1; "
            "binary_cross_entropy_with_logits takes any numbers",
            argument="self",
        )
    losses = -(
        target * np.maximum(np.log(self), -100) + (1 - target) * np.maximum(np.log1p(-self), -100)
    )
    return _added(op, _weighted(losses, weight), reduction)


def _bce_slope(F: Any, g: Any, self: Any, target: Any, weight: Any, reduction: str) -> Any:
    g = _weighted(_share(g, self, reduction), weight)
    return g * (self - target) / F.clamp_min(self * (1 - self), 1e-12)


def _bce_target(F: Any, g: Any, self: Any, weight: Any, reduction: str) -> Any:
    g = _weighted(_share(g, self, reduction), weight)
    return g * (F.clamp_min(F.log1p(-self), -100.0) - F.clamp_min(F.log(self), -100.0))


general(
    "binary_cross_entropy(Tensor self, Tensor target, Tensor? weight=None, "
    f"{_REDUCTION}) -> Tensor",
    _bce,
    {"self": _bce_slope, "target": _bce_target},
    promotion="same",
    places=_FUNCTIONAL,
)


def _bce_with_logits(
    self: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    reduction: str = "mean",
    pos_weight: np.ndarray | None = None,
) -> Any:
    op = "binary_cross_entropy_with_logits"
    _require_same_shape(op, self, target)
    tail = np.log1p(np.exp(-np.abs(self))) + np.maximum(-self, 0)
    if pos_weight is not None:
        tail = tail * ((pos_weight - 1) * target + 1)
    losses = (1 - target) * self + tail
    return _added(op, _weighted(losses, weight).astype(self.dtype, copy=False), reduction)


def _logits_slope(
    F: Any, g: Any, self: Any, target: Any, weight: Any, reduction: str, pos_weight: Any
) -> Any:
    g = _weighted(_share(g, self, reduction), weight)
    if pos_weight is None:
        return g * (F.sigmoid(self) - target)
    positive = pos_weight * target
    return g * ((positive + 1 - target) * F.sigmoid(self) - positive)


def _logits_target(F: Any, g: Any, self: Any, weight: Any, reduction: str, pos_weight: Any) -> Any:
    g = _weighted(_share(g, self, reduction), weight)
    if pos_weight is None:
        return -(g * self)
    return g * (F.logsigmoid(-self) - pos_weight * F.logsigmoid(self))


general(
    "binary_cross_entropy_with_logits(Tensor self, Tensor target, Tensor? weight=None, "
    f"{_REDUCTION}, Tensor? pos_weight=None) -> Tensor",
    _bce_with_logits,
    {"self": _logits_slope, "target": _logits_target},
    promotion="promote",
    numbers=(),
    places=("torch", "nn.functional"),
)


def _kl_div(F: Any, self: Any, target: Any, reduction: str, log_target: bool) -> Any:
    if log_target:
        losses = F.exp(target) * (target - self)
    else:
        losses = F.xlogy(target, target) - target * self
    if reduction == "batchmean":
        total = F.sum(losses)
        return total / self.shape[0] if self.shape else total
    return reduced(F, "kl_div", losses, reduction)


composite(
    f"kl_div(Tensor self, Tensor target, {_REDUCTION}, bool log_target=False) -> Tensor",
    _kl_div,
    places=_FUNCTIONAL,
)


def _poisson_nll_loss(
    F: Any, self: Any, target: Any, log_input: bool, full: bool, eps: float, reduction: str
) -> Any:
    if log_input:
        losses = F.exp(self) - target * self
    else:
        losses = self - target * F.log(F.add__Scalar(self, eps))
    if full:
        stirling = target * F.log(target) - target
        stirling = stirling + F.mul__Scalar(F.log(F.mul__Scalar(target, 2 * math.pi)), 0.5)
        losses = losses + F.masked_fill(stirling, target <= 1, 0)
    return reduced(F, "poisson_nll_loss", losses, reduction)


composite(
    "poisson_nll_loss(Tensor self, Tensor target, bool log_input=True, bool full=False, "
    f"float eps=1e-08, {_REDUCTION}) -> Tensor",
    _poisson_nll_loss,
    places=_FUNCTIONAL,
)


def _soft_margin(self: np.ndarray, target: np.ndarray, reduction: str = "mean") -> Any:
    return _added("soft_margin_loss", np.logaddexp(0, -target * self), reduction)


def _soft_margin_slope(F: Any, g: Any, self: Any, target: Any, reduction: str) -> Any:
    product = target * self
    return -(_share(g, product, reduction) * target * F.sigmoid(-product))


general(
    f"soft_margin_loss(Tensor self, Tensor target, {_REDUCTION}) -> Tensor",
    _soft_margin,
    _soft_margin_slope,
    promotion="promote",
    numbers=(),
    places=_FUNCTIONAL,
)


def _gaussian_nll_loss(
    F: Any, self: Any, target: Any, var: Any, full: bool, eps: float, reduction: str
) -> Any:
    op = "gaussian_nll_loss"
    require_reduction(reduction, op)
    if isinstance(var, (int, float, complex)):
        if isinstance(var, complex) or var < 0:
            raise EngineError(
                "BAD_VALUE", f"{op}: var must be a real number of at least 0", argument="var"
            )
        var = F.full(self.shape, float(var), dtype=self.dtype)
    elif var.shape != self.shape:
        if var.shape == self.shape[:-1]:
            var = F.unsqueeze(var, -1)
        elif var.shape != (*self.shape[:-1], 1):
            raise EngineError(
                "SHAPE_MISMATCH",
                f"{op}: var of shape {var.shape} must have the input's shape {self.shape}, or 1 "
                "for its last size",
                argument="var",
                shape=var.shape,
            )
    var = F.clone(var)
    with grad_mode(False):
        F.clamp_(var, eps)
    difference = self - target
    losses = (F.log(var) + F.pow(difference, 2) / var) * 0.5
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return reduced(F, op, losses, reduction)


composite(
    "gaussian_nll_loss(Tensor self, Tensor target, Tensor var, bool full=False, "
    f"float eps=1e-06, {_REDUCTION}) -> Tensor",
    _gaussian_nll_loss,
    numbers=("var",),
    places=_FUNCTIONAL,
)
