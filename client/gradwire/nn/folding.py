"""Windows of images as columns, and back."""

from collections.abc import Sequence
from typing import SupportsIndex

from gradwire.arguments import to_ints
from gradwire.record import AnyTensor, record
from gradwire.recorder import Attribute

Ints = SupportsIndex | Sequence[SupportsIndex]


def unfold(
    input: AnyTensor,
    kernel_size: Ints,
    dilation: Ints = 1,
    padding: Ints = 0,
    stride: Ints = 1,
) -> AnyTensor:
    """Run the operator `im2col`: each window of an image as a column.

    Args:
        input: (n, c, h, w), or without n.
        kernel_size: A number, or one for each dimension; likewise the next three.
        dilation: Between elements of a window.
        padding: Zeros added on both sides.
        stride: Between windows.

    Returns:
        (n, c · kh · kw, windows), or without n.
    """
    geometry = _geometry("unfold", kernel_size, dilation, padding, stride)
    return record("im2col", ("self",), (input,), geometry)


def fold(
    input: AnyTensor,
    output_size: Ints,
    kernel_size: Ints,
    dilation: Ints = 1,
    padding: Ints = 0,
    stride: Ints = 1,
) -> AnyTensor:
    """Run the operator `col2im`: columns added up at the places of their windows in an image.

    Args:
        input: (n, c · kh · kw, windows), or without n.
        output_size: Of the image.
        kernel_size: As for `unfold`; likewise the next three.
        dilation: Between elements of a window.
        padding: Zeros that were added on both sides.
        stride: Between windows.

    Returns:
        (n, c, h, w), or without n.
    """
    size: Attribute = ("output_size", to_ints("fold", "output_size", output_size))
    geometry = _geometry("fold", kernel_size, dilation, padding, stride)
    return record("col2im", ("self",), (input,), (size, *geometry))


def _geometry(
    name: str, kernel_size: Ints, dilation: Ints, padding: Ints, stride: Ints
) -> tuple[Attribute, ...]:
    return (
        ("kernel_size", to_ints(name, "kernel_size", kernel_size)),
        ("dilation", to_ints(name, "dilation", dilation)),
        ("padding", to_ints(name, "padding", padding)),
        ("stride", to_ints(name, "stride", stride)),
    )
