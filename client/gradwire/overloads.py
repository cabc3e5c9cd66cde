"""Operators whose overloads return different things, or as many tensors as a shape says."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, Self, SupportsIndex, cast, overload

from gradwire import arguments, reading, several
from gradwire import tensors as _tensors
from gradwire.errors import refused
from gradwire.operators.methods import Methods
from gradwire.record import AnyTensor, record, record_many
from gradwire.recorder import Attribute

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

_SELF = ("self",)


class Chosen(NamedTuple, Generic[AnyTensor]):
    """Values chosen along a dimension, and where they stand."""

    values: AnyTensor
    indices: AnyTensor


@overload
def max(input: AnyTensor) -> AnyTensor: ...
@overload
def max(input: AnyTensor, dim: "Tensor") -> AnyTensor: ...
@overload
def max(input: AnyTensor, dim: int, keepdim: bool = False) -> "Chosen[AnyTensor]": ...
@overload
def max(input: AnyTensor, *, other: "Tensor") -> AnyTensor: ...
def max(
    input: AnyTensor,
    dim: "int | Tensor | None" = None,
    keepdim: bool = False,
    *,
    other: "Tensor | None" = None,
) -> "AnyTensor | Chosen[AnyTensor]":
    """The largest element; `max(x, dim)` along a dimension; `max(x, y)` element by element."""
    return _extreme("max", input, dim, keepdim, other)


@overload
def min(input: AnyTensor) -> AnyTensor: ...
@overload
def min(input: AnyTensor, dim: "Tensor") -> AnyTensor: ...
@overload
def min(input: AnyTensor, dim: int, keepdim: bool = False) -> "Chosen[AnyTensor]": ...
@overload
def min(input: AnyTensor, *, other: "Tensor") -> AnyTensor: ...
def min(
    input: AnyTensor,
    dim: "int | Tensor | None" = None,
    keepdim: bool = False,
    *,
    other: "Tensor | None" = None,
) -> "AnyTensor | Chosen[AnyTensor]":
    """The smallest element; `min(x, dim)` along a dimension; `min(x, y)` element by element."""
    return _extreme("min", input, dim, keepdim, other)


@overload
def median(input: AnyTensor) -> AnyTensor: ...
@overload
def median(input: AnyTensor, dim: int, keepdim: bool = False) -> "Chosen[AnyTensor]": ...
def median(
    input: AnyTensor, dim: int | None = None, keepdim: bool = False
) -> "AnyTensor | Chosen[AnyTensor]":
    """The median, of an even number of elements the lower one; with `dim`, along a dimension."""
    return _chosen("median", input, dim, keepdim)


@overload
def nanmedian(input: AnyTensor) -> AnyTensor: ...
@overload
def nanmedian(input: AnyTensor, dim: int, keepdim: bool = False) -> "Chosen[AnyTensor]": ...
def nanmedian(
    input: AnyTensor, dim: int | None = None, keepdim: bool = False
) -> "AnyTensor | Chosen[AnyTensor]":
    """The median of what is not NaN, as `median`."""
    return _chosen("nanmedian", input, dim, keepdim)


def _extreme(
    name: str, input: AnyTensor, dim: object, keepdim: bool, other: object = None
) -> "AnyTensor | Chosen[AnyTensor]":
    """Of a tensor's elements; or, given another tensor, element by element."""
    if isinstance(dim, _tensors.Tensor):
        other = dim
    if other is not None:
        return record(f"{name}imum", ("self", "other"), (input, other))
    return _chosen(name, input, dim, keepdim)


def _chosen(
    name: str, input: AnyTensor, dim: object, keepdim: bool
) -> "AnyTensor | Chosen[AnyTensor]":
    if dim is None:
        return record(name, _SELF, (input,))
    attributes: list[Attribute] = [("dim", arguments.to_int(name, "dim", dim))]
    if keepdim:
        attributes.append(("keepdim", True))
    return Chosen(*record_many(f"{name}.dim", _SELF, (input,), attributes, 2))


