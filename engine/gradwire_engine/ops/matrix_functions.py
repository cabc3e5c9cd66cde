"""Functions of whole matrices: powers, exponential, pseudoinverse, rank, reflections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import linalg

from gradwire_engine.declare import composite, general, nondiff
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims
from gradwire_engine.ops.matrices import (
    adjoint,
    cubic,
    raw_adjoint,
    require_finite,
    require_matrices,
)

_LINALG = ("linalg",)


def _square_flops(self: Any, *rest: Any) -> int:
    """Of a tensor that is taken as a square matrix."""
    return math.isqrt(math.prod(self.shape)) ** 3 + 1


def _matrix_power(F: Any, self: Any, n: int) -> Any:
    require_matrices("linalg.matrix_power", self, square=True)
    if n == 0:
        return F.copy_(F.clone(self), F.eye(self.shape[-1], dtype=self.dtype))
    base = F.linalg__inv(self) if n < 0 else self
    left = abs(n)
    if left == 1:
        return base if n < 0 else F.clone(base)
    if left == 3:
        return F.matmul(F.matmul(base, base), base)
    power, result = None, None
    while left:
        power = base if power is None else F.matmul(power, power)
        if left % 2:
            result = power if result is None else F.matmul(result, power)
        left //= 2
    return result


composite(
    "linalg.matrix_power(Tensor self, int n) -> Tensor",
    _matrix_power,
    flops=cubic(25),
    places=_LINALG,
)
composite(
    "matrix_power(Tensor self, int n) -> Tensor",
    lambda F, self, n: F.linalg__matrix_power(self, n),
    flops=cubic(25),
)


def _matrix_exp(self: np.ndarray) -> Any:
    if self.dtype == np.float16:
        return _matrix_exp(self.astype(np.float32)).astype(np.float16)
    require_matrices("linalg.matrix_exp", self, square=True)
    return linalg.expm(self).astype(self.dtype, copy=False) if self.size else self.copy()


def _matrix_exp_slope(F: Any, g: Any, self: Any) -> Any:
    """The upper right block of exp([[Aᴴ, g], [0, Aᴴ]]) (Mathias 1996, theorem 2.1)."""
    turned = adjoint(F, self)
    n = self.shape[-1]
    upper, lower = F.cat([turned, g], -1), F.cat([F.zeros_like(g), turned], -1)
    whole = F.linalg__matrix_exp(F.cat([upper, lower], -2))
    return F.slice(F.slice(whole, -2, 0, n, 1), -1, n, 2 * n, 1)


general(
    "linalg.matrix_exp(Tensor self) -> Tensor",
    _matrix_exp,
    _matrix_exp_slope,
    grad_fn="LinalgMatrixExpBackward0",
    places=_LINALG,
    flops=cubic(25),
)
composite(
    "matrix_exp(Tensor self) -> Tensor", lambda F, self: F.linalg__matrix_exp(self), flops=cubic(25)
)


def _multi_dot(F: Any, tensors: Sequence[Any]) -> Any:
    if len(tensors) < 2 or any(each is None for each in tensors):
        raise EngineError(
            "BAD_VALUE", "linalg.multi_dot: needs at least two tensors", argument="tensors"
        )
    chain = list(tensors)
    shape: list[int] = []
    for at, place in ((0, 0), (-1, 1)):
        if len(chain[at].shape) == 1:
            chain[at] = F.unsqueeze(chain[at], place)
        elif chain[at].shape:
            shape.append(chain[at].shape[-1 if at else 0])
    if any(len(each.shape) != 2 for each in chain) or any(
        a.shape[1] != b.shape[0] for a, b in pairwise(chain)
    ):
        text = ", ".join(str(each.shape) for each in tensors)
        raise EngineError(
            "SHAPE_MISMATCH",
            f"linalg.multi_dot: shapes {text} are no chain of matrices; the first and the last "
            "may be vectors",
            argument="tensors",
            shapes=text,
        )
    return F.view(_in_best_order(F, chain), tuple(shape))


# The search for the best order takes time of the third power.
_LONGEST_PLANNED = 64


def _in_best_order(F: Any, chain: list[Any]) -> Any:
    """The product of a chain, associated so that it takes the fewest multiplications."""
    n = len(chain)
    sizes = [chain[0].shape[0], *(each.shape[1] for each in chain)]
    if n == 3:
        # Of two orders that cost the same, from the left as in PyTorch.
        a, b, c, d = sizes
        if a * c * (b + d) <= b * d * (a + c):
            return F.mm(F.mm(chain[0], chain[1]), chain[2])
    if n > _LONGEST_PLANNED:
        total = chain[0]
        for each in chain[1:]:
            total = F.mm(total, each)
        return total
    cost = {(i, i): 0 for i in range(n)}
    cut: dict[tuple[int, int], int] = {}
    for length in range(2, n + 1):
        for i in range(n - length + 1):
            j = i + length - 1
            options = [
                cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1]
                for k in range(i, j)
            ]
            cost[i, j] = min(options)
            cut[i, j] = i + options.index(cost[i, j])
    made: dict[tuple[int, int], Any] = {(i, i): each for i, each in enumerate(chain)}
    waiting = [(0, n - 1)]
    while waiting:
        i, j = waiting[-1]
        if (i, j) in made:
            waiting.pop()
            continue
        parts = ((i, cut[i, j]), (cut[i, j] + 1, j))
        missing = [part for part in parts if part not in made]
        if missing:
            waiting += missing[::-1]
        else:
            made[i, j] = F.mm(*(made[part] for part in parts))
    return made[0, n - 1]


composite("linalg.multi_dot(Tensor[] tensors) -> Tensor", _multi_dot, places=_LINALG)


def _cutoff(values: Any, rows: int, columns: int, atol: Any, rtol: Any) -> Any:
    """Below which singular values count as zero, as PyTorch's defaults have it."""
    atol, rtol = (
        each[..., None] if isinstance(each, np.ndarray) else each for each in (atol, rtol)
    )
    top = np.max(np.abs(values), -1, keepdims=True, initial=0)
    if rtol is None:
        usual = max(rows, columns) * float(np.finfo(values.dtype).eps)
        rtol = usual if atol is None else np.where(np.asarray(atol) > 0, 0.0, usual)
    return np.maximum(0.0 if atol is None else atol, rtol * top)


