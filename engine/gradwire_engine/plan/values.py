"""What a plan is made of: values, each computed once by one step, and the graph that makes them.

A graph has no changes in place: those of a program have become new values before they get here.
Whatever is asked for twice is computed once, and what depends on constants alone is a constant.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import numpy as np

Layout = tuple[int, ...]
"""Strides in bytes."""

ViewPath = tuple[tuple[Callable[..., Any], tuple[Any, ...], int | None], ...]
"""View kernels from an array to its part, each with its plain arguments and which result it is."""


class Kind(Enum):
    """What a step does."""

    UFUNC = "ufunc"
    REDUCE = "reduce"
    CAST = "cast"
    SELECT = "select"
    VIEW = "view"
    UPDATE = "update"
    KERNEL = "kernel"


ELEMENTWISE: Final = frozenset({Kind.UFUNC, Kind.CAST, Kind.SELECT})


@dataclass(slots=True, eq=False)
class Value:
    """An array that a plan computes, takes or holds.

    Attributes:
        strides: of the array where the layout is known to matter; None for C order.
        step: what computes it; None for an input or a constant.
        constant: its elements, if they are known.
        root: for a view, the value whose memory it shows; itself otherwise.
        narrow: a value that broadcasts to this one.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    strides: Layout | None = None
    step: Step | None = None
    constant: np.ndarray | None = None
    root: Value = field(init=False)
    narrow: Value | None = None

    def __post_init__(self) -> None:
        self.root = self

    @property
    def size(self) -> int:
        """How many elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(slots=True, eq=False)
class Step:
    """One computation.

    Attributes:
        name: of the operator that it comes from.
        args: values, tuples of values (None where there is none), and plain arguments.
        options: of a reduction: axis, dtype, keepdims.
        ordered: it draws random numbers, so it runs once, and in its place among its like.
        flops: estimated floating-point operations.
    """

    kind: Kind
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    results: list[Value]
    options: tuple[Any, ...] = ()
    ordered: bool = False
    flops: int = 0

    @property
    def operands(self) -> Iterator[Value]:
        """The values that it reads."""
        for each in self.args:
            if isinstance(each, Value):
                yield each
            elif isinstance(each, tuple):
                yield from (item for item in each if isinstance(item, Value))

    @property
    def may_refuse(self) -> bool:
        """Whether there may be values that it raises for."""
        raises = self.function is np.power and self.results[0].dtype.kind in "iu"
        return self.kind is Kind.KERNEL or raises

    @property
    def is_elementwise(self) -> bool:
        """Each element of the result comes from one element of each operand."""
        return self.kind in ELEMENTWISE and getattr(self.function, "signature", None) is None


@dataclass(slots=True)
class Savings:
    """What did not become a step."""

    folded: int = 0
    shared: int = 0
    dropped: int = 0


class Graph:
    """Makes values, and steps for those that cannot be had otherwise.

    Attributes:
        inputs: the values that come with a call.
        steps: in an order in which they can run.
    """

    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self.steps: list[Step] = []
        self.savings = Savings()
        self.name = ""
        self._known: dict[Any, list[Value]] = {}
        self._constants: dict[Any, Value] = {}

    def input(self, like: np.ndarray) -> Value:
        """A value that comes with each call, of this shape, dtype and layout."""
        value = Value(like.shape, like.dtype, _layout(like))
        self.inputs.append(value)
        return value

    def constant(self, array: np.ndarray) -> Value:
        """A value that is the same in each call."""
        if array.size > 1 and any(array.strides) and _is_uniform(array):
            array = np.broadcast_to(array.reshape(-1)[0], array.shape)
        is_one = bool(array.size) and (array.size == 1 or not any(array.strides))
        if is_one:
            first = array[(0,) * array.ndim]
            key: Any = (array.shape, array.dtype, first.tobytes())
        else:
            array = np.array(array)
            key = (array.shape, array.dtype, array.strides, _digest(array))
        held = self._constants.get(key)
        if held is not None:
            return held
        if is_one:
            array = np.broadcast_to(np.array(first, array.dtype), array.shape)
        array.flags.writeable = False
        value = Value(array.shape, array.dtype, _layout(array), constant=array)
        if is_one and array.ndim:
            value.narrow = self.constant(array[(0,) * array.ndim].reshape(()))
        self._constants[key] = value
        return value

    def number(self, number: Any, dtype: np.dtype) -> Value:
        """A Python number as an array without dimensions."""
        return self.constant(np.asarray(number, dtype))

    def ufunc(self, function: np.ufunc, args: Sequence[Any]) -> Value:
        """The result of a ufunc of one result on values and Python numbers.

        Raises:
            TypeError: NumPy has no loop for these dtypes.
            ValueError: the shapes do not fit.
        """
        given = tuple(a.dtype if isinstance(a, Value) else type(a) for a in args)
        loop = function.resolve_dtypes((*given, None))
        values = [
            a if isinstance(a, Value) else self.number(a, dtype)
            for a, dtype in zip(args, loop[:-1], strict=True)
        ]
        if function.signature is not None:
            shape = _product_shape(function, values)
            flops = 2 * math.prod(shape) * values[0].shape[-1]
        else:
            shape = np.broadcast_shapes(*(value.shape for value in values))
            flops = math.prod(shape)
            kept = _unchanged(function, values, shape, loop[-1])
            if kept is not None:
                self.savings.folded += 1
                return kept
            values = _narrowed(values, shape)
        return self._make(Kind.UFUNC, function, tuple(values), Value(shape, loop[-1]), flops=flops)

    def reduce(
        self,
        function: np.ufunc,
        value: Value,
        axis: tuple[int, ...] | None,
        dtype: np.dtype | None,
        keepdims: bool,
    ) -> Value:
        """A reduction over some dimensions, of all if `axis` is None."""
        over = range(len(value.shape)) if axis is None else [a % len(value.shape) for a in axis]
        shape = tuple(
            1 if at in over else size
            for at, size in enumerate(value.shape)
            if keepdims or at not in over
        )
        probe = function.reduce(np.ones((1,) * len(value.shape), value.dtype), axis, dtype)
        return self._make(
            Kind.REDUCE,
            function,
            (value,),
            Value(shape, probe.dtype),
            options=(axis, dtype, keepdims),
            flops=value.size,
        )

    def cast(self, value: Value, dtype: np.dtype) -> Value:
        """The value in another dtype, as `astype`."""
        if value.dtype == dtype:
            return value
        return self._make(Kind.CAST, np.copyto, (value,), Value(value.shape, dtype), (dtype,))

    def select(self, condition: Value, one: Any, other: Any) -> Value:
        """`np.where`."""
        kinds = [each.dtype if isinstance(each, Value) else each for each in (one, other)]
        dtype = np.result_type(*kinds)
        values = [condition]
        for each in (one, other):
            value = each if isinstance(each, Value) else self.number(each, dtype)
            values.append(self.cast(value, dtype))
        shape = np.broadcast_shapes(*(value.shape for value in values))
        values = _narrowed(values, shape)
        return self._make(
            Kind.SELECT, np.where, tuple(values), Value(shape, dtype), flops=math.prod(shape)
        )

    def view(self, source: Value, path: ViewPath, whole: np.ndarray, part: np.ndarray) -> Value:
        """A view.

        Args:
            whole: an array laid out as the source is.
            part: what the path leads to in it.
        """
        offset = _address(part) - _address(whole)
        same = part.shape == whole.shape and part.strides == whole.strides
        if same and not offset and part.dtype == whole.dtype:
            return source
        if source.constant is not None:
            return self.constant(follow(source.constant, path))
        key = (Kind.VIEW, id(source), offset, part.shape, part.strides, part.dtype)
        held = self._known.get(key)
        if held is not None:
            self.savings.shared += 1
            return held[0]
        value = Value(part.shape, part.dtype, _layout(part))
        step = Step(Kind.VIEW, self.name, follow, (source,), [value], (path,))
        self.steps.append(step)
        value.step, value.root = step, source.root
        if not offset and part.dtype == whole.dtype and _broadcasts(whole, part):
            value.narrow = source
        elif part.size and 0 in part.strides:
            wide = tuple(at for at, stride in enumerate(part.strides) if not stride)
            narrow = _first(part, wide)
            if narrow.shape != part.shape:
                value.narrow = self.view(source, (*path, (_first, (wide,), None)), whole, narrow)
        self._known[key] = [value]
        return value

    def update(self, base: Value, part: Value, path: ViewPath) -> Value:
        """The base with a part of it replaced."""
        made = Value(base.shape, base.dtype, base.strides)
        return self._make(Kind.UPDATE, follow, (base, part), made, (path,))

    def kernel(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        samples: Sequence[np.ndarray],
        *,
        ordered: bool = False,
        flops: int = 0,
    ) -> list[Value]:
        """The results of a function that is called as it is.

        Args:
            samples: arrays of the shapes, dtypes and layouts of its results.
        """
        results = [Value(each.shape, each.dtype, _layout(each)) for each in samples]
        if not ordered:
            try:
                key: Any = (Kind.KERNEL, function, _hashable(args))
                held = self._known.get(key)
            except TypeError:
                held = key = None
            if held is not None:
                self.savings.shared += 1
                return held
            operands = list(Step(Kind.KERNEL, "", function, args, []).operands)
            if all(each.constant is not None for each in operands):
                self.savings.folded += 1
                return [self.constant(each) for each in samples]
            if key is not None:
                self._known[key] = results
        step = Step(Kind.KERNEL, self.name, function, args, results, (), ordered, flops)
        self.steps.append(step)
        for each in results:
            each.step = step
        return results

    def _make(
        self,
        kind: Kind,
        function: Callable[..., Any],
        args: tuple[Value, ...],
        made: Value,
        options: tuple[Any, ...] = (),
        flops: int = 0,
    ) -> Value:
        key = (kind, function, tuple(map(id, args)), options)
        held = self._known.get(key)
        if held is not None:
            self.savings.shared += 1
            return held[0]
        step = Step(kind, self.name, function, args, [made], options, False, flops)
        if all(each.constant is not None for each in args):
            self.savings.folded += 1
            made = self.constant(evaluate(step, [each.constant for each in args]))
        else:
            self.steps.append(step)
            made.step = step
        self._known[key] = [made]
        return made


def evaluate(step: Step, arrays: Sequence[Any]) -> np.ndarray:
    """What a step of one result gives for these arrays."""
    match step.kind:
        case Kind.REDUCE:
            axis, dtype, keepdims = step.options
            made = step.function.reduce(  # type: ignore[attr-defined]
                arrays[0], axis=axis, dtype=dtype, keepdims=keepdims
            )
        case Kind.CAST:
            made = arrays[0].astype(step.options[0])
        case Kind.UPDATE:
            made = arrays[0].copy()
            follow(made, step.options[0])[...] = arrays[1]
        case Kind.VIEW:
            made = follow(arrays[0], step.options[0])
        case _:
            made = step.function(*arrays)
    return np.asarray(made)


def follow(array: np.ndarray, path: ViewPath) -> np.ndarray:
    """The part of an array that a path leads to."""
    for kernel, args, nr in path:
        made = kernel(array, *args)
        array = made if nr is None else made[nr]
    return array


def _first(array: np.ndarray, dims: tuple[int, ...]) -> np.ndarray:
    """The first of each of some dimensions, which stay."""
    return array[tuple(slice(1) if at in dims else slice(None) for at in range(array.ndim))]


def _layout(array: np.ndarray) -> Layout | None:
    return None if array.flags.c_contiguous else array.strides


def dense(value: Value) -> Layout:
    """Strides in C order."""
    strides: list[int] = []
    step = value.dtype.itemsize
    for size in reversed(value.shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _digest(array: np.ndarray) -> bytes:
    """Of the elements, so that equal constants are known by little."""
    rows = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.blake2b(rows.data, digest_size=32).digest()


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _is_uniform(array: np.ndarray) -> bool:
    """Whether all elements are the same, bit by bit."""
    rows = np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(array.size, -1)
    return bool((rows == rows[0]).all())


def _broadcasts(narrow: np.ndarray, wide: np.ndarray) -> bool:
    """Whether `wide` is `narrow` as broadcasting by NumPy would show it."""
    added = wide.ndim - narrow.ndim
    return (
        added >= 0
        and all(
            (size == full and (stride == step or size == 1)) or (size == 1 and step == 0)
            for size, stride, full, step in zip(
                narrow.shape, narrow.strides, wide.shape[added:], wide.strides[added:], strict=True
            )
        )
        and all(
            step == 0 or full == 1
            for full, step in zip(wide.shape[:added], wide.strides[:added], strict=True)
        )
    )


def _narrowed(values: list[Value], shape: tuple[int, ...]) -> list[Value]:
    """Operands before they were expanded, where broadcasting gives the same shape."""
    for at, value in enumerate(values):
        while value.narrow is not None:
            trial = [*values[:at], value.narrow, *values[at + 1 :]]
            if np.broadcast_shapes(*(each.shape for each in trial)) != shape:
                break
            values, value = trial, value.narrow
    return values


_NEUTRAL: dict[np.ufunc, tuple[int, ...]] = {np.multiply: (0, 1), np.true_divide: (1,)}
"""By ufunc, which operands may be 1 without changing the other, whatever that is."""


def _unchanged(
    function: np.ufunc, values: Sequence[Value], shape: tuple[int, ...], dtype: np.dtype
) -> Value | None:
    """The operand that the result equals, bit by bit, if there is one."""
    for at in _NEUTRAL.get(function, ()):
        one, other = values[at], values[1 - at]
        held = one.constant
        if (
            held is not None
            and (one.shape == () or one.narrow is not None)
            and held[(0,) * held.ndim] == 1
            and other.shape == shape
            and other.dtype == dtype
        ):
            return other
    if function is np.positive and values[0].dtype == dtype:
        return values[0]
    return None


def _product_shape(function: np.ufunc, values: Sequence[Value]) -> tuple[int, ...]:
    if function is not np.matmul:
        raise TypeError(f"{function.__name__} is no elementwise ufunc")
    a, b = (value.shape for value in values)
    rows, columns = a[-2:-1], (b[-1:] if len(b) > 1 else ())
    return (*np.broadcast_shapes(a[:-2], b[:-2]), *rows, *columns)


def _hashable(args: tuple[Any, ...]) -> Any:
    """Arguments as a key: values by identity, plain ones by type and value."""
    key = tuple(
        (Value, id(each))
        if isinstance(each, Value)
        else _hashable(each)
        if isinstance(each, tuple)
        else (type(each), repr(each) if isinstance(each, float) else each)
        for each in args
    )
    hash(key)
    return key
