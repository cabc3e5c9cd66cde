"""Python's operators on tensors, indexing, and conversions between dtypes."""

from typing import TYPE_CHECKING, Self

import numpy.typing as npt

from gradwire import dtypes, indexing
from gradwire.codec import Array
from gradwire.draws import Draws
from gradwire.places import Places
from gradwire.record import binary, binary_in_place, convert, record

if TYPE_CHECKING:
    from gradwire.indexing import Index
    from gradwire.tensors import Tensor

Number = bool | int | float | complex
_SELF = ("self",)
_EXPONENT = ("self", "exponent")


class Operators(Draws, Places):
    """What a tensor does for `+`, `x[0]`, `x.float()` and the like."""

    __slots__ = ()

    def __neg__(self) -> Self:
        return record("neg", _SELF, (self,))

    def __pos__(self) -> Self:
        return convert(self, None)

    def __abs__(self) -> Self:
        return record("abs", _SELF, (self,))

    def __invert__(self) -> Self:
        return record("bitwise_not", _SELF, (self,))

    def __add__(self, other: "Tensor | Array | Number") -> Self:
        return binary("add", self, other)

    def __radd__(self, other: Array | Number) -> Self:
        return binary("add", self, other)

    def __iadd__(self, other: "Tensor | Array | Number") -> Self:
        return binary_in_place("add_", self, other)

    def __sub__(self, other: "Tensor | Array | Number") -> Self:
        return binary("sub", self, other)

    def __rsub__(self, other: Array | Number) -> Self:
        return binary("rsub", self, other)

    def __isub__(self, other: "Tensor | Array | Number") -> Self:
        return binary_in_place("sub_", self, other)

    def __mul__(self, other: "Tensor | Array | Number") -> Self:
        return binary("mul", self, other)

    def __rmul__(self, other: Array | Number) -> Self:
        return binary("mul", self, other)

    def __imul__(self, other: "Tensor | Array | Number") -> Self:
        return binary_in_place("mul_", self, other)

    def __truediv__(self, other: "Tensor | Array | Number") -> Self:
        return binary("div", self, other)

    def __rtruediv__(self, other: Array | Number) -> Self:
        return binary("mul", record("reciprocal", _SELF, (self,)), other)

    def __itruediv__(self, other: "Tensor | Array | Number") -> Self:
        return binary_in_place("div_", self, other)

    def __floordiv__(self, other: "Tensor | Array | Number") -> Self:
        return binary("div", self, other, attributes=(("rounding_mode", "floor"),))

    def __rfloordiv__(self, other: Array | Number) -> Self:
        return binary("div", self, other, swap=True, attributes=(("rounding_mode", "floor"),))

    def __pow__(self, exponent: "Tensor | Array | Number") -> Self:
        return binary("pow", self, exponent, names=_EXPONENT)

    def __rpow__(self, base: Array | Number) -> Self:
        return binary("pow", self, base, swap=True, names=_EXPONENT)

    def __ipow__(self, exponent: "Tensor | Array | Number") -> Self:
        return binary_in_place("pow_", self, exponent, names=_EXPONENT)

    def __matmul__(self, other: "Tensor | Array") -> Self:
        return binary("matmul", self, other, numbers=False)

    def __rmatmul__(self, other: Array) -> Self:
        return binary("matmul", self, other, swap=True, numbers=False)

    def __and__(self, other: "Tensor | Array | Number") -> Self:
        return binary("bitwise_and", self, other)

    def __rand__(self, other: Array | Number) -> Self:
        return binary("bitwise_and", self, other)

    def __or__(self, other: "Tensor | Array | Number") -> Self:
        return binary("bitwise_or", self, other)

    def __ror__(self, other: Array | Number) -> Self:
        return binary("bitwise_or", self, other)

    def __xor__(self, other: "Tensor | Array | Number") -> Self:
        return binary("bitwise_xor", self, other)

    def __rxor__(self, other: Array | Number) -> Self:
        return binary("bitwise_xor", self, other)

    # Comparisons are of elements, as in NumPy and PyTorch, and not of objects.
    def __eq__(self, other: object) -> Self:  # type: ignore[override]
        return binary("eq", self, other)

    def __ne__(self, other: object) -> Self:  # type: ignore[override]
        return binary("ne", self, other)

    def __lt__(self, other: "Tensor | Array | Number") -> Self:
        return binary("lt", self, other)

    def __le__(self, other: "Tensor | Array | Number") -> Self:
        return binary("le", self, other)

    def __gt__(self, other: "Tensor | Array | Number") -> Self:
        return binary("gt", self, other)

    def __ge__(self, other: "Tensor | Array | Number") -> Self:
        return binary("ge", self, other)

    __hash__ = object.__hash__

    def __getitem__(self, index: "Index") -> Self:
        return indexing.get(self, index)

    def __setitem__(self, index: "Index", value: "Tensor | Array | Number") -> None:
        indexing.set_(self, index, value)

    def to(self, dtype: "dtypes.dtype | npt.DTypeLike") -> Self:
        """The tensor with elements of another type; itself if they are known to be of that type."""
        return convert(self, dtypes.as_dtype(dtype))

    def type_as(self, other: "Tensor") -> Self:
        """The tensor with elements of the type of `other`."""
        return convert(self, other.dtype)

    def half(self) -> Self:
        """The tensor as float16."""
        return convert(self, dtypes.float16)

    def double(self) -> Self:
        """The tensor as float64."""
        return convert(self, dtypes.float64)

    def short(self) -> Self:
        """The tensor as int16."""
        return convert(self, dtypes.int16)

    def long(self) -> Self:
        """The tensor as int64."""
        return convert(self, dtypes.int64)

    def cfloat(self) -> Self:
        """The tensor as complex64."""
        return convert(self, dtypes.complex64)

    def cdouble(self) -> Self:
        """The tensor as complex128."""
        return convert(self, dtypes.complex128)

    # The names of these three hide Python's own in what follows, so they come last.
    def float(self) -> Self:
        """The tensor as float32."""
        return convert(self, dtypes.float32)

    def int(self) -> Self:
        """The tensor as int32."""
        return convert(self, dtypes.int32)

    def bool(self) -> Self:
        """The tensor as bool."""
        return convert(self, dtypes.bool_)