def _pinv(self: np.ndarray, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Any:
    require_matrices("linalg.pinv", self, square=hermitian)
    require_finite("linalg.pinv", self)
    rows, columns = self.shape[-2:]
    if not self.size:
        return np.zeros((*self.shape[:-2], columns, rows), self.dtype)
    if hermitian:
        values, vectors = np.linalg.eigh(self)
        left, right = vectors, raw_adjoint(vectors)
    else:
        U, values, Vh = np.linalg.svd(self, False)
        left, right = raw_adjoint(Vh), raw_adjoint(U)
    kept = np.abs(values) > _cutoff(values, rows, columns, atol, rtol)
    inverse = np.where(kept, 1 / np.where(kept, values, 1), 0).astype(values.dtype)
    return np.matmul(left * inverse[..., None, :], right)


def _pinv_slope(F: Any, g: Any, self: Any, result: Any) -> Any:
    """Golub and Pereyra (1973), The differentiation of pseudo-inverses."""
    turned, gh = adjoint(F, result), adjoint(F, g)
    if self.shape[-2] <= self.shape[-1]:
        K = F.matmul(gh, result)
        Kt = F.matmul(K, turned)
        rest = F.matmul(F.matmul(turned, result), gh - F.matmul(K, self))
        return Kt - adjoint(F, F.matmul(result, K)) - F.matmul(F.matmul(self, result), Kt) + rest
    K = F.matmul(result, gh)
    tK = F.matmul(turned, K)
    rest = F.matmul(F.matmul(gh - F.matmul(self, K), result), turned)
    return tK - adjoint(F, F.matmul(K, result)) - F.matmul(F.matmul(tK, result), self) + rest


general(
    "linalg.pinv(Tensor self, *, Tensor? atol=None, Tensor? rtol=None, bool hermitian=False)"
    " -> Tensor",
    _pinv,
    {"self": _pinv_slope},
    numbers=("atol", "rtol"),
    grad_fn="LinalgPinvBackward0",
    places=_LINALG,
    flops=cubic(25),
)
composite(
    "pinverse(Tensor self, float rcond=1e-15) -> Tensor",
    lambda F, self, rcond: F.linalg__pinv(self, None, rcond),
    flops=cubic(25),
)


def _matrix_rank(
    self: np.ndarray, atol: Any = None, rtol: Any = None, hermitian: bool = False
) -> Any:
    require_matrices("linalg.matrix_rank", self, square=hermitian)
    require_finite("linalg.matrix_rank", self)
    if not self.size:
        return np.zeros(self.shape[:-2], np.int64)
    values = np.linalg.eigvalsh(self) if hermitian else np.linalg.svd(self, compute_uv=False)
    return np.count_nonzero(
        np.abs(values) > _cutoff(values, self.shape[-2], self.shape[-1], atol, rtol), -1
    )


nondiff(
    "linalg.matrix_rank(Tensor self, *, Tensor? atol=None, Tensor? rtol=None, "
    "bool hermitian=False) -> Tensor",
    _matrix_rank,
    numbers=("atol", "rtol"),
    places=_LINALG,
    flops=cubic(25),
)


def _cond(F: Any, self: Any, p: Any) -> Any:
    require_matrices("linalg.cond", self, square=p not in (None, 2, -2))
    if p in (None, 2, -2):
        values = F.linalg__svdvals(self)
        k = values.shape[-1]
        first, last = F.slice(values, -1, 0, 1, 1), F.slice(values, -1, k - 1, k, 1)
        return F.squeeze(last / first if p == -2 else first / last, (-1,))
    return F.linalg__matrix_norm(self, p) * F.linalg__matrix_norm(F.linalg__inv(self), p)


composite(
    "linalg.cond(Tensor self, Order? p=None) -> Tensor",
    _cond,
    flops=cubic(25),
    places=_LINALG,
)


def _tensorsolve(F: Any, self: Any, other: Any, dims_: Sequence[int] | None) -> Any:
    if dims_:
        moved = tuple(dims.one(each, len(self.shape)) for each in dims_)
        rest = tuple(at for at in range(len(self.shape)) if at not in moved)
        self = F.permute(self, (*rest, *moved))
    shape = tuple(self.shape[len(other.shape) :])
    rows = math.prod(other.shape)
    if math.prod(shape) != rows or math.prod(self.shape) != rows * rows:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"linalg.tensorsolve: a tensor of shape {self.shape} is no square system for "
            f"{other.shape}",
            argument="self",
            shapes=f"{self.shape} and {other.shape}",
        )
    flat = F.reshape(other, (rows,))
    return F.reshape(F.linalg__solve(F.reshape(self, (rows, rows)), flat), shape)


