"""Whole Jacobians after one forward, row by row or column by column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gradwire_engine.autograd import for_unused, pull_each, within_transform
from gradwire_engine.context import current
from gradwire_engine.errors import EngineError
from gradwire_engine.forward import pulled_back
from gradwire_engine.interpret import TRACED
from gradwire_engine.tensor import Tensor
from gradwire_engine.transforms import leads_elsewhere, leave


def jacobian(
    output: Tensor,
    inputs: Sequence[Tensor],
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
    variables: Sequence[Tensor] | None = None,
) -> tuple[Tensor | None, ...]:
    """The Jacobian of `output` by each input, of the output's shape followed by the input's.

    In reverse mode: as many passes as the output has elements. Of complex tensors, each row is the
    gradient for a real unit direction.

    Args:
        retain_graph, create_graph, allow_unused, materialize_grads, variables: as for `grad`.

    Raises:
        EngineError: as `grad`.
    """
    if not inputs:
        raise EngineError("NO_INPUTS", "a Jacobian needs at least one input to differentiate by")
    outputs = [output]
    if variables is not None:
        zeros = Tensor(np.zeros(output.shape, output.dtype))
        outputs, _, create_graph = within_transform(outputs, [zeros], create_graph, variables)
    keep_graph = create_graph if retain_graph is None else retain_graph
    count = output.data.size
    directions = ([unit] if outputs else [] for unit in _units(output))
    rows = pull_each(outputs, inputs, directions, count, keep_graph, create_graph)
    results: list[Tensor | None] = []
    for index, (tensor, stack) in enumerate(zip(inputs, rows, strict=True)):
        if stack is None:
            found = for_unused(tensor, index, output.shape, allow_unused, materialize_grads)
        else:
            found = _reshaped(stack, (*output.shape, *tensor.shape), create_graph)
            if variables is not None:
                found = leave(found, variables)
        results.append(found)
    return tuple(results)


def forward_jacobian(
    outputs: Sequence[Tensor],
    tensor: Tensor,
    *,
    create_graph: bool = False,
    variables: Sequence[Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """The Jacobian of each output by one input, of the output's shape followed by the input's.

    In forward mode: as many passes as the input has elements, for all outputs together. Zeros for
    an output that does not depend on the input. The graph is kept.

    Args:
        create_graph, variables: as for `grad`.

    Raises:
        EngineError: as `grad`.
    """
    if variables is not None and create_graph:
        create_graph = leads_elsewhere(outputs, variables)
    (gradient,), cotangents = pulled_back(outputs, [tensor])
    found: list[Tensor | None] = [None] * len(outputs)
    live = [nr for nr, each in enumerate(cotangents) if each is not None]
    if gradient is not None and gradient.requires_grad:
        # What the input's gradient does to a cotangent is the transpose of what the output's
        # tangent does to the input's.
        columns = jacobian(
            gradient,
            [each for each in cotangents if each is not None],
            create_graph=create_graph,
            allow_unused=True,
        )
        for nr, each in zip(live, columns, strict=True):
            found[nr] = None if each is None else _turned(each, tensor.ndim, create_graph)
    results: list[Tensor] = []
    for output, each in zip(outputs, found, strict=True):
        shape = (*output.shape, *tensor.shape)
        if each is None:
            current.context.admit(shape, "a Jacobian")
            each = Tensor(np.zeros(shape, output.dtype))
        results.append(each if variables is None else leave(each, variables))
    return tuple(results)


def _units(tensor: Tensor) -> Iterator[Tensor]:
    """Unit directions of the shape and dtype of a tensor; one of zeros if it has no elements."""
    for at in range(max(tensor.data.size, 1)):
        unit = np.zeros(tensor.shape, tensor.dtype)
        unit.reshape(-1)[at : at + 1] = 1
        yield Tensor(unit)


def _reshaped(stack: Tensor, shape: tuple[int, ...], record: bool) -> Tensor:
    if record:
        reshaped: Tensor = TRACED.reshape(stack, shape)
        return reshaped
    return Tensor(stack.data.reshape(shape))


def _turned(tensor: Tensor, count: int, record: bool) -> Tensor:
    """The tensor with its first `count` dimensions put last."""
    order = (*range(count, tensor.ndim), *range(count))
    if record:
        turned: Tensor = TRACED.permute(tensor, order)
        return turned
    return Tensor(
        np.ascontiguousarray(tensor.data.transpose(order)).reshape(
            [tensor.shape[at] for at in order]
        )
    )
