"""Linear systems: inverses, solutions, triangular systems, determinants, Cholesky factors."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import blas

from gradwire_engine.declare import composite, general
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.matrices import (
    adjoint,
    batches,
    cubic,
    each_matrix,
    raw_adjoint,
    require_dtype,
    require_matrices,
    singular,
)
from gradwire_engine.tensor import Tensor

_LINALG = ("linalg",)


def _inverse(A: np.ndarray) -> np.ndarray:
    require_matrices("linalg.inv", A, square=True)
    try:
        return np.asarray(np.linalg.inv(A))
    except np.linalg.LinAlgError:
        raise singular("linalg.inv") from None


def _inverse_slope(F: Any, g: Any, inverse: Any) -> Any:
    turned = adjoint(F, inverse)
    return -F.matmul(F.matmul(turned, g), turned)


def _inverse_with_info(A: np.ndarray, check_errors: bool = False) -> tuple[np.ndarray, np.ndarray]:
    require_matrices("linalg.inv_ex", A, square=True)
    info = np.zeros(A.shape[:-2], np.int32)
    try:
        return np.linalg.inv(A), info
    except np.linalg.LinAlgError:
        if check_errors:
            raise singular("linalg.inv_ex") from None
    out = np.full(A.shape, np.nan, A.dtype)
    for place in np.ndindex(*A.shape[:-2]):
        try:
            out[place] = np.linalg.inv(A[place])
        except np.linalg.LinAlgError:
            info[place] = A.shape[-1]
    return out, info


general(
    "linalg.inv(Tensor A) -> Tensor",
    _inverse,
    lambda F, g, result: _inverse_slope(F, g, result),
    grad_fn="LinalgInvExBackward0",
    places=_LINALG,
    flops=cubic(3),
)
general(
    "linalg.inv_ex(Tensor A, *, bool check_errors=False) -> (Tensor inverse, Tensor info)",
    _inverse_with_info,
    lambda F, g, inverse: _inverse_slope(F, g, inverse),
    grad_fn="LinalgInvExBackward0",
    places=_LINALG,
    flops=cubic(3),
)
composite("inverse(Tensor self) -> Tensor", lambda F, self: F.linalg__inv(self), flops=cubic(3))


def _is_vector(A: Any, B: Any) -> bool:
    """Whether B is vectors: one, or as many as A has matrices."""
    return len(B.shape) == 1 or (
        len(A.shape) - 1 == len(B.shape) and tuple(B.shape) == tuple(A.shape[:-1])
    )


def _solved_shape(A: np.ndarray, B: np.ndarray, left: bool = True, *rest: Any) -> tuple[int, ...]:
    require_matrices("linalg.solve", A, square=True)
    require_dtype("linalg.solve", A, B)
    if _is_vector(A, B):
        fits = left and B.shape[-1] == A.shape[-1]
        shape = (*np.broadcast_shapes(A.shape[:-2], B.shape[:-1]), A.shape[-1]) if fits else ()
    else:
        fits = B.ndim >= 2 and B.shape[-2 if left else -1] == A.shape[-1]
        shape = (*batches(A, B), *B.shape[-2:]) if fits else ()
    if not fits:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"linalg.solve: B of shape {B.shape} does not fit A of shape {A.shape}; for AX = B it "
            "has the rows of A, for XA = B (left=False) its columns",
            argument="B",
            shapes=f"{A.shape} and {B.shape}",
        )
    return shape


def _solve(A: np.ndarray, B: np.ndarray, left: bool = True) -> Any:
    try:
        if _is_vector(A, B):
            return np.linalg.solve(A, B[..., None])[..., 0]
        if left:
            return np.linalg.solve(A, B)
        return np.linalg.solve(A.swapaxes(-2, -1), B.swapaxes(-2, -1)).swapaxes(-2, -1)
    except np.linalg.LinAlgError:
        raise singular("linalg.solve") from None


def _by_matrix(F: Any, g: Any, A: Any, B: Any, left: bool, result: Any) -> Any:
    solved = F.linalg__solve(adjoint(F, A), g, left)
    if _is_vector(A, B):
        return -F.matmul(F.unsqueeze(solved, -1), F.conj(F.unsqueeze(result, -2)))
    turned = adjoint(F, result)
    return -(F.matmul(solved, turned) if left else F.matmul(turned, solved))


def _by_right_side(F: Any, g: Any, A: Any, left: bool) -> Any:
    return F.linalg__solve(adjoint(F, A), g, left)


general(
    "linalg.solve(Tensor A, Tensor B, *, bool left=True) -> Tensor",
    _solve,
    {"A": _by_matrix, "B": _by_right_side},
    grad_fn="LinalgSolveExBackward0",
    shape=_solved_shape,
    places=_LINALG,
    flops=cubic(3),
)


def _solve_with_info(
    A: np.ndarray, B: np.ndarray, left: bool = True, check_errors: bool = False
) -> tuple[Any, np.ndarray]:
    info = np.zeros(A.shape[:-2], np.int32)
    try:
        return _solve(A, B, left), info
    except EngineError:
        if check_errors:
            raise
    inverse, info = _inverse_with_info(A)
    if _is_vector(A, B):
        return np.matmul(inverse, B[..., None])[..., 0], info
    return (np.matmul(inverse, B) if left else np.matmul(B, inverse)), info


general(
    "linalg.solve_ex(Tensor A, Tensor B, *, bool left=True, bool check_errors=False) -> "
    "(Tensor result, Tensor info)",
    _solve_with_info,
    {
        "A": lambda F, g, A, B, left, result: _by_matrix(F, g, A, B, left, result),
        "B": _by_right_side,
    },
    grad_fn="LinalgSolveExBackward0",
    shape=_solved_shape,
    places=_LINALG,
    flops=cubic(3),
)


def _triangular_shape(self: np.ndarray, B: np.ndarray, upper: bool, *rest: Any) -> tuple[int, ...]:
    left = rest[0] if rest else True
    require_matrices("linalg.solve_triangular", self, square=True)
    require_matrices("linalg.solve_triangular", self, B)
    if B.shape[-2 if left else -1] != self.shape[-1]:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"linalg.solve_triangular: B of shape {B.shape} does not fit A of shape {self.shape}",
            argument="B",
            shapes=f"{self.shape} and {B.shape}",
        )
    return (*batches(self, B), *B.shape[-2:])


def solve_triangular(
    A: np.ndarray, B: np.ndarray, upper: bool, left: bool = True, unitriangular: bool = False
) -> np.ndarray:
    """AX = B or XA = B by substitution; only one triangle of A is read."""
    (trsm,) = blas.get_blas_funcs(("trsm",), (A,))

    def one(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if not b.size:
            return np.zeros(b.shape, b.dtype)
        return np.asarray(
            trsm(1.0, a, b, side=int(not left), lower=int(not upper), diag=int(unitriangular))
        )

    return each_matrix(one, B.shape[-2:], A, B)


def _triangular_by_matrix(
    F: Any, g: Any, self: Any, upper: bool, left: bool, unitriangular: bool, result: Any
) -> Any:
    solved = F.linalg__solve_triangular(adjoint(F, self), g, not upper, left, unitriangular)
    turned = adjoint(F, result)
    whole = -(F.matmul(solved, turned) if left else F.matmul(turned, solved))
    return F.triu(whole, int(unitriangular)) if upper else F.tril(whole, -int(unitriangular))


general(
    "linalg.solve_triangular(Tensor self, Tensor B, *, bool upper, bool left=True, "
    "bool unitriangular=False) -> Tensor",
    solve_triangular,
    {
        "self": _triangular_by_matrix,
        "B": lambda F, g, self, upper, left, unitriangular: F.linalg__solve_triangular(
            adjoint(F, self), g, not upper, left, unitriangular
        ),
    },
    grad_fn="LinalgSolveTriangularBackward0",
    shape=_triangular_shape,
    places=_LINALG,
)


def _determinant(A: np.ndarray) -> Any:
    require_matrices("linalg.det", A, square=True)
    return np.linalg.det(A)


def _determinant_slope(F: Any, g: Any, A: Any, result: Any) -> Any:
    factor = F.unsqueeze(F.unsqueeze(g * F.conj(result), -1), -1)
    if (result.data if isinstance(result, Tensor) else result).all():
        return factor * adjoint(F, F.linalg__inv(A))
    # The cofactors, which are finite where the inverse is not.
    U, S, Vh = F.linalg__svd(A, False)
    n = A.shape[-1]
    rest = F.masked_fill(F.expand(F.unsqueeze(S, -2), (*S.shape[:-1], n, n)), F.eye(n) != 0, 1)
    phase = F.conj(F.linalg__det(U) * F.linalg__det(Vh)) * g
    scaled = U * F.unsqueeze(F.prod(rest, -1), -2)
    return F.unsqueeze(F.unsqueeze(phase, -1), -1) * F.matmul(scaled, Vh)


general(
    "linalg.det(Tensor A) -> Tensor",
    _determinant,
    _determinant_slope,
    grad_fn="LinalgDetBackward0",
    places=_LINALG,
    flops=cubic(3),
)
composite("det(Tensor self) -> Tensor", lambda F, self: F.linalg__det(self), flops=cubic(3))


def _sign_and_log(A: np.ndarray) -> tuple[Any, Any]:
    require_matrices("linalg.slogdet", A, square=True)
    sign, logabsdet = np.linalg.slogdet(A)
    return sign, logabsdet


def _log_determinant_slope(F: Any, gs: Any, A: Any, sign: Any) -> Any:
    of_sign, of_log = gs
    weight = of_log
    if sign.dtype.kind == "c" and of_sign is not None:
        turn = F.imag(F.conj(of_sign) * sign) * -1j
        weight = turn if of_log is None else of_log + turn
    if weight is None:
        return None
    inverse = F.linalg__inv_ex(A)[0]
    return F.unsqueeze(F.unsqueeze(weight, -1), -1) * adjoint(F, inverse)


general(
    "linalg.slogdet(Tensor A) -> (Tensor sign, Tensor logabsdet)",
    _sign_and_log,
    _log_determinant_slope,
    grad_fn="LinalgSlogdetBackward0",
    places=_LINALG,
    flops=cubic(3),
)
composite(
    "slogdet(Tensor self) -> (Tensor sign, Tensor logabsdet)",
    lambda F, self: F.linalg__slogdet(self),
    flops=cubic(3),
)


def _logdet(F: Any, self: Any) -> Any:
    sign, logabsdet = F.linalg__slogdet(self)
    if sign.dtype.kind == "c":
        return F.log(sign) + logabsdet
    return F.where(sign == -1, np.nan, logabsdet)


composite("logdet(Tensor self) -> Tensor", _logdet, flops=cubic(3))


def _factor(op: str, A: np.ndarray, upper: bool) -> np.ndarray:
    require_matrices(op, A, square=True)
    try:
        return np.asarray(np.linalg.cholesky(A, upper=upper))
    except np.linalg.LinAlgError:
        raise singular(op, "is not positive definite") from None


def _factor_slope(F: Any, g: Any, L: Any, upper: bool) -> Any:
    """Murray (2016), Differentiation of the Cholesky decomposition, equation 10."""
    if upper:
        L, g = adjoint(F, L), adjoint(F, g)
    product = F.matmul(adjoint(F, L), g)
    both = 0.5 * (F.tril(product) + adjoint(F, F.tril(product, -1)))
    part = F.linalg__solve_triangular(adjoint(F, L), both, True)
    return F.linalg__solve_triangular(L, part, False, False)


def _factor_with_info(
    self: np.ndarray, upper: bool = False, check_errors: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    info = np.zeros(self.shape[:-2], np.int32)
    try:
        return _factor("linalg.cholesky_ex", self, upper), info
    except EngineError as error:
        if check_errors or error.reason != "BAD_VALUE":
            raise
    out = np.full(self.shape, np.nan, self.dtype)
    for place in np.ndindex(*self.shape[:-2]):
        try:
            out[place] = np.linalg.cholesky(self[place], upper=upper)
        except np.linalg.LinAlgError:
            info[place] = _first_bad_minor(self[place])
    return out, info


def _first_bad_minor(A: np.ndarray) -> int:
    """The order of the first leading minor that is not positive definite, as LAPACK tells it."""
    low, high = 0, len(A)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            np.linalg.cholesky(A[:middle, :middle])
            low = middle
        except np.linalg.LinAlgError:
            high = middle
    return high


general(
    "linalg.cholesky(Tensor self, *, bool upper=False) -> Tensor",
    lambda self, upper=False: _factor("linalg.cholesky", self, upper),
    lambda F, g, upper, result: _factor_slope(F, g, result, upper),
    grad_fn="LinalgCholeskyExBackward0",
    places=_LINALG,
    flops=cubic(3),
)
general(
    "cholesky(Tensor self, bool upper=False) -> Tensor",
    lambda self, upper=False: _factor("cholesky", self, upper),
    lambda F, g, upper, result: _factor_slope(F, g, result, upper),
    flops=cubic(3),
)
general(
    "linalg.cholesky_ex(Tensor self, *, bool upper=False, bool check_errors=False) -> "
    "(Tensor L, Tensor info)",
    _factor_with_info,
    lambda F, g, upper, L: _factor_slope(F, g, L, upper),
    grad_fn="LinalgCholeskyExBackward0",
    places=_LINALG,
    flops=cubic(3),
)


def _cholesky_solved_shape(
    self: np.ndarray, input2: np.ndarray, upper: bool = False
) -> tuple[int, ...]:
    require_matrices("cholesky_solve", input2, square=True)
    require_matrices("cholesky_solve", self, input2)
    if self.shape[-2] != input2.shape[-1]:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"cholesky_solve: B of shape {self.shape} does not fit a factor of shape "
            f"{input2.shape}",
            argument="input2",
            shapes=f"{self.shape} and {input2.shape}",
        )
    return (*batches(self, input2), *self.shape[-2:])


def _cholesky_solve(self: np.ndarray, input2: np.ndarray, upper: bool = False) -> np.ndarray:
    turned = raw_adjoint(input2)
    first, second = (turned, input2) if upper else (input2, turned)
    return solve_triangular(second, solve_triangular(first, self, False), True)


def _cholesky_by_factor(F: Any, g: Any, input2: Any, upper: bool, result: Any) -> Any:
    pulled = F.cholesky_solve(g, input2, upper)
    product = F.matmul(pulled, adjoint(F, result))
    common = product + adjoint(F, product)
    return -(F.matmul(input2, common) if upper else F.matmul(common, input2))


general(
    "cholesky_solve(Tensor self, Tensor input2, bool upper=False) -> Tensor",
    _cholesky_solve,
    {
        "self": lambda F, g, input2, upper: F.cholesky_solve(g, input2, upper),
        "input2": _cholesky_by_factor,
    },
    shape=_cholesky_solved_shape,
)


def _cholesky_inverse(self: np.ndarray, upper: bool = False) -> np.ndarray:
    require_matrices("cholesky_inverse", self, square=True)
    eye = np.broadcast_to(np.eye(self.shape[-1], dtype=self.dtype), self.shape)
    return _cholesky_solve(eye, self, upper)


def _cholesky_inverse_slope(F: Any, g: Any, self: Any, upper: bool, result: Any) -> Any:
    common = F.matmul(F.matmul(result, g + adjoint(F, g)), result)
    return -(F.matmul(self, common) if upper else F.matmul(common, self))


general(
    "cholesky_inverse(Tensor self, bool upper=False) -> Tensor",
    _cholesky_inverse,
    _cholesky_inverse_slope,
    flops=cubic(3),
)
