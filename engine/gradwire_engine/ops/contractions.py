"""Sums of products over named or numbered dimensions, lowered to matrix products: einsum, kron."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import bilinear, composite
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims

_TORCH = ("torch",)
_LETTERS = string.ascii_uppercase + string.ascii_lowercase
_ELLIPSIS = "."


def _refused(equation: str, why: str) -> EngineError:
    return EngineError(
        "BAD_VALUE", f"einsum: {why} in {equation!r}", argument="equation", equation=equation
    )


def _terms(equation: str) -> tuple[list[str], str | None]:
    """The labels of each operand, `.` for an ellipsis, and those of the result if it is given."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = [*left.split(","), *([right] if arrow else [])]
    labels = []
    for part in parts:
        text = part.replace("...", _ELLIPSIS, 1)
        wrong = [each for each in text if each not in _LETTERS and each != _ELLIPSIS]
        if wrong or text.count(_ELLIPSIS) > 1 or (_ELLIPSIS in text and "..." not in part):
            raise _refused(equation, f"subscripts are letters and one '...', not {part!r}")
        labels.append(text)
    return (labels[:-1], labels[-1]) if arrow else (labels, None)


def _implied_result(terms: Sequence[str]) -> str:
    """Labels that stand once, in alphabetical order; dimensions of an ellipsis come first."""
    joined = "".join(terms)
    ellipsis = _ELLIPSIS if _ELLIPSIS in joined else ""
    return ellipsis + "".join(each for each in _LETTERS if joined.count(each) == 1)


def _check_terms(equation: str, terms: Sequence[str], result: str, tensors: Sequence[Any]) -> int:
    """How many dimensions the ellipsis stands for."""
    if len(terms) != len(tensors) or any(each is None for each in tensors):
        raise _refused(equation, f"{len(terms)} operands are named and {len(tensors)} given,")
    covered = 0
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms, tensors, strict=True):
        named = len(term.replace(_ELLIPSIS, ""))
        rank = len(tensor.shape)
        if rank < named or (rank > named and _ELLIPSIS not in term):
            raise _refused(equation, f"{term!r} does not name the dimensions of {tensor.shape}")
        covered = max(covered, rank - named)
        at = 0
        for label in term:
            if label == _ELLIPSIS:
                at += rank - named
                continue
            size = tensor.shape[at]
            known = sizes.get(label, 1)
            if size != 1 and known not in (1, size):
                raise _refused(equation, f"label {label!r} has sizes {known} and {size}")
            sizes[label] = max(known, size) if size and known else 0
            at += 1
    names = result.replace(_ELLIPSIS, "")
    if len(set(result)) != len(result) or any(each not in sizes for each in names):
        raise _refused(equation, f"the result {result!r} names labels twice, or none of an operand")
    return covered


def _einsum(F: Any, equation: str, tensors: Sequence[Any], path: Sequence[int] | None) -> Any:
    terms, given = _terms(equation)
    result = _implied_result(terms) if given is None else given
    covered = _check_terms(equation, terms, result, tensors)
    joined = "".join(terms)
    # Every label gets a place: those of the result first, then those to sum over.
    places: dict[str, int] = {}
    count = 0
    for label in result:
        places[label] = count
        count += covered if label == _ELLIPSIS else 1
    kept = count
    summed = [*(each for each in _LETTERS if each in joined), _ELLIPSIS]
    for label in summed:
        if label not in places and label in joined:
            places[label] = count
            count += covered if label == _ELLIPSIS else 1
    aligned = [
        _aligned(F, tensor, term, places, covered, count)
        for term, tensor in zip(terms, tensors, strict=True)
    ]
    total = _contracted(F, aligned, kept, count)
    if count == kept:
        return total
    if len(tensors) > 1:
        return F.view(total, tuple(total.shape[:kept]))
    return F.sum(total, tuple(range(kept, count)))


def _aligned(
    F: Any, tensor: Any, term: str, places: dict[str, int], covered: int, count: int
) -> Any:
    """The operand with a dimension for every place; a label that repeats is a diagonal."""
    rank = len(tensor.shape)
    order = [-1] * count
    dim = 0
    for label in term:
        place = places[label]
        if label == _ELLIPSIS:
            for _ in range(covered - (rank - len(term) + 1)):
                tensor = F.unsqueeze(tensor, dim)
            for nr in range(covered):
                order[place + nr] = dim
                dim += 1
        elif order[place] != -1:
            tensor = F.movedim(F.diagonal(tensor, 0, order[place], dim), (-1,), (order[place],))
        else:
            order[place] = dim
            dim += 1
    for place, at in enumerate(order):
        if at == -1:
            tensor = F.unsqueeze(tensor, dim)
            order[place] = dim
            dim += 1
    return F.permute(tensor, tuple(order))


