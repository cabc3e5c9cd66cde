"""Several tensors beside one another, crossed, or taken apart: hstack, meshgrid, tensor_split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.declare import composite, linear, nondiff
from gradwire_engine.dtypes import result_dtype
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims
from gradwire_engine.ops.shape import parts_flops

_TORCH = ("torch",)


def _require_tensors(tensors: Sequence[Any], op: str) -> None:
    if not tensors or any(each is None for each in tensors):
        raise EngineError(
            "BAD_VALUE", f"{op}: expected a non-empty list of tensors", argument="tensors"
        )


def _at_least(F: Any, x: Any, rank: int) -> Any:
    """The tensor with so many dimensions at least; new ones as PyTorch adds them."""
    have = len(x.shape)
    if have >= rank:
        return x
    if have == 0:
        return F.reshape(x, (1,) * rank)
    if have == 1 and rank > 1:
        x = F.unsqueeze(x, 0)
    return F.unsqueeze(x, -1) if rank == 3 else x


for _rank in (1, 2, 3):
    composite(
        f"atleast_{_rank}d(Tensor self) -> Tensor",
        lambda F, self, rank=_rank: _at_least(F, self, rank),
        places=_TORCH,
    )


def _column_stack(F: Any, tensors: Sequence[Any]) -> Any:
    _require_tensors(tensors, "column_stack")
    columns = [
        F.reshape(each, (math.prod(each.shape), 1)) if len(each.shape) <= 1 else each
        for each in tensors
    ]
    return F.cat(columns, 1)


def _hstack(F: Any, tensors: Sequence[Any]) -> Any:
    _require_tensors(tensors, "hstack")
    wide = [_at_least(F, each, 1) for each in tensors]
    return F.cat(wide, 0 if len(wide[0].shape) == 1 else 1)


def _vstack(F: Any, tensors: Sequence[Any]) -> Any:
    _require_tensors(tensors, "vstack")
    return F.cat([_at_least(F, each, 2) for each in tensors], 0)


def _dstack(F: Any, tensors: Sequence[Any]) -> Any:
    _require_tensors(tensors, "dstack")
    return F.cat([_at_least(F, each, 3) for each in tensors], 2)


for _name, _formula in {
    "hstack": _hstack,
    "vstack": _vstack,
    "dstack": _dstack,
    "column_stack": _column_stack,
}.items():
    composite(f"{_name}(Tensor[] tensors) -> Tensor", _formula, places=_TORCH)


def _block_diag_shape(tensors: Sequence[np.ndarray]) -> tuple[int, ...]:
    _require_tensors(tensors, "block_diag")
    if any(each.ndim > 2 for each in tensors):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"block_diag: blocks have at most 2 dimensions, not shapes "
            f"{', '.join(str(each.shape) for each in tensors)}",
            argument="tensors",
        )
    shapes = [_block_shape(each.shape) for each in tensors]
    return (sum(rows for rows, _ in shapes), sum(columns for _, columns in shapes))


def _block_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """A number is a block of one, a vector a row."""
    rows, columns = ((1, 1, *shape))[-2:]
    return rows, columns


def _block_diag(tensors: Sequence[np.ndarray]) -> np.ndarray:
    dtype = result_dtype(tensors, current.context.default_dtype)
    out = np.zeros(_block_diag_shape(tensors), dtype)
    row = column = 0
    for each in tensors:
        rows, columns = _block_shape(each.shape)
        out[row : row + rows, column : column + columns] = each
        row, column = row + rows, column + columns
    return out


def _own_block(F: Any, g: Any, tensors_shape: Any, nr: int) -> Any:
    shapes = [_block_shape(each) for each in tensors_shape]
    row, column = (sum(each[at] for each in shapes[:nr]) for at in (0, 1))
    rows, columns = shapes[nr]
    block = F.slice(F.slice(g, 0, row, row + rows, 1), 1, column, column + columns, 1)
    return F.reshape(block, tensors_shape[nr])


linear(
    "block_diag(Tensor[] tensors) -> Tensor",
    _block_diag,
    _own_block,
    shape=_block_diag_shape,
    places=_TORCH,
)


def _broadcast_tensors(F: Any, tensors: Sequence[Any]) -> Any:
    _require_tensors(tensors, "broadcast_tensors")
    try:
        shape = np.broadcast_shapes(*(each.shape for each in tensors))
    except ValueError:
        text = ", ".join(str(each.shape) for each in tensors)
        raise EngineError(
            "SHAPE_MISMATCH",
            f"broadcast_tensors: shapes {text} do not broadcast",
            argument="tensors",
            shapes=text,
        ) from None
    return tuple(F.expand(each, shape) for each in tensors)


composite("broadcast_tensors(Tensor[] tensors) -> Tensor[]", _broadcast_tensors, places=_TORCH)


def _meshgrid(F: Any, tensors: Sequence[Any], indexing: str) -> Any:
    _require_tensors(tensors, "meshgrid")
    if indexing not in ("ij", "xy"):
        raise EngineError(
            "BAD_VALUE",
            f"meshgrid: indexing must be 'ij' or 'xy', not {indexing!r}",
            argument="indexing",
        )
    wide = [each for each in tensors if len(each.shape) > 1]
    if wide or any(each.dtype != tensors[0].dtype for each in tensors):
        text = ", ".join(f"{each.dtype}{list(each.shape)}" for each in tensors)
        raise EngineError(
            "SHAPE_MISMATCH",
            f"meshgrid: needs vectors of one dtype, not {text}",
            argument="tensors",
        )
    swap = indexing == "xy" and len(tensors) > 1
    order = [1, 0, *range(2, len(tensors))] if swap else list(range(len(tensors)))
    vectors = [tensors[at] for at in order]
    shape = tuple(math.prod(each.shape) for each in vectors)
    grids = [
        F.expand(F.view(each, tuple(-1 if at == nr else 1 for at in range(len(shape)))), shape)
        for nr, each in enumerate(vectors)
    ]
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


composite('meshgrid(Tensor[] tensors, *, str indexing="ij") -> Tensor[]', _meshgrid, places=_TORCH)


def _tensor_split(
    F: Any, self: Any, sections: int | None, indices: Sequence[int] | None, dim: int
) -> Any:
    if not self.shape:
        raise EngineError(
            "DIM_OUT_OF_RANGE", "tensor_split: a 0-d tensor has no dimension to split"
        )
    axis = dims.one(dim, len(self.shape))
    size = self.shape[axis]
    if (sections is None) == (indices is None):
        raise EngineError(
            "BAD_VALUE", "tensor_split: give either sections or indices", argument="sections"
        )
    if sections is not None:
        if sections < 1:
            raise EngineError(
                "BAD_VALUE",
                f"tensor_split: sections must be at least 1, not {sections}",
                argument="sections",
            )
        current.context.admit_results(sections, "tensor_split")
        each, more = divmod(size, sections)
        sizes = [each + 1] * more + [each] * (sections - more)
        bounds = [0, *np.cumsum(sizes).tolist()]
        pairs = list(pairwise(bounds))
    else:
        pairs = list(zip((0, *(indices or ())), (*(indices or ()), size), strict=True))
    return tuple(F.slice(self, axis, start, end, 1) for start, end in pairs)


composite(
    "tensor_split(Tensor self, int? sections=None, int[]? indices=None, int dim=0) -> Tensor[]",
    _tensor_split,
    flops=lambda self, sections, indices, dim: parts_flops(self, sections or len(indices or ())),
)


def _split_along(op: str, least: int, dim: int) -> Any:
    def formula(F: Any, self: Any, sections: int | None, indices: Sequence[int] | None) -> Any:
        rank = len(self.shape)
        if rank < least:
            raise EngineError(
                "SHAPE_MISMATCH",
                f"{op}: needs at least {least} dimensions, not a tensor of shape {self.shape}",
                argument="self",
                shape=self.shape,
            )
        axis = 0 if op == "hsplit" and rank == 1 else dim
        if sections is not None and (sections < 1 or self.shape[axis] % sections):
            raise EngineError(
                "BAD_VALUE",
                f"{op}: dimension {axis} of size {self.shape[axis]} does not split into "
                f"{sections} equal parts",
                argument="sections",
            )
        return F.tensor_split(self, sections, indices, axis)

    return formula


for _name, (_least, _dim) in {"hsplit": (1, 1), "vsplit": (2, 0), "dsplit": (3, 2)}.items():
    composite(
        f"{_name}(Tensor self, int? sections=None, int[]? indices=None) -> Tensor[]",
        _split_along(_name, _least, _dim),
        flops=lambda self, sections, indices: parts_flops(self, sections or len(indices or ())),
    )


def _diff(F: Any, self: Any, n: int, dim: int, prepend: Any, append: Any) -> Any:
    if not self.shape:
        raise EngineError("DIM_OUT_OF_RANGE", "diff: a 0-d tensor has no dimension", argument="dim")
    if n < 0:
        raise EngineError("BAD_VALUE", f"diff: n must not be negative, not {n}", argument="n")
    axis = dims.one(dim, len(self.shape))
    if n == 0:
        return F.copy_(F.zeros_like(self), self)
    if prepend is not None or append is not None:
        self = F.cat([each for each in (prepend, self, append) if each is not None], axis)
    # Beyond its length nothing is left to subtract.
    orders = min(n, self.shape[axis])
    current.context.admit((orders, *self.shape), "diff, with all orders below it,")
    for _ in range(orders):
        size = self.shape[axis]
        later = F.slice(self, axis, 1, size, 1)
        earlier = F.slice(self, axis, 0, max(size - 1, 0), 1)
        different = F.logical_xor if self.dtype.kind == "b" else F.sub
        self = different(later, earlier)
    return self


composite(
    "diff(Tensor self, int n=1, int dim=-1, Tensor? prepend=None, Tensor? append=None) -> Tensor",
    _diff,
)


def _cartesian_prod(F: Any, tensors: Sequence[Any]) -> Any:
    _require_tensors(tensors, "cartesian_prod")
    if any(len(each.shape) != 1 for each in tensors):
        raise EngineError("SHAPE_MISMATCH", "cartesian_prod: needs vectors", argument="tensors")
    if len(tensors) == 1:
        return tensors[0]
    return F.stack([F.reshape(each, (-1,)) for each in F.meshgrid(tensors)], 1)


composite("cartesian_prod(Tensor[] tensors) -> Tensor", _cartesian_prod, places=_TORCH)


def _chosen(n: int, r: int, with_replacement: bool) -> np.ndarray:
    """Where in the grid of all r-tuples of n the places rise, or do not fall."""
    chosen = np.ones((n,) * r, np.bool_)
    order = np.arange(n)
    for at in range(r - 1):
        first = order.reshape(n, *(1 for _ in range(r - 1 - at)))
        second = order.reshape(n, *(1 for _ in range(r - 2 - at)))
        chosen &= (first <= second) if with_replacement else (first < second)
    return chosen


nondiff(
    "_chosen_combinations(int n, int r, bool with_replacement) -> Tensor",
    _chosen,
    shape=lambda n, r, with_replacement: _grid_shape(n, r),
    places=(),
)


def _grid_shape(n: int, r: int) -> tuple[int, ...]:
    """n^r elements; a tuple of as many sizes as a client likes would be one itself."""
    return (n,) * min(r, current.context.limits.max_rank + 1)


def _combinations(F: Any, self: Any, r: int, with_replacement: bool) -> Any:
    if len(self.shape) != 1 or r < 0:
        raise EngineError(
            "BAD_VALUE",
            f"combinations: needs a vector and r of at least 0, not shape {self.shape} and r={r}",
            argument="r",
        )
    if r == 0:
        return F.zeros((0,), dtype=self.dtype)
    # PyTorch masks a grid of all tuples, and so it is bounded by them.
    mask = F._chosen_combinations(self.shape[0], r, with_replacement)
    return F.stack([F.masked_select(each, mask) for each in F.meshgrid([self] * r)], 1)


composite(
    "combinations(Tensor self, int r=2, bool with_replacement=False) -> Tensor",
    _combinations,
    places=_TORCH,
)
