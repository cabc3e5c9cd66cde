"""Second order: hessian, hvp."""

from __future__ import annotations

from typing import Any

from gradwire.func.forward import jacfwd
from gradwire.func.reverse import grad_and_value, jacrev, vjp
from gradwire.func.transform import Argnums, Function


def hessian(func: Function, argnums: Argnums = 0) -> Function:
    """A function that gives the Hessian of `func`: `jacfwd(jacrev(func))`, in one request.

    Args:
        func: As for `jacrev`.
        argnums: Which positional argument, or a tuple of several, to differentiate by.

    Returns:
        A function of the same arguments. Of a tensor, it gives one of the shape of the output
        followed twice by that of the argument; of trees, trees in trees as `jacrev` gives them.
    """
    return jacfwd(jacrev(func, argnums), argnums)


def hvp(func: Function, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """The value of a function, and the product of its Hessian with a vector.

    The Hessian is symmetric, so reverse mode twice gives the product; it is never formed.

    Args:
        func: Gives a real tensor of no dimensions.
        primals: A tuple of its arguments: tensors, or tuples, lists and dicts of tensors.
        tangents: The vector: a tuple built like `primals`.

    Returns:
        `(value, product)`; the product is a tuple built like `primals`.

    Raises:
        RuntimeError: the trees do not fit; `func` gives no scalar tensor.
    """
    _, pull, value = vjp(grad_and_value(func, tuple(range(len(primals)))), *primals, has_aux=True)
    return value, pull(tangents)
