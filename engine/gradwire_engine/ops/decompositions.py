"""Decompositions: eigenvalues, singular values, QR, the pseudoinverse.

Eigenvectors and singular vectors are unique up to a phase only. A loss that depends on the phase
has no gradient, and is refused as in PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.declare import composite, general, nondiff
from gradwire_engine.dtypes import complex_dtype
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.matrices import adjoint, cubic, require_finite, require_matrices
from gradwire_engine.tensor import Tensor

_LINALG = ("linalg",)


def _array(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


def _require_no_phase(diagonal: Any, what: str) -> None:
    """Refuse a loss whose gradient turns vectors by a phase."""
    turn = np.imag(_array(diagonal))
    if not np.allclose(turn, 0, 1e-2, 1e-2):
        raise EngineError(
            "BAD_VALUE",
            f"the backward of {what}: complex vectors are defined up to multiplication by a phase, "
            "and this loss depends on it, so it has no gradient; use quantities that do not, such "
            "as abs() or products with the conjugate",
            op=what,
        )


def _gaps(F: Any, values: Any) -> Any:
    """values[j] - values[i], and 1 where i = j."""
    return (
        F.unsqueeze(values, -2)
        - F.unsqueeze(values, -1)
        + F.eye(values.shape[-1], dtype=values.dtype)
    )


def _without_diagonal(F: Any, x: Any) -> Any:
    return x - F.diag_embed(F.diagonal(x, 0, -2, -1))


def _skew(F: Any, x: Any) -> Any:
    return x - adjoint(F, x)


def _eigh(self: np.ndarray, UPLO: str = "L") -> tuple[Any, Any]:
    require_matrices("linalg.eigh", self, square=True)
    if UPLO.upper() not in ("L", "U"):
        raise EngineError(
            "BAD_VALUE",
            f"linalg.eigh: UPLO must be 'L' or 'U', not {UPLO!r}",
            argument="UPLO",
        )
    require_finite("linalg.eigh", self)
    values, vectors = np.linalg.eigh(self, "L" if UPLO.upper() == "L" else "U")
    return values, vectors


def _eigh_slope(F: Any, gs: Any, eigenvalues: Any, eigenvectors: Any) -> Any:
    of_values, of_vectors = gs
    turned = adjoint(F, eigenvectors)
    if of_vectors is None:
        return F.matmul(eigenvectors * F.unsqueeze(of_values, -2), turned)
    inner = F.matmul(turned, of_vectors)
    if inner.dtype.kind == "c":
        _require_no_phase(F.diagonal(inner, 0, -2, -1), "linalg.eigh")
    inner = _without_diagonal(F, 0.5 * _skew(F, inner) / _gaps(F, eigenvalues))
    if of_values is not None:
        inner = inner + F.diag_embed(of_values)
    return F.matmul(eigenvectors, F.matmul(inner, turned))


general(
    'linalg.eigh(Tensor self, str UPLO="L") -> (Tensor eigenvalues, Tensor eigenvectors)',
    _eigh,
    _eigh_slope,
    grad_fn="LinalgEighBackward0",
    places=_LINALG,
    flops=cubic(25),
)


def _only_eigvalsh(self: np.ndarray, UPLO: str = "L") -> Any:
    require_matrices("linalg.eigvalsh", self, square=True)
    require_finite("linalg.eigvalsh", self)
    return np.linalg.eigvalsh(self, "L" if UPLO.upper() == "L" else "U")


# Without a gradient the vectors, which take most of the time, are not needed.
nondiff('linalg._eigvalsh(Tensor self, str UPLO="L") -> Tensor', _only_eigvalsh, places=())
composite(
    'linalg.eigvalsh(Tensor self, str UPLO="L") -> Tensor',
    lambda F, self, UPLO: (
        F.linalg__eigh(self, UPLO)[0] if self.requires_grad else F.linalg___eigvalsh(self, UPLO)
    ),
    kernel=_only_eigvalsh,
    places=_LINALG,
    flops=cubic(25),
)


def _eig(self: np.ndarray) -> tuple[Any, Any]:
    require_matrices("linalg.eig", self, square=True)
    require_finite("linalg.eig", self)
    values, vectors = np.linalg.eig(self)
    dtype = self.dtype if self.dtype.kind == "c" else complex_dtype(self.dtype)
    return values.astype(dtype), vectors.astype(dtype)


def _eig_slope(F: Any, gs: Any, eigenvalues: Any, eigenvectors: Any) -> Any:
    of_values, of_vectors = gs
    turned = adjoint(F, eigenvectors)
    if of_vectors is None:
        return F.linalg__solve(turned, F.unsqueeze(of_values, -1) * turned)
    inner = F.matmul(turned, of_vectors)
    along = F.diagonal(inner, 0, -2, -1)
    _require_no_phase(along, "linalg.eig")
    # Vectors have length 1: what would make them longer leads nowhere.
    longer = F.matmul(turned, eigenvectors * F.unsqueeze(F.real(along), -2))
    inner = _without_diagonal(F, (inner - longer) / F.conj(_gaps(F, eigenvalues)))
    if of_values is not None:
        inner = inner + F.diag_embed(of_values)
    return F.linalg__solve(turned, F.matmul(inner, turned))


general(
    "linalg.eig(Tensor self) -> (Tensor eigenvalues, Tensor eigenvectors)",
    _eig,
    _eig_slope,
    grad_fn="LinalgEigBackward0",
    places=_LINALG,
    flops=cubic(25),
)
composite(
    "linalg.eigvals(Tensor self) -> Tensor",
    lambda F, self: F.linalg__eig(self)[0],
    places=_LINALG,
    flops=cubic(25),
)


def _svd(A: np.ndarray, full_matrices: bool = True, driver: str | None = None) -> tuple[Any, ...]:
    require_matrices("linalg.svd", A)
    if driver is not None:
        raise EngineError(
            "BAD_VALUE",
            f"linalg.svd: driver {driver!r} is of other devices; leave it out",
            argument="driver",
        )
    require_finite("linalg.svd", A, "A")
    U, S, Vh = np.linalg.svd(A, full_matrices)
    return U, S, Vh


def _first(F: Any, x: Any, dim: int, count: int) -> Any:
    """The first columns or rows: the others are not determined by the matrix."""
    return x if x is None or x.shape[dim] == count else F.slice(x, dim, 0, count, 1)


def _svd_slope(F: Any, gs: Any, U: Any, S: Any, Vh: Any) -> Any:
    """Wan and Zhang (2019), Automatic differentiation for complex valued SVD."""
    k = S.shape[-1]
    of_U, of_S, of_Vh = _first(F, gs[0], -1, k), gs[1], _first(F, gs[2], -2, k)
    U, Vh = _first(F, U, -1, k), _first(F, Vh, -2, k)
    if of_U is None and of_Vh is None:
        return F.matmul(U * F.unsqueeze(of_S, -2), Vh)
    left = None if of_U is None else _skew(F, F.matmul(adjoint(F, U), of_U))
    right = None if of_Vh is None else _skew(F, F.matmul(Vh, adjoint(F, of_Vh)))
    is_complex = U.dtype.kind == "c"
    if is_complex:
        parts = [F.diagonal(each, 0, -2, -1) for each in (left, right) if each is not None]
        _require_no_phase(parts[0] if len(parts) == 1 else parts[0] + parts[1], "linalg.svd")
    gaps = _gaps(F, S * S)
    rows, columns = F.unsqueeze(S, -1), F.unsqueeze(S, -2)
    inner = None if left is None else left / gaps * columns
    if right is not None:
        other = rows * (right / gaps)
        inner = other if inner is None else inner + other
    inner = _without_diagonal(F, inner)
    if of_S is not None:
        inner = inner + F.diag_embed(of_S)
    if is_complex and left is not None and right is not None:
        inner = inner + F.diag_embed(F.diagonal(left, 0, -2, -1) / (2 * S))
    pulled = F.matmul(F.matmul(U, inner), Vh)
    if of_U is not None and U.shape[-2] > k:
        outside = of_U / columns
        outside = outside - F.matmul(U, F.matmul(adjoint(F, U), outside))
        pulled = pulled + F.matmul(outside, Vh)
    if of_Vh is not None and Vh.shape[-1] > k:
        outside = of_Vh / rows
        outside = outside - F.matmul(F.matmul(outside, adjoint(F, Vh)), Vh)
        pulled = pulled + F.matmul(U, outside)
    return pulled


general(
    "linalg.svd(Tensor A, bool full_matrices=True, *, str? driver=None) -> "
    "(Tensor U, Tensor S, Tensor Vh)",
    _svd,
    _svd_slope,
    grad_fn="LinalgSvdBackward0",
    shape=lambda A, full_matrices=True, driver=None: (
        ((*A.shape[:-2], max(A.shape[-2:]), max(A.shape[-2:])) if full_matrices else A.shape)
        if A.ndim > 1
        else A.shape
    ),
    places=_LINALG,
    flops=cubic(25),
)


def _only_svdvals(A: np.ndarray, driver: str | None = None) -> Any:
    require_matrices("linalg.svdvals", A)
    require_finite("linalg.svdvals", A, "A")
    return np.linalg.svd(A, compute_uv=False)


nondiff("linalg._svdvals(Tensor A) -> Tensor", _only_svdvals, places=())
composite(
    "linalg.svdvals(Tensor A, *, str? driver=None) -> Tensor",
    lambda F, A, driver: (
        F.linalg__svd(A, False, driver)[1] if A.requires_grad else F.linalg___svdvals(A)
    ),
    kernel=_only_svdvals,
    places=_LINALG,
    flops=cubic(25),
)


def _old_svd(F: Any, self: Any, some: bool, compute_uv: bool) -> Any:
    """PyTorch's older form: V rather than its adjoint."""
    if compute_uv:
        U, S, Vh = F.linalg__svd(self, not some)
        return U, S, adjoint(F, Vh)
    require_matrices("svd", self)
    rows, columns = self.shape[-2:]
    batch = tuple(self.shape[:-2])
    return (
        F.zeros((*batch, rows, rows), dtype=self.dtype),
        F.linalg__svdvals(self),
        F.zeros((*batch, columns, columns), dtype=self.dtype),
    )


