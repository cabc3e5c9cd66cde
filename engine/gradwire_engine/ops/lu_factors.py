"""LU factors of matrices, in one matrix or apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import linalg

from gradwire_engine.declare import composite, general, nondiff
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.matrices import adjoint, cubic, require_matrices

_LINALG = ("linalg",)


def _lu_factor(A: np.ndarray, pivot: bool = True) -> tuple[np.ndarray, np.ndarray]:
    require_matrices("linalg.lu_factor", A)
    if not pivot:
        raise EngineError(
            "BAD_VALUE", "linalg.lu_factor: pivot=False is of other devices", argument="pivot"
        )
    rows, columns = A.shape[-2:]
    LU = np.empty(A.shape, A.dtype)
    pivots = np.empty((*A.shape[:-2], min(rows, columns)), np.int32)
    for place in np.ndindex(*A.shape[:-2]):
        if A.size:
            LU[place], rows_swapped = linalg.lu_factor(A[place], check_finite=False)
            pivots[place] = rows_swapped[: min(rows, columns)] + 1
    return LU, pivots


def _swapped(pivots: np.ndarray, rows: int) -> np.ndarray:
    """The permutation matrices that row swaps, counted from 1, amount to."""
    P = np.zeros((*pivots.shape[:-1], rows, rows))
    for place in np.ndindex(*pivots.shape[:-1]):
        order = np.arange(rows)
        for i, other in enumerate(pivots[place]):
            order[i], order[other - 1] = order[other - 1], order[i]
        P[(*place, order, np.arange(rows))] = 1
    return P


def _halves(F: Any, LU: Any) -> tuple[Any, Any]:
    """L with its ones, and U, of factors that share a matrix."""
    rows, columns = LU.shape[-2:]
    k = min(rows, columns)
    L = F.tril(F.slice(LU, -1, 0, k, 1), -1)
    eye = F.eye(rows, k, dtype=LU.dtype)
    return L + eye, F.triu(F.slice(LU, -2, 0, k, 1))


def _lu_slope(F: Any, of_L: Any, of_U: Any, P: Any, L: Any, U: Any) -> Any:
    """By the square part that L and U have together; the rest is linear in it."""
    rows, columns = L.shape[-2], U.shape[-1]
    k = min(rows, columns)
    square_L, square_U = F.slice(L, -2, 0, k, 1), F.slice(U, -1, 0, k, 1)
    Lh, Uh = adjoint(F, square_L), adjoint(F, square_U)
    part_L, part_U = F.slice(of_L, -2, 0, k, 1), F.slice(of_U, -1, 0, k, 1)
    inner = F.tril(F.matmul(Lh, part_L), -1) + F.triu(F.matmul(part_U, Uh))
    pieces: list[Any] = []
    if rows > k:
        # L₂ U₁ = A₂, so U₁ has a gradient by it too.
        rest = F.linalg__solve_triangular(Uh, F.slice(of_L, -2, k, rows, 1), False, False)
        below = F.matmul(adjoint(F, F.slice(L, -2, k, rows, 1)), F.slice(of_L, -2, k, rows, 1))
        inner = inner - F.triu(below)
        pieces.append(rest)
    beside = None
    if columns > k:
        # L₁ U₂ = A₂, so L₁ has one.
        after = F.slice(of_U, -1, k, columns, 1)
        beside = F.linalg__solve_triangular(Lh, after, True, True, True)
        across = F.matmul(after, adjoint(F, F.slice(U, -1, k, columns, 1)))
        inner = inner - F.tril(across, -1)
    whole = F.linalg__solve_triangular(Lh, inner, True, True, True)
    whole = F.linalg__solve_triangular(Uh, whole, False, False)
    if beside is not None:
        whole = F.cat([whole, beside], -1)
    if pieces:
        whole = F.cat([whole, *pieces], -2)
    return F.matmul(P, whole)


def _factored_slope(F: Any, g: Any, LU: Any, pivots: Any) -> Any:
    L, U = _halves(F, LU)
    k = min(LU.shape[-2:])
    of_L = F.tril(F.slice(g, -1, 0, k, 1), -1)
    of_U = F.triu(F.slice(g, -2, 0, k, 1))
    P = F._permutation(pivots, LU.shape[-2], LU.dtype)
    return _lu_slope(F, of_L, of_U, P, L, U)


nondiff(
    "_permutation(Tensor pivots, int rows, ScalarType dtype) -> Tensor",
    lambda pivots, rows, dtype: _swapped(pivots, rows).astype(dtype),
    shape=lambda pivots, rows, dtype: (*pivots.shape[:-1], rows, rows),
    places=(),
)
general(
    "linalg.lu_factor(Tensor A, *, bool pivot=True) -> (Tensor LU, Tensor pivots)",
    _lu_factor,
    _factored_slope,
    grad_fn="LinalgLuFactorExBackward0",
    places=_LINALG,
    flops=cubic(25),
)


def _lu_parts(A: np.ndarray, pivot: bool = True) -> tuple[Any, Any, Any]:
    LU, pivots = _lu_factor(A, pivot)
    rows, columns = A.shape[-2:]
    k = min(rows, columns)
    L = np.tril(LU[..., :, :k], -1) + np.eye(rows, k, dtype=A.dtype)
    return L, np.triu(LU[..., :k, :]), pivots


def _lu_pulled(F: Any, gs: Any, L: Any, U: Any, pivots: Any) -> Any:
    of_L = F.zeros_like(L) if gs[0] is None else gs[0]
    of_U = F.zeros_like(U) if gs[1] is None else gs[1]
    P = F._permutation(pivots, L.shape[-2], L.dtype)
    return _lu_slope(F, F.tril(of_L, -1), F.triu(of_U), P, L, U)


general(
    "linalg._lu(Tensor A, *, bool pivot=True) -> (Tensor L, Tensor U, Tensor pivots)",
    _lu_parts,
    _lu_pulled,
    grad_fn="LinalgLuBackward0",
    places=(),
    flops=cubic(25),
)


def _lu(F: Any, A: Any, pivot: bool) -> Any:
    require_matrices("linalg.lu", A)
    L, U, pivots = F.linalg___lu(A, pivot)
    return F._permutation(pivots, A.shape[-2], A.dtype), L, U


composite(
    "linalg.lu(Tensor A, *, bool pivot=True) -> (Tensor P, Tensor L, Tensor U)",
    _lu,
    places=_LINALG,
    flops=cubic(25),
)
