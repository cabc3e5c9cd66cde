"""Reverse mode: vjp, grad, grad_and_value, jacrev."""

from __future__ import annotations

import functools
from typing import Any

from gradwire import tensors as _tensors
from gradwire.errors import refused
from gradwire.func import steps
from gradwire.func.transform import Argnums, Forward, Function, refuse_complex, same_structure
from gradwire.func.tree import flatten
from gradwire.modes import is_grad_enabled


def vjp(func: Function, *primals: Any, has_aux: bool = False) -> Any:
    """Run a function once, and get the function that pulls cotangents back through it.

    Args:
        func: Of tensors, or tuples, lists and dicts of tensors; gives the like.
        primals: Its arguments.
        has_aux: It gives `(output, aux)`, of which `aux` is not differentiated.

    Returns:
        `(output, vjp_fn)`, or `(output, vjp_fn, aux)`. `vjp_fn(cotangents)`, which may be called
        any number of times, takes a tree like the output and gives a tuple like the primals: the
        VJP, zeros where the output does not depend on a primal.

    Raises:
        ValueError: a primal is no tensor.
        RuntimeError: the output is no tree of tensors, or cotangents are not built like it; and (at
            the next reading) cotangents of another shape.
    """
    ran = Forward("vjp", func, primals, None, has_aux=has_aux)
    arguments, roots = ran.arguments, ran.roots

    def vjp_fn(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        found = steps.grad(
            roots,
            arguments.variables,
            same_structure("vjp_fn", ran.output, cotangents, "the cotangents", "the output"),
            ran.transform.variables,
            retain_graph=retain_graph,
            create_graph=is_grad_enabled() if create_graph is None else create_graph,
        )
        return arguments.like(found)

    return ran.with_aux(ran.value(), vjp_fn)


def grad_and_value(func: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """A function that gives the gradient of `func`, and its value, as `(gradient, value)`.

    With `has_aux`, `(gradient, (value, aux))`; otherwise as `grad`.
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        ran = Forward("grad", func, args, argnums, has_aux=has_aux, kwargs=kwargs)
        require_scalar(ran.output)
        gradients = steps.grad(
            [ran.output],
            ran.arguments.variables,
            None,
            ran.transform.variables,
            # What of the graph is the auxiliary results' alone may be differentiated yet.
            retain_graph=True if has_aux else None,
            create_graph=ran.transform.connected,
        )
        return ran.arguments.like(gradients), ran.with_aux(ran.value())

    return wrapper


def grad(func: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """A function that gives the gradient of `func`.

    Args:
        func: Gives a real tensor of no dimensions.
        argnums: Which positional argument, or a tuple of several, to differentiate by. Each is a
            tensor or a tree of tensors.
        has_aux: `func` gives `(output, aux)`, of which `aux` is not differentiated.

    Returns:
        A function of the same arguments. It gives the gradient, built like the argument, or a
        tuple of gradients; with `has_aux`, `(gradient, aux)`. It can be transformed again.

    Raises:
        ValueError: (when called) an argument to differentiate by is no tensor.
        RuntimeError: (when called, or at the next reading) `argnums` does not fit; `func` gives no
            scalar tensor.
    """
    with_value = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        gradient, value = with_value(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapper


def jacrev(
    func: Function,
    argnums: Argnums = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Function:
    """A function that gives the Jacobian of `func`, by reverse mode: a pass for each output.

    All passes run on the server, one after another, after one forward and in one request.

    Args:
        func: Of real tensors; gives real tensors, or tuples, lists and dicts of them.
        argnums: Which positional argument, or a tuple of several, to differentiate by.
        has_aux: `func` gives `(output, aux)`, of which `aux` is not differentiated.
        chunk_size: Accepted, and of no effect: memory for one pass is needed at a time.

    Returns:
        A function of the same arguments. It gives a tree like the output with, in each place, a
        tree like the argument (or a tuple of them), whose tensors have the shape of the output
        followed by that of the argument. With `has_aux`, `(jacobian, aux)`.

    Raises:
        ValueError: `chunk_size` is not positive.
        RuntimeError: (when called) as `vjp`; or a tensor is complex.
    """
    if chunk_size is not None and chunk_size <= 0:
        raise refused("BAD_VALUE", f"jacrev: chunk_size must be positive, not {chunk_size}")

    @functools.wraps(func)
    def wrapper(*args: Any) -> Any:
        refuse_complex("jacrev", flatten(args)[0])
        ran = Forward("jacrev", func, args, argnums, has_aux=has_aux)
        arguments, transform, roots = ran.arguments, ran.transform, ran.roots
        refuse_complex("jacrev", roots)
        found = [
            arguments.like(
                steps.jacobian(
                    root,
                    arguments.variables,
                    transform.variables,
                    retain_graph=True if has_aux or root is not roots[-1] else None,
                    create_graph=transform.connected,
                )
            )
            for root in roots
        ]
        return ran.with_aux(ran.like_output(found))

    return wrapper


def require_scalar(output: Any) -> None:
    """Refuse, at once where it is known, what is no tensor of no dimensions: a RuntimeError."""
    if not isinstance(output, _tensors.Tensor):
        raise refused(
            "BAD_VALUE",
            f"grad: the function gave {type(output).__name__}; its result must be a tensor of no "
            "dimensions (with has_aux=True, the first of two results)",
        )
    info = steps.known_type(output)
    if info is not None and info.shape:
        raise refused(
            "NON_SCALAR_ROOT",
            f"grad: the function gave a tensor of shape {info.shape}; it must have no dimensions. "
            "Reduce it, as with sum(), or use vjp or jacrev",
            shape=info.shape,
        )
