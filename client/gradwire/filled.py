"""New tensors that the server fills: constants, ranges, the identity, random numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex, TypeVar

import numpy.typing as npt

from gradwire import arguments, dtypes
from gradwire import tensors as _tensors
from gradwire.arguments import Number
from gradwire.current import current
from gradwire.dtypes import dtype as Dtype
from gradwire.errors import ArgumentError
from gradwire.record import record
from gradwire.recorder import Attribute

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

V = TypeVar("V", bound="Tensor")

_INPUT = ("self",)


def zeros(
    *size: SupportsIndex | Sequence[SupportsIndex],
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> "Tensor":
    """A tensor of zeros: `zeros(2, 3)` or `zeros((2, 3))`."""
    return _sized("zeros", size, dtype, requires_grad)


def ones(
    *size: SupportsIndex | Sequence[SupportsIndex],
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> "Tensor":
    """A tensor of ones: `ones(2, 3)` or `ones((2, 3))`."""
    return _sized("ones", size, dtype, requires_grad)


def empty(
    *size: SupportsIndex | Sequence[SupportsIndex],
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> "Tensor":
    """A tensor to be written to, as `empty(2, 3).normal_()`: of zeros, for no memory is unset."""
    return _sized("zeros", size, dtype, requires_grad)


def rand(
    *size: SupportsIndex | Sequence[SupportsIndex],
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> "Tensor":
    """A tensor of random numbers, uniform in [0, 1), from the session's generator."""
    return _sized("rand", size, dtype, requires_grad)


def randn(
    *size: SupportsIndex | Sequence[SupportsIndex],
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> "Tensor":
    """A tensor of random numbers, standard normal, from the session's generator."""
    return _sized("randn", size, dtype, requires_grad)


def full(
    size: Sequence[SupportsIndex],
    fill_value: Number,
    *,
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> "Tensor":
    """A tensor of this size with all elements `fill_value`, whose type decides the dtype."""
    value = arguments.to_number("full", "fill_value", fill_value)
    attributes: list[Attribute] = [
        ("size", arguments.to_ints("full", "size", size)),
        ("fill_value", value),
    ]
    return _made("full", attributes, dtype, requires_grad, floats=isinstance(value, float))


def randint(
    low: int,
    high: int | Sequence[SupportsIndex],
    size: Sequence[SupportsIndex] | None = None,
    *,
    dtype: "Dtype | npt.DTypeLike | None" = None,
) -> "Tensor":
    """Random integers in [low, high), as int64; `randint(high, size)` starts at 0."""
    if size is None:
        if not isinstance(high, Sequence):
            raise ArgumentError("randint() needs a size: randint(low, high, (2, 3))")
        given: tuple[object, object, object] = (0, low, high)
    else:
        given = (low, high, size)
    attributes: list[Attribute] = [
        ("low", arguments.to_int("randint", "low", given[0])),
        ("high", arguments.to_int("randint", "high", given[1])),
        ("size", arguments.to_ints("randint", "size", given[2])),
    ]
    return _made("randint", attributes, dtype, False, floats=False)


def arange(
    start: Number,
    end: Number | None = None,
    step: Number = 1,
    *,
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> "Tensor":
    """Numbers from start to before end: `arange(5)`, `arange(1, 5)`, `arange(0., 1., 0.1)`."""
    numbers = [("start", start)] if end is None else [("start", start), ("end", end)]
    if step != 1 or isinstance(step, float):
        numbers.append(("step", step))
    attributes: list[Attribute] = [
        (name, arguments.to_number("arange", name, number)) for name, number in numbers
    ]
    floats = any(isinstance(value, float) for _, value in attributes)
    return _made("arange", attributes, dtype, requires_grad, floats=floats)


def linspace(
    start: Number,
    end: Number,
    steps: int,
    *,
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> "Tensor":
    """`steps` numbers from start to end, both included, at equal distances."""
    attributes: list[Attribute] = [
        ("start", arguments.to_number("linspace", "start", start)),
        ("end", arguments.to_number("linspace", "end", end)),
        ("steps", arguments.to_int("linspace", "steps", steps)),
    ]
    return _made("linspace", attributes, dtype, requires_grad)


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> "Tensor":
    """The identity matrix of shape (n, m), or (n, n)."""
    attributes: list[Attribute] = [("n", arguments.to_int("eye", "n", n))]
    if m is not None:
        attributes.append(("m", arguments.to_int("eye", "m", m)))
    return _made("eye", attributes, dtype, requires_grad)


def zeros_like(
    input: V,
    *,
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> V:
    """Zeros of the shape and dtype of `input`."""
    return _like("zeros_like", input, [], dtype, requires_grad)


def empty_like(
    input: V,
    *,
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> V:
    """A tensor to be written to, of the shape and dtype of `input`: of zeros, as `empty`."""
    return _like("zeros_like", input, [], dtype, requires_grad)


def ones_like(
    input: V,
    *,
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> V:
    """Ones of the shape and dtype of `input`."""
    return _like("ones_like", input, [], dtype, requires_grad)


def full_like(
    input: V,
    fill_value: Number,
    *,
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> V:
    """A tensor of the shape and dtype of `input`, all elements `fill_value`."""
    value = arguments.to_number("full_like", "fill_value", fill_value)
    return _like("full_like", input, [("fill_value", value)], dtype, requires_grad)


def rand_like(
    input: V,
    *,
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> V:
    """Random numbers, uniform in [0, 1), of the shape and dtype of `input`."""
    return _like("rand_like", input, [], dtype, requires_grad)


def randn_like(
    input: V,
    *,
    dtype: "Dtype | npt.DTypeLike | None" = None,
    requires_grad: bool = False,
) -> V:
    """Random numbers, standard normal, of the shape and dtype of `input`."""
    return _like("randn_like", input, [], dtype, requires_grad)


def manual_seed(seed: int) -> None:
    """Seed the random generator of the current session."""
    session = current()
    value = arguments.to_int("manual_seed", "seed", seed)
    # Its result says nothing; as every result it has a handle, dropped at once.
    session.release(session.op("manual_seed", (), (("seed", value),), 1, True))


def _sized(
    name: str,
    size: "tuple[SupportsIndex | Sequence[SupportsIndex], ...]",
    dtype: "Dtype | npt.DTypeLike | None",
    requires_grad: bool,
) -> "Tensor":
    sizes = arguments.to_size(name, "size", size)
    return _made(name, [("size", sizes)], dtype, requires_grad)


def _made(
    name: str,
    attributes: list[Attribute],
    dtype: "Dtype | npt.DTypeLike | None",
    requires_grad: bool,
    *,
    floats: bool = True,
) -> "Tensor":
    """Record a creation; `floats` says that its dtype is the default one if none is given."""
    if dtype is not None:
        attributes.append(("dtype", dtypes.as_dtype(dtype)))
    elif floats and dtypes.get_default_dtype() is not dtypes.float32:
        attributes.append(("dtype", dtypes.get_default_dtype()))
    made = record(name, (), (), attributes)
    return made.requires_grad_() if requires_grad else made


def _like(
    name: str,
    like: V,
    attributes: list[Attribute],
    dtype: "Dtype | npt.DTypeLike | None",
    requires_grad: bool,
) -> V:
    if not isinstance(like, _tensors.Tensor):
        raise arguments.wrong_type(name, "input", "a tensor", like)
    if dtype is not None:
        attributes.append(("dtype", dtypes.as_dtype(dtype)))
    made = record(name, _INPUT, (like,), attributes)
    return made.requires_grad_() if requires_grad else made
