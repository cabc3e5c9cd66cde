"""Reductions within loops over blocks: the same results, whatever is fused, and in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradwire_engine import Tensor, threads
from gradwire_engine.context import current
from gradwire_engine.plan import CompiledProgram, blocks, fuse
from gradwire_engine.plan.fuse import Group
from gradwire_engine.profile import Profile
from gradwire_engine.program import Program
from tests.unit.engine.plan_programs import (
    R,
    Writer,
    both,
    both_where_it_runs,
    copies,
    fits,
    tensor,
)

UNARY = ["tanh", "exp", "relu", "neg", "square", "abs", "isnan", "sgn", "clone"]
BINARY = ["add", "sub", "mul", "div", "maximum", "gt", "eq"]
REDUCED = ["sum", "mean", "amax", "amin", "logsumexp", "var", "softmax", "any"]
KINDS = ["reduced", "binary", "unary", "reduced", "binary", "where", "view", "in_place"]
IN_PLACE = ["add_", "mul_", "copy_"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Made:
    """A register of a program that is drawn, and what is known of it."""

    register: R
    shape: Shape
    dtype: np.dtype
    is_fresh: bool = True


class Drawing:
    """Draws calls for a program, each of a kind that its operands allow."""

    def __init__(self, draw: st.DrawFn, writer: Writer, pool: list[Made], wide: Shape) -> None:
        self.draw = draw
        self.writer = writer
        self.pool = pool
        self.wide = wide

    def keep(self, register: R, shape: Shape, dtype: np.dtype) -> None:
        """Others of its shape would not broadcast together."""
        if fits(shape, self.wide):
            self.pool.append(Made(register, shape, dtype))

    def call(self) -> None:
        # What was made last is drawn most often, so that calls build on one another.
        of = self.draw(st.sampled_from(self.pool[::-1]))
        kind = self.draw(st.sampled_from(KINDS))
        match kind:
            case "unary":
                name = self.draw(st.sampled_from(UNARY))
                if of.dtype.kind != "b" or name in ("isnan", "clone"):
                    made = np.dtype(bool) if name == "isnan" else of.dtype
                    self.keep(self.writer.call(name, of.register), of.shape, made)
            case "binary":
                self.binary(of)
            case "where":
                masks = [each for each in self.pool if each.dtype.kind == "b"]
                if masks:
                    mask = self.draw(st.sampled_from(masks))
                    made = self.writer.call("where", mask.register, of.register, 0.0)
                    self.keep(made, np.broadcast_shapes(of.shape, mask.shape), of.dtype)
            case "reduced" if of.shape:
                self.reduced(of)
            case "view" if of.shape:
                self.view(of)
            case "in_place" if of.is_fresh:
                other = self.draw(st.sampled_from(self.pool))
                if fits(other.shape, of.shape):
                    name = self.draw(st.sampled_from(IN_PLACE))
                    self.writer.call(name, of.register, other.register)
            case _:
                pass

    def binary(self, of: Made) -> None:
        name, other = self.draw(st.sampled_from(BINARY)), self.draw(st.sampled_from(self.pool))
        if "b" in (of.dtype.kind, other.dtype.kind) and name not in ("mul", "add", "eq"):
            return
        dtype = np.dtype(bool) if name in ("gt", "eq") else np.result_type(of.dtype, other.dtype)
        made = self.writer.call(name, of.register, other.register)
        self.keep(made, np.broadcast_shapes(of.shape, other.shape), dtype)

    def reduced(self, of: Made) -> None:
        name = self.draw(st.sampled_from(REDUCED))
        if of.dtype.kind not in "f" and name not in ("sum", "any"):
            return
        dims = self.draw(
            st.sampled_from([(-1,), (0,), (0, 1), (0, -1), tuple(range(len(of.shape)))])
        )
        dims = tuple(sorted({min(dim, len(of.shape) - 1) % len(of.shape) for dim in dims}))
        keeps = self.draw(st.booleans())
        dtype = of.dtype if of.dtype.kind == "f" else np.dtype(np.int64)
        if name == "softmax":
            self.keep(self.writer.call(name, of.register, dims[0]), of.shape, dtype)
            return
        if name == "var":
            made = self.writer.call(name, of.register, dims, 0, keeps)
        else:
            made = self.writer.call(name, of.register, dims, keeps)
        shape = tuple(
            1 if at in dims else size for at, size in enumerate(of.shape) if keeps or at not in dims
        )
        dtype = np.dtype(bool) if name == "any" else dtype
        self.keep(made, shape, dtype)
        if not keeps and len(dims) == 1 and dims[0] == len(shape) and self.draw(st.booleans()):
            self.keep(self.writer.call("unsqueeze", made, -1), (*shape, 1), dtype)

    def view(self, of: Made) -> None:
        match self.draw(st.sampled_from(["unsqueeze", "t", "slice"])):
            case "unsqueeze" if len(of.shape) < len(self.wide):
                self.keep(self.writer.call("unsqueeze", of.register, -1), (*of.shape, 1), of.dtype)
            case "t" if len(of.shape) == 2:
                self.keep(self.writer.call("t", of.register), of.shape[::-1], of.dtype)
            case "slice" if of.shape[0] > 1:
                made = self.writer.call("slice", of.register, 0, 1, None, 1)
                self.keep(made, (of.shape[0] - 1, *of.shape[1:]), of.dtype)
            case _:
                pass


def numbers(seed: int, shape: Shape, dtype: type) -> np.ndarray:
    """Small numbers, a few of them infinite or none where the dtype has such."""
    rng = np.random.default_rng(seed)
    array = np.asarray(rng.uniform(-2, 2, shape)).astype(dtype)
    if seed % 4 == 0 and array.dtype.kind == "f":
        spots = rng.uniform(size=shape) < 0.2
        array = np.where(spots, rng.choice([np.nan, np.inf, -np.inf, 0.0]), array).astype(dtype)
    return array


@st.composite
def reducing(draw: st.DrawFn) -> tuple[Program, list[Tensor]]:
    """A program of elementwise calls and reductions over one wide shape, and inputs for it."""
    rows, columns = draw(st.sampled_from([5, 8, 9, 3, 2, 1, 0])), draw(st.sampled_from([3, 2, 1]))
    wide = draw(st.sampled_from([(rows, columns), (2, rows, columns), (1, rows, columns)]))
    shapes = [wide, (*wide[:-1], 1), (columns,), (rows, columns), (rows, 1), (1, columns), ()]
    shapes.append((*(1 for _ in wide[:-1]), columns))
    inputs: list[Tensor] = []
    pool: list[Made] = []
    writer = Writer(draw(st.integers(1, 3)))
    for at in range(writer.inputs):
        shape = wide if at == 0 else draw(st.sampled_from(shapes))
        dtype = draw(st.sampled_from([np.float64, np.float32, np.float32, np.int64]))
        array = numbers(draw(st.integers(0, 99)), shape, dtype)
        if draw(st.booleans()):
            # The same elements, laid out in another order.
            array = np.array(array, order="F")
        wanted = array.dtype.kind == "f" and draw(st.booleans())
        inputs.append(Tensor.from_array(array, requires_grad=wanted))
        pool.append(Made(R(at), shape, array.dtype, False))
    drawing = Drawing(draw, writer, pool, wide)
    for _ in range(draw(st.sampled_from([8, 12, 5, 3]))):
        writer.records = draw(st.integers(0, 9)) > 0
        drawing.call()
    writer.records = True
    outputs = [each.register for each in pool[-draw(st.integers(1, 4)) :]]
    if draw(st.booleans()):
        by = [R(at) for at, each in enumerate(inputs) if each.requires_grad]
        ends = [each for each in pool if each.dtype.kind == "f"]
        if by and ends:
            loss = writer.call("sum", draw(st.sampled_from(ends[::-1])).register)
            outputs += [loss, *writer.gradient([loss], by, materialize_grads=True)]
    return writer.program(*outputs), inputs


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reducing())
def test_random_reductions_give_the_same_in_blocks(
    tiny_blocks: None, made: tuple[Program, list[Tensor]]
) -> None:
    both_where_it_runs(*made)


def gradients_of(write: Callable[[Writer], R], inputs: int) -> Program:
    """A scalar function and its gradients by every input."""
    writer = Writer(inputs)
    loss = write(writer)
    return writer.program(loss, *writer.gradient([loss], [R(at) for at in range(inputs)]))


def wave(w: Writer) -> R:
    """The sum of tanh(x * w + b) * exp(-x²)."""
    inner = w.call("add", w.call("mul", R(0), R(1)), R(2))
    bell = w.call("exp", w.call("neg", w.call("square", R(0))))
    return w.call("sum", w.call("mul", w.call("tanh", inner), bell))


def softmax_loss(w: Writer) -> R:
    """The mean of -log softmax by rows, written out."""
    top = w.call("amax", R(0), (1,), True)
    shifted = w.call("sub", R(0), w.call("detach", top))
    total = w.call("log", w.call("sum", w.call("exp", shifted), (1,)))
    return w.call("mean", w.call("sub", w.call("unsqueeze", total, 1), shifted))


def column_spread(w: Writer) -> R:
    """Sums over rows, of both what they are and how far they are from their own mean."""
    centred = w.call("sub", R(0), w.call("mean", R(0), (1,), True))
    spread = w.call("sum", w.call("square", centred), (0,))
    return w.call("sum", w.call("mul", spread, w.call("amax", R(0), (0,))))


def some(*shape: int, dtype: type = np.float32, seed: int = 0) -> Tensor:
    numbers = np.random.default_rng(seed).standard_normal(shape)
    return Tensor.from_array(np.asarray(numbers, dtype), requires_grad=True)


def groups_of(compiled: CompiledProgram) -> list[Group]:
    (plan,) = compiled._plans.values()
    assert not isinstance(plan, str)
    return [unit for unit in plan.forward.units if isinstance(unit, Group)]


def test_a_function_its_sum_and_its_gradients_are_one_loop() -> None:
    inputs = [some(fuse.LARGE, seed=at) for at in range(3)]
    compiled = both(gradients_of(wave, 3), inputs)
    (group,) = groups_of(compiled)
    assert group.is_flat
    # The results, and the parts of the sum; nothing in between.
    assert len(group.gives) == 4
    (plan,) = compiled._plans.values()
    assert not isinstance(plan, str)
    assert plan.forward.buffers.sizes == [4 * -(-fuse.LARGE // group.block)]


def test_a_softmax_is_one_loop() -> None:
    compiled = both(gradients_of(softmax_loss, 1), [some(400, 100)])
    (group,) = groups_of(compiled)
    assert not group.is_flat and len(group.gives) == 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("softmax", (1,)),
        ("log_softmax", (-1,)),
        ("_safe_softmax", (1,)),
        ("gelu", ("none",)),
        ("gelu", ("tanh",)),
        ("logsumexp", ((1,), True)),
    ],
)
def test_kernels_of_many_passes_join_the_loop_around_them(
    name: str, arguments: tuple[Any, ...], dtype: type
) -> None:
    writer = Writer(1)
    made = writer.call(name, writer.call("mul", R(0), 0.5), *arguments)
    program = writer.program(made)
    inputs = [Tensor(some(300, 200, dtype=dtype).data)]
    compiled = CompiledProgram(program)
    (found,), (expected,) = compiled.call(inputs), program.run(inputs)
    assert found is not None and expected is not None
    np.testing.assert_array_equal(found.data, expected.data)
    (group,) = groups_of(compiled)
    assert len({step.name for step in group.steps}) >= 2


@pytest.mark.parametrize("lead", [(1, 400), (400, 1), (2, 200), (4, 10, 10)])
@pytest.mark.parametrize("keepdim", [True, False])
def test_several_dimensions_may_be_the_rows(lead: Shape, keepdim: bool) -> None:
    """So that a batch of one is as many blocks as any."""
    last = len(lead)
    writer = Writer(2)
    scaled = writer.call("mul", R(0), R(1))
    shares = writer.call("softmax", scaled, last)
    column = writer.call("sum", shares, tuple(range(last)), keepdim)
    row = writer.call("amax", scaled, (last,), keepdim)
    loss = writer.call("sum", writer.call("mul", column, column))
    program = writer.program(shares, row, column, *writer.gradient([loss], [R(0), R(1)]))
    for other in ((96,), (*(1 for _ in lead), 96), (*lead, 1)):
        compiled = both(program, [some(*lead, 96), some(*other)])
        first = groups_of(compiled)[0]
        assert (first.depth, first.rows) == (last, 400)


def test_equal_constants_are_one() -> None:
    """What they are used in is computed once, too."""
    writer = Writer(1)
    mask = [writer.call("tril", writer.call("ones", (4, 4))) for _ in range(2)]
    one, other = (writer.call("exp", writer.call("add", R(0), each)) for each in mask)
    compiled = both(writer.program(writer.call("mul", one, other)), [some(4, 4)])
    assert compiled.explain([some(4, 4)]).shared >= 2


@pytest.mark.parametrize("past", [-1, 0, 1])
@pytest.mark.parametrize("write", [wave, column_spread, softmax_loss])
@pytest.mark.parametrize("threshold", ["large", "block", "two blocks", "threads"])
def test_sizes_around_every_threshold(
    threshold: str, write: Callable[[Writer], R], past: int
) -> None:
    inputs = 3 if write is wave else 1
    width = 1 if write is wave else 64
    compiled = CompiledProgram(gradients_of(write, inputs))
    large = [some(fuse.LARGE * 4 // width, width) for _ in range(inputs)]
    compiled.call(large)
    (group, *_) = groups_of(compiled)
    block, work = group.block, group.work // group.shape[0]
    rows = {
        "large": fuse.LARGE // width,
        "block": block,
        "two blocks": 2 * block,
        "threads": blocks.THREADED // work,
    }[threshold] + past
    shape = (rows,) if write is wave else (rows, width)
    both(gradients_of(write, inputs), [some(*shape, seed=at) for at in range(inputs)], 1e-4)


@pytest.fixture
def any_count() -> Iterator[None]:
    before = threads.count()
    yield
    threads.set_count(before)


@pytest.mark.parametrize("write", [wave, column_spread, softmax_loss])
def test_results_do_not_depend_on_the_number_of_threads(
    any_count: None, monkeypatch: pytest.MonkeyPatch, write: Callable[[Writer], R]
) -> None:
    monkeypatch.setattr(blocks, "THREADED", 1)
    monkeypatch.setattr(fuse, "BLOCK_BYTES", 1 << 14)
    inputs = [some(700, 64, seed=at) for at in range(3 if write is wave else 1)]
    compiled = CompiledProgram(gradients_of(write, len(inputs)))
    answers: list[Sequence[Tensor | None]] = []
    for count in (1, 2, 5):
        threads.set_count(count)
        answers += [compiled.call(copies(inputs)) for _ in range(2)]
    for answer_ in answers[1:]:
        for one, other in zip(answers[0], answer_, strict=True):
            assert one is not None and other is not None
            np.testing.assert_array_equal(one.data, other.data)


def test_a_sum_in_parts_is_as_accurate_as_one_of_all() -> None:
    writer = Writer(1)
    compiled = CompiledProgram(writer.program(writer.call("sum", writer.call("square", R(0)))))
    x = Tensor(np.random.default_rng(0).uniform(size=1_000_000).astype(np.float32))
    (total,) = compiled.call([x])
    assert total is not None and groups_of(compiled)
    exact = np.square(x.data).sum(dtype=np.float64)
    assert abs(total.data - exact) <= 2e-7 * exact


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(np.float16, 0.5), (np.int8, 100), (np.uint8, 200), (np.bool_, True), (np.int32, 1 << 30)],
)
def test_parts_of_sums_have_the_dtype_of_the_sum(dtype: type, value: float) -> None:
    """They neither overflow nor stop growing before the sum itself does."""
    writer = Writer(1)
    chosen = writer.call("where", writer.call("eq", R(0), R(0)), R(0), R(0))
    program = writer.program(writer.call("sum", chosen))
    assert groups_of(both(program, [Tensor(np.full(2 * fuse.LARGE, value, dtype))]))


def test_what_needs_a_whole_sum_comes_after_it() -> None:
    """A reduction over rows is there only when all blocks are; steps that need it wait."""

    def shares(w: Writer) -> R:
        powers = w.call("exp", R(0))
        parts = w.call("div", powers, w.call("sum", powers))
        return w.call("sum", w.call("mul", parts, w.call("tanh", parts)))

    compiled = both(gradients_of(shares, 1), [some(1 << 16)], 1e-4)
    first, second, _ = groups_of(compiled)
    assert [step.name for step in first.steps] == ["exp", "sum"]
    assert second.steps[0].name == "div"


def test_a_profile_is_told_of_each_group_and_of_what_is_in_none() -> None:
    writer = Writer(2)
    hidden = writer.call("matmul", R(0), R(1))
    writer.records = False
    bias = writer.call("sum", writer.call("relu", hidden), (0,))
    writer.call("add_", R(1), bias)
    compiled = CompiledProgram(writer.program(hidden))
    inputs = [tensor(some(256, 200).data), tensor(some(200, 200).data)]
    expected = copies(inputs)
    compiled.call(expected)
    profile = current.context.profile = Profile({})
    compiled.call(inputs)
    np.testing.assert_array_equal(inputs[1].data, expected[1].data)
    told = [(each.kind, each.name, each.bytes) for each in profile.entries]
    size, parts = 200 * 4, len(groups_of(compiled)[0].gives)
    assert told[:2] == [("program", "Compiled", 256 * size), ("op", "mm", 256 * size)]
    assert [each[:2] for each in told[2:]] == [("group", "relu+sum"), ("op", "sum"), ("op", "add_")]
    assert parts == 1 and told[3][2] == size
    outer, *within = profile.entries
    assert outer.inner == sum(each.duration for each in within) <= outer.duration
    assert all(each.parent == 0 for each in within)


def test_a_large_step_alone_has_a_loop_and_is_told_as_the_operator_that_it_is() -> None:
    writer = Writer(1)
    compiled = CompiledProgram(writer.program(writer.call("exp", R(0))))
    inputs = [tensor(some(1 << 18).data)]
    compiled.call(inputs)
    assert len(groups_of(compiled)) == 1
    profile = current.context.profile = Profile({})
    compiled.call(inputs)
    told = [(each.kind, each.name, each.bytes) for each in profile.entries]
    assert told == [("program", "Compiled", 4 << 18), ("op", "exp", 4 << 18)]


def test_a_mutation_in_the_midst_of_a_group_is_kept() -> None:
    writer = Writer(2)
    writer.records = False
    held = writer.call("mul", R(0), 2.0)
    before = writer.call("sum", held)
    writer.call("add_", held, R(1))
    writer.call("mul_", R(1), held)
    after = writer.call("sum", held, (0,))
    program = writer.program(before, after, held, writer.call("amax", R(1)))
    both(program, [tensor(some(300, 200, seed=at).data) for at in range(2)])
