"""Forward mode: jvp, linearize, jacfwd."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradwire import filled
from gradwire.errors import refused
from gradwire.func import steps
from gradwire.func.transform import Argnums, Forward, Function, refuse_complex, same_structure
from gradwire.func.tree import flatten
from gradwire.modes import is_grad_enabled

if TYPE_CHECKING:
    from gradwire.tensors import Tensor


def jvp(
    func: Function,
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
    *,
    strict: bool = False,
    has_aux: bool = False,
) -> Any:
    """Run a function, and tell how its output changes when the primals move along the tangents.

    Args:
        func: Of tensors, or tuples, lists and dicts of tensors; gives the like.
        primals: A tuple of its arguments.
        tangents: A tuple built like `primals`, each tensor of the shape of its primal.
        strict: An output that does not depend on the primals is an error, instead of zeros.
        has_aux: `func` gives `(output, aux)`, of which `aux` is not differentiated.

    Returns:
        `(output, tangent)`, or `(output, tangent, aux)`; the tangent is built like the output.

    Raises:
        RuntimeError: the trees do not fit; and (at the next reading) a tangent of another shape.
    """
    flat = _tangents("jvp", primals, tangents)
    ran = Forward("jvp", func, primals, None, has_aux=has_aux)
    variables, transform, roots = ran.arguments.variables, ran.transform, ran.roots
    if strict:
        require_dependence(roots, variables)
    found = steps.jvp(roots, variables, flat, transform.variables, create_graph=transform.connected)
    return ran.with_aux(ran.value(), ran.like_output(found))


def linearize(func: Function, *primals: Any) -> tuple[Any, Function]:
    """Run a function once, and get the linear function that it is close to, there.

    Args:
        func: Of tensors, or tuples, lists and dicts of tensors; gives the like.
        primals: Its arguments.

    Returns:
        `(output, jvp_fn)`. `jvp_fn(*tangents)`, which may be called any number of times, takes
        arguments like the primals and gives the JVP, built like the output.

    Raises:
        RuntimeError: as `jvp`.
    """
    ran = Forward("linearize", func, primals, None)
    roots = ran.roots

    def jvp_fn(*tangents: Any) -> Any:
        found = steps.jvp(
            roots,
            ran.arguments.variables,
            _tangents("jvp_fn", primals, tangents),
            ran.transform.variables,
            create_graph=is_grad_enabled(),
        )
        return ran.like_output(found)

    return ran.value(), jvp_fn


def jacfwd(
    func: Function,
    argnums: Argnums | None = 0,
    has_aux: bool = False,
    *,
    randomness: str = "error",
) -> Function:
    """A function that gives the Jacobian of `func`, by forward mode: a pass for each input.

    All passes run on the server, one after another, after one forward and in one request. To be
    preferred to `jacrev` where the arguments have fewer elements than the output.

    Args:
        func: Of real tensors; gives real tensors, or tuples, lists and dicts of them.
        argnums: Which positional argument, or a tuple of several, to differentiate by; None: all.
        has_aux: `func` gives `(output, aux)`, of which `aux` is not differentiated.
        randomness: Accepted, and of no effect: `func` runs once.

    Returns:
        A function of the same arguments, whose result is built as that of `jacrev`.

    Raises:
        RuntimeError: (when called) as `jvp`; or a tensor is complex.
    """

    @functools.wraps(func)
    def wrapper(*args: Any) -> Any:
        refuse_complex("jacfwd", flatten(args)[0])
        ran = Forward("jacfwd", func, args, argnums, has_aux=has_aux)
        arguments, transform, roots = ran.arguments, ran.transform, ran.roots
        refuse_complex("jacfwd", roots)
        by_input = [
            steps.forward_jacobian(
                roots, each, transform.variables, create_graph=transform.connected
            )
            for each in arguments.variables
        ]
        found = [arguments.like(by_output) for by_output in zip(*by_input, strict=True)]
        return ran.with_aux(ran.like_output(found))

    return wrapper


def require_dependence(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
    """Record steps that fail (at the next reading) where an output does not depend on an input."""
    for output in outputs:
        nothing = filled.zeros_like(output)
        steps.grad(
            [output],
            inputs,
            [nothing],
            None,
            retain_graph=True,
            create_graph=False,
            allow_unused=False,
        )


def _tangents(function: str, primals: Any, tangents: Any) -> list[Tensor]:
    for name, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, tuple):
            raise refused(
                "BAD_VALUE",
                f"{function}: {name} must be a tuple, one item for each argument, not "
                f"{type(given).__name__}",
            )
    return same_structure(function, primals, tangents, "the tangents", "the primals")