def _contracted(F: Any, operands: list[Any], kept: int, count: int) -> Any:
    """The product of all, from left to right, summed over places as soon as nobody needs them."""
    uses = [sum(each.shape[place] != 1 for each in operands) for place in range(count)]
    total, *rest = operands
    for other in rest:
        together: list[int] = []
        left: list[int] = []
        right: list[int] = []
        for place in range(kept, count):
            if total.shape[place] != 1 and other.shape[place] != 1:
                uses[place] -= 1
                if uses[place] == 1:
                    together.append(place)
                    uses[place] = 0
            elif uses[place] == 1 and total.shape[place] != 1:
                left.append(place)
                uses[place] = 0
            elif uses[place] == 1 and other.shape[place] != 1:
                right.append(place)
                uses[place] = 0
        if left:
            total = F.sum(total, tuple(left), True)
        if right:
            other = F.sum(other, tuple(right), True)
        total = _product(F, total, other, together)
    return total


def _product(F: Any, left: Any, right: Any, summed: Sequence[int]) -> Any:
    """The product summed over places, as one batched product of matrices; places stay as 1."""
    if not summed:
        return left * right
    both: list[int] = []
    lefts: list[int] = []
    rights: list[int] = []
    for place in range(len(left.shape)):
        if place in summed:
            continue
        in_left, in_right = left.shape[place] != 1, right.shape[place] != 1
        (both if in_left and in_right else lefts if in_left else rights).append(place)
    if lefts and rights and rights[-1] < lefts[0]:
        # The product has then its memory in the order of the result.
        left, right, lefts, rights = right, left, rights, lefts
    shape = (
        *(left.shape[each] for each in (*both, *lefts)),
        *(1 for _ in summed),
        *(right.shape[each] for each in rights),
    )
    batch = math.prod(left.shape[each] for each in both)
    rows = math.prod(left.shape[each] for each in lefts)
    columns = math.prod(right.shape[each] for each in rights)
    inner = math.prod(left.shape[each] for each in summed)
    a = F.permute(left, (*both, *lefts, *summed, *rights))
    b = F.permute(right, (*both, *summed, *rights, *lefts))
    product = F.bmm(F.reshape(a, (batch, rows, inner)), F.reshape(b, (batch, inner, columns)))
    order = [*both, *lefts, *summed, *rights]
    return F.permute(F.view(product, shape), tuple(order.index(at) for at in range(len(order))))


composite(
    "einsum(str equation, Tensor[] tensors, *, int[]? path=None) -> Tensor",
    _einsum,
    places=_TORCH,
)


def _tensordot(
    F: Any, self: Any, other: Any, dims_self: Sequence[int], dims_other: Sequence[int]
) -> Any:
    ours = [dims.one(each, len(self.shape)) for each in dims_self]
    theirs = [dims.one(each, len(other.shape)) for each in dims_other]
    if len(ours) != len(theirs) or len(set(ours)) != len(ours) or len(set(theirs)) != len(theirs):
        raise EngineError(
            "BAD_VALUE",
            f"tensordot: dims_self={list(dims_self)} and dims_other={list(dims_other)} must name "
            "as many dimensions, each once",
            argument="dims_self",
        )
    for a, b in zip(ours, theirs, strict=True):
        if self.shape[a] != other.shape[b] and 1 not in (self.shape[a], other.shape[b]):
            raise EngineError(
                "SHAPE_MISMATCH",
                f"tensordot: dimension {a} of shape {self.shape} and dimension {b} of shape "
                f"{other.shape} differ in size",
                argument="other",
                shapes=f"{self.shape} and {other.shape}",
            )
        if other.shape[b] == 1 and self.shape[a] != 1:
            self = F.sum(self, (a,), True, self.dtype)
        elif self.shape[a] == 1 and other.shape[b] != 1:
            other = F.sum(other, (b,), True, other.dtype)
    free_self = [at for at in range(len(self.shape)) if at not in ours]
    free_other = [at for at in range(len(other.shape)) if at not in theirs]
    shape = (*(self.shape[at] for at in free_self), *(other.shape[at] for at in free_other))
    rows = math.prod(self.shape[at] for at in free_self)
    columns = math.prod(other.shape[at] for at in free_other)
    inner = math.prod(self.shape[at] for at in ours)
    a = F.permute(self, (*free_self, *ours))
    b = F.permute(other, (*theirs, *free_other))
    if rows == columns == 1:
        if a.data.flags.c_contiguous and b.data.flags.c_contiguous:
            flat = [x if len(x.shape) == 1 else F.reshape(x, (inner,)) for x in (a, b)]
            return F.view(F.dot(*flat), shape)
        return F.view(F.sum(F.squeeze(a) * F.squeeze(b), dtype=a.dtype), shape)
    return F.view(F.mm(F.reshape(a, (rows, inner)), F.reshape(b, (inner, columns))), shape)


