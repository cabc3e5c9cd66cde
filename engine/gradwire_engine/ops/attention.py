"""Scaled dot-product attention, blocked over queries, and its parts.

With scores s = q·kᵀ·scale + mask and weights p = softmax(s), the output is o = p·v. Forward keeps
log(Σ exp s) for each query; backward makes p from it again, block by block. With D = Σ g·o:

    dv = pᵀ·g,  ds = p·(g·vᵀ - D),  dq = ds·k·scale,  dk = dsᵀ·q·scale
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import composite, general, nondiff
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims

# Scores that are worked on at a time: they should stay in the cache of a core.
_BLOCK_BYTES = 1 << 18


def _safe_softmax(self: np.ndarray, dim: int) -> np.ndarray:
    """A softmax that is 0 where all is -inf."""
    axis = dims.one(dim, self.ndim)
    if not self.ndim or not self.size:
        return np.ones_like(self)
    top = np.maximum.reduce(self, axis=axis, keepdims=True)
    out: np.ndarray = self - np.where(np.isneginf(top), 0, top).astype(self.dtype)
    np.exp(out, out=out)
    total = np.add.reduce(out, axis=axis, keepdims=True)
    out /= np.where(total == 0, 1, total).astype(self.dtype)
    return out


def _softmax_slope(F: Any, g: Any, result: Any, dim: int) -> Any:
    product = g * result
    return product - result * F.sum(product, (dim,), True)


general("_safe_softmax(Tensor self, int dim) -> Tensor", _safe_softmax, _softmax_slope, places=())


def _blocks(
    heads: int, queries: int, keys: int, itemsize: int, length: int | None
) -> Iterator[tuple[slice, slice, slice]]:
    """Parts `(heads, queries, keys)` of the scores."""
    row = max(keys * itemsize, 1)
    rows = max(1, min(queries, _BLOCK_BYTES // row))
    together = max(1, min(heads, _BLOCK_BYTES // (row * rows)))
    for head in range(0, heads, together):
        for first in range(0, queries, rows):
            last = min(first + rows, queries)
            seen = min(last, keys) if length == queries else keys
            yield slice(head, min(head + together, heads)), slice(first, last), slice(seen)


def _scores(
    query: np.ndarray,
    turned: np.ndarray,
    mask: np.ndarray | None,
    at: tuple[slice, slice, slice],
    length: int | None,
) -> np.ndarray:
    """The scores of a block; -inf where a query must not see a key.

    Args:
        length: of the queries, if they must not see later keys.
    """
    heads, rows, seen = at
    scores: np.ndarray = np.matmul(query[heads, rows], turned[heads, :, seen])
    if mask is not None:
        scores += mask[heads if len(mask) > 1 else slice(None), rows, seen]
    if length:
        later = _later(np.arange(rows.start, rows.stop), length, seen.stop)
        np.copyto(scores, -np.inf, where=later)
    return scores


def _later(rows: np.ndarray, length: int, keys: int) -> np.ndarray:
    """Where a key comes after its query; rows are those of one query head after the other."""
    later: np.ndarray = np.arange(keys) > (rows % length)[:, None]
    return later


nondiff(
    "_causal_mask(int queries, int keys, ScalarType dtype) -> Tensor",
    lambda queries, keys, dtype: np.where(
        _later(np.arange(queries), queries, keys), -np.inf, 0.0
    ).astype(dtype),
    shape=lambda queries, keys, dtype: (queries, keys),
    places=(),
)


def _heads_first(array: np.ndarray, dtype: np.dtype, heads: int) -> np.ndarray:
    """(batch · heads, length, size). Queries of several heads that share a key lie in a row."""
    return array.reshape(len(array) * heads, -1, array.shape[3]).astype(dtype, copy=False)


def _mask_by_head(mask: np.ndarray | None, query: Any, key: Any, dtype: Any) -> np.ndarray | None:
    """The mask as (heads or 1, queries, keys)."""
    if mask is None:
        return None
    if query.shape[1] == key.shape[1] and mask.size == math.prod(mask.shape[-2:]):
        # The same for all heads: no copy for each.
        shape = (1, query.shape[2], key.shape[2])
        return np.broadcast_to(mask.reshape(mask.shape[-2:]), shape).astype(dtype, copy=False)
    whole = np.broadcast_to(mask, (*query.shape[:3], key.shape[2]))
    return _heads_first(whole, dtype, key.shape[1])


def _wide(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _scale(query: Any, scale: float | None) -> float:
    # Of nothing any scale makes nothing.
    return 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else scale


def _attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    attn_mask: np.ndarray | None = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    dtype = _wide(query.dtype)
    mask = _mask_by_head(attn_mask, query, key, dtype)
    shared = key.shape[1]
    q = _heads_first(query, dtype, shared) * dtype.type(_scale(query, scale))
    turned = _heads_first(key, dtype, shared).swapaxes(1, 2)
    v = _heads_first(value, dtype, shared)
    length = query.shape[2] if is_causal else None
    heads, queries, keys = len(q), q.shape[1], v.shape[1]
    out = np.empty((heads, queries, v.shape[2]), dtype)
    normalizer = np.empty((heads, queries), dtype)
    for at in _blocks(heads, queries, keys, dtype.itemsize, length):
        head, rows, seen = at
        weights = _scores(q, turned, mask, at, length)
        top = np.maximum.reduce(weights, axis=2, keepdims=True)
        if mask is not None:
            np.copyto(top, 0, where=np.isneginf(top))
        weights -= top
        np.exp(weights, out=weights)
        total = np.add.reduce(weights, axis=2, keepdims=True)
        if mask is not None:
            np.copyto(total, 1, where=total == 0)
        block = out[head, rows]
        np.matmul(weights, v[head, seen], out=block)
        block /= total
        normalizer[head, rows] = (np.log(total) + top)[..., 0]
    out = out.reshape(*query.shape[:3], value.shape[3])
    return _laid_out_as(query, out), normalizer.reshape(query.shape[:3])


def _laid_out_as(query: np.ndarray, out: np.ndarray) -> np.ndarray:
    """In the query's dtype and order of memory, in which heads become features without a copy."""
    if query.flags.c_contiguous:
        return out.astype(query.dtype, copy=False)
    laid = np.empty_like(query)
    np.copyto(laid, out, casting="same_kind")
    return laid


