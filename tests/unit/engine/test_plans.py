"""Compiled programs give what programs give: values, gradients, changes in place, refusals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwire_engine import Context, EngineError, Tensor, grad, operators
from gradwire_engine import use as use_context
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

    def gradient(self, outputs: Sequence["R"], inputs: Sequence["R"], **flags: bool) -> list["R"]:
        results = [R(self.new()) for _ in inputs]
        numbers = [[each.nr for each in group] for group in (outputs, inputs, results)]
        self.instructions.append(
            Gradient(tuple(numbers[0]), tuple(numbers[1]), (), tuple(numbers[2]), **flags)
        )
        return results

    def program(self, *outputs: "R") -> Program:
        numbers = tuple(each.nr for each in outputs)
        return Program(self.inputs, self.registers, tuple(self.instructions), numbers)


@dataclass(frozen=True)
class R:
    """A register."""

    nr: int


def tensor(values: Any, grad: bool = False, dtype: Any = np.float32) -> Tensor:
    return Tensor.from_array(np.array(values, dtype), requires_grad=grad)


def copies(inputs: Sequence[Tensor]) -> list[Tensor]:
    return [Tensor.from_array(e.data.copy(), requires_grad=e.requires_grad) for e in inputs]


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


UNARY = ["tanh", "exp", "sigmoid", "relu", "neg", "square", "abs", "sin", "clone"]
BINARY = ["add", "sub", "mul", "maximum"]
IN_PLACE = ["add_", "mul_", "copy_"]
SHAPES = [(3, 4), (4,), (3, 1), (), (1, 4)]


@st.composite
def programs(draw: st.DrawFn) -> tuple[Program, list[Tensor]]:
    """A program of a few calls over tensors of shapes that broadcast, and inputs for it."""
    count = draw(st.integers(1, 3))
    w = Writer(count)
    numbers = np.random.default_rng(draw(st.integers(0, 99)))
    inputs: list[Tensor] = []
    pool: list[tuple[R, tuple[int, ...], bool]] = []
    for at in range(count):
        shape = draw(st.sampled_from(SHAPES))
        dtype = draw(st.sampled_from([np.float64, np.float64, np.float32, np.int64]))
        array = numbers.uniform(-1, 1, shape).astype(dtype)
        wanted = dtype is not np.int64 and draw(st.booleans())
        inputs.append(Tensor.from_array(np.asarray(array), requires_grad=wanted))
        pool.append((R(at), shape, False))
    for _ in range(draw(st.integers(1, 8))):
        w.records = draw(st.integers(0, 7)) > 0
        register, shape, fresh = draw(st.sampled_from(pool))
        match draw(st.sampled_from(["unary", "binary", "number", "view", "in_place", "sum"])):
            case "unary":
                pool.append((w.call(draw(st.sampled_from(UNARY)), register), shape, True))
            case "binary":
                other, other_shape, _ = draw(st.sampled_from(pool))
                made = w.call(draw(st.sampled_from(BINARY)), register, other)
                pool.append((made, np.broadcast_shapes(shape, other_shape), True))
            case "number":
                number = draw(st.sampled_from([2.0, 3, 0.5]))
                pool.append(
                    (
                        w.call(draw(st.sampled_from(["mul", "add", "pow"])), register, number),
                        shape,
                        True,
                    )
                )
            case "view" if shape:
                if draw(st.booleans()) and shape[0] > 1:
                    pool.append(
                        (
                            w.call("slice", register, 0, 1, None, 1),
                            (shape[0] - 1, *shape[1:]),
                            fresh,
                        )
                    )
                elif len(shape) == 2:
                    pool.append((w.call("t", register), shape[::-1], fresh))
                else:
                    pool.append((w.call("unsqueeze", register, 0), (1, *shape), fresh))
            case "in_place" if fresh:
                other, other_shape, _ = draw(st.sampled_from(pool))
                if fits(other_shape, shape):
                    w.call(draw(st.sampled_from(IN_PLACE)), register, other)
            case "sum":
                pool.append((w.call("sum", register), (), True))
            case _:
                pass
        # Shapes that do not broadcast with the others would make most programs fail.
        pool = [each for each in pool if fits(each[1], (3, 4)) or each[0].nr < count] or pool[
            :count
        ]
    w.records = True
    outputs = [draw(st.sampled_from(pool))[0] for _ in range(draw(st.integers(1, 3)))]
    if draw(st.booleans()):
        by = [R(at) for at, each in enumerate(inputs) if each.requires_grad]
        loss = w.call("sum", draw(st.sampled_from(pool))[0])
        if by:
            outputs += [loss, *w.gradient([loss], by, materialize_grads=True)]
    return w.program(*outputs), inputs


def fits(shape: tuple[int, ...], wide: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, wide) == wide
    except ValueError:
        return False


@settings(max_examples=150, deadline=None)
@given(programs())
def test_random_programs_give_the_same_compiled(made: tuple[Program, list[Tensor]]) -> None:
    program, inputs = made
    with use_context(Context(seed=0)), np.errstate(all="ignore"):
        refusal = answer(program.run, copies(inputs))
        if isinstance(refusal, str):
            assert answer(CompiledProgram(program).call, copies(inputs)) == refusal
        else:
            both(program, inputs, 1e-4)


def test_a_large_view_of_a_result_lives_until_the_end() -> None:
    w = Writer(2)
    y = w.call("linear", R(0), R(1))
    program = w.program(*w.gradient([w.call("sum", w.call("mul", y, y))], [R(1)]))
    generator = np.random.default_rng(0)
    x = Tensor.from_array(generator.standard_normal((8, 300)))
    weight = Tensor.from_array(generator.standard_normal((40, 300)), requires_grad=True)
    both(program, [x, weight], 1e-9)