composite(
    "tensordot(Tensor self, Tensor other, int[] dims_self, int[] dims_other) -> Tensor",
    _tensordot,
    places=_TORCH,
)


def _inner(F: Any, self: Any, other: Any) -> Any:
    if not self.shape or not other.shape:
        return self * other
    if self.shape[-1] != other.shape[-1]:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"inner: the last dimensions of shapes {self.shape} and {other.shape} differ in size",
            argument="other",
            shapes=f"{self.shape} and {other.shape}",
        )
    return F.tensordot(self, other, (-1,), (-1,))


composite("inner(Tensor self, Tensor other) -> Tensor", _inner)


def _vdot_shape(self: np.ndarray, other: np.ndarray) -> tuple[int, ...]:
    if self.ndim != 1 or self.shape != other.shape:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"vdot: needs two vectors of one length, not shapes {self.shape} and {other.shape}",
            argument="other",
            shapes=f"{self.shape} and {other.shape}",
        )
    return ()


bilinear(
    "vdot(Tensor self, Tensor other) -> Tensor",
    np.vdot,
    {
        "self": lambda F, g, other: F.conj(g) * other,
        "other": lambda F, g, self: g * self,
    },
    promotion="same",
    shape=_vdot_shape,
)


def _kron(F: Any, self: Any, other: Any) -> Any:
    rank = max(len(self.shape), len(other.shape))
    a = (*(1 for _ in range(rank - len(self.shape))), *self.shape)
    b = (*(1 for _ in range(rank - len(other.shape))), *other.shape)
    left = F._unsafe_view(self, tuple(each for size in a for each in (size, 1)))
    right = F._unsafe_view(other, tuple(each for size in b for each in (1, size)))
    return F._unsafe_view(left * right, tuple(x * y for x, y in zip(a, b, strict=True)))


composite("kron(Tensor self, Tensor other) -> Tensor", _kron)


def _cross_shape(self: np.ndarray, other: np.ndarray, dim: int = -1) -> tuple[int, ...]:
    if self.ndim != other.ndim:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"cross: needs tensors of as many dimensions, not shapes {self.shape} and "
            f"{other.shape}",
            argument="other",
            shapes=f"{self.shape} and {other.shape}",
        )
    axis = dims.one(dim, self.ndim)
    if not self.ndim or self.shape[axis] != 3 or other.shape[axis] != 3:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"cross: dimension {dim} of shapes {self.shape} and {other.shape} must have size 3",
            argument="dim",
            shapes=f"{self.shape} and {other.shape}",
        )
    return np.broadcast_shapes(self.shape, other.shape)


bilinear(
    "linalg.cross(Tensor self, Tensor other, *, int dim=-1) -> Tensor",
    lambda self, other, dim=-1: np.cross(self, other, axis=dim),
    {
        "self": lambda F, g, other, dim: F.linalg__cross(F.conj(other), g, dim),
        "other": lambda F, g, self, dim: F.linalg__cross(g, F.conj(self), dim),
    },
    grad_fn="LinalgCrossBackward0",
    shape=_cross_shape,
    places=("linalg",),
)


def _cross(F: Any, self: Any, other: Any, dim: int | None) -> Any:
    if dim is None:
        dim = next((at for at, size in enumerate(self.shape) if size == 3), -1)
    return F.linalg__cross(self, other, dim)


composite("cross(Tensor self, Tensor other, int? dim=None) -> Tensor", _cross)


def _vecdot(F: Any, x: Any, y: Any, dim: int) -> Any:
    if x.dtype.kind not in "fc" or x.dtype != y.dtype:
        raise EngineError(
            "DTYPE_MISMATCH",
            f"linalg.vecdot: needs floating-point tensors of one dtype, not {x.dtype} and "
            f"{y.dtype}",
            argument="y",
        )
    if len(x.shape) == 1 and len(y.shape) == 1:
        return F.vdot(x, y)
    return F.sum(F.conj(x) * y, (dim,))


composite("linalg.vecdot(Tensor x, Tensor y, *, int dim=-1) -> Tensor", _vecdot, places=("linalg",))