def _attention_gradients(
    grad_output: np.ndarray,
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    attn_mask: np.ndarray | None,
    output: np.ndarray,
    normalizer: np.ndarray,
    is_causal: bool,
    scale: float | None,
    needs: Sequence[bool],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dtype = _wide(query.dtype)
    mask = _mask_by_head(attn_mask, query, key, dtype)
    factor = dtype.type(_scale(query, scale))
    shared = key.shape[1]
    q, k = _heads_first(query, dtype, shared) * factor, _heads_first(key, dtype, shared)
    v, g = _heads_first(value, dtype, shared), _heads_first(grad_output, dtype, shared)
    length = query.shape[2] if is_causal else None
    turned, turned_v = k.swapaxes(1, 2), v.swapaxes(1, 2)
    o = _heads_first(output, dtype, shared)
    logs = normalizer.reshape(len(q), -1, 1)
    along = np.einsum("hqe,hqe->hq", g, o)[..., None]
    by_query = np.empty_like(q)
    by_key, by_value = np.zeros_like(k), np.zeros_like(v)
    for at in _blocks(len(q), q.shape[1], k.shape[1], dtype.itemsize, length):
        head, rows, seen = at
        weights = _scores(q, turned, mask, at, length)
        weights -= logs[head, rows]
        np.exp(weights, out=weights)
        part = g[head, rows]
        by_value[head, seen] += np.matmul(weights.swapaxes(1, 2), part)
        slope = np.matmul(part, turned_v[head, :, seen])
        slope -= along[head, rows]
        slope *= weights
        np.matmul(slope, k[head, seen], out=by_query[head, rows])
        by_key[head, seen] += np.matmul(slope.swapaxes(1, 2), q[head, rows])
    by_query *= factor
    return (
        by_query.reshape(query.shape).astype(query.dtype, copy=False),
        by_key.reshape(key.shape).astype(query.dtype, copy=False),
        by_value.reshape(value.shape).astype(query.dtype, copy=False),
    )


def _attention_formula(
    F: Any,
    g: Any,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any,
    output: Any,
    normalizer: Any,
    is_causal: bool,
    scale: float | None,
    needs: Sequence[bool],
) -> tuple[Any, Any, Any]:
    """The same by operators, with all scores at once."""
    factor = _scale(query, scale)
    batch, heads, keys, size = key.shape
    rows = query.shape[1] // heads * query.shape[2]
    q = F.reshape(query, (batch, heads, rows, size))
    g = F.reshape(g, (batch, heads, rows, value.shape[3]))
    scores = F.matmul(q, F.transpose(key, 2, 3)) * factor
    if is_causal:
        causal = F._causal_mask(query.shape[2], keys, query.dtype)
        attn_mask = causal if attn_mask is None else attn_mask + causal
    if attn_mask is not None:
        # Queries of several heads that share a key lie in a row.
        whole = F.expand(attn_mask, (*query.shape[:3], keys))
        scores = scores + F.reshape(whole, scores.shape)
    weights = F._safe_softmax(scores, -1)
    slope = _softmax_slope(F, F.matmul(g, F.transpose(value, 2, 3)), weights, -1)
    return (
        F.reshape(F.matmul(slope, key) * factor, query.shape),
        F.matmul(F.transpose(slope, 2, 3), q) * factor,
        F.matmul(F.transpose(weights, 2, 3), g),
    )


composite(
    "_attention_backward(Tensor grad_output, Tensor query, Tensor key, Tensor value, "
    "Tensor? attn_mask, Tensor output, Tensor normalizer, bool is_causal, float? scale, "
    "bool[] needs) -> (Tensor query, Tensor key, Tensor value)",
    _attention_formula,
    kernel=_attention_gradients,
    places=(),
)


def _attention_rule(
    F: Any,
    gs: Any,
    needs: Sequence[bool],
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any,
    is_causal: bool,
    scale: float | None,
    output: Any,
    normalizer: Any,
) -> Any:
    return F._attention_backward(
        gs[0], query, key, value, attn_mask, output, normalizer, is_causal, scale, needs
    )


def _attention_flops(query: Any, key: Any, value: Any, *rest: Any) -> int:
    sizes: int = query.shape[-1] + value.shape[-1]
    flops: int = 2 * math.prod(query.shape[:-1]) * key.shape[-2] * sizes + 1
    return flops


general(
    "_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, "
    "bool is_causal=False, float? scale=None) -> (Tensor output, Tensor normalizer)",
    _attention,
    {"query key value": _attention_rule},
    grad_fn="ScaledDotProductFlashAttentionForCpuBackward0",
    flops=_attention_flops,
    places=(),
)


def _check(op: str, query: Any, key: Any, value: Any, mask: Any, is_causal: bool) -> None:
    fits = (
        min(len(each.shape) for each in (query, key, value)) >= 2
        and query.shape[-1] == key.shape[-1]
        and key.shape[-2] == value.shape[-2]
    )
    if not fits:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: query {query.shape}, key {key.shape} and value {value.shape} do not fit: "
            "expected (..., l, e), (..., s, e) and (..., s, v)",
            argument="key",
            shapes=f"{query.shape}, {key.shape}, {value.shape}",
        )
    dtypes = {each.dtype for each in (query, key, value)}
    if len(dtypes) > 1 or query.dtype.kind not in "fc":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: query, key and value must have one floating-point dtype, not "
            f"{query.dtype}, {key.dtype} and {value.dtype}",
            argument="query",
            dtypes=str(query.dtype),
        )
    if mask is None:
        return
    if is_causal:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: is_causal makes the mask, so attn_mask must not be given with it",
            argument="is_causal",
        )
    if mask.dtype not in (np.bool_, query.dtype):
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: attn_mask must be bool or of the query's dtype {query.dtype}, not {mask.dtype}",
            argument="attn_mask",
            dtype=mask.dtype,
        )


