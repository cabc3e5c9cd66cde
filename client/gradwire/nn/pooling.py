"""Pooling that gives one tensor or two, by a flag; and to a number of bins."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, SupportsIndex, overload

from gradwire.arguments import to_bool, to_int, to_ints
from gradwire.record import record, record_many
from gradwire.recorder import Attribute

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

Ints = SupportsIndex | Sequence[SupportsIndex]
Bins = SupportsIndex | Sequence[SupportsIndex | None] | None
_SELF = ("self",)
_AS_INPUT = -1


def _max_pool(
    name: str,
    input: object,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
    return_indices: bool,
) -> "Tensor | tuple[Tensor, Tensor]":
    attributes: list[Attribute] = [("kernel_size", to_ints(name, "kernel_size", kernel_size))]
    if stride is not None:
        attributes.append(("stride", to_ints(name, "stride", stride)))
    if padding != 0:
        attributes.append(("padding", to_ints(name, "padding", padding)))
    if dilation != 1:
        attributes.append(("dilation", to_ints(name, "dilation", dilation)))
    if ceil_mode:
        attributes.append(("ceil_mode", to_bool(name, "ceil_mode", ceil_mode)))
    if not return_indices:
        return record(name, _SELF, (input,), attributes)
    values, indices = record_many(f"{name}_with_indices", _SELF, (input,), attributes, 2)
    return values, indices


def _bins(name: str, output_size: Bins) -> tuple[Attribute, ...]:
    sizes = output_size if isinstance(output_size, Sequence) else (output_size,)
    counts = [_AS_INPUT if each is None else to_int(name, "output_size", each) for each in sizes]
    return (("output_size", tuple(counts)),)


def _adaptive_max_pool(
    name: str, input: object, output_size: Bins, return_indices: bool
) -> "Tensor | tuple[Tensor, Tensor]":
    values, indices = record_many(name, _SELF, (input,), _bins(name, output_size), 2)
    return (values, indices) if return_indices else values


@overload
def max_pool1d(
    input: "Tensor",
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> "Tensor": ...
@overload
def max_pool1d(
    input: "Tensor",
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> "tuple[Tensor, Tensor]": ...
@overload
def max_pool1d(
    input: "Tensor",
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> "Tensor | tuple[Tensor, Tensor]": ...
def max_pool1d(
    input: "Tensor",
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> "Tensor | tuple[Tensor, Tensor]":
    """Run the operator `max_pool1d`: the largest element of each window.

    Args:
        input: (n, c, l), or without n.
        kernel_size: A number, or one for each dimension; likewise the next three.
        stride: Between windows; None for `kernel_size`.
        padding: On both sides, with what is never the largest; at most half of the kernel.
        dilation: Between elements of a window.
        ceil_mode: Also windows that begin inside and end outside.
        return_indices: Give `(values, indices)`: also where in the image (as one dimension, int64)
            each value stands.
    """
    return _max_pool(
        "max_pool1d",
        input,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        return_indices,
    )


@overload
def max_pool2d(
    input: "Tensor",
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> "Tensor": ...
@overload
def max_pool2d(
    input: "Tensor",
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> "tuple[Tensor, Tensor]": ...
@overload
def max_pool2d(
    input: "Tensor",
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> "Tensor | tuple[Tensor, Tensor]": ...
def max_pool2d(
    input: "Tensor",
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> "Tensor | tuple[Tensor, Tensor]":
    """Run the operator `max_pool2d`: the largest element of each window.

    Args:
        input: (n, c, h, w), or without n.
        kernel_size: A number, or one for each dimension; likewise the next three.
        stride: Between windows; None for `kernel_size`.
        padding: On both sides, with what is never the largest; at most half of the kernel.
        dilation: Between elements of a window.
        ceil_mode: Also windows that begin inside and end outside.
        return_indices: Give `(values, indices)`: also where in the image (as one dimension, int64)
            each value stands.
    """
    return _max_pool(
        "max_pool2d",
        input,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        return_indices,
    )


@overload
def max_pool3d(
    input: "Tensor",
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> "Tensor": ...
@overload
def max_pool3d(
    input: "Tensor",
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    *,
    return_indices: Literal[True],
) -> "tuple[Tensor, Tensor]": ...
@overload
def max_pool3d(
    input: "Tensor",
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> "Tensor | tuple[Tensor, Tensor]": ...
def max_pool3d(
    input: "Tensor",
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> "Tensor | tuple[Tensor, Tensor]":
    """Run the operator `max_pool3d`: the largest element of each window.

    Args:
        input: (n, c, d, h, w), or without n.
        kernel_size: A number, or one for each dimension; likewise the next three.
        stride: Between windows; None for `kernel_size`.
        padding: On both sides, with what is never the largest; at most half of the kernel.
        dilation: Between elements of a window.
        ceil_mode: Also windows that begin inside and end outside.
        return_indices: Give `(values, indices)`: also where in the image (as one dimension, int64)
            each value stands.
    """
    return _max_pool(
        "max_pool3d",
        input,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        return_indices,
    )


def adaptive_avg_pool1d(input: "Tensor", output_size: Bins) -> "Tensor":
    """Run the operator `adaptive_avg_pool1d`: the mean of each of `output_size` bins.

    Args:
        input: (n, c, l), or without n.
        output_size: A number of bins, or one for each dimension; None for the input's size.
    """
    name = "adaptive_avg_pool1d"
    return record(name, _SELF, (input,), _bins(name, output_size))


@overload
def adaptive_max_pool1d(
    input: "Tensor", output_size: Bins, return_indices: Literal[False] = False
) -> "Tensor": ...
@overload
def adaptive_max_pool1d(
    input: "Tensor", output_size: Bins, return_indices: Literal[True]
) -> "tuple[Tensor, Tensor]": ...
@overload
def adaptive_max_pool1d(
    input: "Tensor", output_size: Bins, return_indices: bool
) -> "Tensor | tuple[Tensor, Tensor]": ...
def adaptive_max_pool1d(
    input: "Tensor", output_size: Bins, return_indices: bool = False
) -> "Tensor | tuple[Tensor, Tensor]":
    """Run the operator `adaptive_max_pool1d`: the largest of each of `output_size` bins.

    Args:
        input: (n, c, l), or without n.
        output_size: A number of bins, or one for each dimension; None for the input's size.
        return_indices: Give `(values, indices)`, as `max_pool1d`.
    """
    return _adaptive_max_pool("adaptive_max_pool1d", input, output_size, return_indices)


def adaptive_avg_pool2d(input: "Tensor", output_size: Bins) -> "Tensor":
    """Run the operator `adaptive_avg_pool2d`: the mean of each of `output_size` bins.

    Args:
        input: (n, c, h, w), or without n.
        output_size: A number of bins, or one for each dimension; None for the input's size.
    """
    name = "adaptive_avg_pool2d"
    return record(name, _SELF, (input,), _bins(name, output_size))


@overload
def adaptive_max_pool2d(
    input: "Tensor", output_size: Bins, return_indices: Literal[False] = False
) -> "Tensor": ...
@overload
def adaptive_max_pool2d(
    input: "Tensor", output_size: Bins, return_indices: Literal[True]
) -> "tuple[Tensor, Tensor]": ...
@overload
def adaptive_max_pool2d(
    input: "Tensor", output_size: Bins, return_indices: bool
) -> "Tensor | tuple[Tensor, Tensor]": ...
def adaptive_max_pool2d(
    input: "Tensor", output_size: Bins, return_indices: bool = False
) -> "Tensor | tuple[Tensor, Tensor]":
    """Run the operator `adaptive_max_pool2d`: the largest of each of `output_size` bins.

    Args:
        input: (n, c, h, w), or without n.
        output_size: A number of bins, or one for each dimension; None for the input's size.
        return_indices: Give `(values, indices)`, as `max_pool2d`.
    """
    return _adaptive_max_pool("adaptive_max_pool2d", input, output_size, return_indices)


def adaptive_avg_pool3d(input: "Tensor", output_size: Bins) -> "Tensor":
    """Run the operator `adaptive_avg_pool3d`: the mean of each of `output_size` bins.

    Args:
        input: (n, c, d, h, w), or without n.
        output_size: A number of bins, or one for each dimension; None for the input's size.
    """
    name = "adaptive_avg_pool3d"
    return record(name, _SELF, (input,), _bins(name, output_size))


@overload
def adaptive_max_pool3d(
    input: "Tensor", output_size: Bins, return_indices: Literal[False] = False
) -> "Tensor": ...
@overload
def adaptive_max_pool3d(
    input: "Tensor", output_size: Bins, return_indices: Literal[True]
) -> "tuple[Tensor, Tensor]": ...
@overload
def adaptive_max_pool3d(
    input: "Tensor", output_size: Bins, return_indices: bool
) -> "Tensor | tuple[Tensor, Tensor]": ...
def adaptive_max_pool3d(
    input: "Tensor", output_size: Bins, return_indices: bool = False
) -> "Tensor | tuple[Tensor, Tensor]":
    """Run the operator `adaptive_max_pool3d`: the largest of each of `output_size` bins.

    Args:
        input: (n, c, d, h, w), or without n.
        output_size: A number of bins, or one for each dimension; None for the input's size.
        return_indices: Give `(values, indices)`, as `max_pool3d`.
    """
    return _adaptive_max_pool("adaptive_max_pool3d", input, output_size, return_indices)
