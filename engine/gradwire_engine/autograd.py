"""`backward` and `grad`: PyTorch's arguments and checks, over the backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from gradwire_engine.backward import accumulate, run_backward
from gradwire_engine.context import current
from gradwire_engine.dtypes import category, is_differentiable
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import TRACED
from gradwire_engine.node import AccumulateGrad, Edge
from gradwire_engine.tensor import NO_VERSION, Tensor
from gradwire_engine.transforms import leads_elsewhere, leave


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
    fresh = _without_grad(roots) if current.context.inference else ()
    if inputs is None:
        run_backward(roots, keep_graph=keep_graph, create_graph=create_graph)
        if fresh:
            _make_inference([leaf.grad for leaf in fresh])
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
    if fresh:
        _make_inference([leaf.grad for leaf in fresh])


def _without_grad(roots: Sequence[tuple[Edge, Any]]) -> list[Tensor]:
    """The leaves behind the roots that have no gradient yet."""
    stack = [edge[0] for edge, _ in roots]
    seen = set(stack)
    found = []
    while stack:
        node = stack.pop()
        if isinstance(node, AccumulateGrad) and node.variable.grad is None:
            found.append(node.variable)
        onward = {edge[0] for edge in node.edges if edge is not None} - seen
        seen |= onward
        stack += onward
    return found


def _make_inference(tensors: Iterable[Tensor | None]) -> None:
    """Let tensors that a pass made in inference mode be as all that are made there."""
    for tensor in tensors:
        if tensor is not None:
            tensor.version = NO_VERSION


def grad(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    grad_outputs: Sequence[Tensor | None] | None = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
    is_grads_batched: bool = False,
    variables: Sequence[Tensor] | None = None,
) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` with respect to `inputs`; `.grad` stays as it is.

    Args:
        grad_outputs: for each output the v of v·J, of its shape; None for a real scalar.
        allow_unused: an input that the outputs do not depend on gives None; default as
            `materialize_grads`.
        materialize_grads: such an input gives zeros.
        is_grads_batched: dimension 0 of each of `grad_outputs` counts directions; results are
            stacked along a new dimension 0.
        variables: those of the functional transform that this is for. Then an output without graph
            is a constant, an output without v has no dimensions, and results are recorded only
            where they lead to another leaf.

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
    if variables is not None:
        outputs, grad_outputs, create_graph = within_transform(
            outputs, grad_outputs, create_graph, variables
        )
    keep_graph = create_graph if retain_graph is None else retain_graph
    results: list[Tensor | None]
    size: tuple[int, ...] = ()
    if not is_grads_batched:
        results = pull(outputs, inputs, grad_outputs, keep_graph, create_graph)
    else:
        count = _count_directions(outputs, grad_outputs)
        size = (count,)
        directions = (
            [_direction(each, at, create_graph) for each in grad_outputs or ()]
            for at in range(max(count, 1))
        )
        results = pull_each(outputs, inputs, directions, count, keep_graph, create_graph)
    for index, each in enumerate(results):
        if each is None:
            tensor = inputs[index]
            results[index] = for_unused(tensor, index, size, allow_unused, materialize_grads)
    if variables is not None:
        results = [each if each is None else leave(each, variables) for each in results]
    if current.context.inference and not create_graph:
        _make_inference(results)
    return tuple(results)


def within_transform(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None] | None,
    create_graph: bool,
    variables: Sequence[Tensor],
) -> tuple[list[Tensor], list[Tensor | None], bool]:
    """What a pass for a functional transform really starts from, and whether it is recorded.

    Raises:
        EngineError: DTYPE_NO_GRAD, NON_SCALAR_ROOT, WRONG_ARITY.
    """
    found = _in_pairs(outputs, gradients)
    for tensor, gradient in found:
        if not is_differentiable(tensor.dtype):
            raise EngineError(
                "DTYPE_NO_GRAD",
                f"the function gives a tensor of {tensor.dtype}; only floating-point and complex "
                "results can be differentiated, return others as auxiliary ones (has_aux=True)",
                dtype=tensor.dtype,
            )
        if gradient is None and (tensor.ndim or tensor.dtype.kind == "c"):
            raise _no_direction(tensor)
    record = create_graph and leads_elsewhere([*outputs, *(gradients or ())], variables)
    live = [pair for pair in found if pair[0].gradient_edge() is not None]
    return [tensor for tensor, _ in live], [gradient for _, gradient in live], record


def pull(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    grad_outputs: Sequence[Tensor | None] | None,
    keep_graph: bool,
    create_graph: bool,
) -> list[Tensor | None]:
    """One pass; None for an input that it does not reach. Raises as `grad`."""
    roots = _roots(outputs, grad_outputs, create_graph)
    pulled = run_backward(
        roots, keep_graph=keep_graph, create_graph=create_graph, captures=_edges(inputs)
    )
    results: list[Tensor | None] = []
    # An array may have come through as it was or as a view, from the caller or to several inputs;
    # results that share memory would change together.
    held = {id(_owner(gradient)) for _, gradient in roots}
    for gradient in pulled:
        if gradient is None or isinstance(gradient, Tensor):
            results.append(gradient)
        else:
            owner = _owner(gradient)
            results.append(
                Tensor(np.array(gradient) if id(owner) in held else np.asarray(gradient))
            )
            held.add(id(owner))
    return results


def pull_each(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    directions: Iterable[Sequence[Tensor | None]],
    count: int,
    keep_graph: bool,
    create_graph: bool,
) -> list[Tensor | None]:
    """As `pull`, once for each direction, stacked along a new dimension 0.

    Args:
        directions: `count` of them. For none, one of zeros: the pass shows which inputs are unused.
    """
    for tensor in inputs:
        current.context.admit((count, *tensor.shape), "grad of a batch of directions")
    stacks: list[Any] = [None] * len(inputs)
    for at, direction in enumerate(directions):
        row = pull(outputs, inputs, direction, keep_graph or at < count - 1, create_graph)
        for nr, each in enumerate(row):
            if each is None:
                continue
            if create_graph:
                held = stacks[nr]
                if held is None:
                    # A direction may miss an input that the others reach.
                    held = stacks[nr] = [Tensor(np.zeros(each.shape, each.dtype))] * count
                held[at : at + 1] = [each][:count]
            else:
                if stacks[nr] is None:
                    stacks[nr] = np.zeros((count, *each.shape), each.dtype)
                stacks[nr][at : at + 1] = each.data
    if not create_graph:
        return [None if stack is None else Tensor(stack) for stack in stacks]
    return [
        None
        if stack is None
        else TRACED.stack(stack, 0)
        if stack
        else Tensor(np.zeros((0, *tensor.shape), tensor.dtype))
        for tensor, stack in zip(inputs, stacks, strict=True)
    ]


def for_unused(
    tensor: Tensor,
    index: int,
    size: tuple[int, ...],
    allow_unused: bool | None,
    materialize_grads: bool,
) -> Tensor | None:
    """What stands for the gradient of an input that no output depends on.

    Args:
        size: dimensions that its gradient has before its own.

    Raises:
        EngineError: UNUSED_INPUT.
    """
    if materialize_grads:
        return Tensor(np.zeros((*size, *tensor.shape), tensor.dtype))
    if allow_unused:
        return None
    raise EngineError(
        "UNUSED_INPUT",
        f"input {index} of grad() (shape {tensor.shape}) was not used in computing the "
        "outputs; pass allow_unused=True to get None for it, or materialize_grads=True "
        "to get zeros",
        input=index,
    )


def _count_directions(
    outputs: Sequence[Tensor], grad_outputs: Sequence[Tensor | None] | None
) -> int:
    """How many directions a batch has.

    Raises:
        EngineError: BAD_VALUE, GRADIENT_SHAPE.
    """
    count: int | None = None
    for tensor, gradient in _in_pairs(outputs, grad_outputs):
        if gradient is None:
            continue
        if gradient.shape[1:] != tensor.shape or not gradient.ndim:
            raise EngineError(
                "GRADIENT_SHAPE",
                f"the batch of gradients has shape {gradient.shape} and its tensor {tensor.shape}; "
                "with is_grads_batched dimension 0 counts directions, and the others must be those "
                "of the tensor",
                shape=tensor.shape,
                gradient_shape=gradient.shape,
            )
        if count is not None and gradient.shape[0] != count:
            raise EngineError(
                "GRADIENT_SHAPE",
                f"one batch has {count} directions and another {gradient.shape[0]} (shape "
                f"{gradient.shape}); dimension 0 must be equal in all grad_outputs",
                directions=count,
                gradient_shape=gradient.shape,
            )
        count = gradient.shape[0]
    if count is None:
        raise EngineError(
            "BAD_VALUE",
            "is_grads_batched=True needs grad_outputs, whose dimension 0 is the batch",
            argument="grad_outputs",
        )
    return count


def _direction(batch: Tensor | None, at: int, create_graph: bool) -> Tensor | None:
    """One of a batch of gradients; zeros where the batch is empty."""
    if batch is None:
        return None
    if not batch.shape[0]:
        return Tensor(np.zeros(batch.shape[1:], batch.dtype))
    if create_graph and batch.requires_grad:
        selected: Tensor = TRACED.select(batch, 0, at)
        return selected
    return Tensor(batch.data[at, ...])


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


def _in_pairs(
    tensors: Sequence[Tensor], gradients: Sequence[Tensor | None] | None
) -> list[tuple[Tensor, Tensor | None]]:
    if gradients is None:
        return [(tensor, None) for tensor in tensors]
    if len(gradients) != len(tensors):
        raise EngineError(
            "WRONG_ARITY",
            f"{len(tensors)} tensors and {len(gradients)} gradients; there must be one gradient "
            "for each tensor (None for a scalar), or none at all",
        )
    return list(zip(tensors, gradients, strict=True))


def _roots(
    tensors: Sequence[Tensor], gradients: Sequence[Tensor | None] | None, create_graph: bool
) -> list[tuple[Edge, Any]]:
    roots: list[tuple[Edge, Any]] = []
    for tensor, given in _in_pairs(tensors, gradients):
        edge = tensor.gradient_edge()
        if edge is None:
            index = len(roots)
            raise EngineError(
                "NO_GRAPH",
                f"tensor {index} (shape {tensor.shape}) does not require grad and has no grad_fn, "
                "so there is nothing to go backward through; make an input with requires_grad=True",
                tensor=index,
            )
        gradient: Any
        if given is None:
            gradient = _implicit(tensor)
            if create_graph:
                gradient = Tensor(gradient)
        else:
            gradient = _checked(tensor, given)
            if not create_graph:
                gradient = gradient.data
        roots.append((edge, gradient))
    return roots


def _implicit(tensor: Tensor) -> np.ndarray:
    data = tensor.data
    if data.size != 1 or data.dtype.kind == "c":
        raise _no_direction(tensor)
    # By the letter of the dtype, for to hash a dtype costs more than to make the array.
    return _one(data.shape, data.dtype.char)


@lru_cache(256)
def _one(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The gradient of a scalar; read-only, as it is that of others too."""
    one = np.ones(shape, dtype)
    one.flags.writeable = False
    return one


def _no_direction(tensor: Tensor) -> EngineError:
    what = "complex" if tensor.dtype.kind == "c" else f"of shape {tensor.shape}"
    return EngineError(
        "NON_SCALAR_ROOT",
        f"the tensor is {what}: only a real scalar has a gradient without a direction. Pass "
        "gradient=v, of the tensor's shape, to get the vector-Jacobian product v·J, or reduce "
        "the tensor first, for example with sum()",
        shape=tensor.shape,
        dtype=tensor.dtype,
    )


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
    if tensor.dtype.kind == "c" and gradient.dtype.kind != "c":
        raise EngineError(
            "GRADIENT_DTYPE",
            f"the gradient is {gradient.dtype} and its tensor {tensor.dtype}; a complex tensor "
            f"needs a complex gradient, convert it with to({tensor.dtype})",
            dtype=tensor.dtype,
            gradient_dtype=gradient.dtype,
        )
    if gradient.dtype == tensor.dtype:
        return gradient
    if not gradient.requires_grad:
        return Tensor(gradient.data.astype(tensor.dtype))
    cast: Tensor = TRACED.to(gradient, tensor.dtype)
    return cast
