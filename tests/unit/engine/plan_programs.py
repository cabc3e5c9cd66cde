"""Programs written call by call, and what they give by plan beside what they give without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradwire_engine import Context, EngineError, Tensor, grad, operators, use
from gradwire_engine.plan import CompiledProgram
from gradwire_engine.program import Gradient, Instruction, Program


@dataclass
class Writer:
    """Writes a program call by call. A register is an int; other arguments are plain."""

    inputs: int
    instructions: list[Instruction | Gradient] = field(default_factory=list)
    registers: int = 0
    records: bool = True

    def __post_init__(self) -> None:
        self.registers = self.inputs

    def new(self) -> int:
        self.registers += 1
        return self.registers - 1

    def call(self, name: str, *args: Any, count: int = 1) -> Any:
        """A call; `R(n)` stands for a register. In place it gives the register of its target."""
        op = operators[name]
        defaults = [argument.default for argument in op.schema.arguments[len(args) :]]
        filled = [*args, *defaults]
        slots = tuple((at, each.nr) for at, each in enumerate(filled) if isinstance(each, R))
        lists = tuple(
            (at, tuple(item.nr for item in each))
            for at, each in enumerate(filled)
            if isinstance(each, list)
        )
        template = tuple(None if isinstance(e, (R, list)) else e for e in filled)
        results = () if op.mutates else tuple(self.new() for _ in range(count))
        self.instructions.append(Instruction(op, template, slots, lists, results, self.records))
        if op.mutates:
            return args[0]
        return R(results[0]) if count == 1 else tuple(R(nr) for nr in results)

    def gradient(self, outputs: Sequence[R], inputs: Sequence[R], **flags: bool) -> list[R]:
        results = [R(self.new()) for _ in inputs]
        numbers = [[each.nr for each in group] for group in (outputs, inputs, results)]
        self.instructions.append(
            Gradient(tuple(numbers[0]), tuple(numbers[1]), (), tuple(numbers[2]), **flags)
        )
        return results

    def program(self, *outputs: R) -> Program:
        numbers = tuple(each.nr for each in outputs)
        return Program(self.inputs, self.registers, tuple(self.instructions), numbers)


@dataclass(frozen=True)
class R:
    """A register."""

    nr: int


def tensor(values: Any, grad: bool = False, dtype: Any = np.float32) -> Tensor:
    return Tensor.from_array(np.array(values, dtype), requires_grad=grad)


def copies(inputs: Sequence[Tensor]) -> list[Tensor]:
    return [
        Tensor.from_array(each.data.copy(order="K"), requires_grad=each.requires_grad)
        for each in inputs
    ]


def same(one: Any, other: Any, tolerance: float = 1e-5) -> None:
    assert (one is None) == (other is None)
    if one is not None:
        np.testing.assert_allclose(other.data, one.data, tolerance, tolerance, strict=True)
        assert other.requires_grad == one.requires_grad


def answer(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a function gives, or the reason why it refuses."""
    try:
        return function(*args, **options)
    except EngineError as refusal:
        return refusal.reason


def both(program: Program, inputs: Sequence[Tensor], tolerance: float = 1e-5) -> CompiledProgram:
    """Run both ways, twice, and compare results, inputs after the run, and gradients."""
    compiled = CompiledProgram(program)
    for _ in range(2):
        mine, yours = copies(inputs), copies(inputs)
        expected, found = program.run(mine), compiled.call(yours)
        for one, other in zip([*expected, *mine], [*found, *yours], strict=True):
            same(one, other, tolerance)
        assert [each.version[0] for each in mine] == [each.version[0] for each in yours]
        pairs = [
            (a, b)
            for a, b in zip(expected, found, strict=True)
            if a is not None and b is not None and a.requires_grad
        ]
        wanted = [[e for e in side if e.requires_grad] for side in (mine, yours)]
        if not pairs or not wanted[0]:
            continue
        directions = [
            Tensor(np.cos(np.arange(a.data.size)).reshape(a.shape).astype(a.dtype))
            for a, _ in pairs
        ]
        answers = [
            answer(grad, [pair[side] for pair in pairs], leaves, directions, allow_unused=True)
            for side, leaves in enumerate(wanted)
        ]
        if isinstance(answers[0], str):
            assert answers[0] == answers[1]
            continue
        for one, other in zip(*answers, strict=True):
            same(one, other, tolerance)
    return compiled


def both_where_it_runs(program: Program, inputs: Sequence[Tensor]) -> None:
    """As `both`, for random programs: those that are refused are none of its business."""
    with use(Context(seed=0)), np.errstate(all="ignore"):
        if not isinstance(answer(program.run, copies(inputs)), str):
            both(program, inputs, 1e-4)


def fits(shape: tuple[int, ...], wide: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, wide) == wide
    except ValueError:
        return False
