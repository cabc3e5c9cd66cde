"""Sequences that leave nothing behind, read as programs: functions of their payloads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.program import Program
from gradwire_server import decode
from gradwire_server.op_steps import OpStep
from gradwire_server.programs import program_of
from gradwire_server.values import FetchStep, PutStep, ReleaseStep

if TYPE_CHECKING:
    from gradwire_server.sequences import Step


_HANDLES: Final = 1 << 64


class OpenError(Exception):
    """The sequence cannot be read so: it works on more than it is sent, or tells of more."""


@dataclass(frozen=True, slots=True)
class ClosedSequence:
    """A sequence as a function.

    Attributes:
        program: what it computes.
        puts: its inputs.
        fetch: its results.
        made: the handles that it makes.
        left: those of them that it does not release.
    """

    program: Program
    puts: tuple[PutStep, ...]
    fetch: FetchStep
    made: frozenset[int]
    left: frozenset[int]


def read_closed(steps: Sequence[Step]) -> ClosedSequence:
    """Read steps that have run without failure: short tensors in, values out, one backward at most.

    Raises:
        OpenError: the steps do more than that.
        ServiceError: what they do, a program cannot.
    """
    made = set(_made(steps))
    reader = _Reader(max(made, default=0) + 1)
    for step in steps:
        reader.read(step)
    if reader.fetch is None:
        raise OpenError
    program = reader.program
    program.outputs.extend([reader.renamed.get(each, each) for each in reader.fetch.tensors])
    return ClosedSequence(
        program_of(program, "sequence", len(steps), whole=True),
        tuple(reader.puts),
        reader.fetch,
        frozenset(made),
        frozenset(made - reader.released),
    )


def _made(steps: Iterable[Step]) -> Iterable[int]:
    for step in steps:
        for handles, is_open_ended in decode.makes(step.message):
            if is_open_ended:
                raise OpenError
            yield from handles


class _Reader:
    """Reads the steps one by one.

    Attributes:
        program: what it has of them.
        puts: the steps that are its inputs.
        fetch: the step that has its outputs.
        released: handles.
        renamed: gradients, from the handle of `.grad` to the one in the program.
    """

    def __init__(self, free: int) -> None:
        """Begin; handles from `free` on are not used by the steps."""
        self.program = pb.Program()
        self.puts: list[PutStep] = []
        self.fetch: FetchStep | None = None
        self.released: set[int] = set()
        self.renamed: dict[int, int] = {}
        self._free = free
        self._leaves: list[int] = []
        self._gradients: dict[int, int] | None = None

    def read(self, step: Step) -> None:
        """Take the next step in.

        Raises:
            OpenError: it has no place in a program.
        """
        message = step.message
        if message.saved_hooks or (step.mode and step.kind != "op"):
            raise OpenError
        match step.told:
            case ReleaseStep(programs=[], downloads=[], uploads=[]):
                self.released.update(step.told.tensors)
            case _ if self.released:
                raise OpenError
            case PutStep(is_plain=True):
                self._put(step.told)
            case OpStep() if not step.told.plan.mutates:
                self.program.steps.append(message)
            case pb.Grad():
                self.program.steps.append(message)
            case _ if step.kind == "backward":
                self._go_backward(message.backward)
            case _ if step.kind == "get_grad":
                self._name_gradients(message.get_grad)
            case FetchStep(values=True, info=False, max_value_bytes=0) if self.fetch is None:
                self.fetch = step.told
            case _:
                raise OpenError

    def _put(self, told: PutStep) -> None:
        self.puts.append(told)
        self.program.inputs.append(told.output)
        if told.requires_grad:
            self._leaves.append(told.output)

    def _go_backward(self, message: pb.Backward) -> None:
        if (
            self._gradients is not None
            or message.create_graph
            or message.HasField("inputs")
            or message.edges
            or self._free + len(self._leaves) > _HANDLES
        ):
            raise OpenError
        # All of them, as a backward may refuse what leads to any.
        leaves = self._leaves
        self.program.steps.add(
            grad=pb.Grad(
                outputs=message.tensors,
                grad_outputs=message.gradients,
                inputs=leaves,
                output=self._free,
                retain_graph=message.retain_graph,
                allow_unused=True,
            )
        )
        self._gradients = dict(zip(leaves, range(self._free, _HANDLES), strict=False))

    def _name_gradients(self, message: pb.GetGrad) -> None:
        found = self._gradients
        if found is None or not found.keys() >= set(message.tensors):
            raise OpenError
        for leaf, handle in zip(message.tensors, message.outputs, strict=True):
            self.renamed[handle] = found[leaf]
