"""`gw.nn.functional`: activations, losses, normalization, as in torch.nn.functional."""

from typing import TYPE_CHECKING

from gradwire.arguments import to_int
from gradwire.nn.attention import multi_head_attention_forward
from gradwire.nn.convolution import conv1d, conv2d, conv3d
from gradwire.nn.folding import fold, unfold
from gradwire.nn.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from gradwire.operators import functional as generated
from gradwire.operators.functional import *  # noqa: F403 (the names are those of its __all__)
from gradwire.record import record
from gradwire.recorder import Attribute

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "conv1d",
    "conv2d",
    "conv3d",
    "embedding",
    "fold",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "multi_head_attention_forward",
    "one_hot",
    "unfold",
]
__all__ += generated.__all__


def embedding(input: "Tensor", weight: "Tensor", padding_idx: int | None = None) -> "Tensor":
    """Rows of `weight` (n, d) for each index in `input` (integers of any shape s): shape (*s, d).

    The row `padding_idx` gets no gradient.
    """
    attributes: list[Attribute] = []
    if padding_idx is not None:
        attributes.append(("padding_idx", to_int("embedding", "padding_idx", padding_idx)))
    return record("embedding", ("weight", "indices"), (weight, input), attributes)


def one_hot(tensor: "Tensor", num_classes: int = -1) -> "Tensor":
    """For each integer a row with a one at its place: shape (*s, num_classes), int64.

    With `num_classes` -1 there are as many as the largest integer needs.
    """
    attributes: list[Attribute] = []
    if num_classes != -1:
        attributes.append(("num_classes", to_int("one_hot", "num_classes", num_classes)))
    return record("one_hot", ("self",), (tensor,), attributes)
