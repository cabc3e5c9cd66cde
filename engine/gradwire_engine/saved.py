"""What a node keeps for its backward, by PyTorch's names: `_saved_self`, `_saved_dim`, ...

Here without the prefix. Shapes are `self_sym_sizes`, dtypes `self_scalar_type`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gradwire_engine.errors import EngineError
from gradwire_engine.failures import graph_freed, saved_modified
from gradwire_engine.node import AccumulateGrad, AnyNode, Edge, Node
from gradwire_engine.rules import Param, Rule
from gradwire_engine.saved_hooks import Packed
from gradwire_engine.tensor import Tensor


def saved_arrays(node: AnyNode) -> dict[str, np.ndarray | Packed]:
    """The tensors that a node keeps, as arrays, or packed; none once they were released."""
    found: dict[str, np.ndarray | Packed] = {}
    for _, values, index, kind, name in _params(node):
        if kind in (Param.ARGUMENT, Param.RESULT) and values is not None:
            value = _wrapped(node, values[index])
            if isinstance(value, (np.ndarray, Packed)):
                found.setdefault(_name(kind, name), value)
    return found


def saved_attributes(node: AnyNode) -> dict[str, Any]:
    """The plain values that a node keeps, all plain arguments among them; released or not.

    None stands for what is not kept because no gradient needs it.
    """
    tensors = saved_arrays(node)
    found: dict[str, Any] = {}
    for rule, values, index, kind, name in _params(node):
        position = rule.params[index][0][1]
        attribute = _name(kind, name)
        value = None if values is None else values[index]
        match kind:
            case Param.NUMBER:
                continue
            case Param.PLAIN:
                value = node.template[position]  # type: ignore[union-attr]
            case Param.ARGUMENT | Param.RESULT:
                if attribute in tensors or isinstance(value, (np.ndarray, Packed, tuple)):
                    continue
                given = None if kind == Param.RESULT else node.template[position]  # type: ignore[union-attr]
                if given is None and _is_released(node):
                    continue
                value = given
            case Param.SHAPE if value is None:
                edge = _edge_of(node, position)
                value = None if edge is None else edge[0].outputs[edge[1]][0]
            case _:
                pass
        if found.get(attribute) is None:
            found[attribute] = value
    if isinstance(node, Node):
        for argument, value in zip(node.op.schema.arguments, node.template, strict=True):
            if not argument.is_tensor and not argument.is_tensor_list:
                found.setdefault(argument.name, value)
    return found


def saved_tensor(node: AnyNode, name: str) -> Tensor | None:
    """A tensor that a node keeps, standing in the graph as when it was kept; None if it is not.

    Of an AccumulateGrad there is `variable`, the leaf.

    Raises:
        EngineError: GRAPH_FREED, SAVED_MODIFIED, and BAD_VALUE for a name that it has not.
    """
    if isinstance(node, AccumulateGrad):
        if name == "variable":
            return node.variable
    elif any(
        kind in (Param.ARGUMENT, Param.RESULT) and _name(kind, param) == name
        for rule, _, index, kind, param in _params(node)
    ):
        if _is_released(node):
            raise graph_freed(node)
        if not node.is_current():
            raise saved_modified(node)
        return _restored(node, name)
    raise EngineError(
        "BAD_VALUE",
        f"a {node.name} keeps no tensor '{name}'; it has {', '.join(saved_arrays(node)) or 'none'}",
        grad_fn=node.name,
        name=name,
    )


def _restored(node: Node, name: str) -> Tensor | None:
    for rule, values, index, kind, param in _params(node):
        if values is None or _name(kind, param) != name:
            continue
        held = values[index]
        if isinstance(held, Packed):
            values = (*values[:index], held.open(), *values[index + 1 :])
        elif isinstance(number := _wrapped(node, held), np.ndarray) and number is not held:
            return Tensor(number)
        elif not isinstance(held, np.ndarray):
            continue
        elif kind == Param.ARGUMENT:
            edge = _edge_of(node, rule.params[index][0][1])
            if edge is not None and isinstance(edge[0], AccumulateGrad):
                return edge[0].variable
        traced = rule.trace(values, node, lambda position: _edge_of(node, position))
        return traced[index]  # type: ignore[no-any-return]
    return None


def _wrapped(node: AnyNode, value: Any) -> Any:
    """A number that was given for a tensor, as the 0-d array that PyTorch makes of it.

    Where PyTorch has an overload for numbers (`x**2`), it is a number there as well.
    """
    if (
        isinstance(node, Node)
        and node.op.edges_for_numbers
        and isinstance(value, (int, float, complex))
    ):
        return np.asarray(value)
    return value


def _edge_of(node: AnyNode, position: int) -> Edge | None:
    rules = () if isinstance(node, AccumulateGrad) else node.rules
    for rule, edge in zip(rules, node.edges, strict=True):
        if rule.position == position:
            return edge
    return None


def _is_released(node: AnyNode) -> bool:
    return isinstance(node, Node) and node.saved is None


def _params(node: AnyNode) -> Iterator[tuple[Rule, tuple[Any, ...] | None, int, Param, str]]:
    """Each parameter of each rule, with the captured values of the rule if there are any."""
    if isinstance(node, AccumulateGrad):
        return
    saved = node.saved if node.saved is not None else [None] * len(node.rules)
    for rule, values in zip(node.rules, saved, strict=True):
        for index, ((kind, _), name) in enumerate(getattr(rule, "params", ())):
            yield rule, values, index, kind, name


def _name(kind: Param, name: str) -> str:
    if kind == Param.SHAPE:
        return name.removesuffix("_shape") + "_sym_sizes"
    if kind == Param.DTYPE:
        return name.removesuffix("_dtype") + "_scalar_type"
    return name
