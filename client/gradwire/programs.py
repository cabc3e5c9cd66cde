"""Programs made of what a trace noted: the server keeps each while its object here lives."""

import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradwire import wire
from gradwire.codec import Info
from gradwire.encoding import delimited_step, encode_op
from gradwire.location import Mark
from gradwire.recorder import Entry, mark_of
from gradwire.tracing import Trace
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.tensors import Tensor


_MOST_NAME: Final = 80


class Lines:
    """The user's lines that recorded the steps of a program."""

    __slots__ = ("__weakref__", "_marks")

    def __init__(self, marks: Sequence[Mark | None]) -> None:
        self._marks = tuple(marks)

    def find(self, step: str) -> Mark | None:
        """The line of a step whose index an error names."""
        if not step.isdecimal() or int(step) >= len(self._marks):
            return None
        return self._marks[int(step)]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Program:
    """A program on the server, which drops it when this object goes.

    Attributes:
        id: the server's name for it.
        lines: of its steps.
    """

    id: str
    lines: Lines


@dataclass(frozen=True, slots=True)
class Draft:
    """What a program is to be made of.

    Attributes:
        trace: what was noted.
        free: tensors that calls name, in order.
        outputs: handles of the results, in order.
        grads: `(leaf, gradient)` handles of what a call leaves in `.grad`; gradient 0 is None.
        infos: metadata of all inputs.
    """

    trace: Trace
    free: "Sequence[Tensor]"
    outputs: Sequence[int]
    grads: Sequence[tuple[int, int]]
    infos: dict[int, Info]


async def create(draft: Draft) -> Program:
    """Have the server keep a program; one round trip.

    Raises:
        GradwireError: the server refuses it, such as for a limit.
    """
    trace = draft.trace
    session = trace.session
    request, lines = _request_of(draft)
    answer = await session.request(wire.CREATE_PROGRAM, request, pb.CreateProgramResponse)
    program = Program(answer.program.id, lines)
    session.program_lines[program.id] = lines
    weakref.finalize(program, session.recorder.release_program, program.id).atexit = False
    return program


def _request_of(draft: Draft) -> tuple[pb.CreateProgramRequest, Lines]:
    trace = draft.trace
    session = trace.session
    free = [each._handle for each in draft.free]
    named = set(free)
    bound = [each for each in inputs_of(trace, draft.grads) if each not in named]
    steps: list[bytes] = []
    marks: list[Mark | None] = []
    # What is made from data is made anew by each call, where a call might change it.
    copies = {handle: trace.copies[handle] for handle in bound if handle in trace.copies}
    for handle, copy in copies.items():
        clone = ("clone", (copy,), handle, 1, (), pb.GRAD_MODE_UNSPECIFIED, None, 0)
        steps.append(encode_op(clone))
        marks.append(None)
    inference = trace.mode == pb.GRAD_MODE_INFERENCE
    for entry in trace.entries:
        steps.append(_step_of(entry, inference))
        marks.append(mark_of(entry))
    program = pb.Program.FromString(b"".join(steps))
    program.inputs.extend([*free, *(copies.get(each, each) for each in bound)])
    program.outputs.extend(draft.outputs)
    request = pb.CreateProgramRequest(session_id=session.id, program=program)
    plain = re.sub(r"[^\w.<>]", "", trace.name, flags=re.ASCII)[-_MOST_NAME:]
    # What follows the hyphen tells apart the signatures of a function.
    request.name = f"{plain}-{session.new_handles(1)}"
    for handle in (*free, *bound):
        info = draft.infos[handle]
        request.input_types.add(
            dtype=info.dtype.wire,
            shape=info.shape,
            requires_grad=info.requires_grad and handle not in copies,
        )
    for handle in bound:
        held = copies.get(handle, handle)
        request.bindings.add(input=held, tensor=held)
    for leaf, gradient in draft.grads:
        request.grads.add(input=leaf, grad=gradient)
    return request, Lines(marks)


def inputs_of(trace: Trace, grads: Sequence[tuple[int, int]]) -> list[int]:
    """What a program needs from outside, in order."""
    left = (handle for pair in grads for handle in pair if handle and handle not in trace.made)
    return list(dict.fromkeys([*trace.used, *left]))


def _step_of(entry: Entry, inference: bool) -> bytes:
    """A step as an element of Program.steps."""
    if len(entry) == 2:
        return delimited_step(entry[0].SerializeToString())
    name, inputs, output, outputs, attributes, mode, code, offset = entry
    if inference:
        # The call itself is in inference mode.
        mode = pb.GRAD_MODE_UNSPECIFIED
    encoded = encode_op((name, inputs, output, outputs, attributes, mode, code, offset))
    if outputs < 2:
        return encoded
    (step,) = pb.Program.FromString(encoded).steps
    step.op.results = outputs
    return delimited_step(step.SerializeToString())
