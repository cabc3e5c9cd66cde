"""Distances between vectors, and losses that ask for a margin between them."""

from __future__ import annotations

from typing import Any

from gradwire_engine.context import grad_mode
from gradwire_engine.declare import composite, general
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims
from gradwire_engine.ops.reductions import norm_slope, vector_norm
from gradwire_engine.ops.regression_losses import reduced

_FUNCTIONAL = ("nn.functional",)
_REDUCTION = 'str reduction="mean"'

general(
    "_norm_along(Tensor self, Scalar ord, int[] dim, bool keepdim) -> Tensor",
    vector_norm,
    norm_slope,
    grad_fn="NormBackward1",
    places=(),
)


def _pairwise_distance(F: Any, x1: Any, x2: Any, p: float, eps: float, keepdim: bool) -> Any:
    last = max(len(x1.shape), len(x2.shape)) - 1
    return F._norm_along(F.add__Scalar(x1 - x2, eps), p, (last,), keepdim)


composite(
    "pairwise_distance(Tensor x1, Tensor x2, float p=2.0, float eps=1e-06, bool keepdim=False) "
    "-> Tensor",
    _pairwise_distance,
    places=("torch", "nn.functional"),
)


def _cosine_similarity(F: Any, x1: Any, x2: Any, dim: int, eps: float) -> Any:
    if x1.dtype.kind != "f" or x2.dtype.kind != "f":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"cosine_similarity: needs floating-point tensors, not {x1.dtype} and {x2.dtype}",
            argument="x1",
        )
    x1, x2 = F.broadcast_tensors([x1, x2]) if x1.shape != x2.shape else (x1, x2)
    dims.one(dim, len(x1.shape))
    sides = []
    for each in (x1, x2):
        length = F.clone(F.linalg__vector_norm(each, 2, (dim,), True))
        with grad_mode(False):
            F.clamp_min_(length, eps)
        sides.append(each / length)
    return F.sum(sides[0] * sides[1], (dim,))


composite(
    "cosine_similarity(Tensor x1, Tensor x2, int dim=1, float eps=1e-08) -> Tensor",
    _cosine_similarity,
    places=("torch", "nn.functional"),
)


def _normalize(F: Any, self: Any, p: float, dim: int, eps: float) -> Any:
    length = F.clamp_min(F.linalg__vector_norm(self, p, (dim,), True), eps)
    return self / F.expand(length, self.shape)


composite(
    "normalize(Tensor self, float p=2.0, int dim=1, float eps=1e-12) -> Tensor",
    _normalize,
    places=_FUNCTIONAL,
)


def _hinge_embedding_loss(F: Any, self: Any, target: Any, margin: float, reduction: str) -> Any:
    nothing = F.zeros_like(self)
    short = F.sub(F.full((), margin, dtype=self.dtype), self)
    apart = F.where(target != 1, F.clamp_min(short, 0), nothing)
    together = F.where(target != -1, self, nothing)
    return reduced(F, "hinge_embedding_loss", apart + together, reduction)


composite(
    f"hinge_embedding_loss(Tensor self, Tensor target, float margin=1.0, {_REDUCTION}) -> Tensor",
    _hinge_embedding_loss,
    places=_FUNCTIONAL,
)


def _margin_ranking_loss(
    F: Any, input1: Any, input2: Any, target: Any, margin: float, reduction: str
) -> Any:
    op = "margin_ranking_loss"
    if not len(input1.shape) == len(input2.shape) == len(target.shape):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: inputs of shapes {input1.shape} and {input2.shape} and a target of shape "
            f"{target.shape} must have as many dimensions",
            argument="target",
        )
    losses = F.clamp_min(F.add__Scalar(-target * (input1 - input2), margin), 0)
    return reduced(F, op, losses, reduction)


composite(
    "margin_ranking_loss(Tensor input1, Tensor input2, Tensor target, float margin=0.0, "
    f"{_REDUCTION}) -> Tensor",
    _margin_ranking_loss,
    places=("torch", "nn.functional"),
)


def _triplet_margin_loss(
    F: Any,
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float,
    p: float,
    eps: float,
    swap: bool,
    reduction: str,
) -> Any:
    op = "triplet_margin_loss"
    if margin <= 0:
        raise EngineError("BAD_VALUE", f"{op}: margin must be larger than 0", argument="margin")
    if not len(anchor.shape) == len(positive.shape) == len(negative.shape):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: anchor, positive and negative must have as many dimensions",
            argument="anchor",
        )
    near = F.pairwise_distance(anchor, positive, p, eps)
    far = F.pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = F.minimum(far, F.pairwise_distance(positive, negative, p, eps))
    losses = F.clamp_min(F.add__Scalar(near, margin) - far, 0)
    return reduced(F, op, losses, reduction)


composite(
    "triplet_margin_loss(Tensor anchor, Tensor positive, Tensor negative, float margin=1.0, "
    f"float p=2.0, float eps=1e-06, bool swap=False, {_REDUCTION}) -> Tensor",
    _triplet_margin_loss,
    places=_FUNCTIONAL,
)


def _multilabel_soft_margin_loss(
    F: Any, self: Any, target: Any, weight: Any, reduction: str
) -> Any:
    if not self.shape:
        raise EngineError(
            "DIM_OUT_OF_RANGE",
            "multilabel_soft_margin_loss: an input has shape (classes,) or (n, classes), not ()",
            argument="self",
        )
    losses = -(target * F.logsigmoid(self) + (1 - target) * F.logsigmoid(-self))
    if weight is not None:
        losses = losses * weight
    last = len(self.shape) - 1
    losses = F.sum(losses, (last,)) / self.shape[last]
    return reduced(F, "multilabel_soft_margin_loss", losses, reduction)


composite(
    "multilabel_soft_margin_loss(Tensor self, Tensor target, Tensor? weight=None, "
    f"{_REDUCTION}) -> Tensor",
    _multilabel_soft_margin_loss,
    places=_FUNCTIONAL,
)


def _cosine_embedding_loss(
    F: Any, input1: Any, input2: Any, target: Any, margin: float, reduction: str
) -> Any:
    op = "cosine_embedding_loss"
    rank = len(target.shape)
    if rank > 1 or len(input1.shape) != rank + 1 or len(input2.shape) != rank + 1:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: inputs of shapes {input1.shape} and {input2.shape} do not fit a target of "
            f"shape {target.shape}: expected (n, d) and (n,), or (d,) and ()",
            argument="target",
        )
    tiny = 1e-12
    product = F.sum(input1 * input2, (rank,))
    length1 = F.add__Scalar(F.sum(input1 * input1, (rank,)), tiny)
    length2 = F.add__Scalar(F.sum(input2 * input2, (rank,)), tiny)
    cosine = product / F.sqrt(length1 * length2)
    nothing = F.zeros_like(cosine)
    together = F.where(target == 1, F.sub(F.ones_like(cosine), cosine), nothing)
    apart = F.where(target == -1, F.clamp_min(F.sub__Scalar(cosine, margin), 0), nothing)
    return reduced(F, op, together + apart, reduction)


composite(
    "cosine_embedding_loss(Tensor input1, Tensor input2, Tensor target, float margin=0.0, "
    f"{_REDUCTION}) -> Tensor",
    _cosine_embedding_loss,
    places=("torch", "nn.functional"),
)
