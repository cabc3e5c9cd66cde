"""Least squares: the solutions of smallest norm of systems that need not have any."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.declare import composite, general
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.matrices import (
    adjoint,
    batches,
    cubic,
    raw_adjoint,
    require_dtype,
    require_finite,
    require_matrices,
)

_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


def _are_vectors(A: Any, b: Any) -> bool:
    return len(b.shape) == len(A.shape) - 1 and tuple(b.shape) == tuple(A.shape[:-1])


def _shape(
    self: np.ndarray, b: np.ndarray, rcond: float | None = None, driver: str | None = None
) -> tuple[int, ...]:
    op = "linalg.lstsq"
    require_matrices(op, self)
    require_dtype(op, self, b)
    if driver is not None and driver not in _DRIVERS:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: driver must be one of {', '.join(_DRIVERS)}, not {driver!r}",
            argument="driver",
        )
    rows, columns = self.shape[-2:]
    if _are_vectors(self, b):
        return (*self.shape[:-2], columns)
    if b.ndim < 2 or b.shape[-2] != rows:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: b of shape {b.shape} must have the {rows} rows of A of shape {self.shape}",
            argument="b",
            shapes=f"{self.shape} and {b.shape}",
        )
    return (*batches(self, b), columns, b.shape[-1])


def _lstsq(
    self: np.ndarray, b: np.ndarray, rcond: float | None = None, driver: str | None = None
) -> tuple[Any, Any, Any, Any]:
    """By singular values, of which those below `rcond` times the largest count as zero."""
    require_finite("linalg.lstsq", self)
    rows, columns = self.shape[-2:]
    right = b[..., None] if _are_vectors(self, b) else b
    U, S, Vh = np.linalg.svd(self, full_matrices=False)
    largest = S.max(axis=-1, keepdims=True, initial=0)
    cutoff = np.finfo(S.dtype).eps * max(rows, columns) if rcond is None else rcond
    # Of the driver for matrices of full rank none count as zero.
    smallest = 0 if driver == "gels" else cutoff * largest
    kept = smallest < S
    inverse = np.where(kept, 1 / np.where(kept, S, 1), 0).astype(S.dtype)
    solution = raw_adjoint(Vh) @ (inverse[..., None] * (raw_adjoint(U) @ right))
    rank = kept.sum(-1)
    residuals = np.empty(0, S.dtype)
    full = driver == "gels" or (driver in ("gelsd", "gelss") and bool((rank == columns).all()))
    if rows > columns and full:
        error = right - self @ solution
        residuals = (error.real**2 + error.imag**2).sum(-2)
    if right is not b:
        solution = solution[..., 0]
    return (
        solution,
        residuals,
        np.empty(0, np.int64) if driver == "gels" else rank,
        S if driver in ("gelsd", "gelss") else np.empty(0, S.dtype),
    )


def _lstsq_slopes(F: Any, gs: Any, needs: Any, self: Any, b: Any, solution: Any) -> tuple[Any, Any]:
    """By the pseudo-inverse P: dP = -P dA P + P Pᴴ dAᴴ (1 - A P) + (1 - P A) dAᴴ Pᴴ P."""
    vectors = _are_vectors(self, b)
    right, x = (F.unsqueeze(b, -1), F.unsqueeze(solution, -1)) if vectors else (b, solution)
    by_matrix, by_right = None, None
    if gs[0] is not None:
        g = F.unsqueeze(gs[0], -1) if vectors else gs[0]
        P = F.linalg__pinv(self)
        Ph = adjoint(F, P)
        by_right = F.matmul(Ph, g)
        if needs[0]:
            turned = F.matmul(right, adjoint(F, g))
            outer = F.matmul(turned, F.matmul(P, Ph))
            inner = F.matmul(F.matmul(Ph, P), turned)
            by_matrix = (
                outer
                - F.matmul(self, F.matmul(P, outer))
                + inner
                - F.matmul(F.matmul(inner, P), self)
                - F.matmul(by_right, adjoint(F, x))
            )
    if gs[1] is not None and gs[1].shape != (0,):
        share = 2 * F.unsqueeze(gs[1], -2) * (F.matmul(self, x) - right)
        # The solution is where the residuals do not change with it.
        of_matrix = F.matmul(share, adjoint(F, x))
        by_matrix = of_matrix if by_matrix is None else by_matrix + of_matrix
        by_right = -share if by_right is None else by_right - share
    return by_matrix, F.squeeze(by_right, (-1,)) if vectors and by_right is not None else by_right


general(
    "linalg._lstsq(Tensor self, Tensor b, float? rcond, str? driver) -> "
    "(Tensor solution, Tensor residuals, Tensor rank, Tensor singular_values)",
    _lstsq,
    {"self b": _lstsq_slopes},
    grad_fn="LinalgLstsqBackward0",
    shape=_shape,
    places=(),
    flops=cubic(30),
)


def _without_slopes(F: Any, self: Any, b: Any, rcond: float | None, driver: str | None) -> Any:
    """The rank and the singular values are no functions to differentiate here."""
    solution, residuals, rank, values = F.linalg___lstsq(self, b, rcond, driver)
    return solution, residuals, rank, F.detach(values)


composite(
    "linalg.lstsq(Tensor self, Tensor b, float? rcond=None, *, str? driver=None) -> "
    "(Tensor solution, Tensor residuals, Tensor rank, Tensor singular_values)",
    _without_slopes,
    places=("linalg",),
    flops=cubic(30),
)
