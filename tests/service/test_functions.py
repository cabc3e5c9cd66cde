"""Custom functions and checkpoints: each case runs on the service and on torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.utils.checkpoint

import gradwire as gw
import gradwire.utils.checkpoint
from gradwire.autograd import Function
from gradwire.autograd.function import once_differentiable
from gradwire.v1 import autograd_pb2 as pb
from tests.service.harness import Client, no_grad, op, put

NAMESPACES = [
    pytest.param((gw, Function, gradwire.utils.checkpoint.checkpoint), id="gradwire"),
    pytest.param(
        (
            torch,
            torch.autograd.Function,
            lambda *args: torch.utils.checkpoint.checkpoint(*args, use_reentrant=False),
        ),
        id="torch",
    ),
]


@pytest.fixture(params=NAMESPACES)
def both(request: pytest.FixtureRequest, session: gw.Session) -> Any:
    return request.param


@pytest.fixture
def session(address: str) -> Any:
    with gw.connect(address) as opened:
        yield opened


def exp_times(base: Any) -> Any:
    class ExpTimes(base):  # type: ignore[misc]
        """exp(x) * w * k, with a backward from its result."""

        @staticmethod
        def forward(ctx: Any, x: Any, w: Any, k: float) -> Any:
            y = x.exp() * w * k
            ctx.save_for_backward(y, w)
            return y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            y, w = ctx.saved_tensors
            return g * y, g * y / w, None

    return ExpTimes


def inputs(ns: Any) -> tuple[Any, Any]:
    x = ns.tensor([0.5, 1.5], dtype=ns.float64, requires_grad=True)
    return x, ns.tensor([2.0, 3.0], dtype=ns.float64, requires_grad=True)


def test_a_custom_backward_gives_gradients_of_any_order(both: Any) -> None:
    ns, base, _ = both
    x, w = inputs(ns)
    y = exp_times(base).apply(x, w, 2.0)
    assert y.grad_fn.name() == "ExpTimesBackward"
    first = ns.autograd.grad((y * y).sum(), [x, w], create_graph=True)
    sum((g * g).sum() for g in first).backward()
    # With y = 2 w exp(x): d(y²)/dx = 2y², d(y²)/dw = 2y²/w, and so on.
    plain_x, plain_w = inputs(torch)
    plain = 2 * plain_w * plain_x.exp()
    wanted = torch.autograd.grad((plain * plain).sum(), [plain_x, plain_w], create_graph=True)
    sum((g * g).sum() for g in wanted).backward()
    for got, expected in zip(
        (*first, x.grad, w.grad), (*wanted, plain_x.grad, plain_w.grad), strict=True
    ):
        assert got.tolist() == pytest.approx(expected.tolist())


def test_several_outputs_of_which_some_are_not_used(both: Any) -> None:
    ns, base, _ = both

    class Both(base):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * 2, x * x

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any) -> Any:
            (x,) = ctx.saved_tensors
            return 2 * g + 2 * x * h

    x, _ = inputs(ns)
    double, square = Both.apply(x)
    square.sum().backward(retain_graph=True)
    assert x.grad.tolist() == [1.0, 3.0]
    (double * square).sum().backward()
    assert x.grad.tolist() == pytest.approx([1 + 6 * 0.25, 3 + 6 * 2.25])


def test_what_is_marked_non_differentiable_has_no_graph(both: Any) -> None:
    ns, base, _ = both

    class WithSign(base):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            positive = x > 1
            ctx.mark_non_differentiable(positive)
            return x * 3, positive

        @staticmethod
        def backward(ctx: Any, g: Any, unused: Any) -> Any:
            return g * 3

    x, _ = inputs(ns)
    y, positive = WithSign.apply(x)
    assert not positive.requires_grad
    assert positive.tolist() == [False, True]
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_setup_context_instead_of_ctx_in_forward(both: Any) -> None:
    ns, base, _ = both

    class Cube(base):  # type: ignore[misc]
        @staticmethod
        def forward(x: Any) -> Any:
            return x**3

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return g * 3 * x**2 if ctx.needs_input_grad[0] else None

    x, _ = inputs(ns)
    Cube.apply(x).sum().backward()
    assert x.grad.tolist() == pytest.approx([0.75, 6.75])


def test_a_gradient_too_many_is_refused(both: Any) -> None:
    ns, base, _ = both

    class Wrong(base):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g, g

    x, w = inputs(ns)
    with pytest.raises(RuntimeError, match="gradients"):
        Wrong.apply(x).sum().backward()
    assert (w + 1).tolist() == [3.0, 4.0]


def test_a_gradient_of_the_wrong_shape_is_refused(both: Any) -> None:
    ns, base, _ = both

    class Wrong(base):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return ns.zeros(3, dtype=ns.float64)

    x, w = inputs(ns)
    with pytest.raises(RuntimeError, match=r"gradient"):
        Wrong.apply(x).sum().backward() or x.grad.tolist()
    assert (w + 1).tolist() == [3.0, 4.0]


def test_a_saved_tensor_changed_in_place_is_found_out(both: Any) -> None:
    ns, base, _ = both
    x, w = inputs(ns)
    y = exp_times(base).apply(x, w * 1, 1.0)
    y.mul_(2)
    with pytest.raises(RuntimeError, match=r"version|modified"):
        y.sum().backward() or x.grad.tolist()


def test_a_graph_goes_backward_once(both: Any) -> None:
    ns, base, _ = both
    x, w = inputs(ns)
    y = exp_times(base).apply(x, w, 1.0).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph"):
        y.backward() or x.grad.tolist()


def test_once_differentiable_is_refused_a_second_time(both: Any) -> None:
    ns, base, _ = both
    mark = once_differentiable if ns is gw else torch.autograd.function.once_differentiable

    class Square(base):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @mark
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return 2 * x * g

    x, _ = inputs(ns)
    (g,) = ns.autograd.grad((Square.apply(x) ** 2).sum(), [x], create_graph=True)
    assert g.tolist() == pytest.approx([0.5, 13.5])
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward() or x.grad.tolist()


def test_without_grad_a_function_is_only_its_forward(both: Any) -> None:
    ns, base, _ = both
    x, w = inputs(ns)
    with ns.no_grad():
        assert exp_times(base).apply(x, w, 1.0).grad_fn is None


def test_a_backward_that_reads_is_told_what_to_do(session: gw.Session) -> None:
    class Reads(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g if g.sum() > 0 else -g

    x, w = inputs(gw)
    with pytest.raises(RuntimeError, match="where"):
        Reads.apply(x)
    assert (w + 1).tolist() == [3.0, 4.0]


def test_a_checkpoint_gives_the_same_gradients(both: Any) -> None:
    ns, _, checkpoint = both
    x, w = inputs(ns)
    y = checkpoint(lambda t: (t.exp() * w).tanh(), x)
    first = ns.autograd.grad((y * y).sum(), [x, w], create_graph=ns is gw)
    plain = (x.exp() * w).tanh()
    wanted = ns.autograd.grad((plain * plain).sum(), [x, w], create_graph=True)
    for got, expected in zip(first, wanted, strict=True):
        assert got.tolist() == pytest.approx(expected.tolist())
    if ns is gw:  # torch's own checkpoint has no second order here
        for got, expected in zip(first, wanted, strict=True):
            (second,) = gw.autograd.grad((got * got).sum(), [x], retain_graph=True)
            (reference,) = gw.autograd.grad((expected * expected).sum(), [x], retain_graph=True)
            assert second.tolist() == pytest.approx(reference.tolist())


def test_a_checkpoint_draws_the_same_random_numbers_again(both: Any) -> None:
    ns, _, checkpoint = both
    x = ns.ones(50, dtype=ns.float64).requires_grad_()
    y = checkpoint(lambda t: t * ns.rand_like(t), x)
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()


def test_a_checkpoint_keeps_nothing_in_between(session: gw.Session) -> None:
    x, _ = inputs(gw)
    y = gradwire.utils.checkpoint.checkpoint(lambda t: t.exp().tanh().sin(), x)
    assert y.grad_fn is not None
    assert y.grad_fn.name() == "CheckpointFunctionBackward"
    ((node, _),) = y.grad_fn.next_functions
    assert node is not None
    assert node.name() == "AccumulateGrad"


def optional_of(ns: Any, base: Any) -> Any:
    class Several(base):  # type: ignore[misc]
        """2 x, 3 x, and where x > 1; a backward that is told what is not used."""

        @staticmethod
        def forward(ctx: Any, x: Any, scale: float) -> Any:
            ctx.set_materialize_grads(False)
            positive = x > 1
            ctx.mark_non_differentiable(positive)
            ctx.save_for_backward(x)
            return x * 2, x * 3 * scale, positive

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any, unused: Any) -> Any:
            assert unused is None
            (x,) = ctx.saved_tensors
            if g is None:
                return 3 * h * ns.ones_like(x), None
            return (2 * g, None) if h is None else (2 * g + 3 * h + 0 * x, None)

    return Several


def test_gradients_of_unused_outputs_may_be_none(both: Any) -> None:
    ns, base, _ = both
    x, _ = inputs(ns)
    first, second, positive = optional_of(ns, base).apply(x, 1.0)
    assert not positive.requires_grad
    for used, gradient in ((first, 2.0), (second, 3.0), (first + second, 5.0)):
        (found,) = ns.autograd.grad(used.sum(), x, retain_graph=True, create_graph=True)
        assert found.tolist() == [gradient] * 2
    (twice,) = ns.autograd.grad((second * second).sum(), x, create_graph=True)
    (again,) = ns.autograd.grad(twice.sum(), x)
    assert again.tolist() == [18.0, 18.0]


def test_more_outputs_than_cases_that_can_be_captured(session: gw.Session) -> None:
    class Five(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.set_materialize_grads(False)
            return tuple(x * n for n in range(5))

        @staticmethod
        def backward(ctx: Any, *gs: Any) -> Any:
            return sum(g for g in gs if g is not None)

    x, w = inputs(gw)
    with pytest.raises(RuntimeError, match="leave it out"):
        Five.apply(x)
    assert (w + 1).tolist() == [3.0, 4.0]


def doubling(base: Any) -> Any:
    class Double(base):  # type: ignore[misc]
        """Doubles its argument in place."""

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)
            ctx.save_for_backward(x)
            x.mul_(2)
            return x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return g * 2 + 0 * x

    return Double


def test_an_input_may_be_changed_in_place(both: Any) -> None:
    ns, base, _ = both
    x, _ = inputs(ns)
    y = x * 1
    z = doubling(base).apply(y)
    assert z is y
    assert (z.tolist(), z._version, z.grad_fn.name()) == ([1.0, 3.0], 2, "DoubleBackward")
    (first,) = ns.autograd.grad((z * z).sum(), x, retain_graph=True, create_graph=True)
    assert first.tolist() == [4.0, 12.0]
    (second,) = ns.autograd.grad(first.sum(), x)
    assert second.tolist() == [8.0, 8.0]


def test_a_view_may_be_changed_in_place(both: Any) -> None:
    ns, base, _ = both
    x, _ = inputs(ns)
    y = x * 1
    view = y[:1]
    changed = doubling(base).apply(view)
    assert changed is view
    names = [each.grad_fn.name().rpartition(":")[2] for each in (y, view)]
    assert names == ["CopySlices", "AsStridedBackward0"]
    (first,) = ns.autograd.grad((y * y).sum(), x, create_graph=True)
    assert first.tolist() == [4.0, 3.0]
    (second,) = ns.autograd.grad(first.sum(), x)
    assert second.tolist() == [8.0, 2.0]


def test_an_input_without_gradient_gets_one_by_what_is_added(both: Any) -> None:
    ns, base, _ = both

    class AddInto(base):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any, total: Any) -> Any:
            ctx.mark_dirty(total)
            return total.add_(x), x * 3

        @staticmethod
        def backward(ctx: Any, g: Any, h: Any) -> Any:
            return g + 3 * h, g

    x, _ = inputs(ns)
    total = ns.zeros(2, dtype=ns.float64)
    added, tripled = AddInto.apply(x, total)
    assert added is total
    assert total.requires_grad
    (total.sum() + tripled.sum()).backward()
    assert x.grad.tolist() == [4.0, 4.0]


def test_a_view_is_changed_whichever_argument_it_is(session: gw.Session) -> None:
    # PyTorch takes the first argument for the view, and loses its gradient.
    class AddInto(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, total: Any) -> Any:
            ctx.mark_dirty(total)
            return total.add_(x)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return 10 * g, g

    x, w = inputs(gw)
    base_of_all = w * 1
    AddInto.apply(x[:1], base_of_all[1:])
    (base_of_all * 2).sum().backward()
    assert x.grad.tolist() == [20.0, 0.0]
    assert w.grad.tolist() == [2.0, 2.0]


def change_a_leaf(ns: Any, base: Any) -> None:
    doubling(base).apply(ns.ones(2, requires_grad=True))


def change_a_view_of_a_leaf(ns: Any, base: Any) -> None:
    doubling(base).apply(ns.ones(2, requires_grad=True)[:1])


def change_a_part_of_a_split(ns: Any, base: Any) -> None:
    doubling(base).apply((ns.ones(2, requires_grad=True) * 1).split(1)[0])


def change_a_view_made_under_no_grad(ns: Any, base: Any) -> None:
    y = ns.ones(2, requires_grad=True) * 1
    with ns.no_grad():
        view = y[:1]
    doubling(base).apply(view)


def keep_what_was_changed(ns: Any, base: Any) -> None:
    class Keeps(base):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)
            return x.mul_(2) * 1

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    Keeps.apply(ns.ones(2, requires_grad=True) * 1)


def mark_a_number(ns: Any, base: Any) -> None:
    class Marks(base):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(3)
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    Marks.apply(ns.ones(2, requires_grad=True))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (change_a_leaf, "LEAF_IN_PLACE"),
        (change_a_view_of_a_leaf, "LEAF_IN_PLACE"),
        (change_a_part_of_a_split, "MULTI_VIEW_IN_PLACE"),
        (change_a_view_made_under_no_grad, "NO_GRAD_VIEW_IN_PLACE"),
        (keep_what_was_changed, ""),
        (mark_a_number, ""),
    ],
)
def test_what_a_function_must_not_change(both: Any, case: Any, reason: str) -> None:
    ns, base, _ = both
    with pytest.raises(RuntimeError) as caught:
        # With the service a step is refused when something is read.
        (case(ns, base), ns.ones(1).item())
    if ns is gw:
        assert getattr(caught.value, "reason", None) == reason
    assert (ns.ones(1) + 1).item() == 2.0


X, Y, Z = 1, 2, 3


def custom(**fields: Any) -> pb.Step:
    same = pb.Program(inputs=[1], outputs=[1])
    given: dict[str, Any] = {"name": "Mine", "inputs": [X], "outputs": [Y], "backward": same}
    return pb.Step(custom_function=pb.CustomFunction(**given | fields))


@pytest.mark.parametrize(
    ("step", "reason", "field"),
    [
        (custom(dirty=[X]), "BAD_VALUE", "dirty[0]"),
        (custom(dirty=[Z]), "HANDLE_NOT_FOUND", "dirty[0]"),
        (
            custom(partial=[pb.PartialBackward(present=[1])]),
            "BAD_VALUE",
            "partial[0].present",
        ),
        (
            custom(partial=[pb.PartialBackward(present=[0])]),
            "WRONG_ARITY",
            "partial[0].backward.inputs",
        ),
        (
            custom(
                partial=[pb.PartialBackward(backward=pb.Program(inputs=[1]), present=[0])],
            ),
            "WRONG_ARITY",
            "partial[0].backward.outputs",
        ),
    ],
)
def test_steps_that_are_refused(client: Client, step: pb.Step, reason: str, field: str) -> None:
    refused = client.refused(
        put(X, [1.0], requires_grad=True), no_grad(op("mul", [X], Y, other=2.0)), step
    )
    assert (refused.reason, refused.field) == (reason, f"steps[2].custom_function.{field}")
    assert client.still_works()
