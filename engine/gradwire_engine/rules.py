"""VJP rules: a function of the incoming gradient and of values that its parameters name.

A rule is written once, over a namespace `F` of operators, and runs on arrays (a plain backward)
or on tensors (create_graph). What it needs it says by the names of its parameters:

    F, g                 the operators; the gradient of the result (`gs`: of all results)
    self, other, ...     a tensor argument, which is saved (or its number, if given as one)
    self_shape, self_dtype   only the shape or dtype of a tensor argument
    result, values, ...  a result of the operator (by its name in the schema), which is saved
    dim, alpha, ...      a plain argument
    nr                   for a `Tensor[]` argument: which of the list the gradient is for
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradwire_engine.node import Edge
from gradwire_engine.schema import Schema
from gradwire_engine.tensor import Tensor

_PLAIN, _SAVED, _RESULT, _SHAPE, _DTYPE, _NR = range(6)


class Rule:
    """How the gradient reaches one tensor argument.

    Attributes:
        position: of the argument in the schema.
        pull: the function `(F, g, *values) -> gradient of the argument`.
        takes_all: `pull` wants the gradients of all results, not of the first alone.
        saves: whether a tensor is kept for backward, so that releasing it matters.
    """

    __slots__ = ("is_list", "params", "position", "pull", "saves", "takes_all")

    def __init__(self, schema: Schema, argument: str, pull: Callable[..., Any]) -> None:
        position = schema.position(argument)
        names = list(inspect.signature(pull).parameters)
        if position is None or names[:2] not in (["F", "g"], ["F", "gs"]):
            raise ValueError(f"{schema.name}: not a rule for '{argument}': ({', '.join(names)})")
        self.position = position
        self.is_list = schema.arguments[position].is_list
        self.pull = pull
        self.takes_all = names[1] == "gs"
        self.params = tuple((_locate(schema, name), name) for name in names[2:])
        self.saves = any(kind in (_SAVED, _RESULT) for (kind, _), _ in self.params)

    def saves_argument(self, position: int) -> bool:
        """Whether the tensor argument at this position is kept for backward."""
        return any(where == (_SAVED, position) for where, _ in self.params)

    def capture(
        self, args: Sequence[Any], results: Sequence[Tensor], versions: list[Any], nr: int = 0
    ) -> tuple[Any, ...]:
        """The values that `pull` will need. Appends to `versions` what must not change till then."""
        values: list[Any] = []
        for (kind, index), _ in self.params:
            if kind == _PLAIN:
                values.append(args[index])
            elif kind == _SAVED or kind == _RESULT:
                held = args[index] if kind == _SAVED else results[index]
                if held.__class__ is Tensor:
                    counter = held.version
                    versions.append((counter, counter[0]))
                    held = held.data
                elif isinstance(held, (list, tuple)):
                    versions += [(t.version, t.version[0]) for t in held if t is not None]
                    held = tuple(None if t is None else t.data for t in held)
                values.append(held)
            elif kind == _NR:
                values.append(nr)
            else:
                held = args[index]
                values.append(_shape(held) if kind == _SHAPE else _dtype(held))
        return tuple(values)

    def trace(
        self, values: tuple[Any, ...], node: Any, edge_of: Callable[[int], Edge | None]
    ) -> list[Any]:
        """The captured values with saved arrays as tensors that stand in the graph again."""
        traced = list(values)
        for i, ((kind, index), _) in enumerate(self.params):
            value = traced[i]
            if kind in (_SAVED, _RESULT) and isinstance(value, np.ndarray):
                tensor = Tensor(value)
                if value.dtype.kind in "fc":
                    tensor.edge = edge_of(index) if kind == _SAVED else (node, index)
                traced[i] = tensor
            elif kind == _SAVED and isinstance(value, tuple):
                traced[i] = [None if array is None else Tensor(array) for array in value]
        return traced


def _shape(held: Any) -> Any:
    if isinstance(held, (list, tuple)):
        return tuple(item.data.shape for item in held)
    return held.data.shape if isinstance(held, Tensor) else ()


def _dtype(held: Any) -> Any:
    return held.data.dtype if isinstance(held, Tensor) else None


def _locate(schema: Schema, name: str) -> tuple[int, int]:
    position = schema.position(name)
    if position is not None:
        is_tensor = schema.arguments[position].type == "Tensor"
        return (_SAVED if is_tensor else _PLAIN), position
    if name == "result" and len(schema.results) == 1:
        return _RESULT, 0
    if name in schema.results:
        return _RESULT, schema.results.index(name)
    if name == "nr":
        return _NR, 0
    for suffix, kind in (("_shape", _SHAPE), ("_dtype", _DTYPE)):
        position = schema.position(name.removesuffix(suffix))
        if name.endswith(suffix) and position is not None:
            return kind, position
    raise ValueError(f"{schema.name}: a rule names '{name}', which is no argument and no result")
