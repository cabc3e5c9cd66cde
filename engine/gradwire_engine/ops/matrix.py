"""Products of matrices and vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwire_engine.declare import bilinear, composite
from gradwire_engine.errors import EngineError


def _mismatch(op: str, a: Any, b: Any, rule: str) -> EngineError:
    return EngineError(
        "SHAPE_MISMATCH",
        f"{op}: shapes {a.shape} and {b.shape} do not fit: {rule}",
        op=op,
        shapes=f"{a.shape} and {b.shape}",
    )


def _product_shape(op: str, ranks: tuple[int, int], rule: str) -> Any:
    """The shape of a product of tensors with these ranks; batch sizes must be equal."""

    def shape(self: Any, other: Any) -> tuple[int, ...]:
        inner = other.shape[0 if other.ndim == 1 else -2] if other.ndim == ranks[1] else -1
        if (
            (self.ndim, other.ndim) != ranks
            or self.shape[-1] != inner
            or (ranks == (3, 3) and self.shape[0] != other.shape[0])
        ):
            raise _mismatch(op, self, other, rule)
        out: tuple[int, ...] = self.shape[:-1] + (other.shape[-1:] if other.ndim > 1 else ())
        return out

    return shape


def _product_flops(self: Any, other: Any) -> int:
    columns: int = other.shape[-1] if other.ndim > 1 else 1
    rows_times_inner: int = math.prod(self.shape)
    return 2 * rows_times_inner * columns + 1


def _swap(F: Any, x: Any) -> Any:
    """The matrices transposed and conjugated."""
    return F.conj(F.transpose(x, -2, -1))


def _product(
    name: str, schema: str, ranks: tuple[int, int], rule: str, adjoints: dict[str, Any]
) -> None:
    bilinear(
        schema,
        np.matmul,
        adjoints,
        promotion="same",
        shape=_product_shape(name, ranks, rule),
        flops=_product_flops,
    )


_product(
    "mm",
    "mm(Tensor self, Tensor mat2) -> Tensor",
    (2, 2),
    "expected (n, k) and (k, m)",
    {
        "self": lambda F, g, mat2: F.mm(g, _swap(F, mat2)),
        "mat2": lambda F, g, self: F.mm(_swap(F, self), g),
    },
)
_product(
    "bmm",
    "bmm(Tensor self, Tensor mat2) -> Tensor",
    (3, 3),
    "expected (b, n, k) and (b, k, m)",
    {
        "self": lambda F, g, mat2: F.bmm(g, _swap(F, mat2)),
        "mat2": lambda F, g, self: F.bmm(_swap(F, self), g),
    },
)
_product(
    "mv",
    "mv(Tensor self, Tensor vec) -> Tensor",
    (2, 1),
    "expected (n, k) and (k,)",
    {
        "self": lambda F, g, vec: F.unsqueeze(g, 1) * F.conj(F.unsqueeze(vec, 0)),
        "vec": lambda F, g, self: F.mv(_swap(F, self), g),
    },
)
_product(
    "dot",
    "dot(Tensor self, Tensor tensor) -> Tensor",
    (1, 1),
    "expected two vectors of one length",
    {
        "self": lambda F, g, tensor: g * F.conj(tensor),
        "tensor": lambda F, g, self: g * F.conj(self),
    },
)


def _scaled(value: Any, factor: Any) -> Any:
    return value if factor == 1 else value * factor


def _conjugate(factor: Any) -> Any:
    return factor.conjugate() if isinstance(factor, complex) else factor


def _add_product(self: Any, a: Any, b: Any, beta: Any = 1, alpha: Any = 1) -> Any:
    if self.dtype.kind in "iu":
        beta, alpha = int(beta), int(alpha)
    product = _scaled(np.matmul(a, b), alpha)
    # beta = 0 ignores self, NaN included.
    return product if beta == 0 else np.add(product, _scaled(self, beta))


def _require_broadcasts(op: str, self: Any, out: tuple[int, ...]) -> None:
    try:
        fits = np.broadcast_shapes(self.shape, out) == out
    except ValueError:
        fits = False
    if not fits:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: a tensor of shape {self.shape} does not broadcast to the product's {out}",
            argument="self",
            shape=self.shape,
            product_shape=out,
        )


def _add_product_shape(op: str, ranks: tuple[int, int], rule: str) -> Any:
    product = _product_shape(op, ranks, rule)

    def shape(self: Any, a: Any, b: Any, beta: Any = 1, alpha: Any = 1) -> tuple[int, ...]:
        out: tuple[int, ...] = product(a, b)
        _require_broadcasts(op, self, out)
        return out

    return shape


def _add_product_flops(self: Any, a: Any, b: Any, beta: Any, alpha: Any) -> int:
    return _product_flops(a, b)


def _beta_part(F: Any, g: Any, beta: Any) -> Any:
    return _scaled(g, _conjugate(beta))


def _turned_gradient(F: Any, g: Any, mat1: Any) -> Any:
    """The gradient by a product's second matrix, laid out by columns.

    For the transpose of a weight: that of the gradient then is laid out by rows, as the weight is.
    """
    return _swap(F, F.mm(_swap(F, g), mat1))


def _addmm(name: str, mat2: Any, **options: Any) -> None:
    bilinear(
        f"{name}(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1) "
        "-> Tensor",
        _add_product,
        {
            "self": _beta_part,
            "mat1": lambda F, g, mat2, alpha: _scaled(F.mm(g, _swap(F, mat2)), _conjugate(alpha)),
            "mat2": mat2,
        },
        promotion="same",
        shape=_add_product_shape("addmm", (2, 2), "expected (n, k) and (k, m)"),
        flops=_add_product_flops,
        **options,
    )


_addmm(
    "addmm",
    lambda F, g, mat1, alpha: _scaled(F.mm(_swap(F, mat1), g), _conjugate(alpha)),
    in_place=True,
)
_addmm(
    "_addmm_turned",
    lambda F, g, mat1, alpha: _scaled(_turned_gradient(F, g, mat1), _conjugate(alpha)),
    grad_fn="AddmmBackward0",
    places=(),
)
bilinear(
    "baddbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, "
    "Scalar alpha=1) -> Tensor",
    _add_product,
    {
        "self": _beta_part,
        "batch1": lambda F, g, batch2, alpha: _scaled(
            F.bmm(g, _swap(F, batch2)), _conjugate(alpha)
        ),
        "batch2": lambda F, g, batch1, alpha: _scaled(
            F.bmm(_swap(F, batch1), g), _conjugate(alpha)
        ),
    },
    promotion="same",
    shape=_add_product_shape("baddbmm", (3, 3), "expected (b, n, k) and (b, k, m)"),
    flops=_add_product_flops,
)


bilinear(
    "addmv(Tensor self, Tensor mat, Tensor vec, *, Scalar beta=1, Scalar alpha=1) -> Tensor",
    _add_product,
    {
        "self": _beta_part,
        "mat": lambda F, g, vec, alpha: _scaled(
            F.unsqueeze(g, 1) * F.conj(F.unsqueeze(vec, 0)), _conjugate(alpha)
        ),
        "vec": lambda F, g, mat, alpha: _scaled(F.mv(_swap(F, mat), g), _conjugate(alpha)),
    },
    promotion="same",
    shape=_add_product_shape("addmv", (2, 1), "expected (n, k) and (k,)"),
    in_place=True,
    flops=_add_product_flops,
)


def _sum_of_products(self: Any, a: Any, b: Any, beta: Any = 1, alpha: Any = 1) -> Any:
    if self.dtype.kind in "iu":
        beta, alpha = int(beta), int(alpha)
    total = _scaled(np.add.reduce(np.matmul(a, b), axis=0, dtype=a.dtype), alpha)
    return total if beta == 0 else np.add(total, _scaled(self, beta))


def _sum_of_products_shape(self: Any, a: Any, b: Any, *rest: Any) -> tuple[int, ...]:
    out = _product_shape("addbmm", (3, 3), "expected (b, n, k) and (b, k, m)")(a, b)
    _require_broadcasts("addbmm", self, out[1:])
    return tuple(out)


def _for_each(F: Any, g: Any, count: int) -> Any:
    return F.expand(F.unsqueeze(g, 0), (count, *g.shape))


bilinear(
    "addbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1) -> Tensor",
    _sum_of_products,
    {
        "self": _beta_part,
        "batch1": lambda F, g, batch2, alpha: _scaled(
            F.bmm(_for_each(F, g, batch2.shape[0]), _swap(F, batch2)), _conjugate(alpha)
        ),
        "batch2": lambda F, g, batch1, alpha: _scaled(
            F.bmm(_swap(F, batch1), _for_each(F, g, batch1.shape[0])), _conjugate(alpha)
        ),
    },
    promotion="same",
    shape=_sum_of_products_shape,
    in_place=True,
)


def _add_outer(self: Any, a: Any, b: Any, beta: Any = 1, alpha: Any = 1) -> Any:
    product = np.multiply.outer(a, b)
    if self.dtype.kind == "b":
        product = product & bool(alpha)
        return product if not beta else product | self
    return _add_scaled(self, product, beta, alpha)


def _add_scaled(self: Any, product: Any, beta: Any, alpha: Any) -> Any:
    if self.dtype.kind in "iu":
        beta, alpha = int(beta), int(alpha)
    product = _scaled(product, alpha)
    return product if beta == 0 else np.add(product, _scaled(self, beta))


def _add_outer_shape(self: Any, vec1: Any, vec2: Any, *rest: Any) -> tuple[int, ...]:
    if vec1.ndim != 1 or vec2.ndim != 1:
        raise _mismatch("addr", vec1, vec2, "expected two vectors")
    out = (*vec1.shape, *vec2.shape)
    _require_broadcasts("addr", self, out)
    return out


bilinear(
    "addr(Tensor self, Tensor vec1, Tensor vec2, *, Scalar beta=1, Scalar alpha=1) -> Tensor",
    _add_outer,
    {
        "self": _beta_part,
        "vec1": lambda F, g, vec2, alpha: _scaled(F.mv(g, F.conj(vec2)), _conjugate(alpha)),
        "vec2": lambda F, g, vec1, alpha: _scaled(F.mv(F.t(g), F.conj(vec1)), _conjugate(alpha)),
    },
    promotion="same",
    shape=_add_outer_shape,
    in_place=True,
)


def _matmul(F: Any, self: Any, other: Any) -> Any:
    """PyTorch's cases: the graph shows mm, mv, dot or bmm."""
    a, b = len(self.shape), len(other.shape)
    if a == 0 or b == 0:
        raise _mismatch("matmul", self, other, "both need at least one dimension")
    if a == 1 and b == 1:
        return F.dot(self, other)
    if a == 2 and b == 1:
        return F.mv(self, other)
    if a == 1 and b == 2:
        return F._squeeze_result(F.mm(F.unsqueeze(self, 0), other), 0)
    if a == 2 and b == 2:
        return F.mm(self, other)
    if self.shape[-1] != other.shape[0 if b == 1 else -2]:
        raise _mismatch("matmul", self, other, "the inner sizes must be equal")
    if _folds(self, other):
        return _folded(F, self, other)
    return _batched(F, self, other)