composite(
    "svd(Tensor self, bool some=True, bool compute_uv=True) -> (Tensor U, Tensor S, Tensor V)",
    _old_svd,
    flops=cubic(25),
)


def _qr(A: np.ndarray, mode: str = "reduced") -> tuple[Any, Any]:
    require_matrices("linalg.qr", A)
    if mode == "r":
        return np.empty(0, A.dtype), np.linalg.qr(A, "r")
    if mode not in ("reduced", "complete"):
        raise EngineError(
            "BAD_VALUE",
            f"linalg.qr: mode must be 'reduced', 'complete' or 'r', not {mode!r}",
            argument="mode",
        )
    Q, R = np.linalg.qr(A, "reduced" if mode == "reduced" else "complete")
    return Q, R


def _qr_slope(F: Any, gs: Any, A: Any, mode: str, Q: Any, R: Any) -> Any:
    rows, columns = A.shape[-2:]
    if mode == "r" or (mode == "complete" and rows > columns):
        raise EngineError(
            "BAD_VALUE",
            f"linalg.qr: mode={mode!r} has no derivative"
            + (" for matrices with more rows than columns" if mode == "complete" else "")
            + "; use mode='reduced'",
            argument="mode",
        )
    of_Q, of_R = gs
    if rows >= columns:
        return _tall_qr_slope(F, of_Q, of_R, Q, R)
    # The left square of A has Q and the left square of R as its own; the rest of R is Qᴴ times
    # the rest of A, by which Q has a gradient too.
    square, rest = F.slice(R, -1, 0, rows, 1), F.slice(A, -1, rows, columns, 1)
    if of_R is None:
        of_square, pulled_rest = None, F.zeros_like(rest)
    else:
        of_square = F.slice(of_R, -1, 0, rows, 1)
        of_rest = F.slice(of_R, -1, rows, columns, 1)
        pulled_rest = F.matmul(Q, of_rest)
        more = F.matmul(rest, adjoint(F, of_rest))
        of_Q = more if of_Q is None else of_Q + more
    return F.cat([_tall_qr_slope(F, of_Q, of_square, Q, square), pulled_rest], -1)