composite(
    "linalg.tensorsolve(Tensor self, Tensor other, int[]? dims=None) -> Tensor",
    _tensorsolve,
    places=_LINALG,
    flops=_square_flops,
)


def _tensorinv(F: Any, self: Any, ind: int) -> Any:
    head, tail = tuple(self.shape[:ind]), tuple(self.shape[max(ind, 0) :])
    if ind < 1 or math.prod(head) != math.prod(tail):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"linalg.tensorinv: shape {self.shape} divided after {ind} dimensions is not square",
            argument="ind",
            shape=self.shape,
        )
    n = math.prod(head)
    return F.reshape(F.linalg__inv(F.reshape(self, (n, n))), (*tail, *head))


composite(
    "linalg.tensorinv(Tensor self, int ind=2) -> Tensor",
    _tensorinv,
    flops=_square_flops,
    places=_LINALG,
)


def _vander(F: Any, x: Any, N: int | None) -> Any:
    if not x.shape and N is None:
        raise EngineError("SHAPE_MISMATCH", "linalg.vander: a 0-d tensor needs N", argument="N")
    if N is not None and N <= 1:
        raise EngineError("BAD_VALUE", f"linalg.vander: N must be more than 1, not {N}")
    if x.dtype.kind in "iub":
        x = F.to(x, np.dtype(np.int64))
    n = x.shape[-1] if N is None else N
    if not x.shape:
        x = F.unsqueeze(x, -1)
    return _powers(F, x, n)


