"""LU factors of matrices, in one matrix or apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import linalg

from gradwire_engine.declare import composite, general, nondiff
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.linear_systems import solve_triangular
from gradwire_engine.ops.matrices import (
    adjoint,
    batches,
    cubic,
    raw_adjoint,
    require_dtype,
    require_matrices,
    singular,
)

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


def _factored_with_info(
    A: np.ndarray, pivot: bool = True, check_errors: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    LU, pivots = _lu_factor(A, pivot)
    zeros = np.diagonal(LU, axis1=-2, axis2=-1) == 0
    # Which pivot is zero, counted from 1, as LAPACK tells it.
    info = np.where(zeros.any(-1), zeros.argmax(-1) + 1, 0) if zeros.size else zeros.any(-1)
    if check_errors and info.any():
        raise singular("linalg.lu_factor_ex")
    return LU, pivots, info.astype(np.int32)


general(
    "linalg.lu_factor_ex(Tensor A, *, bool pivot=True, bool check_errors=False) -> "
    "(Tensor LU, Tensor pivots, Tensor info)",
    _factored_with_info,
    _factored_slope,
    grad_fn="LinalgLuFactorExBackward0",
    places=_LINALG,
    flops=cubic(25),
)


def _lu_halves(LU_data: np.ndarray) -> tuple[Any, Any]:
    rows, columns = LU_data.shape[-2:]
    k = min(rows, columns)
    L = np.tril(LU_data[..., :, :k], -1) + np.eye(rows, k, dtype=LU_data.dtype)
    return L, np.triu(LU_data[..., :k, :])


def _lu_parts(A: np.ndarray, pivot: bool = True) -> tuple[Any, Any, Any]:
    LU, pivots = _lu_factor(A, pivot)
    return *_lu_halves(LU), pivots


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


def _require_pivots(op: str, pivots: np.ndarray, shape: tuple[int, ...], rows: int) -> None:
    if pivots.dtype != np.int32:
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: pivots must be int32, as lu_factor gives them, not {pivots.dtype}",
            argument="pivots",
        )
    in_range = not pivots.size or (int(pivots.min()) >= 1 and int(pivots.max()) <= rows)
    if pivots.shape != shape or not in_range:
        raise EngineError(
            "SHAPE_MISMATCH" if in_range else "BAD_VALUE",
            f"{op}: pivots of shape {pivots.shape} must have shape {shape}, and be from 1 to "
            f"{rows}",
            argument="pivots",
        )


def _solved_shape(
    LU: np.ndarray, pivots: np.ndarray, B: np.ndarray, left: bool = True, adjoint: bool = False
) -> tuple[int, ...]:
    op = "linalg.lu_solve"
    require_matrices(op, LU, square=True)
    require_matrices(op, B)
    require_dtype(op, LU, B)
    size = LU.shape[-1]
    _require_pivots(op, pivots, LU.shape[:-1], size)
    if B.shape[-2 if left else -1] != size:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: B of shape {B.shape} does not fit factors of shape {LU.shape}",
            argument="B",
            shapes=f"{LU.shape} and {B.shape}",
        )
    return (*batches(LU, B), *B.shape[-2:])


def _lu_solve(
    LU: np.ndarray, pivots: np.ndarray, B: np.ndarray, left: bool = True, adjoint: bool = False
) -> np.ndarray:
    """With A = PLU: op(A)X = B, or Xop(A) = B as its adjoint."""
    if not left:
        turned = _lu_solve(LU, pivots, raw_adjoint(B), True, not adjoint)
        return np.asarray(raw_adjoint(turned))
    P = _swapped(pivots, LU.shape[-1]).astype(LU.dtype)
    if not adjoint:
        half = solve_triangular(LU, np.matmul(P.swapaxes(-2, -1), B), False, unitriangular=True)
        return solve_triangular(LU, half, True)
    turned = raw_adjoint(LU)
    half = solve_triangular(turned, B, False)
    return np.asarray(np.matmul(P, solve_triangular(turned, half, True, unitriangular=True)))


def _by_factors(
    F: Any, g: Any, LU: Any, pivots: Any, B: Any, left: bool, adjoint: bool, result: Any
) -> Any:
    pulled = F.linalg__lu_solve(LU, pivots, g, left, not adjoint)
    if left:
        by_matrix = -F.matmul(pulled, _turned(F, result))
    else:
        by_matrix = -F.matmul(_turned(F, result), pulled)
    if adjoint:
        by_matrix = _turned(F, by_matrix)
    L, U = _halves(F, LU)
    P = F._permutation(pivots, LU.shape[-1], LU.dtype)
    unpermuted = F.matmul(F.transpose(P, -2, -1), by_matrix)
    return F.tril(F.matmul(unpermuted, _turned(F, U)), -1) + F.triu(
        F.matmul(_turned(F, L), unpermuted)
    )


# An argument of these operators has the name of the function.
_turned = adjoint

general(
    "linalg.lu_solve(Tensor LU, Tensor pivots, Tensor B, *, bool left=True, bool adjoint=False) "
    "-> Tensor",
    _lu_solve,
    {
        "LU": _by_factors,
        "B": lambda F, g, LU, pivots, left, adjoint: F.linalg__lu_solve(
            LU, pivots, g, left, not adjoint
        ),
    },
    grad_fn="LinalgLuSolveBackward0",
    shape=_solved_shape,
    places=_LINALG,
    flops=lambda LU, pivots, B, *rest: cubic(2)(B),
)
composite(
    "lu_solve(Tensor self, Tensor LU_data, Tensor LU_pivots) -> Tensor",
    lambda F, self, LU_data, LU_pivots: F.linalg__lu_solve(LU_data, LU_pivots, self),
)


def _packed(F: Any, gs: Any, LU_data_shape: tuple[int, ...]) -> Any:
    """The transpose: each half at its place."""
    rows, columns = LU_data_shape[-2:]
    k = min(rows, columns)
    pulled = None
    if gs[0] is not None:
        below = F.tril(gs[0], -1)
        pulled = below if columns == k else F.slice_backward(below, LU_data_shape, -1, 0, k, 1)
    if gs[1] is not None:
        above = F.triu(gs[1])
        above = above if rows == k else F.slice_backward(above, LU_data_shape, -2, 0, k, 1)
        pulled = above if pulled is None else pulled + above
    return pulled


general(
    "_lu_unpack(Tensor LU_data) -> (Tensor L, Tensor U)",
    _lu_halves,
    _packed,
    grad_fn="LuUnpackBackward0",
    places=(),
)


def _lu_unpack(
    F: Any, LU_data: Any, LU_pivots: Any, unpack_data: bool, unpack_pivots: bool
) -> tuple[Any, Any, Any]:
    require_matrices("lu_unpack", LU_data)
    none = F.zeros((0,), dtype=LU_data.dtype)
    P, L, U = none, none, none
    if unpack_pivots:
        rows, columns = LU_data.shape[-2:]
        wanted = (*LU_data.shape[:-2], min(rows, columns))
        _require_pivots("lu_unpack", LU_pivots.data, wanted, rows)
        P = F._permutation(LU_pivots, rows, LU_data.dtype)
    if unpack_data:
        L, U = F._lu_unpack(LU_data)
    return P, L, U


composite(
    "lu_unpack(Tensor LU_data, Tensor LU_pivots, bool unpack_data=True, bool unpack_pivots=True) "
    "-> (Tensor P, Tensor L, Tensor U)",
    _lu_unpack,
    places=("torch",),
)
