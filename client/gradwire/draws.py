"""Random numbers by calls whose arguments say which operator is meant: `normal`, `x.uniform_()`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, SupportsIndex, TypeVar

import numpy.typing as npt

from gradwire import arguments, dtypes
from gradwire import tensors as _tensors
from gradwire.dtypes import dtype as Dtype
from gradwire.errors import ArgumentError
from gradwire.overloads import Overloads
from gradwire.record import record, record_in_place
from gradwire.recorder import Attribute

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

V = TypeVar("V", bound="Tensor")

_SELF = ("self",)


def normal(
    mean: "Tensor | float",
    std: "Tensor | float" = 1.0,
    size: Sequence[SupportsIndex] | None = None,
    *,
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> "Tensor":
    """Normally distributed numbers, from the session's generator.

    Args:
        mean: of each number: a tensor, or one for all.
        std: the standard deviation, likewise, which broadcasts with the mean.
        size: of the result; needed where both are plain numbers, and only there.
        dtype: with a size: of the result.

    Raises:
        TypeError: there is neither a tensor nor a size.
        ValueError: (at the next reading) a standard deviation is negative.
    """
    if isinstance(mean, _tensors.Tensor) or isinstance(std, _tensors.Tensor):
        return record("normal", ("mean", "std"), (mean, std))
    if size is None:
        raise ArgumentError("normal() of two plain numbers needs a size: normal(0.0, 1.0, (2, 3))")
    name = "normal.float_float"
    attributes: list[Attribute] = [
        ("mean", arguments.to_float(name, "mean", mean)),
        ("std", arguments.to_float(name, "std", std)),
        ("size", arguments.to_ints(name, "size", size)),
    ]
    found = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if dtype is not None or found is not dtypes.float32:
        attributes.append(("dtype", found))
    made = record(name, (), (), attributes)
    return made.requires_grad_() if requires_grad else made


def randint_like(
    input: V,
    low: int,
    high: int | None = None,
    *,
    dtype: "Dtype | npt.DTypeLike | None" = None,
) -> V:
    """Random integers in [low, high), of the shape and dtype of `input`; one bound is the high."""
    if high is None:
        low, high = 0, low
    attributes: list[Attribute] = [
        ("low", arguments.to_int("randint_like", "low", low)),
        ("high", arguments.to_int("randint_like", "high", high)),
    ]
    if dtype is not None:
        attributes.append(("dtype", dtypes.as_dtype(dtype)))
    return record("randint_like", _SELF, (input,), attributes)


class Draws(Overloads):
    """Fillings in place of which a schema cannot express the arguments."""

    __slots__ = ()

    def uniform_(self, from_: float = 0.0, to: float = 1.0) -> Self:
        """Fill with random numbers, uniform in [from_, to)."""
        attributes: list[Attribute] = [
            ("from", arguments.to_float("uniform_", "from", from_)),
            ("to", arguments.to_float("uniform_", "to", to)),
        ]
        return record_in_place("uniform_", _SELF, (self,), attributes)

    def bernoulli_(self, p: "Tensor | float" = 0.5) -> Self:
        """Fill with ones with probability p, of each element if p is a tensor, else with zeros."""
        return record_in_place("bernoulli_", ("self", "p"), (self, p))

    def random_(self, from_: int | None = None, to: int | None = None) -> Self:
        """Fill with random integers in [from_, to); one bound is `to`.

        Without bounds they are from 0 to the largest up to which the dtype has them all.
        """
        if from_ is not None and to is None:
            from_, to = None, from_
        attributes: list[Attribute] = [
            (name, arguments.to_int("random_", name, bound))
            for name, bound in (("from", from_), ("to", to))
            if bound is not None
        ]
        return record_in_place("random_", _SELF, (self,), attributes)