def _powers(F: Any, x: Any, n: int) -> Any:
    column = F.unsqueeze(x, -1)
    powers = F.cumprod(F.expand(column, (*x.shape, n - 1)), -1)
    return F.cat([F.ones_like(column), powers], -1)


composite("linalg.vander(Tensor x, *, int? N=None) -> Tensor", _vander, places=_LINALG)


def _reflected(input: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """The product of the reflections I - tau v vᴴ, from the last one on, of its first columns."""
    rows, columns = input.shape[-2:]
    out = np.broadcast_to(np.eye(rows, columns, dtype=input.dtype), input.shape).copy()
    for i in range(tau.shape[-1] - 1, -1, -1):
        v = input[..., i:, i].copy()
        v[..., 0] = 1
        part = out[..., i:, :]
        along = np.matmul(v[..., None, :].conj(), part)
        part -= tau[..., i, None, None] * v[..., :, None] * along
    return out


def _householder_shape(input: np.ndarray, tau: np.ndarray) -> tuple[int, ...]:
    require_matrices("linalg.householder_product", input)
    rows, columns = input.shape[-2:]
    fits = (
        rows >= columns
        and tau.ndim == input.ndim - 1
        and tau.shape[:-1] == input.shape[:-2]
        and tau.shape[-1] <= columns
        and tau.dtype == input.dtype
    )
    if not fits:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"linalg.householder_product: {input.dtype} reflections of shape {input.shape} and "
            f"{tau.dtype} factors of shape {tau.shape} do not fit",
            argument="tau",
            shapes=f"{input.shape} and {tau.shape}",
        )
    return tuple(input.shape)


def _reflections(F: Any, input: Any, tau: Any) -> tuple[Any, list[Any], list[Any]]:
    """The vectors of the reflections, and the product from each one on."""
    k = tau.shape[-1]
    columns = F.tril(F.slice(input, -1, 0, k, 1), -1)
    columns = columns + F.eye(input.shape[-2], k, dtype=input.dtype)
    vectors = [F.slice(columns, -1, i, i + 1, 1) for i in range(k)]
    factors = [F.unsqueeze(F.slice(tau, -1, i, i + 1, 1), -1) for i in range(k)]
    eye = F.eye(*input.shape[-2:], dtype=input.dtype)
    after = [F.expand(eye, input.shape)]
    for v, t in zip(vectors[::-1], factors[::-1], strict=True):
        after.append(after[-1] - t * F.matmul(v, F.matmul(adjoint(F, v), after[-1])))
    return vectors, factors, after[::-1]


def _by_reflections(F: Any, g: Any, input: Any, tau: Any, of_tau: bool) -> Any:
    if not tau.shape[-1]:
        return None
    vectors, factors, after = _reflections(F, input, tau)
    pulled: list[Any] = []
    for i, (v, t) in enumerate(zip(vectors, factors, strict=True)):
        rest, turned = after[i + 1], adjoint(F, v)
        # H = I - t v vᴴ with H rest = after[i]: the gradient of H is g restᴴ.
        gv, rv = F.matmul(adjoint(F, rest), v), F.matmul(turned, g)
        if of_tau:
            pulled.append(-F.matmul(rv, gv))
        else:
            pulled.append(-F.conj(t) * F.matmul(g, gv) - t * F.matmul(rest, adjoint(F, rv)))
        g = g - F.conj(t) * F.matmul(v, rv)
    if of_tau:
        return F.squeeze(F.cat(pulled, -1), (-2,))
    whole = F.tril(F.cat(pulled, -1), -1)
    if len(pulled) < input.shape[-1]:
        whole = F.slice_backward(whole, input.shape, -1, 0, len(pulled), 1)
    return whole


general(
    "linalg.householder_product(Tensor input, Tensor tau) -> Tensor",
    _reflected,
    {
        "input": lambda F, g, input, tau: _by_reflections(F, g, input, tau, False),
        "tau": lambda F, g, input, tau: _by_reflections(F, g, input, tau, True),
    },
    grad_fn="LinalgHouseholderProductBackward0",
    shape=_householder_shape,
    places=_LINALG,
    flops=cubic(25),
)
