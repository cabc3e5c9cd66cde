"""`gw.nn.functional`: activations, losses, normalization, as in torch.nn.functional."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradwire.arguments import to_int, to_number
from gradwire.operators import functional as generated
from gradwire.operators.functional import *  # noqa: F403 (the names are those of its __all__)
from gradwire.record import record, record_in_place
from gradwire.recorder import Attribute

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

__all__ = ["embedding", "leaky_relu", "leaky_relu_", "one_hot", "relu", "relu_", "silu"]
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


def relu(input: "Tensor", inplace: bool = False) -> "Tensor":
    """max(input, 0), of any shape; its derivative at 0 is 0.

    Args:
        inplace: Write the result to `input`.
    """
    return _in_place_or_not("relu", input, (), inplace)


def relu_(input: "Tensor") -> "Tensor":
    """As `relu`, in place."""
    return relu(input, inplace=True)


def leaky_relu(input: "Tensor", negative_slope: float = 0.01, inplace: bool = False) -> "Tensor":
    """The input where it is positive, else `negative_slope` times it; of any shape.

    Args:
        inplace: Write the result to `input`.
    """
    slope = to_number("leaky_relu", "negative_slope", negative_slope)
    return _in_place_or_not("leaky_relu", input, (("negative_slope", slope),), inplace)


def leaky_relu_(input: "Tensor", negative_slope: float = 0.01) -> "Tensor":
    """As `leaky_relu`, in place."""
    return leaky_relu(input, negative_slope, inplace=True)


def silu(input: "Tensor", inplace: bool = False) -> "Tensor":
    """input·sigmoid(input), of any shape.

    Args:
        inplace: Write the result to `input`.
    """
    return _in_place_or_not("silu", input, (), inplace)


def _in_place_or_not(
    name: str, input: object, attributes: Sequence[Attribute], inplace: bool
) -> "Tensor":
    if inplace:
        return record_in_place(f"{name}_", ("self",), (input,), attributes)
    return record(name, ("self",), (input,), attributes)
