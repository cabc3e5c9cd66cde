"""Comparing whole tensors: questions that a Python bool answers."""

from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from gradwire import reading
from gradwire import tensors as _tensors
from gradwire.codec import Array

if TYPE_CHECKING:
    from gradwire.tensors import Tensor


def is_tensor(obj: object) -> "TypeGuard[Tensor]":
    """Whether an object is a tensor of this package."""
    return isinstance(obj, _tensors.Tensor)


def equal(input: "Tensor", other: "Tensor") -> bool:
    """Whether two tensors have the same shape and elements. Reads both."""
    one, two = _values(input, other)
    return one.shape == two.shape and bool(np.array_equal(one, two))


def allclose(
    input: "Tensor",
    other: "Tensor",
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
) -> bool:
    """Whether |input - other| <= atol + rtol·|other| everywhere. Reads both."""
    one, two = _values(input, other)
    return bool(np.allclose(one, two, rtol=rtol, atol=atol, equal_nan=equal_nan))


def _values(input: "Tensor", other: "Tensor") -> list[Array]:
    if input._session is other._session:
        return reading.values_of([input, other])
    return [*reading.values_of([input]), *reading.values_of([other])]