def _tall_qr_slope(F: Any, of_Q: Any, of_R: Any, Q: Any, R: Any) -> Any:
    """Walter and Lehmann (2013), Algorithmic differentiation of linear algebra functions."""
    inner = None if of_R is None else F.matmul(of_R, adjoint(F, R))
    if of_Q is not None:
        other = F.matmul(adjoint(F, Q), of_Q)
        inner = -other if inner is None else inner - other
    upper = F.triu(inner)
    both = upper + adjoint(F, F.triu(inner, 1))
    if both.dtype.kind == "c":
        # The diagonal of R is real.
        both = _without_diagonal(F, both) + F.diag_embed(
            F.to(F.real(F.diagonal(both, 0, -2, -1)), both.dtype)
        )
    pulled = F.matmul(Q, both)
    if of_Q is not None:
        pulled = pulled + of_Q
    return F.linalg__solve_triangular(adjoint(F, R), pulled, False, False)


general(
    'linalg.qr(Tensor A, str mode="reduced") -> (Tensor Q, Tensor R)',
    _qr,
    _qr_slope,
    grad_fn="LinalgQrBackward0",
    shape=lambda A, mode="reduced": (
        (*A.shape[:-2], A.shape[-2], max(A.shape[-2:])) if A.ndim > 1 else A.shape
    ),
    places=_LINALG,
    flops=cubic(25),
)
composite(
    "qr(Tensor self, bool some=True) -> (Tensor Q, Tensor R)",
    lambda F, self, some: F.linalg__qr(self, "reduced" if some else "complete"),
    flops=cubic(25),
)
