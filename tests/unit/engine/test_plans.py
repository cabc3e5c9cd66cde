"""Compiled programs give what programs give: values, gradients, changes in place, refusals."""

import gc
import re
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradwire_engine import (
    Context,
    EngineError,
    Limits,
    Tensor,
    backward,
    grad,
    grad_mode,
    jvp,
    operators,
)
from gradwire_engine import use as use_context
from gradwire_engine.context import current
from gradwire_engine.plan import CompiledProgram
from gradwire_engine.plan import compiled as compiled_module
from gradwire_engine.plan.compiled import MAX_PLANS
from gradwire_engine.program import Instruction, Program
from tests.unit.engine.plan_programs import (
    R,
    Writer,
    answer,
    both,
    both_where_it_runs,
    copies,
    fits,
    same,
    tensor,
)

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


@settings(max_examples=80)
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


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(programs())
def test_random_programs_give_the_same_in_blocks(
    tiny_blocks: None, made: tuple[Program, list[Tensor]]
) -> None:
    both_where_it_runs(*made)


def scaled_tanh() -> Program:
    """The hyperbolic tangent of a · x + b."""
    w = Writer(3)
    return w.program(w.call("tanh", w.call("add", w.call("mul", R(0), R(1)), R(2))))


def three(size: int = 5, grad: bool = True) -> list[Tensor]:
    rng = np.random.default_rng(size)
    return [tensor(rng.standard_normal(size), grad) for _ in range(3)]


def test_a_call_is_one_node() -> None:
    inputs = three()
    (result,) = CompiledProgram(scaled_tanh(), "Scaled").call(inputs)
    assert result is not None and result.grad_fn is not None
    assert result.grad_fn.name == "ScaledBackward"
    leaves = [None if node is None else node.variable for node, _ in result.grad_fn.next_functions]
    assert all(leaf is each for leaf, each in zip(leaves, inputs, strict=True))


def test_nothing_is_recorded_under_no_grad() -> None:
    with grad_mode(False):
        (result,) = CompiledProgram(scaled_tanh()).call(three())
    assert result is not None and result.grad_fn is None


def test_a_gradient_of_a_call_may_be_differentiated_again() -> None:
    program = scaled_tanh()
    compiled = CompiledProgram(program)
    answers = []
    for run in (program.run, compiled.call):
        inputs = three()
        (result,) = run(inputs)
        first = grad([result], inputs, [Tensor(np.ones(5, np.float32))], create_graph=True)
        answers.append(grad(first, inputs, [Tensor(np.ones(5, np.float32))] * 3))
    for one, other in zip(*answers, strict=True):
        same(one, other)


def test_such_a_gradient_is_taken_where_the_call_changed_an_input() -> None:
    """The program runs again for it, from what the input was."""
    writer = Writer(2)
    writer.call("mul_", R(1), 3.0)
    program = writer.program(writer.call("mul", writer.call("sin", R(0)), R(1)))
    answers = []
    for run in (program.run, CompiledProgram(program).call):
        x, scale = tensor([1.0, 2.0], grad=True), tensor([4.0, 5.0])
        (result,) = run([x, scale])
        ones = [Tensor(np.ones(2, np.float32))]
        first = grad([result], [x], ones, create_graph=True)
        answers.append([first[0], *grad(first, [x], ones), scale])
    for one, other in zip(*answers, strict=True):
        np.testing.assert_allclose(other.data, one.data, 1e-5)


def test_what_a_formula_does_under_no_grad_is_not_recorded() -> None:
    writer = Writer(3)
    program = writer.program(writer.call("gaussian_nll_loss", R(0), R(1), R(2)))
    answers = []
    for run in (program.run, CompiledProgram(program).call):
        inputs = [tensor([1.0, 2.0], grad=True) for _ in range(2)]
        inputs.append(tensor([1.0, 0.0], grad=True))
        answers.append(grad(run(inputs), inputs))
    for one, other in zip(*answers, strict=True):
        same(one, other)


