"""Attention with several heads: projections in, attention by head, a projection out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwire_engine.declare import composite
from gradwire_engine.errors import EngineError

_OP = "multi_head_attention_forward"


def _require(fits: bool, argument: str, said: str) -> None:
    if not fits:
        raise EngineError("SHAPE_MISMATCH", f"{_OP}: {said}", argument=argument)


def _require_ranks(query: Any, key: Any, value: Any, padding: Any, mask: Any, heads: int) -> None:
    rank = len(query.shape)
    _require(
        rank in (2, 3) and len(key.shape) == len(value.shape) == rank,
        "query",
        "query, key and value must all have the dimensions (length, batch, features), or all be "
        f"without the batch, not shapes {query.shape}, {key.shape} and {value.shape}",
    )
    if padding is not None:
        _require(
            len(padding.shape) == rank - 1,
            "key_padding_mask",
            f"key_padding_mask must have {rank - 1} dimensions as query has {rank}, not shape "
            f"{padding.shape}",
        )
    if mask is not None:
        _require(
            len(mask.shape) in (2, 3),
            "attn_mask",
            f"attn_mask must have 2 or 3 dimensions, not shape {mask.shape}",
        )
        if rank == 2 and len(mask.shape) == 3:
            _require(
                mask.shape == (heads, query.shape[0], key.shape[0]),
                "attn_mask",
                f"attn_mask must be of shape {(heads, query.shape[0], key.shape[0])}, not "
                f"{mask.shape}",
            )


def _as_summand(F: Any, mask: Any, name: str, dtype: Any) -> Any:
    """A mask as what is added to the scores: -inf where a bool one is true."""
    if mask is None or mask.dtype.kind == "f":
        return mask
    if mask.dtype != np.bool_:
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{_OP}: {name} must be bool or of floating-point dtype, not {mask.dtype}",
            argument=name,
            dtype=mask.dtype,
        )
    return F.masked_fill(F.zeros(mask.shape, dtype=dtype), mask, -math.inf)


def _apart(F: Any, projected: Any, parts: int, size: int) -> list[Any]:
    """Projections that one product gave side by side."""
    shape = (*projected.shape[:-1], parts, size)
    moved = F.transpose(F.unsqueeze(F.view(projected, shape), 0), 0, -2)
    together = F.contiguous(F.squeeze(moved, (-2,)))
    return [F.select(together, 0, at) for at in range(parts)]


def _projected_together(F: Any, query: Any, key: Any, value: Any, weight: Any, bias: Any) -> Any:
    """Query, key and value times their thirds of the weight; in one product where they are one."""
    size = query.shape[-1]
    if key is value and query is key:
        return _apart(F, F.linear(query, weight, bias), 3, size)
    if key is value:
        sizes = (size, 2 * size)
        by_query, by_key = F.split_with_sizes(weight, sizes, 0)
        query_bias, key_bias = (None, None) if bias is None else F.split_with_sizes(bias, sizes, 0)
        both = _apart(F, F.linear(key, by_key, key_bias), 2, size)
        return [F.linear(query, by_query, query_bias), *both]
    weights = F.chunk(weight, 3, 0)
    biases = (None, None, None) if bias is None else F.chunk(bias, 3, 0)
    return _projected(F, (query, key, value), weights, biases)


def _projected(F: Any, inputs: Any, weights: Any, biases: Any) -> list[Any]:
    return [
        F.linear(each, weight, bias)
        for each, weight, bias in zip(inputs, weights, biases, strict=True)
    ]


def _multi_head_attention_forward(
    F: Any,
    query: Any,
    key: Any,
    value: Any,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Any,
    out_proj_bias: Any,
    training: bool,
    key_padding_mask: Any,
    need_weights: bool,
    attn_mask: Any,
    use_separate_proj_weight: bool,
    q_proj_weight: Any,
    k_proj_weight: Any,
    v_proj_weight: Any,
    static_k: Any,
    static_v: Any,
    average_attn_weights: bool,
    is_causal: bool,
) -> tuple[Any, Any]:
    _require(num_heads > 0, "num_heads", f"num_heads must be at least 1, not {num_heads}")
    _require_ranks(query, key, value, key_padding_mask, attn_mask, num_heads)
    is_batched = len(query.shape) == 3
    if not is_batched:
        query, key, value = (F.unsqueeze(each, 1) for each in (query, key, value))
        if key_padding_mask is not None:
            key_padding_mask = F.unsqueeze(key_padding_mask, 0)
    length, batch, size = query.shape
    rows, width = batch * num_heads, size // num_heads
    _require(
        size == embed_dim_to_check and width * num_heads == size,
        "embed_dim_to_check",
        f"query has {size} features, expected {embed_dim_to_check}, a multiple of num_heads "
        f"{num_heads}",
    )
    compared = 2 if use_separate_proj_weight else 3
    alike = key.shape[:compared] == value.shape[:compared]
    _require(alike, "value", f"key {key.shape} and value {value.shape} do not fit")
    if is_causal and attn_mask is None:
        raise EngineError(
            "BAD_VALUE",
            f"{_OP}: is_causal only says that attn_mask is causal, so attn_mask must be given too",
            argument="is_causal",
        )
    padding = _as_summand(F, key_padding_mask, "key_padding_mask", query.dtype)
    mask = _as_summand(F, attn_mask, "attn_mask", query.dtype)
    if is_causal and padding is None and not need_weights:
        mask = None
    elif padding is not None:
        is_causal = False
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
        _require(
            not any(each is None for each in weights),
            "q_proj_weight",
            "use_separate_proj_weight needs q_proj_weight, k_proj_weight and v_proj_weight",
        )
        biases = (None, None, None) if in_proj_bias is None else F.chunk(in_proj_bias, 3, 0)
        q, k, v = _projected(F, (query, key, value), weights, biases)
    else:
        _require(in_proj_weight is not None, "in_proj_weight", "in_proj_weight must be given")
        q, k, v = _projected_together(F, query, key, value, in_proj_weight, in_proj_bias)
    if mask is not None:
        shape: tuple[int, ...] = (length, key.shape[0])
        if len(mask.shape) == 3:
            shape = (rows, *shape)
        _require(
            mask.shape == shape,
            "attn_mask",
            f"attn_mask must be of shape {shape}, not {mask.shape}",
        )
        if len(shape) == 2:
            mask = F.unsqueeze(mask, 0)
    _require(
        (bias_k is None) == (bias_v is None), "bias_k", "bias_k and bias_v must be given together"
    )
    if bias_k is not None:
        _require(
            static_k is None and static_v is None,
            "bias_k",
            "bias_k and bias_v cannot be added to static_k and static_v",
        )
        k = F.cat((k, F.repeat(bias_k, (1, batch, 1))), 0)
        v = F.cat((v, F.repeat(bias_v, (1, batch, 1))), 0)
        mask, padding = _wider(F, mask), _wider(F, padding)
    q = F.transpose(F.view(q, (length, rows, width)), 0, 1)
    k = _by_head(F, k, static_k, "static_k", rows, width)
    v = _by_head(F, v, static_v, "static_v", rows, width)
    if add_zero_attn:
        nothing = F.zeros((rows, 1, width), dtype=k.dtype)
        k, v = F.cat((k, nothing), 1), F.cat((v, nothing), 1)
        mask, padding = _wider(F, mask), _wider(F, padding)
    keys = k.shape[1]
    if padding is not None:
        _require(
            padding.shape == (batch, keys),
            "key_padding_mask",
            f"key_padding_mask must be of shape {(batch, keys)}, not {padding.shape}",
        )
        spread = F.expand(F.view(padding, (batch, 1, 1, keys)), (-1, num_heads, -1, -1))
        padding = F.reshape(spread, (rows, 1, keys))
        mask = padding if mask is None else mask + padding
    dropout_p = dropout_p if training else 0.0
    if not need_weights:
        if mask is not None:
            one = mask.shape[0] == 1
            mask = F.unsqueeze(mask, 0) if one else F.view(mask, (batch, num_heads, -1, keys))
        q, k, v = (F.view(each, (batch, num_heads, each.shape[1], width)) for each in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal)
        attended = F.reshape(F.permute(attended, (2, 0, 1, 3)), (batch * length, size))
        output = _projected_out(F, attended, out_proj_weight, out_proj_bias, length, batch)
        none = F.zeros((0,), dtype=query.dtype)
        return (output if is_batched else F.squeeze(output, (1,))), none
    scaled = q * math.sqrt(1.0 / width)
    turned = F.transpose(k, -2, -1)
    scores = F.bmm(scaled, turned) if mask is None else F.baddbmm(mask, scaled, turned)
    chances = F.softmax(scores, -1)
    if dropout_p > 0:
        chances = F.dropout(chances, dropout_p, True)
    attended = F.reshape(F.transpose(F.bmm(chances, v), 0, 1), (length * batch, size))
    output = _projected_out(F, attended, out_proj_weight, out_proj_bias, length, batch)
    chances = F.view(chances, (batch, num_heads, length, keys))
    if average_attn_weights:
        chances = F.mean(chances, (1,))
    if is_batched:
        return output, chances
    return F.squeeze(output, (1,)), F.squeeze(chances, (0,))


def _wider(F: Any, mask: Any) -> Any:
    """A mask with one more key, which all may see."""
    return None if mask is None else F.constant_pad_nd(mask, (0, 1))


def _by_head(F: Any, projected: Any, static: Any, name: str, rows: int, width: int) -> Any:
    """Heads first; or what is given in its place."""
    if static is None:
        viewed = F.view(projected, (projected.shape[0], rows, width))
        return F.transpose(viewed, 0, 1)
    fits = len(static.shape) == 3 and (static.shape[0], static.shape[2]) == (rows, width)
    _require(fits, name, f"{name} must be of shape ({rows}, keys, {width}), not {static.shape}")
    return static


def _projected_out(F: Any, attended: Any, weight: Any, bias: Any, length: int, batch: int) -> Any:
    output = F.linear(attended, weight, bias)
    return F.view(output, (length, batch, output.shape[1]))


composite(
    f"{_OP}(Tensor query, Tensor key, Tensor value, int embed_dim_to_check, int num_heads, "
    "Tensor? in_proj_weight, Tensor? in_proj_bias, Tensor? bias_k, Tensor? bias_v, "
    "bool add_zero_attn, float dropout_p, Tensor out_proj_weight, Tensor? out_proj_bias, "
    "bool training=True, Tensor? key_padding_mask=None, bool need_weights=True, "
    "Tensor? attn_mask=None, bool use_separate_proj_weight=False, Tensor? q_proj_weight=None, "
    "Tensor? k_proj_weight=None, Tensor? v_proj_weight=None, Tensor? static_k=None, "
    "Tensor? static_v=None, bool average_attn_weights=True, bool is_causal=False) "
    "-> (Tensor output, Tensor attn_output_weights)",
    _multi_head_attention_forward,
    places=("nn.functional",),
)
