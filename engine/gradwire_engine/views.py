"""Views: tensors that share the storage of another, and how both stay right in the graph.

A view remembers its base and the path of view operators that leads there. When either is
changed in place, the base's history goes through `CopySlices`, which lets the gradient of the
part that was overwritten through the in-place operator and that of the rest around it; and the
view's own `grad_fn` is made anew, at its next use, from the base's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gradwire_engine.context import Context, current
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import RAW, fit
from gradwire_engine.node import Edge, Node
from gradwire_engine.operator import Operator
from gradwire_engine.rules import Rule
from gradwire_engine.schema import parse_schema
from gradwire_engine.tensor import Tensor, View, ViewStep

_Adjoint = tuple[tuple[Any, tuple[Any, ...]], ...]
"""For each step of a path the view operator's rule and the values that it needs."""


def along(F: Any, value: Any, path: tuple[ViewStep, ...]) -> Any:
    """The part of `value`, which looks like the base, that a view shows."""
    for step in path:
        args = [value, *step.template[1:]]
        parts = step.op.kernel(*args) if F is RAW else step.op.call(args, step.template)
        value = parts if step.nr is None else parts[step.nr]
    return value


def _back(F: Any, part: Any, adjoint: _Adjoint) -> Any:
    """A part at its place in the base, zeros elsewhere."""
    for rule, values in reversed(adjoint):
        part = rule.pull(F, part, *values)
    return part


def _adjoint(base: Tensor, path: tuple[ViewStep, ...]) -> _Adjoint:
    steps: list[tuple[Any, tuple[Any, ...]]] = []
    array = base.data
    for step in path:
        rule = step.op.rules[0]
        steps.append((rule, rule.capture([Tensor(array), *step.template[1:]], (), [], 0)))
        array = along(RAW, array, (step,))
    return tuple(steps)


class _PathRule:
    """The VJP of a whole path of views."""

    position = 0
    saves = False
    takes_all = False

    @staticmethod
    def pull(F: Any, g: Any, adjoint: _Adjoint) -> Any:
        return _back(F, g, adjoint)

    @staticmethod
    def trace(values: tuple[Any, ...], node: Any, edge_of: Any) -> list[Any]:
        return list(values)


@dataclass(frozen=True, slots=True)
class _SliceRule:
    """A rule of an in-place operator that wrote to a view, as a rule of the base's history."""

    rule: Rule
    target: int

    takes_all = False

    @property
    def position(self) -> int:
        return self.rule.position

    @property
    def saves(self) -> bool:
        return self.rule.saves

    def pull(self, F: Any, g: Any, path: Any, adjoint: _Adjoint, inner: Node, *values: Any) -> Any:
        part = along(F, g, path)
        pulled = self.rule.pull(F, (part,) if self.rule.takes_all else part, *values)
        if self.position != self.target:
            return pulled
        pulled = fit(F, 0.0 if pulled is None else pulled, part.shape, part.dtype)
        if F is RAW:
            whole = g.copy()
            along(RAW, whole, path)[...] = pulled
            return whole
        return g + _back(F, pulled - part, adjoint)

    def trace(
        self, values: tuple[Any, ...], node: Node, edge_of: Callable[[int], Edge | None]
    ) -> list[Any]:
        path, adjoint, inner, *rest = values
        edges = dict(zip((rule.position for rule in inner.rules), inner.edges, strict=True))
        number = current.context.next_id()
        result_node = _as_strided(adjoint, (node, 0), number, inner.outputs[0])
        return [path, adjoint, inner, *self.rule.trace(tuple(rest), result_node, edges.get)]


_AS_STRIDED = Operator(
    parse_schema("as_strided(Tensor self) -> Tensor"),
    "linear",
    np.positive,
    grad_fn="AsStridedBackward0",
)
_COPY_SLICES = Operator(
    parse_schema("copy_slices(Tensor self) -> Tensor"), "general", np.positive, grad_fn="CopySlices"
)
_PATH_RULE: Any = _PathRule()


def _as_strided(adjoint: _Adjoint, edge: Edge, number: int, output: Any) -> Node:
    saved = ((adjoint,),)
    return Node.of(_AS_STRIDED, (None,), number, (edge,), (_PATH_RULE,), saved, (), (output,))


def refresh(tensor: Tensor, view: View, context: Context) -> None:
    """Make a view's place in the graph anew from its base's, after a change in place.

    Raises:
        EngineError: MULTI_VIEW_IN_PLACE, NO_GRAD_VIEW_IN_PLACE.
    """
    _require_same_storage(view)
    edge = view.base.gradient_edge()
    if edge is None and tensor.edge is None:
        view.seen = tensor.version[0]
        return
    if view.origin is not None:
        if not context.grad_enabled:
            # Nothing asks for its place in the graph here; what does so later is refused.
            return
        raise refusal(view.origin, "its base, or another view of it, was changed in place")
    if edge is not None:
        output = (tensor.data.shape, tensor.data.dtype)
        adjoint = _adjoint(view.base, view.path)
        tensor.edge = (_as_strided(adjoint, edge, context.next_id(), output), 0)
    view.seen = tensor.version[0]


def _require_same_storage(view: View) -> None:
    if view.base.data is not view.storage:
        raise EngineError(
            "BAD_VALUE",
            "the base of this view was given another shape or other data in place, and the view "
            "does not follow that; take the view again",
        )


def rebase(tensor: Tensor, view: View, inner: Node, context: Context, target: int = 0) -> None:
    """Let the base's history go through the in-place operator that wrote to its view.

    Args:
        target: position of the view among the operator's arguments.
    """
    _require_same_storage(view)
    base = view.base
    adjoint = _adjoint(base, view.path)
    saved = tuple(
        None if values is None else (view.path, adjoint, inner, *values)
        for values in inner.saved or ()
    )
    rules: Any = tuple(_SliceRule(rule, target) for rule in inner.rules)
    through = base.gradient_edge()
    edges = tuple(
        through if rule.position == target else edge
        for rule, edge in zip(inner.rules, inner.edges, strict=True)
    )
    node = Node.of(
        _COPY_SLICES,
        (None,),
        context.next_id(),
        edges,
        rules,
        saved,
        inner.versions,
        ((base.data.shape, base.data.dtype),),
    )
    # Of a node just recorded these say no more than that it keeps packed values.
    node.hooks = inner.hooks
    before = base.edge
    base.edge = (node, 0)
    base.keep_retaining(before)
    # The version has moved: the view's next use finds its own edge stale.
    tensor.edge = None
    refresh(tensor, view, context)


def refusal(origin: Literal["several", "no_grad"], what: str) -> EngineError:
    """The error for a view that cannot follow a change in place."""
    if origin == "several":
        return EngineError(
            "MULTI_VIEW_IN_PLACE",
            f"this tensor is one of several views made by one operator (split, chunk, unbind), and "
            f"{what}; such views do not follow changes in place. Take the parts one by one with "
            "narrow() or select(), or clone() them first",
        )
    return EngineError(
        "NO_GRAD_VIEW_IN_PLACE",
        f"this tensor is a view that was made under no_grad or inference_mode, and {what} while "
        "gradients are recorded; make the view and the change both inside of it, or both outside",
    )
