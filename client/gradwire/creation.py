"""Making tensors: from data, filled, in ranges, at random."""

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from gradwire import dtypes, puts, reading
from gradwire import tensors as _tensors
from gradwire.codec import Array, Info
from gradwire.current import current
from gradwire.dtypes import dtype as Dtype
from gradwire.errors import AutogradError, refused
from gradwire.modes import is_inference_mode_enabled

if TYPE_CHECKING:
    from gradwire.core import SessionCore
    from gradwire.tensors import Tensor

DtypeLike = "Dtype | npt.DTypeLike | None"

_UINT64: Final = np.dtype(np.uint64)


def tensor(
    data: Any, *, dtype: "Dtype | npt.DTypeLike | None" = None, requires_grad: bool = False
) -> "Tensor":
    """A new leaf tensor of the current session, from data that is copied.

    Args:
        data: A number, nested sequences of numbers, an array, or another library's tensor.
        dtype: None: that of an array; of Python floats the default dtype (float32), of ints int64.
        requires_grad: Record gradients through it.

    Raises:
        ValueError: sequences of unequal length, or a number that does not fit.
        TypeError: data that is no numbers.
        RuntimeError: `requires_grad` with integers or bools.
    """
    return put(current(), data, dtype, requires_grad)


def as_tensor(data: Any, dtype: "Dtype | npt.DTypeLike | None" = None) -> "Tensor":
    """A tensor as it is, or a new one from other data."""
    if isinstance(data, _tensors.Tensor):
        return data if dtype is None else data.to(dtype)
    return put(current(), data, dtype, False)


def from_numpy(ndarray: Array) -> "Tensor":
    """A new tensor with a copy of an array's elements."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"from_numpy() takes an array, not {type(ndarray).__name__}")
    return put(current(), ndarray, None, False)


def put(
    session: "SessionCore", data: Any, dtype: "Dtype | npt.DTypeLike | None", requires_grad: bool
) -> "Tensor":
    """A new leaf tensor of a session, as `tensor` says."""
    wanted = None if dtype is None else dtypes.as_dtype(dtype)
    if isinstance(data, _tensors.Tensor) and data._session is session:
        copied = data.detach().clone()
        if wanted is not None:
            copied = copied.to(wanted)
        return copied.requires_grad_() if requires_grad else copied
    array = as_array(data, wanted)
    found = dtypes.from_numpy(array.dtype)
    if requires_grad and array.dtype.kind not in "fc":
        raise refused(
            "DTYPE_NO_GRAD",
            f"only tensors of floating-point or complex dtype can require grad, not {found}; "
            "give the numbers as floats, or dtype=gradwire.float32",
            dtype=found.name,
        )
    made = session.tensor_type(puts.put(session, array, requires_grad), session)
    known = reading.known(made)
    known.info = _leaf_info(found, array.shape, requires_grad, is_inference_mode_enabled())
    known.info_at = session.changes
    known.grad_at = session.backwards
    if array.nbytes <= reading.SMALL:
        kept = array.copy()
        kept.flags.writeable = False
        known.value, known.value_at = kept, session.changes
    if requires_grad:
        session.watch_new_leaf(made)
    return made


@functools.lru_cache(maxsize=1024, typed=True)
def _leaf_info(
    found: Dtype, shape: tuple[int, ...], requires_grad: bool, is_inference: bool
) -> Info:
    """Metadata of a leaf that is new."""
    return Info(
        found,
        shape,
        requires_grad,
        is_leaf=True,
        retains_grad=False,
        version=0,
        grad_fn=None,
        strides=_contiguous_strides(shape),
        is_inference=is_inference,
    )


def _contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Elements between neighbours along each dimension."""
    if len(shape) == 1:
        return (1,)
    sizes = [max(size, 1) for size in shape]
    return tuple([math.prod(sizes[at + 1 :]) for at in range(len(sizes))])


def as_array(data: Any, wanted: Dtype | None) -> Array:
    """Data as an array, with the dtype that PyTorch would infer; errors as of `tensor`."""
    if not isinstance(data, (np.ndarray, np.generic)):
        if callable(getattr(data, "detach", None)) and callable(getattr(data, "numpy", None)):
            data = data.detach().cpu().numpy() if hasattr(data, "cpu") else data.detach().numpy()
        elif isinstance(data, Iterable) and not hasattr(data, "__array__"):
            data = _with_values(data)
    try:
        array = np.asarray(data)
    except ValueError:
        raise ValueError(
            "the nested sequences have unequal lengths, so they do not make a tensor"
        ) from None
    except OverflowError:
        raise ValueError("a number does not fit into 64 bits") from None
    if array.dtype.kind in "OUSVMm":
        _refuse(array)
    if wanted is None:
        wanted = _inferred(data, array)
    if array.dtype.kind == "c" and not wanted.is_complex:
        raise AutogradError(f"complex numbers cannot become {wanted}; take .real first")
    return array.astype(wanted.numpy, copy=False)


def _refuse(array: Array) -> None:
    if array.dtype.kind == "O":
        for each in array.flat:
            if not isinstance(each, (bool, int, float, complex, np.generic)):
                raise refused(
                    "BAD_VALUE", f"a tensor holds numbers, not {type(each).__name__} ({each!r})"
                )
        raise ValueError("an integer does not fit into 64 bits")
    raise TypeError(f"a tensor holds numbers, not elements of dtype {array.dtype}")


def _inferred(data: Any, array: Array) -> Dtype:
    """The dtype that PyTorch would give: Python's floats count as the default dtype."""
    if data is array and array.dtype != _UINT64:
        return dtypes.from_numpy(array.dtype)
    python = (bool, int, float, complex)
    kinds = {type(each) for each in _leaves(data)}
    if len(kinds) == 1 and float in kinds:
        return dtypes.get_default_dtype()
    if array.dtype == _UINT64:
        if int in kinds:
            raise ValueError("an integer does not fit into 64 bits with a sign")
        raise TypeError("tensors cannot hold elements of dtype uint64; convert to int64")
    if kinds.isdisjoint(python):
        return dtypes.from_numpy(array.dtype) if kinds else dtypes.get_default_dtype()
    usual = {
        bool: np.dtype(np.bool_),
        int: np.dtype(np.int64),
        float: dtypes.get_default_dtype().numpy,
        complex: dtypes.default_complex().numpy,
    }
    parts = [usual[each] for each in kinds if each in usual]
    parts += [each.dtype for each in _leaves(data) if isinstance(each, (np.generic, np.ndarray))]
    # Integers do not widen floats, which they would do in NumPy.
    floats = [each for each in parts if each.kind in "fc"]
    return dtypes.from_numpy(np.result_type(*(floats or parts)))


def _with_values(data: Iterable[Any]) -> Any:
    """Nested sequences with tensors replaced by their values, read in one round trip."""
    if isinstance(data, (str, bytes)):
        return data
    held = [each for each in _leaves(data) if isinstance(each, _tensors.Tensor)]
    if not held:
        return data if isinstance(data, Sequence) else list(data)
    values = {id(each): value for each, value in zip(held, reading.values_of(held), strict=True)}

    def replaced(item: Any) -> Any:
        if isinstance(item, _tensors.Tensor):
            return values[id(item)]
        return [replaced(each) for each in item] if isinstance(item, (list, tuple)) else item

    return replaced(data)


def _leaves(data: Any) -> Iterator[Any]:
    if isinstance(data, (list, tuple)):
        for each in data:
            yield from _leaves(each)
    else:
        yield data
