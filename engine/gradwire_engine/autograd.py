"""`backward` and `grad`: PyTorch's arguments and checks, over the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_engine.backward import accumulate, run_backward
from gradwire_engine.dtypes import category
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import TRACED
from gradwire_engine.node import Edge
from gradwire_engine.tensor import Tensor


def backward(
    tensors: Sequence[Tensor],
    gradients: Sequence[Tensor | None] | None = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """Accumulate gradients of `tensors` into the `.grad` of leaves, or of `inputs` only.

    Args:
        gradients: for each tensor the v of v·J, of its shape; None for a real scalar.
        retain_graph: keep saved values for another pass; default as `create_graph`.

    Raises:
        EngineError: NON_SCALAR_ROOT, GRADIENT_SHAPE, GRADIENT_DTYPE, NO_GRAPH, NO_INPUTS,
            INPUT_NO_GRAD, GRAPH_FREED, SAVED_MODIFIED.
    """
    roots = _roots(tensors, gradients, create_graph)
    keep_graph = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        run_backward(roots, keep_graph=keep_graph, create_graph=create_graph)
        return
    if not inputs:
        raise EngineError(
            "NO_INPUTS", "backward(inputs=[]) names no tensor; leave inputs out to reach all leaves"
        )
    pulled = run_backward(
        roots,
        keep_graph=keep_graph,
        create_graph=create_graph,
        captures=_edges(inputs),
    )
    for tensor, gradient in zip(inputs, pulled, strict=True):
        if gradient is None:
            continue
        if not create_graph:
            accumulate(tensor, gradient, unshared=False)
        else:
            tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient


def grad(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    grad_outputs: Sequence[Tensor | None] | None = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` with respect to `inputs`; `.grad` stays as it is.

    Args:
        grad_outputs: for each output the v of v·J, of its shape; None for a real scalar.
        allow_unused: an input that the outputs do not depend on gives None; default as
            `materialize_grads`.
        materialize_grads: such an input gives zeros.

    Raises:
        EngineError: as `backward`, and UNUSED_INPUT, BAD_VALUE.
    """
    if materialize_grads and allow_unused is False:
        raise EngineError(
            "BAD_VALUE",
            "materialize_grads=True gives zeros for unused inputs, so allow_unused must not be "
            "False; leave it out",
        )
    if not inputs:
        raise EngineError("NO_INPUTS", "grad() needs at least one input to differentiate by")
    roots = _roots(outputs, grad_outputs, create_graph)
    pulled = run_backward(
        roots,
        keep_graph=create_graph if retain_graph is None else retain_graph,
        create_graph=create_graph,
        captures=_edges(inputs),
    )
    results: list[Tensor | None] = []
    # An array may have come through as it was or as a view, from the caller or to several inputs;
    # results that share memory would change together.
    held = {id(_owner(gradient)) for _, gradient in roots}
    for index, (tensor, gradient) in enumerate(zip(inputs, pulled, strict=True)):
        if isinstance(gradient, Tensor):
            results.append(gradient)
        elif gradient is not None:
            owner = _owner(gradient)
            results.append(
                Tensor(np.array(gradient) if id(owner) in held else np.asarray(gradient))
            )
            held.add(id(owner))
        elif materialize_grads:
            results.append(Tensor(np.zeros(tensor.shape, tensor.dtype)))
        elif allow_unused:
            results.append(None)
        else:
            raise EngineError(
                "UNUSED_INPUT",
                f"input {index} of grad() (shape {tensor.shape}) was not used in computing the "
                "outputs; pass allow_unused=True to get None for it, or materialize_grads=True "
                "to get zeros",
                input=index,
            )
    return tuple(results)


def _owner(gradient: Any) -> Any:
    """The array whose memory this one shows; itself unless it is a view."""
    while isinstance(gradient, np.ndarray) and gradient.base is not None:
        gradient = gradient.base
    return gradient


def _edges(inputs: Sequence[Tensor]) -> list[Edge]:
    edges: list[Edge] = []
    for index, tensor in enumerate(inputs):
        edge = tensor.gradient_edge()
        if edge is None:
            raise EngineError(
                "INPUT_NO_GRAD",
                f"input {index} (shape {tensor.shape}) does not require grad; set "
                "requires_grad before it is used",
                input=index,
            )
        edges.append(edge)
    return edges


def _roots(
    tensors: Sequence[Tensor], gradients: Sequence[Tensor | None] | None, create_graph: bool
) -> list[tuple[Edge, Any]]:
    if gradients is None:
        gradients = [None] * len(tensors)
    if len(gradients) != len(tensors):
        raise EngineError(
            "WRONG_ARITY",
            f"{len(tensors)} tensors and {len(gradients)} gradients; there must be one gradient "
            "for each tensor (None for a scalar), or none at all",
        )
    roots: list[tuple[Edge, Any]] = []
    for index, (tensor, given) in enumerate(zip(tensors, gradients, strict=True)):
        edge = tensor.gradient_edge()
        if edge is None:
            raise EngineError(
                "NO_GRAPH",
                f"tensor {index} (shape {tensor.shape}) does not require grad and has no grad_fn, "
                "so there is nothing to go backward through; make an input with requires_grad=True",
                tensor=index,
            )
        gradient = _implicit(tensor) if given is None else _checked(tensor, given)
        roots.append((edge, gradient if create_graph else gradient.data))
    return roots


def _implicit(tensor: Tensor) -> Tensor:
    if tensor.data.size != 1 or tensor.dtype.kind == "c":
        what = "complex" if tensor.dtype.kind == "c" else f"of shape {tensor.shape}"
        raise EngineError(
            "NON_SCALAR_ROOT",
            f"the tensor is {what}: only a real scalar has a gradient without a direction. Pass "
            "gradient=v, of the tensor's shape, to get the vector-Jacobian product v·J, or reduce "
            "the tensor first, for example with sum()",
            shape=tensor.shape,
            dtype=tensor.dtype,
        )
    return Tensor(np.ones(tensor.shape, tensor.dtype))


def _checked(tensor: Tensor, gradient: Tensor) -> Tensor:
    if gradient.shape != tensor.shape:
        raise EngineError(
            "GRADIENT_SHAPE",
            f"the gradient has shape {gradient.shape} and its tensor {tensor.shape}; they must be "
            "equal, broadcasting does not apply here",
            shape=tensor.shape,
            gradient_shape=gradient.shape,
        )
    if category(gradient.dtype) > category(tensor.dtype):
        raise EngineError(
            "GRADIENT_DTYPE",
            f"the gradient is {gradient.dtype} and its tensor {tensor.dtype}; a complex gradient "
            "does not fit a real tensor, take its real part",
            dtype=tensor.dtype,
            gradient_dtype=gradient.dtype,
        )
    if gradient.dtype == tensor.dtype:
        return gradient
    if not gradient.requires_grad:
        return Tensor(gradient.data.astype(tensor.dtype))
    cast: Tensor = TRACED.to(gradient, tensor.dtype)
    return cast