def _folds(self: Any, other: Any) -> bool:
    """Whether the larger tensor is taken as one matrix of all its rows (or columns)."""
    a, b = len(self.shape), len(other.shape)
    if min(a, b) > 2:
        return False
    if (other if a >= b else self).requires_grad:
        # Batched, its gradient would be a batch of matrices first, to be summed.
        return True
    if a == 2:
        return False
    larger = self.data if a >= b else other.data.swapaxes(-2, -1)
    strides = zip(larger.strides, larger.strides[1:-1], larger.shape[1:-1], strict=False)
    return larger.size == 0 or all(outer == inner * size for outer, inner, size in strides)


def _folded(F: Any, self: Any, other: Any) -> Any:
    """Many matrices by one: a single product of the rows of all."""
    turned = len(other.shape) > len(self.shape)
    many, one = self, other
    if turned:
        many = F.transpose(other, -2, -1)
        one = F.t(self) if len(self.shape) == 2 else self
    rows = F.reshape(many, (math.prod(many.shape[:-1]), many.shape[-1]))
    if len(one.shape) == 1:
        return F._unsafe_view(F.mv(rows, one), many.shape[:-1])
    product = F._unsafe_view(F.mm(rows, one), (*many.shape[:-1], one.shape[-1]))
    if not turned:
        return product
    product = F.transpose(product, -2, -1)
    return product if product.data.flags.c_contiguous else F.clone(product)


