"""Convolutions: padding is numbers, or a word."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex

from gradwire.arguments import to_int, to_ints
from gradwire.record import record
from gradwire.recorder import Attribute

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

Ints = SupportsIndex | Sequence[SupportsIndex]
_TENSORS = ("input", "weight", "bias")


def _conv(
    name: str,
    tensors: tuple[object, object, object],
    stride: Ints,
    padding: Ints | str,
    dilation: Ints,
    groups: int,
) -> "Tensor":
    attributes: list[Attribute] = []
    if stride != 1:
        attributes.append(("stride", to_ints(name, "stride", stride)))
    if dilation != 1:
        attributes.append(("dilation", to_ints(name, "dilation", dilation)))
    if groups != 1:
        attributes.append(("groups", to_int(name, "groups", groups)))
    if isinstance(padding, str):
        attributes.append(("padding", padding))
        return record(f"{name}.padding", _TENSORS, tensors, attributes)
    if padding != 0:
        attributes.append(("padding", to_ints(name, "padding", padding)))
    return record(name, _TENSORS, tensors, attributes)


def conv1d(
    input: "Tensor",
    weight: "Tensor",
    bias: "Tensor | None" = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> "Tensor":
    """Run the operator `conv1d`: a convolution over 1 spatial dimension.

    Args:
        input: (n, c, l), or without n.
        weight: (o, c / groups, k), of the input's dtype.
        bias: (o,); None for none.
        stride: Between windows; a number, or one for each dimension.
        padding: Zeros added on both sides; or "valid" for none, "same" to keep the size.
        dilation: Between elements of a window.
        groups: Parts that the channels fall into, each convolved by itself.
    """
    return _conv("conv1d", (input, weight, bias), stride, padding, dilation, groups)


def conv2d(
    input: "Tensor",
    weight: "Tensor",
    bias: "Tensor | None" = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> "Tensor":
    """Run the operator `conv2d`: a convolution over 2 spatial dimensions.

    Args:
        input: (n, c, h, w), or without n.
        weight: (o, c / groups, kh, kw), of the input's dtype.
        bias: (o,); None for none.
        stride: Between windows; a number, or one for each dimension.
        padding: Zeros added on both sides; or "valid" for none, "same" to keep the size.
        dilation: Between elements of a window.
        groups: Parts that the channels fall into, each convolved by itself.
    """
    return _conv("conv2d", (input, weight, bias), stride, padding, dilation, groups)


def conv3d(
    input: "Tensor",
    weight: "Tensor",
    bias: "Tensor | None" = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> "Tensor":
    """Run the operator `conv3d`: a convolution over 3 spatial dimensions.

    Args:
        input: (n, c, d, h, w), or without n.
        weight: (o, c / groups, kd, kh, kw), of the input's dtype.
        bias: (o,); None for none.
        stride: Between windows; a number, or one for each dimension.
        padding: Zeros added on both sides; or "valid" for none, "same" to keep the size.
        dilation: Between elements of a window.
        groups: Parts that the channels fall into, each convolved by itself.
    """
    return _conv("conv3d", (input, weight, bias), stride, padding, dilation, groups)
