"""What functional transforms (`torch.func`) leave in the graph.

A transform differentiates by variables of its own, which nobody else can name. So what depends on
nothing else is, seen from outside, a plain value: it leaves the graph when the transform ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradwire_engine.interpret import TRACED
from gradwire_engine.node import AccumulateGrad, AnyNode
from gradwire_engine.tensor import Tensor


def leads_elsewhere(tensors: Iterable[Tensor | None], variables: Sequence[Tensor]) -> bool:
    """Whether the graph behind the tensors leads to a leaf that is none of the variables."""
    own = {id(each) for each in variables}
    edges = [tensor.gradient_edge() for tensor in tensors if tensor is not None]
    stack: list[AnyNode] = [edge[0] for edge in edges if edge is not None]
    seen = set(stack)
    while stack:
        node = stack.pop()
        if node.__class__ is AccumulateGrad:
            if id(node.variable) not in own:
                return True
            continue
        for edge in node.edges:
            if edge is not None and edge[0] not in seen:
                seen.add(edge[0])
                stack.append(edge[0])
    return False


def leave(tensor: Tensor, variables: Sequence[Tensor]) -> Tensor:
    """The tensor; outside of the graph if that leads to no leaf but the variables."""
    if not tensor.requires_grad or leads_elsewhere([tensor], variables):
        return tensor
    outside: Tensor = TRACED.detach(tensor)
    return outside