def _batched(F: Any, self: Any, other: Any) -> Any:
    a, b = len(self.shape), len(other.shape)
    if a == b == 3 and self.shape[0] != other.shape[0]:
        # A batch of one is no batch: folding keeps its gradient small.
        if self.shape[0] == 1 and self.requires_grad:
            return F.matmul(F.squeeze(self, (0,)), other)
        if other.shape[0] == 1 and other.requires_grad:
            return F.matmul(self, F.squeeze(other, (0,)))
    try:
        batch = np.broadcast_shapes(self.shape[:-2], other.shape[:-2])
    except ValueError:
        raise _mismatch("matmul", self, other, "the batch dimensions do not broadcast") from None
    count = math.prod(batch)
    rows = self.shape[-2:-1]
    matrix = (*rows, self.shape[-1]) if rows else (1, self.shape[-1])
    left = F.reshape(F.expand(self, (*batch, *matrix)), (count, *matrix))
    if b == 1:
        right = F.expand(other, (*batch, *other.shape))
        right = F.unsqueeze(F.reshape(right, (count, *other.shape)), 2)
        return F._unsafe_view(F.squeeze(F.bmm(left, right), (-1,)), (*batch, *rows))
    right = F.expand(other, (*batch, *other.shape[-2:]))
    right = F.reshape(right, (count, *other.shape[-2:]))
    return F._unsafe_view(F.bmm(left, right), (*batch, *rows, other.shape[-1]))


