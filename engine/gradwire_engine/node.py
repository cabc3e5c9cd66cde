"""Nodes of the graph. A node is data: operator, plain arguments, saved values, edges.

An edge is `(node, nr)`: the gradient flows to output `nr` of the operator that `node` recorded
(input `nr` of the node, seen from backward).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from gradwire_engine.hooks import Hooks
    from gradwire_engine.operator import Operator
    from gradwire_engine.rules import Rule
    from gradwire_engine.tensor import Tensor

TensorType = tuple[tuple[int, ...], np.dtype]
"""Shape and dtype."""

ACCUMULATE_GRAD_NUMBER = (1 << 64) - 1
"""The sequence number of every AccumulateGrad: it runs as soon as it is ready."""

ONE_BY_ONE: Final = -1
"""`Node.only` where there is more than one edge, and each rule wants one gradient."""

TOGETHER: Final = -2
"""`Node.only` where a rule wants the gradients of all outputs, or there is no rule."""


def only_of(there: Sequence[int], rules: Sequence[Rule]) -> int:
    """`Node.only` of a node with one output, by the numbers of the edges that are not None."""
    if any(rules[nr].takes_all for nr in there):
        return TOGETHER
    return there[0] if len(there) == 1 else ONE_BY_ONE


class Node:
    """One recorded operator.

    Attributes:
        id: unique in its context, rising in order of recording.
        op: the operator that was recorded.
        template: its arguments in schema order, None where a tensor stands.
        edges: where the gradient of each differentiable input goes; None where nowhere.
        only: which edge is the only one that is not None, where its rule wants one gradient and
            the node has one output; ONE_BY_ONE where there are more such edges, TOGETHER else.
        rules: the rule of each edge.
        saved: for each edge the values that its rule needs; None once released.
        versions: of each saved tensor its version counter and, after it, the expected version.
        outputs: shape and dtype of each result. The very tuple of a node that an edge leads to
            where the rule of that edge is known to give gradients of its shape.
        hooks: functions that see its gradients; None if there are none.
        origin: what whoever recorded it wants to be reminded of; unset unless somebody sets it.
    """

    __slots__ = (
        "__weakref__",
        "edges",
        "hooks",
        "id",
        "only",
        "op",
        "origin",
        "outputs",
        "rules",
        "saved",
        "template",
        "versions",
    )

    id: int
    op: Operator
    template: tuple[Any, ...]
    edges: tuple[Edge | None, ...]
    only: int
    rules: tuple[Rule, ...]
    saved: tuple[tuple[Any, ...] | None, ...] | None
    versions: tuple[Any, ...]
    outputs: tuple[TensorType, ...]
    hooks: Hooks | None
    origin: Any

    # Without __init__, which would take longer than what it does: paths fill in a blank one.
    @classmethod
    def of(
        cls,
        op: Operator,
        template: tuple[Any, ...],
        number: int,
        edges: tuple[Edge | None, ...],
        rules: tuple[Rule, ...],
        saved: tuple[tuple[Any, ...] | None, ...] | None,
        versions: tuple[Any, ...],
        outputs: tuple[TensorType, ...],
    ) -> Node:
        """A node; `only` follows from the rest."""
        node = cls()
        node.op = op
        node.template = template
        node.id = number
        node.edges = edges
        there = [nr for nr, edge in enumerate(edges) if edge is not None]
        node.only = only_of(there, rules) if len(outputs) == 1 else TOGETHER
        node.rules = rules
        node.saved = saved
        node.versions = versions
        node.outputs = outputs
        node.hooks = None
        return node

    @property
    def priority(self) -> int:
        """The ready node of the least priority runs first in a backward: the newest."""
        return -self.id

    def is_current(self) -> bool:
        """Whether no saved tensor was changed in place since."""
        versions = self.versions
        at = len(versions)
        while at:
            if versions[at - 2][0] != versions[at - 1]:
                return False
            at -= 2
        return True

    @property
    def name(self) -> str:
        """PyTorch's name: `MulBackward0`."""
        return self.op.grad_fn_name(self.template)

    @property
    def sequence_number(self) -> int:
        """Order of recording."""
        return self.id

    @property
    def next_functions(self) -> tuple[tuple[AnyNode | None, int], ...]:
        """Where the gradients go; `(None, 0)` for an input that does not require grad."""
        return tuple((None, 0) if edge is None else edge for edge in self.edges)

    @property
    def released(self) -> bool:
        """Whether the values kept for backward were released."""
        return self.saved is None

    @property
    def attributes(self) -> dict[str, Any]:
        """The plain arguments that differ from their defaults, by name."""
        return {
            argument.name: value
            for argument, value in zip(self.op.schema.arguments, self.template, strict=True)
            if value is not None and (argument.required or value != argument.default)
        }

    @property
    def variable(self) -> Tensor | None:
        """None: only an AccumulateGrad has a variable."""
        return None

    def __repr__(self) -> str:
        return f"<{self.name}>"


class AccumulateGrad:
    """The end of a path: adds what arrives to `variable.grad`."""

    __slots__ = ("__weakref__", "id", "outputs", "variable")

    name = "AccumulateGrad"
    op = None
    edges: tuple[Edge | None, ...] = ()
    only = TOGETHER
    next_functions: tuple[tuple[AnyNode | None, int], ...] = ()
    released = False
    sequence_number = ACCUMULATE_GRAD_NUMBER

    def __init__(self, variable: Tensor, number: int) -> None:
        self.variable = variable
        self.id = number
        self.outputs: tuple[TensorType, ...] = ((variable.data.shape, variable.data.dtype),)

    @property
    def priority(self) -> int:
        """Before that of every other node."""
        return self.id - ACCUMULATE_GRAD_NUMBER

    @property
    def hooks(self) -> Hooks | None:
        """Those of the leaf, which outlives its nodes."""
        return self.variable.hooks

    @hooks.setter
    def hooks(self, hooks: Hooks | None) -> None:
        self.variable.hooks = hooks

    @property
    def attributes(self) -> dict[str, Any]:
        """Empty: it has no arguments."""
        return {}

    def __repr__(self) -> str:
        return "<AccumulateGrad>"


AnyNode = Node | AccumulateGrad
Edge = tuple[AnyNode, int]
