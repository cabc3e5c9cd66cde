"""`gw.autograd.gradcheck` and `gradgradcheck`: derivatives against central differences.

A function that is nothing but operators is checked by the server, in one request; any other from
this side, with many calls to a request.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gradwire import filled, reading
from gradwire.autograd import gradients, local_check, served_check
from gradwire.autograd.disagreement import GradcheckError, Tolerances
from gradwire.autograd.local_check import as_list, requires_grad, tensors_of

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]

Function = Callable[..., Any]


def gradcheck(
    func: Function,
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Compare the Jacobian of a function with central differences.

    Whole Jacobians are compared, element by element.

    Args:
        func: Of tensors and whatever else; gives a tensor or a tuple or list of tensors.
        inputs: Its arguments. Those that require grad are checked; they should be of float64 or
            complex128, for central differences in less are too coarse.
        eps: How far an element is moved.
        atol: Absolute difference that is allowed.
        rtol: Difference that is allowed as a part of the central difference.
        raise_exception: Raise, instead of giving False.
        nondet_tol: How much two passes of the same backward may differ.
        check_undefined_grad: Accepted, and of no effect: no rule ever sees a missing gradient.
        check_grad_dtypes: Also that gradients have the dtype of their inputs.
        check_batched_grad: Also that `is_grads_batched` gives the same.
        check_forward_ad: Also the Jacobian by forward mode.
        check_backward_ad: The Jacobian by reverse mode.
        fast_mode: Accepted, and of no effect: the check is always the whole one.

    Returns:
        Whether all agree.

    Raises:
        ValueError: no input requires grad, or the function gives something else than tensors.
        GradcheckError: (a RuntimeError) they do not; its text shows both Jacobians.
    """
    bounds = Tolerances(eps, atol, rtol, nondet_tol)
    given = as_list(inputs)
    if not (check_batched_grad or check_grad_dtypes):
        served = served_check.check(
            func, given, bounds, reverse=check_backward_ad, forward=check_forward_ad
        )
        if served is not None:
            _warn_of(served.coarse, given)
            return _holds(served.require_agreement, raise_exception)
    check = local_check.Check(func, given, bounds)
    _warn_of(check.coarse, given)
    agreement = partial(
        check.require_agreement,
        reverse=check_backward_ad,
        forward=check_forward_ad,
        batched=check_batched_grad,
        dtypes=check_grad_dtypes,
    )
    return _holds(agreement, raise_exception)


def gradgradcheck(
    func: Function,
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Compare second derivatives with central differences of first ones.

    Args:
        func: As for `gradcheck`.
        inputs: As for `gradcheck`.
        grad_outputs: The cotangents of the outputs, which the gradient is also differentiated by;
            None: random ones.
        eps: As for `gradcheck`, as are those not named here.
        atol: As for `gradcheck`.
        rtol: As for `gradcheck`.
        gen_non_contig_grad_outputs: Accepted, and of no effect: data that travel are contiguous.
        raise_exception: As for `gradcheck`.
        nondet_tol: As for `gradcheck`.
        check_undefined_grad: As for `gradcheck`.
        check_grad_dtypes: As for `gradcheck`.
        check_batched_grad: As for `gradcheck`.
        check_fwd_over_rev: Also by forward mode over reverse mode.
        check_rev_over_rev: By reverse mode over reverse mode.
        fast_mode: As for `gradcheck`.

    Returns:
        Whether all agree.

    Raises:
        ValueError: as `gradcheck`.
        GradcheckError: as `gradcheck`.
    """
    bounds = Tolerances(eps, atol, rtol, nondet_tol)
    given = as_list(inputs)
    if not (check_batched_grad or check_grad_dtypes):
        served = served_check.check(
            func,
            given,
            bounds,
            reverse=check_rev_over_rev,
            forward=check_fwd_over_rev,
            second_order=True,
            directions=[] if grad_outputs is None else as_list(grad_outputs),
        )
        if served is not None:
            _warn_of(served.coarse, given)
            return _holds(served.require_agreement, raise_exception)
    at = [nr for nr, each in enumerate(given) if requires_grad(each)]
    outputs = tensors_of(func(*given))
    reading.values_of(outputs)
    chosen = [nr for nr, each in enumerate(outputs) if requires_grad(each)]
    if grad_outputs is None:
        cotangents = [filled.randn_like(outputs[nr]).requires_grad_() for nr in chosen]
    else:
        cotangents = [each for each in as_list(grad_outputs) if requires_grad(each)]

    def gradient(*args: Any) -> tuple[Tensor, ...]:
        split = len(args) - len(cotangents)
        found = tensors_of(func(*args[:split]))
        return gradients.grad(
            [found[nr] for nr in chosen],
            [args[nr] for nr in at],
            args[split:],
            create_graph=True,
            materialize_grads=True,
        )

    check = local_check.Check(gradient, [*given, *cotangents], bounds)
    _warn_of(check.coarse, given)
    agreement = partial(
        check.require_agreement,
        reverse=check_rev_over_rev,
        forward=check_fwd_over_rev,
        batched=check_batched_grad,
        dtypes=check_grad_dtypes,
    )
    return _holds(agreement, raise_exception)


def _holds(agreement: Callable[[], None], raise_exception: bool) -> bool:
    try:
        agreement()
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _warn_of(coarse: Sequence[int], given: Sequence[Any]) -> None:
    """Warn the caller of the caller of inputs that are in less than double precision."""
    for nr in coarse:
        if nr < len(given):
            warnings.warn(
                f"input {nr} is of {reading.type_of(given[nr]).dtype}: central differences are too "
                "coarse in less than float64 or complex128, so this check will likely fail",
                UserWarning,
                stacklevel=3,
            )
