"""Programs: captured lists of operator calls and gradients, from formal inputs to outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradwire_engine.autograd import grad
from gradwire_engine.context import current, grad_mode
from gradwire_engine.errors import EngineError
from gradwire_engine.operator import Operator
from gradwire_engine.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Instruction:
    """One operator call.

    Attributes:
        template: arguments in schema order, None where a tensor goes.
        slots: `(position, register)` of the tensors.
        lists: `(position, registers)` of lists of tensors; -1 is none.
        results: registers of the results. An in-place operator's result is its first argument,
            and may be given a register or not.
        records: whether the call is recorded if the program is run with grad enabled; False for
            one captured under no_grad.
    """

    op: Operator
    template: tuple[Any, ...]
    slots: tuple[tuple[int, int], ...]
    lists: tuple[tuple[int, tuple[int, ...]], ...]
    results: tuple[int, ...]
    records: bool = True


@dataclass(frozen=True, slots=True)
class Gradient:
    """Gradients of registers by registers, as `grad()` takes them.

    Attributes:
        outputs: registers that are differentiated.
        inputs: registers that they are differentiated by.
        grad_outputs: for each output the register of its v of v·J; -1 is none, for a real scalar,
            and so is an empty tuple for all of them.
        results: registers of the gradients; what is unused leaves its own without a tensor.
        retain_graph: another `Gradient` goes through the same graph.
        create_graph: the results are recorded themselves.
        allow_unused: the outputs need not depend on every input.
        materialize_grads: an input that they do not depend on gives zeros.
    """

    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    grad_outputs: tuple[int, ...]
    results: tuple[int, ...]
    retain_graph: bool = False
    create_graph: bool = False
    allow_unused: bool = False
    materialize_grads: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """Operator calls over numbered registers, of which the first hold the inputs.

    Attributes:
        inputs: how many inputs there are.
        registers: how many registers there are.
        outputs: registers of the outputs; None for an output that is not there.
    """

    inputs: int
    registers: int
    instructions: tuple[Instruction | Gradient, ...]
    outputs: tuple[int | None, ...]

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor | None]:
        """Run the calls under the current context, one by one; they are recorded as any are.

        Raises:
            EngineError: what a call or `grad` refuses; its metadata has the index of the
                instruction as `program_step`.
        """
        held: list[Any] = [*inputs, *([None] * (self.registers - self.inputs))]
        run = _run if current.context.profile is None else _run_profiled
        for at, each in enumerate(self.instructions):
            try:
                made = run(each, held)
            except EngineError as error:
                error.metadata.setdefault("program_step", str(at))
                raise
            for register, result in zip(each.results, made, strict=False):
                held[register] = result
        return [None if register is None else held[register] for register in self.outputs]


def _run(instruction: Instruction | Gradient, held: Sequence[Any]) -> Sequence[Tensor | None]:
    match instruction:
        case Gradient():
            return _differentiate(instruction, held)
        case Instruction(records=False) if current.context.grad_enabled:
            with grad_mode(False):
                return _call(instruction, held)
        case Instruction():
            return _call(instruction, held)


def _run_profiled(
    instruction: Instruction | Gradient, held: Sequence[Any]
) -> Sequence[Tensor | None]:
    profile = current.context.profile
    assert profile is not None
    with profile.entry(
        *(("step", "grad") if isinstance(instruction, Gradient) else ("op", instruction.op.name))
    ) as entry:
        made = _run(instruction, held)
        entry.bytes = sum(each.data.nbytes for each in made if each is not None)
    return made


def _call(instruction: Instruction, held: Sequence[Any]) -> Sequence[Any]:
    args = list(instruction.template)
    for position, register in instruction.slots:
        args[position] = held[register]
    for position, registers in instruction.lists:
        args[position] = [None if r < 0 else held[r] for r in registers]
    made = instruction.op.call(args, instruction.template)
    return made if isinstance(made, tuple) else (made,)


def _differentiate(gradient: Gradient, held: Sequence[Any]) -> Sequence[Tensor | None]:
    return grad(
        [held[register] for register in gradient.outputs],
        [held[register] for register in gradient.inputs],
        [None if register < 0 else held[register] for register in gradient.grad_outputs] or None,
        retain_graph=gradient.retain_graph or gradient.create_graph,
        create_graph=gradient.create_graph,
        allow_unused=gradient.allow_unused or gradient.materialize_grads,
        materialize_grads=gradient.materialize_grads,
    )
