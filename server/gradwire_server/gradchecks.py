"""The step that compares derivatives of a function with central differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.errors import EngineError
from gradwire_engine.gradcheck import Check, Difference, Function, Tolerances, gradient_of
from gradwire_engine.program import Instruction, Program
from gradwire_engine.tensor import Tensor
from gradwire_server.derivatives import require_count
from gradwire_server.errors import ServiceError, failure_of
from gradwire_server.programs import program_of
from gradwire_server.workspace import STEP_FLOPS, work_behind

if TYPE_CHECKING:
    from gradwire_server.execute import Execution

_SHOWN_ELEMENTS: Final = 1024
"""Jacobians of up to so many elements are told whole."""

_MODES: Final = frozenset({pb.DERIVATIVE_MODE_REVERSE, pb.DERIVATIVE_MODE_FORWARD})


def gradcheck_step(run: Execution, message: pb.Gradcheck) -> None:
    """Compare derivatives, and answer with how they do."""
    settings = run.workspace.settings
    inputs = run.named(message.inputs, "gradcheck.inputs")
    constants = run.named(message.constants, "gradcheck.constants")
    directions = run.named(message.grad_outputs, "gradcheck.grad_outputs")
    program = program_of(message.program, "gradcheck.program", settings.max_steps, whole=True)
    require_count(program.inputs, len(inputs) + len(constants), "gradcheck.program.inputs")
    if None in program.outputs or not program.outputs:
        raise ServiceError(
            "BAD_VALUE",
            "a function to check must give at least one output, and each must be there",
            field="gradcheck.program.outputs",
        )
    bounds = _tolerances(message)
    modes = set(message.modes) or {pb.DERIVATIVE_MODE_REVERSE}
    if not modes <= _MODES:
        raise ServiceError(
            "BAD_VALUE",
            f"there is no derivative mode {max(modes - _MODES)} to compare",
            field="gradcheck.modes",
            metadata={"mode": max(modes - _MODES)},
        )
    if directions and not message.second_order:
        raise ServiceError(
            "BAD_VALUE",
            "grad_outputs are the directions of a gradient; they go with second_order",
            field="gradcheck.grad_outputs",
        )
    run.leave_loop()
    reverse, forward = pb.DERIVATIVE_MODE_REVERSE in modes, pb.DERIVATIVE_MODE_FORWARD in modes
    try:
        function = _function(program, constants)
        if message.second_order:
            function, inputs = gradient_of(function, inputs, directions)
        check = Check(function, inputs, bounds)
        work = work_behind(check.outputs)
        run.spend(
            check.evaluations() * (work + STEP_FLOPS * len(program.instructions))
            + check.passes(reverse=reverse, forward=forward) * 2 * work,
            "gradcheck",
        )
        verdict = check.run(reverse=reverse, forward=forward)
    except EngineError as error:
        failure = failure_of(error)
        fields = {"NOTHING_TO_CHECK": "inputs", "WRONG_ARITY": "grad_outputs"}
        failure.field = f"gradcheck.{fields.get(error.reason, 'program')}"
        raise failure from None
    result = pb.GradcheckResult(
        agrees=verdict.agrees, compared=verdict.compared, coarse_inputs=check.coarse
    )
    if verdict.worst is not None:
        _describe(result.worst, verdict.worst)
    run.tell_gradcheck(result)


def _tolerances(message: pb.Gradcheck) -> Tolerances:
    """The tolerances asked for, or those that are usual.

    Raises:
        ServiceError: BAD_VALUE.
    """
    usual = Tolerances()
    found = Tolerances(
        eps=message.eps if message.HasField("eps") else usual.eps,
        atol=message.atol if message.HasField("atol") else usual.atol,
        rtol=message.rtol if message.HasField("rtol") else usual.rtol,
        repeated=message.nondet_tol,
    )
    for name, value, least in (
        ("eps", found.eps, np.nextafter(0, 1)),
        ("atol", found.atol, 0),
        ("rtol", found.rtol, 0),
        ("nondet_tol", found.repeated, 0),
    ):
        if not least <= value < np.inf:
            raise ServiceError(
                "BAD_VALUE",
                f"{name} is {value}; it must be a finite number, "
                f"{'more than 0' if least else 'not less than 0'}",
                field=f"gradcheck.{name}",
                metadata={name: value},
            )
    return found


def _function(program: Program, constants: Sequence[Tensor]) -> Function:
    """A program as a function of its inputs, which it leaves as they are."""
    held = [Tensor(each.data) for each in constants]
    # What requires grad is a leaf, of which a change in place is refused.
    copies = any(isinstance(each, Instruction) and each.op.mutates for each in program.instructions)

    def function(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        given = [*inputs, *held]
        if copies:
            given = [each if each.requires_grad else Tensor(np.array(each.data)) for each in given]
        return [each for each in program.run(given) if each is not None]

    return function


def _describe(message: pb.GradcheckDifference, found: Difference) -> None:
    forward = found.way == "forward"
    message.mode = pb.DERIVATIVE_MODE_FORWARD if forward else pb.DERIVATIVE_MODE_REVERSE
    message.nondeterministic = found.way == "repeated"
    message.output = found.output
    message.input = found.input
    message.row = found.row
    message.column = found.column
    message.numerical = found.numerical[found.row, found.column]
    message.analytical = found.found[found.row, found.column]
    message.excess = found.excess
    message.rows, message.columns = found.numerical.shape
    if found.numerical.size <= _SHOWN_ELEMENTS:
        message.numerical_jacobian.extend(found.numerical.reshape(-1))
        message.analytical_jacobian.extend(found.found.reshape(-1))
