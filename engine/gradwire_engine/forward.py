"""Forward mode: Jacobian-vector products, by differentiating the vector-Jacobian product.

Jᵀv is linear in v, so its own gradient with respect to v, along t, is J·t. Rules of operators are
written for Jᵀv alone; this makes forward mode, of any order, come for free.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradwire_engine.autograd import grad
from gradwire_engine.dtypes import category
from gradwire_engine.errors import EngineError
from gradwire_engine.tensor import Tensor
from gradwire_engine.transforms import leads_elsewhere, leave


def jvp(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    tangents: Sequence[Tensor],
    *,
    create_graph: bool = False,
    variables: Sequence[Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """How the outputs change when the inputs move along the tangents. The graph is kept.

    Args:
        tangents: one for each input, of its shape.
        create_graph: record the computation, for higher derivatives.
        variables: as for `grad`.

    Returns:
        The tangent of each output, of its shape and dtype; zeros where it does not depend on the
        inputs.

    Raises:
        EngineError: INPUT_NO_GRAD, WRONG_ARITY, GRADIENT_SHAPE, GRADIENT_DTYPE, GRAPH_FREED,
            SAVED_MODIFIED.
    """
    _check(inputs, tangents)
    if variables is not None and create_graph:
        create_graph = leads_elsewhere([*outputs, *tangents], variables)
    pulled, cotangents = pulled_back(outputs, inputs)
    roots = [
        (gradient, tangent)
        for gradient, tangent in zip(pulled, tangents, strict=True)
        if gradient is not None and gradient.requires_grad
    ]
    live = [each for each in cotangents if each is not None]
    pushed: dict[int, Tensor | None] = {}
    if roots:
        found = grad(
            [gradient for gradient, _ in roots],
            live,
            [tangent for _, tangent in roots],
            create_graph=create_graph,
            allow_unused=True,
        )
        pushed = {id(each): tangent for each, tangent in zip(live, found, strict=True)}
    results: list[Tensor] = []
    for output, cotangent in zip(outputs, cotangents, strict=True):
        tangent = pushed.get(id(cotangent))
        if tangent is None:
            tangent = Tensor(np.zeros(output.shape, output.dtype))
        results.append(tangent if variables is None else leave(tangent, variables))
    return tuple(results)


def pulled_back(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor]
) -> tuple[tuple[Tensor | None, ...], list[Tensor | None]]:
    """Gradients of the inputs, recorded as functions of the cotangents of the outputs.

    Returns:
        The gradients, None for an unused input; and the cotangents: leaves, of zeros, since only
        the graph counts. None for an output that has no graph.
    """
    cotangents = [
        Tensor.from_array(np.zeros(each.shape, each.dtype), requires_grad=True)
        if each.gradient_edge() is not None
        else None
        for each in outputs
    ]
    gradients = grad(
        [each for each, v in zip(outputs, cotangents, strict=True) if v is not None],
        inputs,
        [each for each in cotangents if each is not None],
        create_graph=True,
        allow_unused=True,
    )
    return gradients, cotangents


def _check(inputs: Sequence[Tensor], tangents: Sequence[Tensor]) -> None:
    if len(inputs) != len(tangents):
        raise EngineError(
            "WRONG_ARITY",
            f"{len(inputs)} inputs and {len(tangents)} tangents; there must be one for each",
        )
    for index, (tensor, tangent) in enumerate(zip(inputs, tangents, strict=True)):
        if tensor.shape != tangent.shape:
            raise EngineError(
                "GRADIENT_SHAPE",
                f"tangent {index} has shape {tangent.shape} and its input {tensor.shape}; they "
                "must be equal, broadcasting does not apply here",
                shape=tensor.shape,
                gradient_shape=tangent.shape,
                tangent=index,
            )
        if category(tangent.dtype) > category(tensor.dtype):
            raise EngineError(
                "GRADIENT_DTYPE",
                f"tangent {index} is {tangent.dtype} and its input {tensor.dtype}; a complex "
                "tangent does not fit a real input, take its real part",
                dtype=tensor.dtype,
                gradient_dtype=tangent.dtype,
                tangent=index,
            )
