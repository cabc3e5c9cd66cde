"""Attention with several heads: every path through it against PyTorch's."""

from typing import Any

import pytest
import torch

from gradwire_engine import EngineError
from tests.parity.oracle import ENTRIES, Call, Sides, run_ours
from tests.parity.test_operators import differences

NAME = "multi_head_attention_forward"
ENTRY = next(entry for entry in ENTRIES if entry.name == NAME)

LENGTH, KEYS, BATCH, HEADS, SIZE = 3, 4, 2, 2, 6
ROWS, WIDTH = BATCH * HEADS, SIZE // HEADS


def leaf(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def hidden(*shape: int) -> torch.Tensor:
    """A mask that hides some keys, never the first."""
    mask = torch.rand(*shape) < 0.4
    mask[..., 0] = False
    return mask


def call(inputs: str, options: dict[str, Any], bias: bool = True, batch: bool = True) -> Call:
    """A call in which `inputs` says, as "qkk", which of query, key and value are one tensor."""
    shape = (BATCH, SIZE) if batch else (SIZE,)
    made = {"q": leaf(LENGTH, *shape), "k": leaf(KEYS, *shape), "v": leaf(KEYS, *shape)}
    query, key, value = (made[each] for each in inputs)
    given = {**options}
    separate = given.get("use_separate_proj_weight", False)
    more_k, more_v = given.pop("bias_k", None), given.pop("bias_v", None)
    args = (
        *(key, value, SIZE, HEADS),
        None if separate else leaf(3 * SIZE, SIZE),
        leaf(3 * SIZE) if bias else None,
        *(more_k, more_v, given.pop("add_zero_attn", False), 0.0),
        *(leaf(SIZE, SIZE), leaf(SIZE) if bias else None),
    )
    results = None if given.get("need_weights", True) else 1
    function = torch.nn.functional.multi_head_attention_forward
    return Call(function, query, args, given, NAME, (query, *args), given, results, ENTRY.id)


def options() -> dict[str, dict[str, Any]]:
    weights = {f"{each}_proj_weight": leaf(SIZE, SIZE) for each in "qkv"}
    masks = {"attn_mask": hidden(LENGTH, KEYS), "key_padding_mask": hidden(BATCH, KEYS)}
    more = {"bias_k": leaf(1, 1, SIZE), "bias_v": leaf(1, 1, SIZE)}
    return {
        "plain": {},
        "without weights": {"need_weights": False},
        "weights by head": {"average_attn_weights": False},
        "masks": masks,
        "masks without weights": {**masks, "need_weights": False},
        "added mask": {"attn_mask": torch.randn(ROWS, LENGTH, KEYS, dtype=torch.float64)},
        "by head, without weights": {
            "attn_mask": hidden(ROWS, LENGTH, KEYS),
            "need_weights": False,
        },
        "causal": {
            "attn_mask": torch.ones(LENGTH, KEYS).triu(1).bool(),
            "is_causal": True,
            "need_weights": False,
        },
        "one more key": {**more, **masks},
        "a key of zeros": {"add_zero_attn": True, **masks},
        "separate": {"use_separate_proj_weight": True, **weights},
        "static": {"static_k": leaf(ROWS, KEYS, WIDTH), "static_v": leaf(ROWS, KEYS, WIDTH)},
    }


@pytest.mark.parametrize("name", options())
@pytest.mark.parametrize("inputs", ["qkv", "qkk"])
def test_values_graph_and_gradients_are_those_of_torch(name: str, inputs: str) -> None:
    torch.manual_seed(0)
    assert differences(ENTRY, call(inputs, options()[name]), True) == []


@pytest.mark.parametrize("name", ["plain", "without weights", "separate"])
@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_of_one_tensor_with_itself(name: str, batch: bool, bias: bool) -> None:
    torch.manual_seed(0)
    assert differences(ENTRY, call("qqq", options()[name], bias, batch), True) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"attn_mask": hidden(KEYS, LENGTH)},
        {"attn_mask": hidden(ROWS + 1, LENGTH, KEYS)},
        {"attn_mask": torch.zeros(LENGTH, KEYS, dtype=torch.int64)},
        {"key_padding_mask": hidden(KEYS, BATCH)},
        {"key_padding_mask": hidden(KEYS)},
        {"bias_k": leaf(1, 1, SIZE)},
        {"use_separate_proj_weight": True},
        {"is_causal": True},
        {"static_k": leaf(ROWS, KEYS, SIZE)},
    ],
)
def test_what_torch_refuses_is_refused(wrong: dict[str, Any]) -> None:
    made = call("qkv", wrong)
    with pytest.raises((RuntimeError, AssertionError)):
        made.function(made.input, *made.args, **made.kwargs)
    with pytest.raises(EngineError):
        run_ours(made, Sides())
