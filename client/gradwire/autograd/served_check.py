"""Derivatives against central differences, by the server: a captured function, in one request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradwire import hooks
from gradwire import tensors as _tensors
from gradwire.autograd.disagreement import (
    Place,
    Reals,
    Tolerances,
    differs,
    repeats_differently,
)
from gradwire.capture import Capture
from gradwire.errors import (
    CancelledError,
    DeadlineError,
    GradwireError,
    LimitError,
    ServerError,
    SessionError,
    UnavailableError,
)
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

FEATURE: Final = "gradcheck"
"""What a server that checks derivatives says it can."""

_NOT_OF_THE_FUNCTION: Final = (
    CancelledError,
    DeadlineError,
    LimitError,
    ServerError,
    SessionError,
    UnavailableError,
)
"""Failures that another try, from this side, would meet again."""


class ServedCheck:
    """What came of a check by the server.

    Attributes:
        coarse: Which inputs are in less than double precision.
    """

    def __init__(self, result: pb.GradcheckResult, at: Sequence[int]) -> None:
        self._result = result
        # Inputs of the request are the tensors among the arguments.
        self._at = at
        self.coarse = [at[nr] for nr in result.coarse_inputs if nr < len(at)]

    def require_agreement(self) -> None:
        """Raise GradcheckError if derivatives differ by more than is allowed."""
        if self._result.agrees:
            return
        worst = self._result.worst
        # With second derivatives, directions follow the arguments.
        nr = self._at[worst.input] if worst.input < len(self._at) else worst.input
        values = worst.numerical, worst.analytical
        jacobians = _jacobians(worst)
        if worst.nondeterministic:
            raise repeats_differently(worst.output, nr, *(jacobians or values))
        is_forward = worst.mode == pb.DERIVATIVE_MODE_FORWARD
        place = Place(worst.output, nr, worst.row, worst.column)
        raise differs(place, "forward mode" if is_forward else "analytical", values, jacobians)


def check(
    func: Callable[..., Any],
    given: Sequence[Any],
    bounds: Tolerances,
    *,
    reverse: bool,
    forward: bool,
    second_order: bool = False,
    directions: Sequence[Tensor] = (),
) -> ServedCheck | None:
    """Let the server check a function at a point.

    Returns:
        What came of it; None if it has to be checked from this side: if the function is not known
        to be nothing but operators on its arguments and on tensors that were there before, or if
        it fails, which on this side tells the line.

    Raises:
        GradwireError: the check was broken off.
    """
    at = [nr for nr, each in enumerate(given) if isinstance(each, _tensors.Tensor)]
    if not (at and (reverse or forward)):
        return None
    session = given[at[0]]._session
    if (
        isinstance(session, Capture)
        or FEATURE not in session.features
        or hooks.running(session) is not None
        or any(each._session is not session for each in (*(given[nr] for nr in at), *directions))
    ):
        return None
    before = session.new_handles(0)
    capture = Capture(session, getattr(func, "__name__", "the function"))
    placeholders = {nr: capture.placeholder() for nr in at}
    try:
        made = func(*[placeholders.get(nr, each) for nr, each in enumerate(given)])
        outputs = list(made) if isinstance(made, (tuple, list)) else [made]
        program = capture.program(list(placeholders.values()), outputs)
    except Exception:
        # If it is not capturing that it is due to, it comes again on this side.
        return None
    inputs = [given[nr]._handle for nr in at]
    constants = [each._handle for each in capture.lifted]
    # What the function makes anew each time may differ each time, and an argument that it also
    # knows from elsewhere moves in one place only.
    if session.new_handles(0) != before or not set(inputs).isdisjoint(constants):
        return None
    program.inputs.extend(each._handle for each in capture.lifted_placeholders())
    modes = [pb.DERIVATIVE_MODE_REVERSE] * reverse + [pb.DERIVATIVE_MODE_FORWARD] * forward
    message = pb.Gradcheck(
        program=program,
        inputs=inputs,
        constants=constants,
        eps=bounds.eps,
        atol=bounds.atol,
        rtol=bounds.rtol,
        nondet_tol=bounds.nondet_tol,
        modes=modes,
        second_order=second_order,
        grad_outputs=[each._handle for each in directions],
    )
    try:
        return ServedCheck(session.finish(session.check_gradients(message)), at)
    except _NOT_OF_THE_FUNCTION:
        raise
    except GradwireError:
        return None


def _jacobians(worst: pb.GradcheckDifference) -> tuple[Reals, Reals] | None:
    if not worst.numerical_jacobian:
        return None
    shape = (worst.rows, worst.columns)
    return (
        np.array(worst.numerical_jacobian).reshape(shape),
        np.array(worst.analytical_jacobian).reshape(shape),
    )