@pytest.mark.parametrize("name", ["_detach_from", "set_data_"])
def test_what_handles_the_tensor_itself_runs_call_by_call(name: str) -> None:
    op = operators[name]
    lists = ((1, (1,)),) if name == "_detach_from" else ()
    slots = ((0, 0),) if lists else ((0, 0), (1, 1))
    program = Program(2, 3, (Instruction(op, (None, None), slots, lists, (2,)),), (2,))
    for run in (program.run, CompiledProgram(program).call):
        x, y = tensor([1.0], grad=True), tensor([2.0, 3.0], grad=True)
        (result,) = run([x, y])
        assert result.shape == (1,) if lists else result.shape == (2,)


def test_a_gradient_that_is_refused_is_so_only_when_it_is_asked_for() -> None:
    writer = Writer(1)
    q, r = writer.call("linalg.qr", R(0), "complete", count=2)
    program = writer.program(q, r)
    for run in (program.run, CompiledProgram(program).call):
        x = tensor([[1.0], [2.0]], grad=True)
        results = run([x])
        assert results[0].shape == (2, 2)
        with pytest.raises(EngineError) as refusal:
            grad(results, [x], [Tensor(np.ones_like(each.data)) for each in results])
        assert refusal.value.reason == "BAD_VALUE"


def test_a_call_has_a_jvp() -> None:
    program = scaled_tanh()
    answers = []
    for run in (program.run, CompiledProgram(program).call):
        inputs = three()
        tangents = [Tensor(np.cos(each.data)) for each in inputs]
        answers.append(jvp(run(inputs), inputs, tangents))
    same(answers[0][0], answers[1][0])


def test_an_input_that_is_changed_after_the_call_is_noticed() -> None:
    inputs = three()
    (result,) = CompiledProgram(scaled_tanh()).call(inputs)
    with grad_mode(False):
        operators["mul_"](inputs[1], 2.0)
    with pytest.raises(EngineError) as caught:
        backward([result], [Tensor(np.ones(5, np.float32))])
    assert caught.value.reason == "SAVED_MODIFIED"


def test_an_input_that_no_gradient_needs_may_be_changed_after_the_call() -> None:
    inputs = three()
    (result,) = CompiledProgram(scaled_tanh()).call(inputs)
    with grad_mode(False):
        operators["mul_"](inputs[2], 2.0)
    backward([result], [Tensor(np.ones(5, np.float32))])
    assert inputs[2].grad is not None


def test_a_graph_is_freed_by_its_backward() -> None:
    inputs = three()
    (result,) = CompiledProgram(scaled_tanh()).call(inputs)
    ones = Tensor(np.ones(5, np.float32))
    backward([result], [ones], retain_graph=True)
    backward([result], [ones])
    with pytest.raises(EngineError) as caught:
        backward([result], [ones])
    assert caught.value.reason == "GRAPH_FREED"


def test_what_the_program_differentiated_itself_is_released() -> None:
    w = Writer(1)
    loss = w.call("sum", w.call("square", R(0)))
    program = w.program(loss, *w.gradient([loss], [R(0)]))
    for run in (program.run, CompiledProgram(program).call):
        found, slope = run([tensor([1.0, 2.0], True)])
        assert found.requires_grad and not slope.requires_grad
        with pytest.raises(EngineError) as caught:
            backward([found])
        assert caught.value.reason == "GRAPH_FREED"


@pytest.mark.parametrize("size", [5, 3000, 100_000])
def test_results_of_one_call_are_not_touched_by_the_next(size: int) -> None:
    compiled = CompiledProgram(scaled_tanh())
    first, second = three(size), three(size)
    second[1] = tensor(np.full(size, 0.5), True)
    (kept,) = compiled.call(first)
    before = kept.data.copy()
    (other,) = compiled.call(second)
    np.testing.assert_array_equal(kept.data, before)
    ones = Tensor(np.ones(size, np.float32))
    for result, inputs in ((kept, first), (other, second)):
        expected = copies(inputs)
        (reference,) = scaled_tanh().run(expected)
        for one, two in zip(
            grad([reference], expected, [ones]), grad([result], inputs, [ones]), strict=True
        ):
            same(one, two)


