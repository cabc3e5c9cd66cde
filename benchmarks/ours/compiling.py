"""Functions of operators as programs of the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks import data
from benchmarks.worker import UnavailableError
from gradwire_engine import Tensor, lookup
from gradwire_engine.operator import Operator
from gradwire_engine.plan import CompiledProgram
from gradwire_engine.program import Gradient, Instruction, Program

Function = Callable[[Any, Sequence[Any]], Any]
"""Of a namespace of operators and the arguments; written once for tensors and for programs."""


class Value:
    """A register of a program that is being recorded, with the operators of expressions."""

    def __init__(self, recorder: Recorder, register: int) -> None:
        self.recorder = recorder
        self.register = register

    def __add__(self, other: Any) -> Any:
        return self.recorder.add(self, other)

    def __mul__(self, other: Any) -> Any:
        return self.recorder.mul(self, other)

    def __neg__(self) -> Any:
        return self.recorder.neg(self)

    def __pow__(self, other: Any) -> Any:
        return self.recorder.pow(self, other)

    def __matmul__(self, other: Any) -> Any:
        return self.recorder.matmul(self, other)


class Recorder:
    """A namespace of operators that are noted, not run.

    Attributes:
        constants: tensors that were used and are no arguments: further inputs of the program.
    """

    def __init__(self, arguments: int) -> None:
        """Begin a program of so many arguments."""
        self.arguments = [Value(self, at) for at in range(arguments)]
        self.constants: list[Tensor] = []
        self._notes: list[tuple[Operator, list[Any], tuple[Value, ...], bool]] = []
        self._lifted: dict[int, Value] = {}

    def __getattr__(self, name: str) -> Any:
        return partial(self.note, lookup(name.replace("__", ".")))

    def note(self, op: Operator, /, *args: Any, records: bool = True, **kwargs: Any) -> Any:
        """Note a call; its results."""
        filled = [self._lift(each) for each in op.schema.fill(args, kwargs)]
        made = tuple(Value(self, -1) for _ in op.schema.results)
        self._notes.append((op, filled, made, records))
        return made[0] if len(made) == 1 else made

    def program(self, loss: Value, rate: float) -> Program:
        """The loss, and its gradients by every argument; with a rate, a step of SGD along them."""
        outputs = [self.detach(loss), *(Value(self, -1) for _ in self.arguments)]
        gradients = outputs[1:]
        forward = len(self._notes)
        if rate:
            for argument, gradient in zip(self.arguments, gradients, strict=True):
                self.add_(argument, gradient, alpha=-rate, records=False)
        registers = len(self.arguments) + len(self.constants)
        for at, each in enumerate(self._lifted.values()):
            each.register = len(self.arguments) + at
        instructions: list[Instruction | Gradient] = []
        for at, (op, filled, made, records) in enumerate(self._notes):
            if at == forward:
                instructions.append(self._gradient(loss, gradients, registers))
                registers += len(gradients)
            if not op.mutates:
                for each in made:
                    each.register, registers = registers, registers + 1
            instructions.append(_instruction(op, filled, made, records))
        if forward == len(self._notes):
            instructions.append(self._gradient(loss, gradients, registers))
            registers += len(gradients)
        inputs = len(self.arguments) + len(self.constants)
        return Program(
            inputs, registers, tuple(instructions), tuple(each.register for each in outputs)
        )

    def _gradient(self, loss: Value, gradients: Sequence[Value], first: int) -> Gradient:
        for at, each in enumerate(gradients):
            each.register = first + at
        by = tuple(each.register for each in self.arguments)
        return Gradient((loss.register,), by, (), tuple(each.register for each in gradients))

    def _lift(self, argument: Any) -> Any:
        if not isinstance(argument, Tensor):
            return argument
        if id(argument) not in self._lifted:
            self._lifted[id(argument)] = Value(self, -1)
            self.constants.append(argument)
        return self._lifted[id(argument)]


def _instruction(
    op: Operator, filled: Sequence[Any], made: Sequence[Value], records: bool
) -> Instruction:
    template = tuple(None if isinstance(each, Value) else each for each in filled)
    slots = tuple((at, each.register) for at, each in enumerate(filled) if isinstance(each, Value))
    results = () if op.mutates else tuple(each.register for each in made)
    return Instruction(op, template, slots, (), results, records)


def compiled_step(
    function: Function, arrays: Sequence[data.Array], rate: float = 0.0
) -> Callable[[], tuple[Any, Sequence[Any]]]:
    """The value of a scalar function and its gradients by every argument, as one program.

    Args:
        arrays: the arguments; with a `rate`, changed by a step of SGD in every call.
    """
    recorder = Recorder(len(arrays))
    program = recorder.program(function(recorder, recorder.arguments), rate)
    compiled = CompiledProgram(program)
    inputs = [Tensor.from_array(each, requires_grad=True) for each in arrays] + recorder.constants
    reason = compiled.explain(inputs).reason
    if reason is not None:
        raise UnavailableError(f"the program is not compiled: {reason}")

    def call() -> tuple[Any, Sequence[Any]]:
        loss, *gradients = compiled.call(inputs)
        return loss, gradients

    return call