composite(
    "matmul(Tensor self, Tensor other) -> Tensor",
    _matmul,
    kernel=np.matmul,
    flops=_product_flops,
    places=("torch", "Tensor", "linalg"),
)


def _linear(F: Any, input: Any, weight: Any, bias: Any) -> Any:
    turned = F.t(weight)
    if bias is None:
        return F.matmul(input, turned)
    if len(weight.shape) == 2 and len(input.shape) == 2:
        return F._addmm_turned(bias, input, turned)
    if len(weight.shape) == 2 and len(input.shape) and input.data.flags.c_contiguous:
        rows = F.reshape(input, (math.prod(input.shape[:-1]), input.shape[-1]))
        return F.view(F._addmm_turned(bias, rows, turned), (*input.shape[:-1], weight.shape[0]))
    return F.add(F.matmul(input, turned), bias)


composite(
    "linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor",
    _linear,
    places=("nn.functional",),
)


def _outer(F: Any, self: Any, vec2: Any) -> Any:
    if len(self.shape) != 1 or len(vec2.shape) != 1:
        raise _mismatch("outer", self, vec2, "expected two vectors")
    return F.reshape(self, (self.shape[0], 1)) * vec2


composite("outer(Tensor self, Tensor vec2) -> Tensor", _outer)
