"""Element types under PyTorch's names, and the default one."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from gradwire import wire


class dtype:  # noqa: N801 (PyTorch's name)
    """An element type: `gw.float32`. There is one object for each, so compare with `is` or `==`.

    Attributes:
        name: `"float32"`.
        numpy: The NumPy dtype.
        wire: Its number in the wire contract.
    """

    __slots__ = ("name", "numpy", "wire")

    def __init__(self, name: str) -> None:
        self.name = name
        self.numpy = np.dtype(name)
        self.wire = wire.dtype_to_wire(self.numpy)

    @property
    def is_floating_point(self) -> bool:
        """Whether it is a real floating-point type."""
        return self.numpy.kind == "f"

    @property
    def is_complex(self) -> bool:
        """Whether it is a complex type."""
        return self.numpy.kind == "c"

    @property
    def is_signed(self) -> bool:
        """Whether it can hold negative numbers."""
        return self.numpy.kind in "ifc"

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.numpy.itemsize

    def __repr__(self) -> str:
        return f"gradwire.{self.name}"

    def __reduce__(self) -> str:
        return self.name


DtypeLike = dtype | np.dtype[np.generic] | type[np.generic] | type[float]
"""What is taken for a dtype: one of ours, one of NumPy's, or Python's float (the default dtype)."""

bool_: Final = dtype("bool")
uint8: Final = dtype("uint8")
int8: Final = dtype("int8")
int16: Final = dtype("int16")
int32: Final = dtype("int32")
int64: Final = dtype("int64")
float16: Final = dtype("float16")
float32: Final = dtype("float32")
float64: Final = dtype("float64")
complex64: Final = dtype("complex64")
complex128: Final = dtype("complex128")

ALL: Final = (
    bool_,
    uint8,
    int8,
    int16,
    int32,
    int64,
    float16,
    float32,
    float64,
    complex64,
    complex128,
)
_BY_WIRE: Final[Mapping[int, dtype]] = {each.wire: each for each in ALL}
_BY_NAME: Final[Mapping[str, dtype]] = {each.name: each for each in ALL}
_BY_NUMPY: Final[Mapping[np.dtype[np.generic], dtype]] = {each.numpy: each for each in ALL}
_DEFAULTS: Final = (float16, float32, float64)

_default: dtype = float32


def from_wire(number: int) -> dtype:
    """The dtype with this number in the wire contract; a `WireError` if there is none."""
    found = _BY_WIRE.get(number)
    return found if found is not None else from_numpy(wire.dtype_from_wire(number))


def from_numpy(found: np.dtype[np.generic]) -> dtype:
    """The dtype of a NumPy array; a TypeError where tensors have no such elements."""
    # By name also those of the other byte order.
    named = _BY_NUMPY.get(found) or _BY_NAME.get(found.name)
    if named is None:
        known = ", ".join(_BY_NAME)
        raise TypeError(f"tensors cannot hold elements of dtype {found}; they can be {known}")
    return named


def as_dtype(value: object) -> dtype:
    """A dtype given as ours, as NumPy's, or as one of Python's number types.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(value, dtype):
        return value
    if value is float:
        return get_default_dtype()
    if isinstance(value, (np.dtype, type)):
        try:
            return from_numpy(np.dtype(value))
        except TypeError:
            pass
    named = _BY_NAME.get(str(value).rpartition(".")[2]) if "." in str(value) else None
    if named is None:
        raise TypeError(f"not a dtype: {value!r}; give one such as gradwire.float32")
    return named


def get_default_dtype() -> dtype:
    """The dtype of tensors made from Python floats: float32 unless set otherwise."""
    return _default


def set_default_dtype(d: dtype) -> None:
    """Make `d` the dtype of tensors made from Python floats.

    Raises:
        TypeError: `d` is not a floating-point dtype.
    """
    global _default
    found = as_dtype(d)
    if found not in _DEFAULTS:
        raise TypeError(f"only floating-point dtypes can be the default, not {found}")
    _default = found


def default_complex() -> dtype:
    """The dtype of tensors made from Python complex numbers."""
    return complex128 if _default is float64 else complex64
