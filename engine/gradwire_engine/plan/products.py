"""Products that are only used transposed, computed as they are used: (AB)ᵀ is BᵀAᵀ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradwire_engine.plan.values import Graph, Kind, Step, Value, dense


def turn_products(graph: Graph, needed: Sequence[Value]) -> None:
    """Compute products that are only used transposed as they are used: (AB)ᵀ is BᵀAᵀ.

    Args:
        needed: values that are used outside of the graph.
    """
    readers: dict[Value, list[Step]] = {}
    for step in graph.steps:
        for operand in step.operands:
            readers.setdefault(operand, []).append(step)
    for product in list(graph.steps):
        (first, *_) = product.results
        views = readers.get(first, [])
        if (
            product.function is not np.matmul
            or len(first.shape) != 2
            or any(len(each.shape) != 2 for each in product.operands)
            or len(views) != 1
            or views[0].kind is not Kind.VIEW
            or any(value is first for value in needed)
            or not _is_transposed(first, views[0].results[0])
            # Their layout follows from the one that it has now.
            or any(each.kind is Kind.VIEW for each in readers.get(views[0].results[0], ()))
        ):
            continue
        (turned,) = views[0].results
        a, b = product.operands
        at = graph.steps.index(views[0])
        after, graph.steps = graph.steps[at + 1 :], graph.steps[:at]
        operands = (_transposed(graph, b), _transposed(graph, a))
        # They may be there already, for somebody who needs them later than this does.
        for operand in operands:
            if operand.step in after:
                after.remove(operand.step)
                graph.steps.append(operand.step)
        flops = product.flops
        step = Step(Kind.UFUNC, product.name, np.matmul, operands, [turned], flops=flops)
        turned.step, turned.strides = step, None
        for other in after:
            for value in other.results:
                if value.root is first:
                    value.root = turned
        turned.root = turned
        graph.steps += [step, *after]
    _straighten(graph, readers, needed)


def _straighten(graph: Graph, readers: dict[Value, list[Step]], needed: Sequence[Value]) -> None:
    """Lay what is computed element by element from rows out in rows."""
    kept = {id(value) for value in needed}
    for step in graph.steps:
        value = step.results[0]
        if (
            step.is_elementwise
            and value.strides is not None
            and id(value) not in kept
            and all(each.strides is None for each in step.operands)
            and not any(each.kind is Kind.VIEW for each in readers.get(value, ()))
        ):
            value.strides = None


def _transposed(graph: Graph, value: Value) -> Value:
    source = next(value.step.operands) if value.step and value.step.kind is Kind.VIEW else None
    if source is not None and _is_transposed(source, value):
        return source
    fake = np.lib.stride_tricks.as_strided(
        np.empty(1, value.dtype), value.shape, value.strides or dense(value)
    )
    return graph.view(value, ((np.transpose, (), None),), fake, fake.T)


def _is_transposed(source: Value, value: Value) -> bool:
    return (
        len(source.shape) == 2
        and value.shape == source.shape[::-1]
        and source.shape[0] != 1 != source.shape[1]
        and (value.strides or dense(value)) == (source.strides or dense(source))[::-1]
        and value.dtype == source.dtype
    )
