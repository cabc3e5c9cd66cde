"""Operators that take or give as many tensors as one likes: einsum, gradient, tensor_split."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex

from gradwire import arguments, reading
from gradwire import tensors as _tensors
from gradwire.errors import refused
from gradwire.record import TensorList, record, record_many
from gradwire.recorder import Attribute

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

_SELF = ("self",)


def broadcast_tensors(*tensors: "Tensor") -> "tuple[Tensor, ...]":
    """The tensors expanded to their common shape, as views."""
    attributes: list[Attribute] = [("tensors", TensorList("broadcast_tensors", "tensors", tensors))]
    return record_many("broadcast_tensors", (), (), attributes, len(tensors))


def meshgrid(*tensors: "Tensor | Sequence[Tensor]", indexing: str = "ij") -> "tuple[Tensor, ...]":
    """Grids of coordinates from vectors, as views: `meshgrid(x, y)` or `meshgrid([x, y])`.

    Args:
        indexing: "ij", or "xy" for grids whose first two dimensions are swapped.
    """
    vectors = _flat(tensors)
    attributes: list[Attribute] = [("tensors", TensorList("meshgrid", "tensors", vectors))]
    if indexing != "ij":
        attributes.append(("indexing", arguments.to_str("meshgrid", "indexing", indexing)))
    return record_many("meshgrid", (), (), attributes, len(vectors))


def einsum(equation: str, *operands: "Tensor | Sequence[Tensor]") -> "Tensor":
    """Sums of products by Einstein's convention: `einsum("ij,jk->ik", x, y)`.

    Args:
        equation: letters for the dimensions of each operand, and of the result after `->`; `...`
            for those that have none.
    """
    tensors = TensorList("einsum", "tensors", _flat(operands))
    attributes: list[Attribute] = [
        ("equation", arguments.to_str("einsum", "equation", equation)),
        ("tensors", tensors),
    ]
    return record("einsum", (), (), attributes)


def tensordot(
    a: "Tensor", b: "Tensor", dims: int | Sequence[Sequence[SupportsIndex]] = 2
) -> "Tensor":
    """The product summed over dimensions of both.

    Args:
        dims: how many, the last of `a` and the first of `b`; or which of `a` and which of `b`.
    """
    if isinstance(dims, int):
        dims = (tuple(range(-dims, 0)), tuple(range(dims)))
    of_a, of_b = (arguments.to_ints("tensordot", "dims", each) for each in dims)
    attributes: list[Attribute] = [("dims_self", of_a), ("dims_other", of_b)]
    return record("tensordot", ("self", "other"), (a, b), attributes)


def block_diag(*tensors: "Tensor") -> "Tensor":
    """A matrix with these as blocks along its diagonal, and zeros elsewhere."""
    attributes: list[Attribute] = [("tensors", TensorList("block_diag", "tensors", tensors))]
    return record("block_diag", (), (), attributes)


def cartesian_prod(*tensors: "Tensor") -> "Tensor":
    """All combinations of one element of each vector, as rows."""
    attributes: list[Attribute] = [("tensors", TensorList("cartesian_prod", "tensors", tensors))]
    return record("cartesian_prod", (), (), attributes)


def gradient(
    input: "Tensor",
    *,
    spacing: "float | Sequence[float] | Sequence[Tensor] | None" = None,
    dim: SupportsIndex | Sequence[SupportsIndex] | None = None,
    edge_order: int = 1,
) -> "tuple[Tensor, ...]":
    """Derivatives of samples along each dimension, or along `dim`, by differences of second order.

    Takes a round trip where `dim` is not given and the tensor's shape is not known yet.

    Args:
        spacing: how far samples are apart: one number, a number for each dimension, or for each
            a vector of coordinates.
        edge_order: 1 or 2: the order of the differences at the two ends.
    """
    attributes: list[Attribute] = []
    dims = None if dim is None else arguments.to_ints("gradient", "dim", dim)
    name = "gradient"
    if isinstance(spacing, Sequence) and any(isinstance(e, _tensors.Tensor) for e in spacing):
        name = "gradient.coordinates"
        attributes.append(("spacing", TensorList(name, "spacing", spacing)))
    elif spacing is not None:
        attributes.append(("spacing", arguments.to_floats(name, "spacing", spacing)))
    if dims is not None:
        attributes.append(("dim", dims))
    if edge_order != 1:
        attributes.append(("edge_order", arguments.to_int(name, "edge_order", edge_order)))
    count = len(reading.type_of(input).shape if dims is None else dims)
    return record_many(name, _SELF, (input,), attributes, count)


def _flat(tensors: "tuple[Tensor | Sequence[Tensor], ...]") -> "tuple[Tensor, ...]":
    if len(tensors) == 1 and not isinstance(tensors[0], _tensors.Tensor):
        return tuple(tensors[0])
    return tensors  # type: ignore[return-value]


def tensor_split(
    input: "Tensor",
    indices_or_sections: SupportsIndex | Sequence[SupportsIndex],
    dim: int = 0,
) -> "tuple[Tensor, ...]":
    """Parts along a dimension, as views: so many, or divided at these indices.

    Sizes differ by at most 1 where they do not come out even.
    """
    return split_evenly("tensor_split", input, indices_or_sections, dim)


def hsplit(
    input: "Tensor", indices_or_sections: SupportsIndex | Sequence[SupportsIndex]
) -> "tuple[Tensor, ...]":
    """Parts along dimension 1 (of a vector 0): so many equal ones, or divided at these indices."""
    return split_evenly("hsplit", input, indices_or_sections)


def vsplit(
    input: "Tensor", indices_or_sections: SupportsIndex | Sequence[SupportsIndex]
) -> "tuple[Tensor, ...]":
    """Parts along dimension 0: so many equal ones, or divided at these indices."""
    return split_evenly("vsplit", input, indices_or_sections)


def dsplit(
    input: "Tensor", indices_or_sections: SupportsIndex | Sequence[SupportsIndex]
) -> "tuple[Tensor, ...]":
    """Parts along dimension 2: so many equal ones, or divided at these indices."""
    return split_evenly("dsplit", input, indices_or_sections)


def split_evenly(
    name: str,
    input: object,
    indices_or_sections: SupportsIndex | Sequence[SupportsIndex],
    dim: int = 0,
) -> "tuple[Tensor, ...]":
    """The parts that `tensor_split` or one of its kin gives, by its name."""
    attributes: list[Attribute] = []
    if isinstance(indices_or_sections, Sequence):
        indices = arguments.to_ints(name, "indices", indices_or_sections)
        attributes.append(("indices", indices))
        count = len(indices) + 1
    else:
        count = arguments.to_int(name, "sections", indices_or_sections)
        attributes.append(("sections", count))
        if count < 1:
            raise refused("BAD_VALUE", f"{name}(): sections must be at least 1, not {count}")
    if dim != 0:
        attributes.append(("dim", arguments.to_int(name, "dim", dim)))
    return record_many(name, _SELF, (input,), attributes, count)
