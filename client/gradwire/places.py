"""Which elements there are, and where: unique, unique_consecutive, nonzero."""

from typing import Literal, Self, overload

from gradwire.arguments import to_bool, to_int
from gradwire.overloads import Overloads, unbind
from gradwire.record import AnyTensor, record, record_many
from gradwire.recorder import Attribute

_SELF = ("self",)


@overload
def nonzero(input: AnyTensor, *, as_tuple: Literal[False] = False) -> AnyTensor: ...
@overload
def nonzero(input: AnyTensor, *, as_tuple: Literal[True]) -> tuple[AnyTensor, ...]: ...
def nonzero(input: AnyTensor, *, as_tuple: bool = False) -> AnyTensor | tuple[AnyTensor, ...]:
    """Places of what is not zero: rows of indices, of shape (n, dimensions), int64.

    Args:
        as_tuple: one vector of indices for each dimension, to index with. Takes a round trip.
    """
    return _nonzero(input, as_tuple)


def _nonzero(input: AnyTensor, as_tuple: bool) -> AnyTensor | tuple[AnyTensor, ...]:
    if not as_tuple:
        return record("nonzero", _SELF, (input,))
    return unbind(record("nonzero", _SELF, (record("atleast_1d", _SELF, (input,)),)), 1)


def unique(
    input: AnyTensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> AnyTensor | tuple[AnyTensor, ...]:
    """The different elements, sorted; with `dim` the different slices along that dimension.

    Args:
        sorted: they are sorted in any case.
        return_inverse: also where in the result each element of the input is found.
        return_counts: also how often each is there.
    """
    return _different(input, "unique", return_inverse, return_counts, dim)


def unique_consecutive(
    input: AnyTensor,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> AnyTensor | tuple[AnyTensor, ...]:
    """Elements (with `dim`, slices) without those that are equal to the one before; as `unique`."""
    return _different(input, "unique_consecutive", return_inverse, return_counts, dim)


def _different(
    input: AnyTensor, name: str, return_inverse: bool, return_counts: bool, dim: int | None
) -> AnyTensor | tuple[AnyTensor, ...]:
    attributes: list[Attribute] = []
    if to_bool(name, "return_inverse", return_inverse):
        attributes.append(("return_inverse", True))
    if to_bool(name, "return_counts", return_counts):
        attributes.append(("return_counts", True))
    if dim is not None:
        attributes.append(("dim", to_int(name, "dim", dim)))
    values, inverse, counts = record_many(name, _SELF, (input,), attributes, 3)
    wanted = (
        values,
        *((inverse,) if return_inverse else ()),
        *((counts,) if return_counts else ()),
    )
    return wanted if len(wanted) > 1 else values


class Places(Overloads):
    """The same as methods."""

    __slots__ = ()

    @overload
    def nonzero(self, *, as_tuple: Literal[False] = False) -> Self: ...
    @overload
    def nonzero(self, *, as_tuple: Literal[True]) -> tuple[Self, ...]: ...
    def nonzero(self, *, as_tuple: bool = False) -> Self | tuple[Self, ...]:
        """Places of what is not zero, as `gradwire.nonzero`."""
        return _nonzero(self, as_tuple)

    def unique(
        self,
        sorted: bool = True,
        return_inverse: bool = False,
        return_counts: bool = False,
        dim: int | None = None,
    ) -> Self | tuple[Self, ...]:
        """The different elements or slices, as `gradwire.unique`."""
        return _different(self, "unique", return_inverse, return_counts, dim)

    def unique_consecutive(
        self, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
    ) -> Self | tuple[Self, ...]:
        """Without those that are equal to the one before, as `gradwire.unique_consecutive`."""
        return _different(self, "unique_consecutive", return_inverse, return_counts, dim)