def test_nothing_is_left_of_a_call_when_its_results_are_gone() -> None:
    compiled = CompiledProgram(scaled_tanh())
    gc.disable()
    try:
        inputs = three()
        (result,) = compiled.call(inputs)
        gone = [weakref.ref(each) for each in (result, inputs[0])]
        del result, inputs
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()


def test_calls_run_in_several_threads_at_once() -> None:
    compiled = CompiledProgram(scaled_tanh())
    size = 50_000
    wrong: list[int] = []

    def run(seed: int) -> None:
        rng = np.random.default_rng(seed)
        with use_context(Context()):
            inputs = [tensor(rng.standard_normal(size), True) for _ in range(3)]
            expected = np.tanh(inputs[0].data * inputs[1].data + inputs[2].data)
            for _ in range(5):
                (result,) = compiled.call(inputs)
                backward([result], [Tensor(np.ones(size, np.float32))])
                if not np.allclose(result.data, expected, 1e-5, 1e-5):
                    wrong.append(seed)
            slope = 5 * (1 - expected**2)
            if not np.allclose(inputs[2].grad.data, slope, 1e-4, 1e-4):
                wrong.append(seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_call_may_be_made_while_another_is_under_way() -> None:
    """`check` runs between steps, and may do whatever it likes."""
    program = scaled_tanh()
    compiled = CompiledProgram(program)
    size = 400_000
    depth = [0]

    def check() -> None:
        if depth[0] < 2:
            depth[0] += 1
            compiled.call(other)

    inputs, other = three(size), three(size)
    compiled.call(inputs)
    (expected,) = program.run(inputs)
    with use_context(Context(check=check)):
        (result,) = compiled.call(inputs)
    assert depth[0] == 2
    np.testing.assert_allclose(result.data, expected.data, 1e-5, 1e-5)


def test_a_call_that_is_stopped_changes_nothing_and_can_be_made_again() -> None:
    w = Writer(2)
    w.records = False
    w.call("add_", R(0), w.call("tanh", R(1)))
    program = w.program()
    compiled = CompiledProgram(program)
    size = 400_000
    inputs = [tensor(np.zeros(size)), tensor(np.ones(size))]
    compiled.call(inputs)

    def stop() -> None:
        raise EngineError("CANCELLED", "stopped")

    before = inputs[0].data.copy()
    with use_context(Context(check=stop)):
        refused = answer(compiled.call, inputs)
    assert refused == "CANCELLED"
    np.testing.assert_array_equal(inputs[0].data, before)
    compiled.call(inputs)
    np.testing.assert_allclose(inputs[0].data, 2 * before)


def test_a_kernel_that_fails_leaves_inputs_as_they_were() -> None:
    w = Writer(3)
    w.records = False
    w.call("mul_", R(0), 2.0)
    picked = w.call("gather", R(1), 0, R(2))
    compiled = CompiledProgram(w.program(picked))
    inputs = [tensor([1.0]), tensor([5.0, 6.0]), Tensor(np.array([1]))]
    compiled.call(inputs)
    inputs[2] = Tensor(np.array([7]))
    with pytest.raises(EngineError) as caught:
        compiled.call(inputs)
    assert caught.value.reason == "INDEX_OUT_OF_RANGE"
    assert inputs[0].data.tolist() == [2.0]
    assert inputs[0].version == [1]


@pytest.mark.parametrize(
    ("name", "args", "index", "reason"),
    [
        ("index_select", (R(0), 0, R(1)), [0, -1], "INDEX_OUT_OF_RANGE"),
        ("gather", (R(0), 0, R(1)), [0, -1], "INDEX_OUT_OF_RANGE"),
        ("take", (R(0), R(1)), [0, 3], "INDEX_OUT_OF_RANGE"),
        ("one_hot", (R(1), 3), [0, -1], "INDEX_OUT_OF_RANGE"),
        ("repeat_interleave", (R(0), R(1)), [0, 1, 9], "LIMIT_EXCEEDED"),
    ],
)
def test_values_are_checked_by_plan_as_they_are_call_by_call(
    name: str, args: tuple[object, ...], index: list[int], reason: str
) -> None:
    w = Writer(2)
    program = w.program(w.call(name, *args))
    compiled = CompiledProgram(program)
    x = tensor([1.0, 2.0, 3.0])
    right = [x, tensor([0, 1, 0][: len(index)], dtype=np.int64)]
    with use_context(Context(limits=Limits(max_elements=8))):
        for _ in range(2):
            same(program.run(right)[0], compiled.call(right)[0])
        wrong = [x, tensor(index, dtype=np.int64)]
        assert answer(program.run, wrong) == reason == answer(compiled.call, wrong)


def test_an_operator_whose_memory_depends_on_values_keeps_its_plan() -> None:
    w = Writer(3)
    compiled = CompiledProgram(w.program(w.call("_ctc_losses", R(0), R(1), R(2), R(2), 0)))
    scores = tensor(np.log(np.full((4, 2, 3), 1 / 3)))
    targets = tensor([[1, 2, 1], [2, 1, 2]], dtype=np.int64)
    for lengths in ([1, 1], [3, 2]):
        inputs = [scores, targets, tensor(lengths, dtype=np.int64)]
        same(compiled.program.run(inputs)[0], compiled.call(inputs)[0])
    assert not any(isinstance(each, str) for each in compiled._plans.values())


def test_random_numbers_are_those_of_the_program_in_the_same_order() -> None:
    w = Writer(1)
    noise = w.call("randn_like", R(0))
    other = w.call("randn", (3,))
    program = w.program(w.call("mul", R(0), noise), w.call("add", other, other))
    compiled = CompiledProgram(program)
    for seed in (1, 2):
        answers = []
        for run in (program.run, compiled.call):
            with use_context(Context(seed=seed)):
                answers.append([*run([tensor([1.0, 2.0, 3.0])]), *run([tensor([1.0, 2.0, 3.0])])])
        for one, two in zip(*answers, strict=True):
            same(one, two)


def test_a_view_of_an_input_is_one() -> None:
    w = Writer(1)
    compiled = CompiledProgram(w.program(w.call("t", R(0)), R(0)))
    leaf = tensor([[1.0, 2.0]], True)
    turned, whole = compiled.call([leaf])
    assert whole is leaf
    assert turned.data.base is leaf.data
    assert turned.grad_fn.name == "TBackward0"


def test_one_tensor_given_twice_stays_one() -> None:
    w = Writer(2)
    w.records = False
    w.call("add_", R(0), R(1))
    w.call("add_", R(1), R(0))
    program = w.program(w.call("clone", R(1)))
    for run in (program.run, CompiledProgram(program).call):
        one = tensor([1.0])
        (result,) = run([one, one])
        assert result.data.tolist() == one.data.tolist() == [4.0]
        two = [tensor([1.0]), tensor([1.0])]
        (result,) = run(two)
        assert result.data.tolist() == two[1].data.tolist() == [3.0]


@pytest.mark.parametrize(
    ("name", "inputs", "reason"),
    [
        ("prod", lambda: [tensor([1.0, 2.0], True)], "handles the tensor itself"),
        ("data", lambda: [tensor([1.0])], "handles the tensor itself"),
    ],
)
def test_what_looks_at_values_runs_call_by_call_and_says_so(
    name: str, inputs: Callable[[], list[Tensor]], reason: str
) -> None:
    w = Writer(1)
    program = w.program(w.call(name, R(0)))
    compiled = CompiledProgram(program)
    same(program.run(inputs())[0], compiled.call(inputs())[0])
    explanation = compiled.explain(inputs())
    assert explanation.reason is not None and reason in explanation.reason
    assert str(explanation).startswith("runs call by call: ")


def test_a_view_made_under_no_grad_of_what_does_not_leave_runs_call_by_call() -> None:
    """It requires grad as what it shows does, without a place in the graph."""
    w = Writer(1)
    shown = w.call("tanh", R(0))
    w.records = False
    compiled = both(w.program(w.call("unsqueeze", shown, 0)), [tensor([1.0], True)])
    assert "no_grad" in str(compiled.explain([tensor([1.0], True)]).reason)
    w.records = True
    both(w.program(w.call("mul", w.call("add", R(1 + shown.nr), 1.0), 2.0)), [tensor([1.0], True)])


def test_a_value_that_is_laid_out_anew_has_memory_of_its_own(tiny_blocks: None) -> None:
    w = Writer(1)
    mask = w.call("gt", R(0), 0.0)
    held = w.call("tanh", R(0))
    w.call("copy_", held, held)
    program = w.program(w.call("add", held, mask))
    both(program, [Tensor.from_array(np.array([[[0.5, -0.7]], [[1, 2]]], order="F"))])


def test_what_has_a_shape_that_depends_on_values_runs_call_by_call() -> None:
    w = Writer(2)
    program = w.program(w.call("mul", w.call("masked_select", R(0), R(1)), 2.0))
    compiled = CompiledProgram(program)
    for mask in ([True, False], [True, True], [False, False]):
        inputs = [tensor([1.0, 2.0], True), Tensor(np.array(mask))]
        same(program.run(inputs)[0], compiled.call(inputs)[0])
    reason = compiled.explain(inputs).reason
    assert reason == "the shape of what masked_select gives depends on values"


def test_an_explanation_tells_steps_groups_buffers_and_what_was_left_out() -> None:
    w = Writer(2)
    x, y = R(0), R(1)
    shared = w.call("mul", x, y)
    total = w.call("sum", w.call("tanh", w.call("add", shared, w.call("mul", x, y))))
    w.call("exp", y)
    ones = w.call("ones", (3,))
    program = w.program(total, w.call("add", ones, 1.0))
    compiled = CompiledProgram(program)
    explanation = compiled.explain([tensor(np.ones(1 << 17), True), tensor(np.ones(1 << 17))])
    assert explanation.reason is None
    assert explanation.forward is not None and explanation.backward is not None
    names = [step.split(":")[0] for step in explanation.forward.steps]
    assert names == ["mul", "add", "tanh", "sum", "sum"]
    assert explanation.forward.groups == ((0, 1, 2, 3),)
    assert explanation.shared >= 1 and explanation.folded >= 1 and explanation.dropped >= 1
    text = str(explanation)
    assert "forward: 5 steps" in text and "in blocks" in text and "FLOPs" in text
    assert "mul: multiply(float32[131072], float32[131072]) -> float32[131072]" in text
    parts = re.search(r"    sum: add\(float32\[131072\]\) -> float32\[(\d+)\]\n", text)
    assert parts is not None
    assert f"\n  sum: add(float32[{parts[1]}]) -> float32[]\n" in text
    assert explanation.forward.flops == (4 << 17) + int(parts[1])


def test_plans_are_bounded() -> None:
    compiled = CompiledProgram(scaled_tanh())
    for size in range(1, MAX_PLANS + 5):
        compiled.call(three(size))
    assert compiled.plans == MAX_PLANS
    before = compiled.nbytes
    compiled.call(three(200_000))
    assert compiled.plans == MAX_PLANS
    assert compiled.nbytes > before


def test_plans_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = CompiledProgram(scaled_tanh())
    compiled.call(three(200_000))
    monkeypatch.setattr(compiled_module, "MAX_BYTES", compiled.nbytes)
    compiled.call(three(3))
    assert compiled.plans == 2
    compiled.call(three(300_000))
    compiled.call(three(400_000))
    assert compiled.plans == 1


def test_a_plan_is_made_within_the_limits_of_the_context() -> None:
    w = Writer(1)
    program = w.program(w.call("zeros", (1000,)))
    context = Context(limits=Limits(max_elements=100))
    with use_context(context):
        assert answer(CompiledProgram(program).call, [tensor([1.0])]) == "LIMIT_EXCEEDED"


def test_a_wrong_count_of_inputs_is_refused() -> None:
    with pytest.raises(EngineError) as caught:
        CompiledProgram(scaled_tanh()).call(three()[:2])
    assert caught.value.reason == "WRONG_ARITY"


def test_the_default_dtype_is_part_of_the_signature() -> None:
    w = Writer(1)
    compiled = CompiledProgram(w.program(w.call("zeros", (2,))))
    dtypes = []
    for dtype in (np.float32, np.float64):
        current.context.default_dtype = np.dtype(dtype)
        dtypes.append(compiled.call([tensor([1.0])])[0].dtype)
    assert dtypes == [np.float32, np.float64]
