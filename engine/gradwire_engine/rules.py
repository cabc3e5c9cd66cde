"""VJP rules: a function of the incoming gradient and of values that its parameters name.

A rule is written once, over a namespace `F` of operators, and runs on arrays (a plain backward)
or on tensors (create_graph). What it needs it says by the names of its parameters:

    F, g                 the operators; the gradient of the result (`gs`: of all results)
    self, other, ...     a tensor argument, which is saved (or its number, if given as one)
    self_shape, self_dtype   only the shape or dtype of a tensor argument
    result, values, ...  a result of the operator (by its name in the schema), which is saved
    dim, alpha, ...      a plain argument
    nr                   for a `Tensor[]` argument: which of the list the gradient is for

Gradients of several arguments that are cheaper together come from one `Joint` function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any

import numpy as np

from gradwire_engine.node import Edge
from gradwire_engine.schema import Schema
from gradwire_engine.tensor import Tensor


class Param(Enum):
    """What a parameter of a rule stands for."""

    PLAIN = auto()
    ARGUMENT = auto()
    RESULT = auto()
    SHAPE = auto()
    DTYPE = auto()
    NUMBER = auto()


# Looked up for each operator that runs: as globals, twice as fast as members.
_PLAIN, _ARGUMENT, _RESULT, _SHAPE, _DTYPE, _NUMBER = Param


Joint = Callable[..., Sequence[Any]]
"""`(F, gs, needs, *values)`: gradients of several arguments. `needs` says which are wanted."""


class Rule:
    """How the gradient reaches one tensor argument.

    Attributes:
        position: of the argument in the schema.
        pull: the function `(F, g, *values) -> gradient of the argument`.
        takes_all: `pull` wants the gradients of all results, not of the first alone.
        saves: whether a tensor is kept for backward, so that releasing it matters.
        capture: `(args, results, versions, nr)` gives the values that `pull` will need, and appends
            to `versions` the counters of what must not change till then.
        joint: the function that gives this gradient with others, if there is one; a backward may
            call it in place of each `pull`. `share` is this gradient's place in what it gives.
    """

    __slots__ = (
        "capture",
        "is_list",
        "joint",
        "params",
        "position",
        "pull",
        "saves",
        "share",
        "takes_all",
    )

    def __init__(
        self,
        schema: Schema,
        argument: str,
        pull: Callable[..., Any],
        joint: Joint | None = None,
        share: int = 0,
    ) -> None:
        position = schema.position(argument)
        names = list(inspect.signature(pull).parameters)
        if position is None or names[:2] not in (["F", "g"], ["F", "gs"]):
            raise ValueError(f"{schema.name}: not a rule for '{argument}': ({', '.join(names)})")
        self.position = position
        self.is_list = schema.arguments[position].is_list
        self.pull = pull
        self.takes_all = names[1] == "gs"
        self.joint = joint
        self.share = share
        self.params = tuple((_locate(schema, name), name) for name in names[2:])
        self.saves = any(kind in (_ARGUMENT, _RESULT) for (kind, _), _ in self.params)
        self.capture = _capture(tuple(where for where, _ in self.params))

    def saves_argument(self, position: int) -> bool:
        """Whether the tensor argument at this position is kept for backward."""
        return any(where == (_ARGUMENT, position) for where, _ in self.params)

    def trace(
        self, values: tuple[Any, ...], node: Any, edge_of: Callable[[int], Edge | None]
    ) -> list[Any]:
        """The captured values with saved arrays as tensors that stand in the graph again."""
        traced = list(values)
        for i, ((kind, index), _) in enumerate(self.params):
            value = traced[i]
            if kind in (_ARGUMENT, _RESULT) and isinstance(value, np.ndarray):
                tensor = Tensor(value)
                if value.dtype.kind in "fc":
                    tensor.edge = edge_of(index) if kind is _ARGUMENT else (node, index)
                traced[i] = tensor
            elif kind is _ARGUMENT and isinstance(value, tuple):
                traced[i] = [None if array is None else Tensor(array) for array in value]
        return traced


def joint_rules(schema: Schema, arguments: Sequence[str], joint: Joint) -> list[Rule]:
    """A rule for each of these arguments; all get their gradients from one function."""
    F, gs, _, *rest = inspect.signature(joint).parameters.values()
    signature = inspect.Signature([F, gs, *rest])

    def rule(share: int, argument: str) -> Rule:
        needs = tuple([at == share for at in range(len(arguments))])

        def pull(F: Any, gs: Any, *values: Any) -> Any:
            return joint(F, gs, needs, *values)[share]

        pull.__signature__ = signature  # type: ignore[attr-defined]
        return Rule(schema, argument, pull, joint, share)

    return [rule(share, argument) for share, argument in enumerate(arguments)]


Capture = Callable[[Sequence[Any], Sequence[Tensor], list[Any], int], tuple[Any, ...]]


def _capture(params: tuple[tuple[Param, int], ...]) -> Capture:
    """The capture of these parameters. Most rules need nothing, or one tensor: the hot cases."""
    if not params:
        return lambda args, results, versions, nr: ()
    if len(params) > 1 or params[0][0] not in (_ARGUMENT, _RESULT):
        return lambda args, results, versions, nr: tuple(
            [_value(kind, at, args, results, versions, nr) for kind, at in params]
        )
    ((kind, at),) = params

    def capture_one(
        args: Sequence[Any], results: Sequence[Tensor], versions: list[Any], nr: int
    ) -> tuple[Any, ...]:
        held = args[at] if kind is _ARGUMENT else results[at]
        if held.__class__ is Tensor:
            counter = held.version
            versions += (counter, counter[0])
            return (held.data,)
        return (_value(kind, at, args, results, versions, nr),)

    return capture_one


def _value(
    kind: Param,
    at: int,
    args: Sequence[Any],
    results: Sequence[Tensor],
    versions: list[Any],
    nr: int,
) -> Any:
    if kind is _PLAIN:
        return args[at]
    if kind is _NUMBER:
        return nr
    held = results[at] if kind is _RESULT else args[at]
    if kind is _SHAPE:
        return _shape(held)
    if kind is _DTYPE:
        return held.data.dtype if isinstance(held, Tensor) else None
    if isinstance(held, Tensor):
        versions += (held.version, held.version[0])
        return held.data
    if isinstance(held, (list, tuple)):
        for each in held:
            if each is not None:
                versions += (each.version, each.version[0])
        return tuple(None if each is None else each.data for each in held)
    return held


def _shape(held: Any) -> Any:
    if isinstance(held, (list, tuple)):
        return tuple(each.data.shape for each in held)
    return held.data.shape if isinstance(held, Tensor) else ()


def _locate(schema: Schema, name: str) -> tuple[Param, int]:
    position = schema.position(name)
    if position is not None:
        is_tensor = schema.arguments[position].type == "Tensor"
        return (_ARGUMENT if is_tensor else _PLAIN), position
    if name == "result" and len(schema.results) == 1:
        return _RESULT, 0
    if name in schema.results:
        return _RESULT, schema.results.index(name)
    if name == "nr":
        return _NUMBER, 0
    for suffix, kind in (("_shape", _SHAPE), ("_dtype", _DTYPE)):
        position = schema.position(name.removesuffix(suffix))
        if name.endswith(suffix) and position is not None:
            return kind, position
    raise ValueError(f"{schema.name}: a rule names '{name}', which is no argument and no result")
