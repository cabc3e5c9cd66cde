"""Kernels as formulas: those that consist of ufuncs become steps, one for each.

A kernel is called with operands that stand for arrays without being any. What NumPy's protocols
hand over becomes a step; a kernel that asks for anything else, a value above all, is left whole.
So no declaration says how its operator is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from gradwire_engine.plan.values import Graph, Value, dense


class FormulaError(Exception):
    """A kernel does what steps cannot."""


def _refuse(self: Operand, *args: Any, **kwargs: Any) -> Any:
    raise FormulaError


class Operand(NDArrayOperatorsMixin):
    """Stands for an array while a kernel is read."""

    __slots__ = ("graph", "value")

    def __init__(self, graph: Graph, value: Value) -> None:
        self.graph = graph
        self.value = value

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """An array, for kernels that tell arrays from numbers by their class."""
        return np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return self.value.shape

    @property
    def dtype(self) -> np.dtype:
        """The element type."""
        return self.value.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.value.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.value.size

    @property
    def real(self) -> Operand:
        """Itself; parts of complex numbers are no formula."""
        if self.dtype.kind == "c":
            raise FormulaError
        return self

    __bool__ = __len__ = __iter__ = __float__ = __int__ = __index__ = __complex__ = _refuse
    __array__ = __getitem__ = __setitem__ = __contains__ = _refuse

    def astype(self, dtype: Any, *, copy: bool = True) -> Operand:
        """In another dtype."""
        return Operand(self.graph, self.graph.cast(self.value, np.dtype(dtype)))

    def copy(self) -> Operand:
        """Another operand of the same value."""
        return Operand(self.graph, self.value)

    def conj(self) -> Operand:
        """The complex conjugate."""
        return Operand(self.graph, self.graph.ufunc(np.conjugate, [self.value]))

    def squeeze(self, axis: tuple[int, ...] | int) -> Operand:
        """Without some dimensions of size 1."""
        over = (axis,) if isinstance(axis, int) else axis
        kept = [at for at in range(self.ndim) if at not in [a % self.ndim for a in over]]
        if self.value.strides is not None:
            raise FormulaError
        whole = np.lib.stride_tricks.as_strided(
            np.empty(1, self.dtype), self.shape, dense(self.value)
        )
        shape = tuple(self.shape[at] for at in kept)
        path = ((np.reshape, (shape,), None),)
        return Operand(self.graph, self.graph.view(self.value, path, whole, whole.reshape(shape)))

    def _broadcast(self, shape: tuple[int, ...]) -> Operand:
        if self.value.constant is not None:
            wide = np.broadcast_to(self.value.constant, shape)
            return Operand(self.graph, self.graph.constant(wide))
        strides = self.value.strides or dense(self.value)
        whole = np.lib.stride_tricks.as_strided(np.empty(1, self.dtype), self.shape, strides)
        path = ((np.broadcast_to, (tuple(shape),), None),)
        part = np.broadcast_to(whole, shape)
        return Operand(self.graph, self.graph.view(self.value, path, whole, part))

    def __array_ufunc__(
        self, function: np.ufunc, method: str, *inputs: Any, **options: Any
    ) -> Operand:
        out = options.pop("out", None)
        if method == "reduce":
            made = self._reduce(function, *inputs, **options)
        elif method == "__call__" and function.nout == 1:
            dtype = options.pop("dtype", None)
            if options:
                raise FormulaError
            args = [self._operand(each) for each in inputs]
            if dtype is not None:
                args = [
                    self.graph.cast(each, np.dtype(dtype)) if isinstance(each, Value) else each
                    for each in args
                ]
            made = self.graph.ufunc(function, args)
            if dtype is not None and made.dtype != dtype:
                raise FormulaError
        else:
            raise FormulaError
        if out is None:
            return Operand(self.graph, made)
        (target,) = out
        if not isinstance(target, Operand) or made.shape != target.shape:
            raise FormulaError
        target.value = self.graph.cast(made, target.dtype)
        return target

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, options: Any
    ) -> Operand:
        if function is np.clip and len(args) == 3 and options.keys() <= {"out"}:
            return np.minimum(np.maximum(args[0], args[1]), args[2], **options)  # type: ignore[no-any-return]
        if options:
            raise FormulaError
        if function is np.isneginf:
            return np.equal(args[0], -np.inf)  # type: ignore[no-any-return]
        if function is np.where and len(args) == 3:
            condition, one, other = (self._operand(each) for each in args)
            if isinstance(condition, Value) and condition.dtype.kind == "b":
                return Operand(self.graph, self.graph.select(condition, one, other))
        if function is np.broadcast_to and isinstance(args[0], Operand):
            return self._broadcast(args[1])
        if function in _FILLED and len(args) == 1 and isinstance(args[0], Operand):
            like = args[0]
            filled = np.broadcast_to(np.array(_FILLED[function], like.dtype), like.shape)
            return Operand(self.graph, self.graph.constant(filled))
        raise FormulaError

    def _operand(self, given: Any) -> Any:
        if isinstance(given, Operand):
            return given.value
        if isinstance(given, (bool, int, float, complex)) and not isinstance(given, np.generic):
            return given
        if isinstance(given, (np.ndarray, np.generic)):
            return self.graph.constant(np.asarray(given))
        raise FormulaError

    def _reduce(
        self,
        function: np.ufunc,
        given: Any,
        axis: Any = 0,
        dtype: Any = None,
        *,
        keepdims: bool = False,
    ) -> Value:
        if not isinstance(given, Operand) or not given.size:
            raise FormulaError
        over = (axis,) if isinstance(axis, int) else axis
        wanted = None if dtype is None else np.dtype(dtype)
        return self.graph.reduce(function, given.value, over, wanted, keepdims)


_FILLED: dict[Any, int] = {np.zeros_like: 0, np.ones_like: 1, np.empty_like: 0}


def lowered(
    graph: Graph, kernel: Callable[..., Any], args: Sequence[Any], samples: Sequence[np.ndarray]
) -> list[Value] | None:
    """The results of a kernel as values that steps compute; None if it is no formula.

    Args:
        args: values, tuples of values, plain arguments.
        samples: what the kernel gave for arrays.
    """
    operands = [
        Operand(graph, each)
        if isinstance(each, Value)
        else [item if item is None else Operand(graph, item) for item in each]
        if isinstance(each, tuple) and any(isinstance(item, Value) for item in each)
        else each
        for each in args
    ]
    try:
        made = kernel(*operands)
    except Exception:
        # Whatever it was that operands cannot do: arrays can, as the samples show.
        return None
    results = list(made) if isinstance(made, (tuple, list)) else [made]
    values: list[Value] = []
    for each, sample in zip(results, samples, strict=True):
        if isinstance(each, Operand):
            value = each.value
        elif isinstance(each, (np.ndarray, np.generic)):
            # Made without looking at an operand, so the same in each call.
            value = graph.constant(np.asarray(each))
        else:
            return None
        if value.shape != sample.shape or value.dtype != sample.dtype:
            return None
        values.append(value)
    return values