def var(
    input: AnyTensor,
    dim: SupportsIndex | Sequence[SupportsIndex] | None = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> AnyTensor:
    """The variance: divided by the count minus `correction`, which is 1, or 0 if not `unbiased`."""
    return _spread("var", input, dim, unbiased, keepdim, correction)


def std(
    input: AnyTensor,
    dim: SupportsIndex | Sequence[SupportsIndex] | None = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> AnyTensor:
    """The standard deviation: the square root of `var`."""
    return _spread("std", input, dim, unbiased, keepdim, correction)


def _spread(
    name: str,
    input: AnyTensor,
    dim: object,
    unbiased: bool | None,
    keepdim: bool,
    correction: float | None,
) -> AnyTensor:
    if unbiased is not None and correction is not None:
        raise refused(
            "BAD_ATTRIBUTE", f"{name}() takes either 'unbiased' or 'correction', not both"
        )
    if isinstance(dim, bool):
        # torch.var(x, False): a bool alone says whether to be unbiased.
        dim, unbiased = None, dim
    if unbiased is not None:
        correction = int(unbiased)
    attributes: list[Attribute] = []
    if dim is not None:
        attributes.append(("dim", arguments.to_ints(name, "dim", dim)))
    if correction is not None and correction != 1:
        attributes.append(("correction", arguments.to_number(name, "correction", correction)))
    if keepdim:
        attributes.append(("keepdim", True))
    return record(name, _SELF, (input,), attributes)


def split(
    tensor: AnyTensor, split_size_or_sections: int | Sequence[int], dim: int = 0
) -> tuple[AnyTensor, ...]:
    """Parts along a dimension, as views: of one size (the last may be smaller), or of these sizes.

    Takes a round trip where one size is given and the tensor's shape is not known yet.
    """
    return _split(tensor, split_size_or_sections, dim)


def _split(
    tensor: AnyTensor, split_size_or_sections: int | Sequence[int], dim: int
) -> tuple[AnyTensor, ...]:
    if isinstance(split_size_or_sections, int):
        size = _size_along("split", tensor, dim)
        if split_size_or_sections <= 0:
            raise refused(
                "BAD_VALUE", f"split(): parts must be larger than 0, not {split_size_or_sections}"
            )
        count = -(-size // split_size_or_sections) or 1
        attributes: list[Attribute] = [("split_size", split_size_or_sections)]
        name = "split"
    else:
        sizes = arguments.to_ints("split", "split_size_or_sections", split_size_or_sections)
        attributes, count, name = [("split_sizes", sizes)], len(sizes), "split_with_sizes"
    if dim != 0:
        attributes.append(("dim", arguments.to_int("split", "dim", dim)))
    return record_many(name, _SELF, (tensor,), attributes, count)


def chunk(input: AnyTensor, chunks: int, dim: int = 0) -> tuple[AnyTensor, ...]:
    """At most `chunks` parts of equal size along a dimension, as views; the last may be smaller.

    Takes a round trip where the tensor's shape is not known yet.
    """
    return _chunk(input, chunks, dim)


def _chunk(input: AnyTensor, chunks: int, dim: int) -> tuple[AnyTensor, ...]:
    if chunks <= 0:
        raise refused("BAD_VALUE", f"chunk(): there must be at least one chunk, not {chunks}")
    size = _size_along("chunk", input, dim)
    part = -(-size // chunks)
    count = -(-size // part) if part else chunks
    attributes: list[Attribute] = [("chunks", chunks)]
    if dim != 0:
        attributes.append(("dim", dim))
    return record_many("chunk", _SELF, (input,), attributes, count)


def unbind(input: AnyTensor, dim: int = 0) -> tuple[AnyTensor, ...]:
    """The slices along a dimension, as views without it.

    Takes a round trip where the tensor's shape is not known yet.
    """
    return _unbind(input, dim)


def _unbind(input: AnyTensor, dim: int) -> tuple[AnyTensor, ...]:
    attributes: list[Attribute] = [("dim", dim)] if dim != 0 else []
    return record_many("unbind", _SELF, (input,), attributes, _size_along("unbind", input, dim))


def _size_along(name: str, tensor: object, dim: int) -> int:
    if not isinstance(tensor, _tensors.Tensor):
        raise arguments.wrong_type(name, "input", "a tensor", tensor)
    shape = reading.type_of(tensor).shape
    if not -len(shape) <= dim < len(shape):
        raise refused(
            "DIM_OUT_OF_RANGE",
            f"{name}(): there is no dimension {dim} in a tensor of shape {shape}",
            dim=dim,
            ndim=len(shape),
        )
    return shape[dim]


class Overloads(Methods):
    """The same as methods."""

    __slots__ = ()

    @overload
    def max(self) -> Self: ...
    @overload
    def max(self, dim: "Tensor") -> Self: ...
    @overload
    def max(self, dim: int, keepdim: bool = False) -> "Chosen[Self]": ...
    def max(
        self, dim: "int | Tensor | None" = None, keepdim: bool = False
    ) -> "Self | Chosen[Self]":
        """The largest element; along a dimension; or element by element with another tensor."""
        return _extreme("max", self, dim, keepdim)

    @overload
    def min(self) -> Self: ...
    @overload
    def min(self, dim: "Tensor") -> Self: ...
    @overload
    def min(self, dim: int, keepdim: bool = False) -> "Chosen[Self]": ...
    def min(
        self, dim: "int | Tensor | None" = None, keepdim: bool = False
    ) -> "Self | Chosen[Self]":
        """The smallest element; along a dimension; or element by element with another tensor."""
        return _extreme("min", self, dim, keepdim)

    @overload
    def median(self) -> Self: ...
    @overload
    def median(self, dim: int, keepdim: bool = False) -> "Chosen[Self]": ...
    def median(self, dim: int | None = None, keepdim: bool = False) -> "Self | Chosen[Self]":
        """The median, as `gradwire.median`."""
        return _chosen("median", self, dim, keepdim)

    @overload
    def nanmedian(self) -> Self: ...
    @overload
    def nanmedian(self, dim: int, keepdim: bool = False) -> "Chosen[Self]": ...
    def nanmedian(self, dim: int | None = None, keepdim: bool = False) -> "Self | Chosen[Self]":
        """The median of what is not NaN, as `gradwire.nanmedian`."""
        return _chosen("nanmedian", self, dim, keepdim)

    def var(
        self,
        dim: SupportsIndex | Sequence[SupportsIndex] | None = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Self:
        """The variance, as `gradwire.var`."""
        return _spread("var", self, dim, unbiased, keepdim, correction)

    def std(
        self,
        dim: SupportsIndex | Sequence[SupportsIndex] | None = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Self:
        """The standard deviation, as `gradwire.std`."""
        return _spread("std", self, dim, unbiased, keepdim, correction)

    def where(self, condition: "Tensor", other: "Tensor | arguments.Number") -> Self:
        """This tensor's elements where the condition holds, else the other's."""
        return cast(
            "Self", record("where", ("condition", "self", "other"), (condition, self, other))
        )

    def split(self, split_size: int | Sequence[int], dim: int = 0) -> "tuple[Self, ...]":
        """Parts along a dimension, as `gradwire.split`."""
        return _split(self, split_size, dim)

    def chunk(self, chunks: int, dim: int = 0) -> "tuple[Self, ...]":
        """At most `chunks` parts of equal size along a dimension, as `gradwire.chunk`."""
        return _chunk(self, chunks, dim)

    def unbind(self, dim: int = 0) -> "tuple[Self, ...]":
        """The slices along a dimension, as `gradwire.unbind`."""
        return _unbind(self, dim)

    def tensor_split(
        self, indices_or_sections: SupportsIndex | Sequence[SupportsIndex], dim: int = 0
    ) -> "tuple[Tensor, ...]":
        """Parts along a dimension, as `gradwire.tensor_split`."""
        return several.split_evenly("tensor_split", self, indices_or_sections, dim)

    def hsplit(
        self, indices_or_sections: SupportsIndex | Sequence[SupportsIndex]
    ) -> "tuple[Tensor, ...]":
        """Parts along dimension 1, as `gradwire.hsplit`."""
        return several.split_evenly("hsplit", self, indices_or_sections)

    def vsplit(
        self, indices_or_sections: SupportsIndex | Sequence[SupportsIndex]
    ) -> "tuple[Tensor, ...]":
        """Parts along dimension 0, as `gradwire.vsplit`."""
        return several.split_evenly("vsplit", self, indices_or_sections)

    def dsplit(
        self, indices_or_sections: SupportsIndex | Sequence[SupportsIndex]
    ) -> "tuple[Tensor, ...]":
        """Parts along dimension 2, as `gradwire.dsplit`."""
        return several.split_evenly("dsplit", self, indices_or_sections)
