"""Why a node cannot run: what it kept for backward was released, or changed in place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gradwire_engine.errors import EngineError
from gradwire_engine.node import Node
from gradwire_engine.rules import Param


def graph_freed(node: Node) -> EngineError:
    """The failure of a node whose saved values are needed and gone."""
    return EngineError(
        "GRAPH_FREED",
        f"the values that {node.name} kept for backward were released by an earlier backward; "
        "pass retain_graph=True to every backward but the last, or run the forward again",
        grad_fn=node.name,
        node=node.id,
    )


def saved_modified(node: Node) -> EngineError:
    """The failure of a node of whose saved tensors one was changed in place."""
    pairs = list(zip(node.versions[::2], node.versions[1::2], strict=True))
    at = next(at for at, (counter, expected) in enumerate(pairs) if counter[0] != expected)
    counter, expected = pairs[at]
    kept = list(_kept(node))
    shape, dtype = node.outputs[0]
    what, maker = f"a tensor that {node.name} (output {dtype}{list(shape)})", ""
    if len(kept) == len(pairs):
        array, maker = kept[at]
        shape, dtype = array.shape, array.dtype
        what = f"the tensor {dtype}{list(shape)}{maker and f', made by {maker},'} that {node.name}"
    return EngineError(
        "SAVED_MODIFIED",
        f"{what} kept for backward was changed in place since: it is at version {counter[0]}, "
        f"expected version {expected}. Change a clone(), or use the operator without underscore",
        grad_fn=node.name,
        node=node.id,
        shape=shape,
        dtype=dtype,
        made_by=maker,
        version=counter[0],
        expected_version=expected,
    )


def _kept(node: Node) -> Iterator[tuple[np.ndarray, str]]:
    """The arrays that a node keeps, in order of their versions, with the nodes that made them."""
    edges = {rule.position: edge for rule, edge in zip(node.rules, node.edges, strict=True)}
    for rule, values in zip(node.rules, node.saved or (), strict=False):
        for kind, at, value in _params(rule, values):
            if kind is Param.RESULT:
                maker = node.name
            else:
                edge = edges.get(at)
                maker = "" if edge is None or edge[0].op is None else edge[0].name
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, np.ndarray):
                    yield each, maker


def _params(rule: Any, values: tuple[Any, ...] | None) -> Iterator[tuple[Param, int, Any]]:
    """The tensors that a rule keeps."""
    if values is None:
        return
    params = getattr(rule, "params", ())
    inner = getattr(rule, "rule", None)
    if inner is not None:
        # Of an operator that wrote to a view; the inner rule's values come last.
        params = getattr(inner, "params", ())
        values = values[len(values) - len(params) :]
    for ((kind, at), _), value in zip(params, values, strict=False):
        if kind in (Param.ARGUMENT, Param.RESULT):
            yield kind, at, value
