"""Attention with several heads, of whose results one may be None."""

from typing import TYPE_CHECKING

from gradwire.arguments import to_bool, to_float, to_int
from gradwire.record import record_many
from gradwire.recorder import Attribute

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

_NAME = "multi_head_attention_forward"
_TENSORS = (
    "query",
    "key",
    "value",
    "in_proj_weight",
    "in_proj_bias",
    "bias_k",
    "bias_v",
    "out_proj_weight",
    "out_proj_bias",
    "key_padding_mask",
    "attn_mask",
    "q_proj_weight",
    "k_proj_weight",
    "v_proj_weight",
    "static_k",
    "static_v",
)


def multi_head_attention_forward(
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: "Tensor | None",
    in_proj_bias: "Tensor | None",
    bias_k: "Tensor | None",
    bias_v: "Tensor | None",
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: "Tensor",
    out_proj_bias: "Tensor | None",
    training: bool = True,
    key_padding_mask: "Tensor | None" = None,
    need_weights: bool = True,
    attn_mask: "Tensor | None" = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: "Tensor | None" = None,
    k_proj_weight: "Tensor | None" = None,
    v_proj_weight: "Tensor | None" = None,
    static_k: "Tensor | None" = None,
    static_v: "Tensor | None" = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> "tuple[Tensor, Tensor | None]":
    """Project query, key and value, attend in each of several heads, and project what comes out.

    Args:
        query: (length, batch, features), or without the batch.
        key: (keys, batch, features), likewise.
        value: as the key.
        embed_dim_to_check: the number of features, a multiple of `num_heads`.
        num_heads: the number of heads.
        in_proj_weight: (3 * features, features): for query, key and value.
        in_proj_bias: (3 * features,).
        bias_k: (1, 1, features): one more key; with `bias_v`.
        bias_v: (1, 1, features): its value.
        add_zero_attn: one more key and value, of zeros.
        dropout_p: of the weights, in training.
        out_proj_weight: (features, features).
        out_proj_bias: (features,).
        training: whether weights are left out at random.
        key_padding_mask: (batch, keys), or (keys,): True for keys that none may see, or what is
            added to the scores.
        need_weights: give the weights too; without them it is faster.
        attn_mask: (length, keys) or (batch * num_heads, length, keys), with the same meaning.
        use_separate_proj_weight: take the next three in place of `in_proj_weight`.
        q_proj_weight: (features, features).
        k_proj_weight: (features, features of the key).
        v_proj_weight: (features, features of the value).
        static_k: (batch * num_heads, keys, features / num_heads): in place of the projected key.
        static_v: the same for the value.
        average_attn_weights: give weights averaged over heads.
        is_causal: the mask is causal; says what `attn_mask` must say too.

    Returns:
        The output, of the query's shape, and the weights (batch, length, keys), or
        (batch, num_heads, length, keys) if they are not averaged; None without `need_weights`.

    Raises:
        ValueError: (at the next reading) shapes that do not fit.
        TypeError: (at the next reading) a mask is neither bool nor floating-point.
    """
    attributes: list[Attribute] = [
        ("embed_dim_to_check", to_int(_NAME, "embed_dim_to_check", embed_dim_to_check)),
        ("num_heads", to_int(_NAME, "num_heads", num_heads)),
        ("add_zero_attn", to_bool(_NAME, "add_zero_attn", add_zero_attn)),
        ("dropout_p", to_float(_NAME, "dropout_p", dropout_p)),
        ("training", to_bool(_NAME, "training", training)),
        ("need_weights", to_bool(_NAME, "need_weights", need_weights)),
        (
            "use_separate_proj_weight",
            to_bool(_NAME, "use_separate_proj_weight", use_separate_proj_weight),
        ),
        ("average_attn_weights", to_bool(_NAME, "average_attn_weights", average_attn_weights)),
        ("is_causal", to_bool(_NAME, "is_causal", is_causal)),
    ]
    tensors = (
        query,
        key,
        value,
        in_proj_weight,
        in_proj_bias,
        bias_k,
        bias_v,
        out_proj_weight,
        out_proj_bias,
        key_padding_mask,
        attn_mask,
        q_proj_weight,
        k_proj_weight,
        v_proj_weight,
        static_k,
        static_v,
    )
    output, weights = record_many(_NAME, _TENSORS, tensors, attributes, 2)
    return output, weights if need_weights else None
