"""Every operator compiled: the values and gradients that a program gives when run call by call.

Each sample is made a program. The plan is made from the sample's own values and then run on others,
so that nothing of the first can have stayed in it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gradwire_engine import EngineError, Tensor, grad, operators
from gradwire_engine.context import current
from gradwire_engine.plan import CompiledProgram
from gradwire_engine.program import Instruction, Program
from tests.parity.oracle import ENTRIES, Call, Entry, Sides

MAX_SAMPLES = {torch.float64: 2, torch.complex128: 1, torch.int64: 1}
MAX_ELEMENTS = 400

PER_DTYPE = [
    (entry, dtype) for entry in ENTRIES for dtype in MAX_SAMPLES if dtype in entry.info.dtypes
]

per_entry = pytest.mark.parametrize(
    ("entry", "dtype"),
    PER_DTYPE,
    ids=[f"{entry.id}-{str(dtype).removeprefix('torch.')}" for entry, dtype in PER_DTYPE],
)


@per_entry
def test_a_compiled_operator_gives_what_the_operator_gives(
    entry: Entry, dtype: torch.dtype
) -> None:
    for call in some_calls(entry, dtype):
        made = as_program(call)
        if made is None:
            continue
        program, inputs, kept = made
        compiled = CompiledProgram(program)
        for given in (inputs, [other_values(each, kept) for each in inputs]):
            check(program, compiled, given, str(call))


def check(program: Program, compiled: CompiledProgram, inputs: list[Tensor], what: str) -> None:
    generator = current.context.generator.bit_generator
    state = generator.state
    refusal = answer(program.run, copies(inputs))
    if isinstance(refusal, str):
        assert answer(compiled.call, copies(inputs)) == refusal, what
        return
    generator.state = state
    leaves, again = copies(inputs), copies(inputs)
    expected = program.run(leaves)
    after, generator.state = generator.state, state
    found = compiled.call(again)
    assert generator.state == after, what
    assert [each.requires_grad for each in expected] == [each.requires_grad for each in found], what
    for one, other in zip([*expected, *leaves], [*found, *again], strict=True):
        same(one, other, what)
    pairs = [(a, b) for a, b in zip(expected, found, strict=True) if a.requires_grad]
    if not pairs:
        return
    directions = [Tensor(direction(each.shape, each.dtype)) for each, _ in pairs]
    gradients = [
        answer(
            grad,
            [pair[side] for pair in pairs],
            [each for each in given if each.requires_grad],
            directions,
            allow_unused=True,
        )
        for side, given in enumerate((leaves, again))
    ]
    if isinstance(gradients[0], str):
        assert gradients[0] == gradients[1], what
        assert gradients[1] == gradients[0], what
        return
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None), what
        if one is not None:
            same(one, other, f"gradient of {what}")


def answer(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a function gives, or the reason why it refuses."""
    try:
        return function(*args, **options)
    except EngineError as refusal:
        return refusal.reason


def same(one: Tensor, other: Tensor, what: str) -> None:
    assert one.dtype == other.dtype, what
    tolerance = 1e-2 if one.dtype == np.float16 else 1e-10
    np.testing.assert_allclose(
        other.data, one.data, tolerance, tolerance, err_msg=what, strict=True
    )


def copies(inputs: list[Tensor]) -> list[Tensor]:
    made: list[Tensor] = []
    for each in inputs:
        copy = Tensor(each.data.copy(order="K"))
        copy.leaf_requires_grad = each.leaf_requires_grad
        made.append(copy)
    return made


def other_values(tensor: Tensor, kept: bool) -> Tensor:
    """The same elements in other places; of what an operator may refuse, the same ones."""
    data = tensor.data
    if not kept:
        data = np.roll(data.reshape(-1), 1).reshape(data.shape)
        if data.dtype.kind in "fc":
            data = (data * data.dtype.type(0.75)).astype(data.dtype)
    made = Tensor(data)
    made.leaf_requires_grad = tensor.leaf_requires_grad
    return made


def direction(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    generator = np.random.default_rng(len(shape))
    array = generator.standard_normal(shape)
    if dtype.kind == "c":
        array = array + 1j * generator.standard_normal(shape)
    return np.asarray(array, dtype)


def some_calls(entry: Entry, dtype: torch.dtype) -> list[Call]:
    floating = dtype.is_floating_point or dtype.is_complex
    calls = entry.calls(dtype, requires_grad=floating and entry.differentiable(dtype))
    step = -(-len(calls) // MAX_SAMPLES[dtype]) or 1
    return calls[::step]


def as_program(call: Call) -> tuple[Program, list[Tensor], bool] | None:
    """A call as a program of one instruction, and of two where it is in place."""
    op = operators[call.name]
    sides = Sides()
    filled = op.schema.fill(
        tuple(sides.ours(each) for each in call.our_args),
        {name: sides.ours(each) for name, each in call.our_kwargs.items()},
    )
    inputs: list[Tensor] = []
    registers: dict[int, int] = {}

    def register(tensor: Tensor) -> int:
        if id(tensor) not in registers:
            registers[id(tensor)] = len(inputs)
            inputs.append(tensor)
        return registers[id(tensor)]

    slots: list[tuple[int, int]] = []
    lists: list[tuple[int, tuple[int, ...]]] = []
    template = list(filled)
    for at, argument in enumerate(op.schema.arguments):
        value = filled[at]
        if isinstance(value, Tensor):
            slots.append((at, register(value)))
            template[at] = None
        elif argument.is_tensor_list:
            lists.append((at, tuple(-1 if e is None else register(e) for e in value)))
            template[at] = None
    if sum(each.data.size for each in inputs) > MAX_ELEMENTS:
        return None
    try:
        made = op.call([*filled], tuple(template))
    except EngineError:
        made = ()
    count = len(made) if isinstance(made, tuple) else 1
    results = tuple(range(len(inputs), len(inputs) + count))
    instruction = Instruction(op, tuple(template), tuple(slots), tuple(lists), results)
    has_index = any(each.dtype.kind in "iub" for each in inputs)
    return Program(len(inputs), len(inputs) + count, (instruction,), results), inputs, has_index