def _scaled_dot_product_attention(
    F: Any,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Any:
    op = "scaled_dot_product_attention"
    _check(op, query, key, value, attn_mask, is_causal)
    mask = attn_mask
    if mask is not None and mask.dtype == np.bool_:
        nothing = F.zeros(mask.shape, dtype=query.dtype)
        mask = F.masked_fill(nothing, F.logical_not(mask), -math.inf)
    if _is_blocked(query, key, value, mask, dropout_p, enable_gqa):
        if mask is not None:
            _require_mask_fits(op, mask, query, key)
        return F._attention(query, key, value, mask, is_causal, scale)[0]
    # PyTorch's composition for all other calls.
    if is_causal:
        mask = F._causal_mask(query.shape[-2], key.shape[-2], query.dtype)
    if enable_gqa:
        if len(query.shape) < 3 or len(key.shape) < 3 or len(value.shape) < 3:
            raise EngineError(
                "SHAPE_MISMATCH",
                f"{op}: enable_gqa needs a dimension of heads before the last two, which query "
                f"{query.shape}, key {key.shape} or value {value.shape} has not",
                argument="query",
                shapes=f"{query.shape}, {key.shape}, {value.shape}",
            )
        groups = query.shape[-3] // max(key.shape[-3], 1)
        key = F.repeat_interleave(key, groups, -3)
        value = F.repeat_interleave(value, groups, -3)
    factor = math.sqrt(abs(_scale(query, scale)))
    scores = F.matmul(
        F.mul__Scalar(query, math.copysign(factor, _scale(query, scale))),
        F.mul__Scalar(F.transpose(key, -2, -1), factor),
    )
    if mask is not None:
        scores = scores + mask
    weights = F._safe_softmax(scores, -1)
    if dropout_p > 0:
        weights = F.dropout(weights, dropout_p, True)
    return F.matmul(weights, value)


def _is_blocked(
    query: Any, key: Any, value: Any, mask: Any, dropout_p: float, enable_gqa: bool
) -> bool:
    """Whether PyTorch has one operator for such a call."""
    heads, others = query.shape[1:2], key.shape[1:2]
    return (
        len(query.shape) == len(key.shape) == len(value.shape) == 4
        and query.dtype.kind == "f"
        and dropout_p == 0
        and 0 not in (*query.shape, *key.shape)
        and query.shape[0] == key.shape[0] == value.shape[0]
        and key.shape[1] == value.shape[1]
        and (heads == others or (enable_gqa and heads[0] % others[0] == 0))
        and query.shape[3] == value.shape[3]
        and not (mask is not None and mask.requires_grad)
    )


def _require_mask_fits(op: str, mask: Any, query: Any, key: Any) -> None:
    shape = (*query.shape[:3], key.shape[2])
    try:
        fits = np.broadcast_shapes(mask.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: attn_mask of shape {mask.shape} does not broadcast to the scores' {shape}",
            argument="attn_mask",
            shape=mask.shape,
        )


composite(
    "scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, "
    "Tensor? attn_mask=None, float dropout_p=0.0, bool is_causal=False, *, float? scale=None, "
    "bool enable_gqa=False) -> Tensor",
    _scaled_dot_product_attention,
    places=("nn.functional",),
)
