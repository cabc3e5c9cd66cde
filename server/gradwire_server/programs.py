"""Programs as they travel, checked and made ready to run."""

from __future__ import annotations

import re
from typing import Final

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.program import Instruction, Program
from gradwire_server import decode
from gradwire_server.errors import ServiceError, malformed
from gradwire_server.limits import exceeded

_NAME: Final = re.compile(r"[A-Za-z_]\w{0,99}", re.ASCII)


def program_of(message: pb.Program, field: str, max_steps: int) -> Program:
    """Decode a program; `field` is its path within the step.

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
    instructions: list[Instruction] = []
    for at, step in enumerate(message.steps):
        try:
            instructions.append(_instruction(step, registers))
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


def _instruction(step: pb.Step, registers: dict[int, int]) -> Instruction:
    kind = step.WhichOneof("kind")
    if kind != "op":
        raise malformed("a program consists of op steps only", kind or "kind")
    message = step.op
    plan, handles = decode.call_of(message)
    if plan.results == decode.VARIADIC:
        raise ServiceError(
            "BAD_VALUE",
            f"{message.name} makes as many results as its input has parts, which a program cannot "
            "know; take the parts with select, slice or narrow",
            field="op.name",
            metadata={"op": message.name},
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
    made = range(message.output, message.output + plan.results) if message.output else ()
    results = tuple([_define(registers, handle, "op.output") for handle in made])
    return Instruction(plan.op, plan.template, slots, lists, results)


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
