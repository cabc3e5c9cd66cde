"""Covariance and correlation of variables, the rows of a matrix."""

from __future__ import annotations

from typing import Any

from gradwire_engine.context import grad_mode
from gradwire_engine.declare import composite
from gradwire_engine.errors import EngineError
from gradwire_engine.tensor import Tensor


def _require_variables(op: str, self: Tensor) -> None:
    if self.data.ndim > 2:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: needs variables by observations, at most 2 dimensions, not shape {self.shape}",
            argument="self",
            shape=self.shape,
        )
    if self.dtype.kind == "b":
        raise EngineError("DTYPE_MISMATCH", f"{op}: does not take bool tensors", argument="self")


def _require_weights(name: str, weights: Tensor | None, kinds: str, count: int) -> None:
    if weights is None:
        return
    if weights.dtype.kind not in kinds:
        wanted = "integers" if kinds == "iu" else "floating-point numbers"
        raise EngineError(
            "DTYPE_MISMATCH",
            f"cov: {name} must be {wanted}, not {weights.dtype}",
            argument=name,
            dtype=weights.dtype,
        )
    if weights.data.ndim > 1 or weights.data.size != count:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"cov: {name} of shape {weights.shape} must have one element for each of the {count} "
            "observations",
            argument=name,
            shape=weights.shape,
        )
    if count and weights.data.min() < 0:
        raise EngineError("BAD_VALUE", f"cov: {name} must not be negative", argument=name)


def _cov(F: Any, self: Any, correction: int, fweights: Any, aweights: Any) -> Any:
    _require_variables("cov", self)
    rows = F.view(self, (1, -1)) if len(self.shape) < 2 else self
    count = rows.shape[1]
    _require_weights("fweights", fweights, "iu", count)
    _require_weights("aweights", aweights, "f", count)
    weights = aweights if fweights is None else fweights
    if fweights is not None and aweights is not None:
        weights = fweights * aweights
    total = F.full((), count) if weights is None else F.sum(weights)
    if weights is not None and not total.data:
        raise EngineError(
            "BAD_VALUE", "cov: the weights sum to zero: there is no mean", argument="aweights"
        )
    mean = F.sum(rows if weights is None else rows * weights, (1,)) / total
    if aweights is not None and correction != 0:
        share = F.sum(weights * aweights)
        freedom = total - F.mul__Scalar(share, correction) / total
    else:
        freedom = F.sub__Scalar(total, correction) if correction else total
    if not freedom.data > 0:
        with grad_mode(False):
            freedom = F.zeros_like(freedom)
    centred = rows - F.unsqueeze(mean, 1)
    weighted = centred if weights is None else centred * weights
    products = F.mm(centred, F.conj(F.t(weighted)))
    if rows.shape[0] == 1 and products.dtype.kind == "c":
        products = F.complex(F.real(products), F.zeros_like(F.real(products)))
    return F.squeeze(products / freedom)


composite(
    "cov(Tensor self, *, int correction=1, Tensor? fweights=None, Tensor? aweights=None) -> Tensor",
    _cov,
)


def _corrcoef(F: Any, self: Any) -> Any:
    _require_variables("corrcoef", self)
    covariance = F.cov(self)
    if not covariance.shape:
        return covariance / covariance
    variance = F.diagonal(covariance)
    deviation = F.sqrt(F.real(variance) if variance.dtype.kind == "c" else variance)
    scaled = covariance / F.view(deviation, (-1, 1))
    scaled = scaled / F.view(deviation, (1, -1))
    # Rounding must not make more than 1 of it.
    if scaled.dtype.kind != "c":
        return F.clamp(scaled, -1, 1)
    parts = F.clamp(F.real(scaled), -1, 1), F.clamp(F.imag(scaled), -1, 1)
    return F.complex(*parts)


composite("corrcoef(Tensor self) -> Tensor", _corrcoef)
