"""Programs as they travel, checked and made ready to run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.program import Gradient, Instruction, Program
from gradwire_server import decode
from gradwire_server.errors import ServiceError, malformed
from gradwire_server.limits import exceeded

_MAX_RESULTS: Final = 10_000

_NAME: Final = re.compile(r"[A-Za-z_]\w{0,99}", re.ASCII)


def program_of(message: pb.Program, field: str, max_steps: int, *, whole: bool = False) -> Program:
    """Decode a program; `field` is its path within the step.

    Args:
        whole: it may differentiate within itself, and change its inputs in place.

    Raises:
        ServiceError: HANDLE_IN_USE, HANDLE_NOT_FOUND, MALFORMED_REQUEST, BAD_VALUE,
            LIMIT_EXCEEDED, and whatever is wrong with a call.
    """
    if len(message.steps) > max_steps:
        raise exceeded(
            "max_steps",
            len(message.steps),
            max_steps,
            "a program of too many steps",
            field=f"{field}.steps",
        )
    registers: dict[int, int] = {}
    for at, handle in enumerate(message.inputs):
        _define(registers, handle, f"{field}.inputs[{at}]")
    inputs = len(registers)
    instructions: list[Instruction | Gradient] = []
    for at, step in enumerate(message.steps):
        try:
            instructions.append(_step(step, registers, whole))
        except ServiceError as failure:
            failure.field = f"{field}.steps[{at}].{failure.field}"
            raise
    outputs = [
        None if not handle else _register(registers, handle, f"{field}.outputs[{at}]")
        for at, handle in enumerate(message.outputs)
    ]
    return Program(inputs, len(registers), tuple(instructions), tuple(outputs))


def require_name(name: str, field: str) -> str:
    """A node's name that the client chose.

    Raises:
        ServiceError: BAD_VALUE.
    """
    if not _NAME.fullmatch(name):
        raise ServiceError(
            "BAD_VALUE",
            "the name of a node has 1 to 100 letters, digits and underscores, and does not begin "
            "with a digit",
            field=field,
        )
    return name


def _step(step: pb.Step, registers: dict[int, int], whole: bool) -> Instruction | Gradient:
    if step.grad_mode not in (pb.GRAD_MODE_UNSPECIFIED, pb.GRAD_MODE_NO_GRAD):
        raise ServiceError(
            "BAD_VALUE",
            "steps of a program are recorded, or run under NO_GRAD; for inference mode call the "
            "program in it",
            field="grad_mode",
            metadata={"grad_mode": step.grad_mode},
        )
    match step.WhichOneof("kind"):
        case "op":
            return _instruction(step, registers)
        case "grad" if whole:
            return _gradient(step.grad, registers)
        case kind:
            kinds = "op and grad steps" if whole else "op steps only"
            raise malformed(f"a program consists of {kinds}", kind or "kind")


def _gradient(message: pb.Grad, registers: dict[int, int]) -> Gradient:
    for name in ("is_grads_batched", "output_edges", "input_edges", "is_jacobian"):
        if getattr(message, name):
            raise _not_in_programs(name)
    if message.HasField("variables"):
        raise _not_in_programs("variables")
    if not message.outputs or not message.inputs:
        name = "inputs" if message.outputs else "outputs"
        raise ServiceError(
            "WRONG_ARITY", f"grad.{name} names no tensor; there must be one", field=f"grad.{name}"
        )

    def named(handles: Sequence[int], field: str) -> tuple[int, ...]:
        path = f"grad.{field}"
        return tuple(
            [_register(registers, handle, f"{path}[{at}]") for at, handle in enumerate(handles)]
        )

    outputs = named(message.outputs, "outputs")
    if message.grad_outputs and len(message.grad_outputs) != len(outputs):
        raise ServiceError(
            "WRONG_ARITY",
            f"{len(outputs)} outputs and {len(message.grad_outputs)} grad_outputs; there must be "
            "one for each output (0 for none), or none at all",
            field="grad.grad_outputs",
            metadata={"outputs": len(outputs), "grad_outputs": len(message.grad_outputs)},
        )
    inputs = named(message.inputs, "inputs")
    directions = tuple(
        [
            _register(registers, handle, f"grad.grad_outputs[{at}]") if handle else -1
            for at, handle in enumerate(message.grad_outputs)
        ]
    )
    made = range(message.output, message.output + len(inputs))
    return Gradient(
        outputs,
        inputs,
        directions,
        tuple([_define(registers, handle, "grad.output") for handle in made]),
        retain_graph=message.retain_graph,
        create_graph=message.create_graph,
        allow_unused=message.allow_unused,
        materialize_grads=message.materialize_grads,
    )


def _not_in_programs(name: str) -> ServiceError:
    return ServiceError(
        "BAD_VALUE",
        f"a grad step of a program has no {name}; take such derivatives outside of the program, "
        "which is differentiable itself",
        field=f"grad.{name}",
    )


def _instruction(step: pb.Step, registers: dict[int, int]) -> Instruction:
    message = step.op
    plan, handles = decode.call_of(message)
    count = plan.results
    if count == decode.VARIADIC:
        count = message.results
        if not 0 < count <= _MAX_RESULTS:
            raise ServiceError(
                "BAD_VALUE",
                f"{message.name} makes as many results as its arguments say; a program must say "
                f"how many that is, from 1 to {_MAX_RESULTS}",
                field="op.results",
                metadata={"op": message.name, "results": count},
            )

    def register(index: int) -> int:
        path = decode.path_of_handle(message, index)
        return _register(registers, handles[index], path)

    slots = tuple([(position, register(index)) for position, index in plan.slots])
    lists = tuple(
        [
            (position, tuple([-1 if index < 0 else register(index) for index in indices]))
            for position, indices in plan.lists
        ]
    )
    made = range(message.output, message.output + count) if message.output else ()
    results = tuple([_define(registers, handle, "op.output") for handle in made])
    records = step.grad_mode == pb.GRAD_MODE_UNSPECIFIED
    return Instruction(plan.op, plan.template, slots, lists, results, records)


def _register(registers: dict[int, int], handle: int, field: str) -> int:
    found = registers.get(handle)
    if found is None:
        raise ServiceError(
            "HANDLE_NOT_FOUND",
            f"no step of the program before this makes handle {handle}, and it is no input; a "
            "program knows no handles of the session",
            field=field,
            metadata={"handle": handle},
        )
    return found


def _define(registers: dict[int, int], handle: int, field: str) -> int:
    if not handle or handle in registers:
        text = "0 is not a handle" if not handle else f"handle {handle} is made twice"
        raise ServiceError(
            "HANDLE_IN_USE",
            f"{text}; each input and result of a program has one of its own",
            field=field,
            metadata={"handle": handle},
        )
    registers[handle] = len(registers)
    return registers[handle]
