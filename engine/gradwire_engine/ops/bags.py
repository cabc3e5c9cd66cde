"""Rows of a table put together bag by bag (embedding_bag), and forms of two vectors (bilinear)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import composite, general, nondiff
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.accumulation import add_rows
from gradwire_engine.ops.index_checks import require_in_range, require_index

_MODES = ("sum", "mean", "max")


def _bags_of(offsets: np.ndarray, count: int, include_last_offset: bool) -> np.ndarray:
    """The bag that each of `count` indices belongs to, by where the bags begin."""
    op = "embedding_bag"
    require_index(offsets, op)
    if offsets.ndim != 1 or (include_last_offset and not offsets.size):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: offsets must be a vector, not of shape {offsets.shape}",
            argument="offsets",
            shape=offsets.shape,
        )
    ends = np.append(offsets[: len(offsets) - include_last_offset], count)
    if include_last_offset:
        ends[-1] = offsets[-1]
    if (len(ends) > 1 and ends[0] != 0) or (np.diff(ends) < 0).any() or ends[-1] > count:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: offsets must begin with 0, not decrease, and not be above {count}, the number "
            "of indices",
            argument="offsets",
        )
    bags = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    return np.append(bags, np.full(count - len(bags), len(ends) - 1))


nondiff(
    "_bags_of(Tensor offsets, int count, bool include_last_offset) -> Tensor",
    _bags_of,
    shape=lambda offsets, count, include_last_offset: (count,),
    places=(),
)


def _counted(indices: Any, bags: Any, count: int, padding_idx: int | None) -> Any:
    """Which indices stand for a row: not those of padding, and not what is behind the last bag."""
    kept = bags < count
    return kept if padding_idx is None else kept & (indices != padding_idx)


def _bag(
    weight: np.ndarray,
    indices: np.ndarray,
    bags: np.ndarray,
    per_sample_weights: np.ndarray | None,
    count: int,
    mode: str,
    padding_idx: int | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    kept = np.flatnonzero(_counted(indices, bags, count, padding_idx))
    rows, bag = weight[indices[kept]], bags[kept]
    sizes = np.bincount(bag, minlength=count)
    out = np.zeros((count, weight.shape[1]), weight.dtype)
    chosen = np.full(out.shape, -1)
    if mode == "max":
        begins = np.cumsum(sizes) - sizes
        full = np.flatnonzero(sizes)
        if full.size:
            out[full] = np.maximum.reduceat(rows, begins[full], axis=0)
            # The first row that has the maximum.
            order = np.where(rows == out[bag], kept[:, None], len(indices))
            chosen[full] = np.minimum.reduceat(order, begins[full], axis=0)
    else:
        if per_sample_weights is not None:
            rows = rows * per_sample_weights[kept, None]
        add_rows(out, bag, rows)
        if mode == "mean":
            out /= np.maximum(sizes, 1)[:, None].astype(weight.dtype)
    return out, sizes, chosen


def _bag_slopes(
    F: Any,
    gs: Any,
    needs: Any,
    weight: Any,
    indices: Any,
    bags: Any,
    per_sample_weights: Any,
    count: int,
    mode: str,
    padding_idx: int | None,
    sizes: Any,
    chosen: Any,
) -> tuple[Any, Any]:
    g = gs[0]
    zeros = F.zeros(weight.shape, dtype=g.dtype)
    if mode == "max":
        found = F.take(indices, F.clamp_min(chosen, 0)) if indices.shape[0] else chosen
        return F.scatter_add(zeros, 0, F.clamp_min(found, 0), F.where(chosen >= 0, g, 0.0)), None
    if mode == "mean":
        g = g / F.unsqueeze(F.to(F.clamp_min(sizes, 1), g.dtype), 1)
    if not indices.shape[0]:
        return zeros, None if per_sample_weights is None else F.zeros((0,), dtype=g.dtype)
    # One row more, of zeros, for what is behind the last bag.
    spread = F.index_select(F.cat([g, F.zeros((1, g.shape[1]), dtype=g.dtype)], 0), 0, bags)
    if padding_idx is not None:
        spread = F.where(F.unsqueeze(indices != padding_idx, 1), spread, 0.0)
    by_weight = None
    if needs[0]:
        rows = spread
        if per_sample_weights is not None:
            rows = spread * F.unsqueeze(per_sample_weights, 1)
        by_weight = F.index_add(zeros, 0, indices, rows)
    by_sample = None
    if needs[1]:
        by_sample = F.sum(spread * F.index_select(weight, 0, indices), (1,))
    return by_weight, by_sample


general(
    "_embedding_bag_rows(Tensor weight, Tensor indices, Tensor bags, Tensor? per_sample_weights, "
    "int count, str mode, int? padding_idx) -> (Tensor output, Tensor sizes, Tensor chosen)",
    _bag,
    {"weight per_sample_weights": _bag_slopes},
    grad_fn="EmbeddingBagBackward0",
    shape=lambda weight, indices, bags, per_sample_weights, count, *rest: (
        count,
        weight.shape[1],
    ),
    places=(),
)


def _require_bag(
    op: str, input: Any, weight: Any, offsets: Any, mode: str, per_sample_weights: Any
) -> None:
    require_index(input.data, op)
    if len(input.shape) not in (1, 2) or len(weight.shape) != 2:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: needs indices of shape (n,) or (bags, n) and a table (rows, features), not "
            f"{input.shape} and {weight.shape}",
            argument="input",
            shapes=f"{input.shape} and {weight.shape}",
        )
    if (offsets is None) != (len(input.shape) == 2):
        raise EngineError(
            "BAD_VALUE",
            f"{op}: a vector of indices needs offsets, where its bags begin; indices of shape "
            "(bags, n) take none",
            argument="offsets",
        )
    if mode not in _MODES:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: mode must be one of {', '.join(_MODES)}, not {mode!r}",
            argument="mode",
        )
    require_in_range(input.data, weight.shape[0], op, "input")
    if per_sample_weights is None:
        return
    if mode != "sum":
        raise EngineError(
            "BAD_VALUE",
            f"{op}: per_sample_weights are for mode='sum', not {mode!r}",
            argument="per_sample_weights",
        )
    if per_sample_weights.shape != input.shape or per_sample_weights.dtype != weight.dtype:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: per_sample_weights must have the shape of the indices, {input.shape}, and the "
            f"dtype of the table, not {per_sample_weights.dtype}{list(per_sample_weights.shape)}",
            argument="per_sample_weights",
        )


def _embedding_bag(
    F: Any,
    input: Any,
    weight: Any,
    offsets: Any,
    mode: str,
    per_sample_weights: Any,
    include_last_offset: bool,
    padding_idx: int | None,
) -> Any:
    op = "embedding_bag"
    _require_bag(op, input, weight, offsets, mode, per_sample_weights)
    rows = weight.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise EngineError(
                "INDEX_OUT_OF_RANGE",
                f"{op}: padding_idx {padding_idx} is out of range for {rows} rows",
                argument="padding_idx",
            )
        padding_idx %= rows
    if offsets is None:
        count, each = input.shape
        starts = F.arange(0, count) * each
        bags = F._bags_of(starts, count * each, False)
        input = F.reshape(input, (-1,))
        if per_sample_weights is not None:
            per_sample_weights = F.reshape(per_sample_weights, (-1,))
    else:
        count = math.prod(offsets.shape) - include_last_offset
        bags = F._bags_of(offsets, input.shape[0], include_last_offset)
    return F._embedding_bag_rows(weight, input, bags, per_sample_weights, count, mode, padding_idx)[
        0
    ]


composite(
    "embedding_bag(Tensor input, Tensor weight, Tensor? offsets=None, str mode='mean', "
    "Tensor? per_sample_weights=None, bool include_last_offset=False, int? padding_idx=None) "
    "-> Tensor",
    _embedding_bag,
    places=("nn.functional",),
)


def _form(input1: np.ndarray, weight: np.ndarray, input2: np.ndarray) -> Any:
    return np.einsum("ni,oij,nj->no", input1, weight, input2, optimize=True)


def _form_slopes(
    F: Any, gs: Any, needs: Any, input1: Any, weight: Any, input2: Any
) -> tuple[Any, Any, Any]:
    g = gs[0]
    n, first, second = input1.shape[0], input1.shape[1], input2.shape[1]
    by_weight = None
    if needs[1]:
        outer = F.unsqueeze(input1, 2) * F.unsqueeze(input2, 1)
        outer = F.reshape(outer, (n, first * second))
        by_weight = F.reshape(F.matmul(F.t(g), outer), weight.shape)
    if not (needs[0] or needs[2]):
        return None, by_weight, None
    forms = F.matmul(g, F.reshape(weight, (weight.shape[0], first * second)))
    forms = F.reshape(forms, (n, first, second))
    return (
        F.sum(forms * F.unsqueeze(input2, 1), (2,)) if needs[0] else None,
        by_weight,
        F.sum(forms * F.unsqueeze(input1, 2), (1,)) if needs[2] else None,
    )


general(
    "_bilinear_form(Tensor input1, Tensor weight, Tensor input2) -> Tensor",
    _form,
    {"input1 weight input2": _form_slopes},
    grad_fn="TrilinearBackward0",
    promotion="same",
    shape=lambda input1, weight, input2: (len(input1), len(weight)),
    flops=lambda input1, weight, input2: int(
        2 * input1.shape[0] * np.prod([float(n) for n in weight.shape]) + 1
    ),
    places=(),
)


def _bilinear(F: Any, input1: Any, input2: Any, weight: Any, bias: Any) -> Any:
    lead: Sequence[int] = input1.shape[:-1]
    fits = len(weight.shape) == 3 and bool(input1.shape) and bool(input2.shape)
    fits = fits and input2.shape[:-1] == lead
    if not fits or (input1.shape[-1], input2.shape[-1]) != tuple(weight.shape[1:]):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"bilinear: inputs of shapes {input1.shape} and {input2.shape} do not fit weight of "
            f"shape {weight.shape}: expected (..., a), (..., b) and (out, a, b)",
            argument="weight",
            shapes=f"{input1.shape}, {input2.shape} and {weight.shape}",
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"bilinear: bias of shape {bias.shape} must have shape {weight.shape[:1]}",
            argument="bias",
            shape=bias.shape,
        )
    count = math.prod(lead)
    one, other = (F.reshape(x, (count, x.shape[-1])) for x in (input1, input2))
    made = F.reshape(F._bilinear_form(one, weight, other), (*lead, weight.shape[0]))
    return made if bias is None else made + bias


composite(
    "bilinear(Tensor input1, Tensor input2, Tensor weight, Tensor? bias=None) -> Tensor",
    _bilinear,
    places=("torch", "nn.functional"),
)
