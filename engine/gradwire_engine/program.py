"""Programs: captured lists of operator calls, from formal inputs to outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradwire_engine.operator import Operator
from gradwire_engine.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Instruction:
    """One operator call.

    Attributes:
        template: arguments in schema order, None where a tensor goes.
        slots: `(position, register)` of the tensors.
        lists: `(position, registers)` of lists of tensors; -1 is none.
        results: registers of the results; None where the operator is in-place.
    """

    op: Operator
    template: tuple[Any, ...]
    slots: tuple[tuple[int, int], ...]
    lists: tuple[tuple[int, tuple[int, ...]], ...]
    results: tuple[int, ...]


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
    instructions: tuple[Instruction, ...]
    outputs: tuple[int | None, ...]

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor | None]:
        """Run the calls under the current context, one by one; they are recorded as any are.

        Raises:
            EngineError: what a call refuses.
        """
        held: list[Any] = [*inputs, *([None] * (self.registers - self.inputs))]
        for each in self.instructions:
            args = list(each.template)
            for position, register in each.slots:
                args[position] = held[register]
            for position, registers in each.lists:
                args[position] = [None if r < 0 else held[r] for r in registers]
            made = each.op.call(args, each.template)
            if not isinstance(made, tuple):
                made = (made,)
            for register, result in zip(each.results, made, strict=False):
                held[register] = result
        return [None if register is None else held[register] for register in self.outputs]
