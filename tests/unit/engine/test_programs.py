"""Programs run as they were captured: calls, gradients, in-place updates without recording."""

import numpy as np
import pytest

from gradwire_engine import Context, EngineError, Tensor, grad, operators, use
from gradwire_engine.program import Gradient, Instruction, Program


def call(
    name: str, template: tuple[object, ...], *slots: int, to: int | None = None
) -> Instruction:
    """A call whose first arguments are the registers `slots`."""
    op = operators[name]
    filled = (*(None for _ in slots), *template)
    filled += tuple(argument.default for argument in op.schema.arguments[len(filled) :])
    return Instruction(
        op, filled, tuple(enumerate(slots)), (), () if to is None else (to,), name[-1] != "_"
    )


def training_step() -> Program:
    """`loss = (w * x).square().sum()`, and w moved a tenth of its gradient."""
    w, x, product, square, loss, slope, change = range(7)
    return Program(
        inputs=2,
        registers=7,
        instructions=(
            call("mul", (), w, x, to=product),
            call("square", (), product, to=square),
            call("sum", (), square, to=loss),
            Gradient((loss,), (w,), (-1,), (slope,)),
            call("mul", (0.1,), slope, to=change),
            call("sub_", (), w, change),
        ),
        outputs=(loss, slope),
    )


def test_a_training_step_differentiates_and_updates_the_callers_tensor() -> None:
    w = Tensor.from_array(np.array([1.0, 2.0], np.float32), requires_grad=True)
    x = Tensor(np.array([3.0, 1.0], np.float32))
    loss, slope = training_step().run([w, x])
    assert loss is not None and slope is not None
    assert loss.data == 13.0
    np.testing.assert_allclose(slope.data, [18.0, 4.0])
    np.testing.assert_allclose(w.data, [-0.8, 1.6], rtol=1e-6)
    assert w.version == [1]
    assert not slope.requires_grad


def test_a_gradient_may_be_recorded_and_differentiated_again() -> None:
    x, cube, total, first, second = range(5)
    program = Program(
        1,
        5,
        (
            call("pow", (3,), x, to=cube),
            call("sum", (), cube, to=total),
            Gradient((total,), (x,), (), (first,), create_graph=True),
            Gradient((first,), (x,), (x,), (second,), retain_graph=True),
        ),
        (first, second),
    )
    point = Tensor.from_array(np.array([1.0, 2.0]), requires_grad=True)
    one, two = program.run([point])
    assert one is not None and two is not None
    np.testing.assert_allclose(one.data, 3 * point.data**2)
    np.testing.assert_allclose(two.data, 6 * point.data * point.data)
    (again,) = grad([one], [point], [Tensor(np.ones(2))])
    assert again is not None
    np.testing.assert_allclose(again.data, 6 * point.data)


@pytest.mark.parametrize("flags", [{"allow_unused": True}, {"materialize_grads": True}])
def test_an_unused_input_gives_none_or_zeros(flags: dict[str, bool]) -> None:
    x, other, total, of_x, of_other = range(5)
    program = Program(
        2,
        5,
        (
            call("sum", (), x, to=total),
            Gradient((total,), (x, other), (), (of_x, of_other), **flags),
        ),
        (of_x, of_other),
    )
    leaves = [Tensor.from_array(np.ones(2), requires_grad=True) for _ in range(2)]
    used, unused = program.run(leaves)
    assert used is not None and used.data.tolist() == [1.0, 1.0]
    assert (unused is None) == ("allow_unused" in flags)
    assert unused is None or unused.data.tolist() == [0.0, 0.0]


def test_an_unused_input_is_refused_unless_it_is_allowed() -> None:
    x, other, total, of_other = range(4)
    program = Program(
        2, 4, (call("sum", (), x, to=total), Gradient((total,), (other,), (), (of_other,))), ()
    )
    leaves = [Tensor.from_array(np.ones(2), requires_grad=True) for _ in range(2)]
    with pytest.raises(EngineError) as caught:
        program.run(leaves)
    assert caught.value.reason == "UNUSED_INPUT"


def test_calls_under_no_grad_are_not_recorded() -> None:
    x, doubled, shifted = range(3)
    instructions = (
        Instruction(operators["mul"], (None, 2.0), ((0, x),), (), (doubled,), records=False),
        call("add", (1.0,), doubled, to=shifted),
    )
    with use(Context()) as context:
        leaf = Tensor.from_array(np.ones(2), requires_grad=True)
        (result,) = Program(1, 3, instructions, (shifted,)).run([leaf])
        assert result is not None and not result.requires_grad
        assert context.grad_enabled
