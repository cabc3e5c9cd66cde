"""`backward` and `grad`: what they accept, refuse, accumulate and leave alone, as in torch."""

from collections.abc import Callable
from typing import Any

import pytest

from gradwire_engine import EngineError
from tests.unit.engine.sides import Side, refused, same

REFUSALS: dict[str, tuple[Callable[[Side], Any], str]] = {
    "a vector without a direction": (
        lambda m: m.backward(m.exp(m.tensor([1.0, 2.0], grad=True))),
        "NON_SCALAR_ROOT",
    ),
    "a complex scalar without a direction": (
        lambda m: m.backward(m.exp(m.tensor(1j, grad=True, dtype="complex64"))),
        "NON_SCALAR_ROOT",
    ),
    "a direction of another shape": (
        lambda m: m.backward(m.exp(m.tensor([1.0, 2.0], grad=True)), m.tensor([1.0])),
        "GRADIENT_SHAPE",
    ),
    "a direction that would broadcast": (
        lambda m: m.backward(m.exp(m.tensor([1.0, 2.0], grad=True)), m.tensor([[1.0, 2.0]])),
        "GRADIENT_SHAPE",
    ),
    "a complex direction for a real root": (
        lambda m: m.backward(m.exp(m.tensor([1.0], grad=True)), m.tensor([1j], dtype="complex64")),
        "GRADIENT_DTYPE",
    ),
    "a root without a graph": (lambda m: m.backward(m.tensor(1.0)), "NO_GRAPH"),
    "a root made under no_grad": (
        lambda m: m.backward(under_no_grad(m, lambda: m.exp(m.tensor(1.0, grad=True)))),
        "NO_GRAPH",
    ),
    "an input that does not require grad": (
        lambda m: m.grad(m.exp(m.tensor(1.0, grad=True)), m.tensor(2.0)),
        "INPUT_NO_GRAD",
    ),
    "an input that nothing used": (
        lambda m: m.grad(m.exp(m.tensor(1.0, grad=True)), m.tensor(2.0, grad=True)),
        "UNUSED_INPUT",
    ),
    "no inputs to backward": (
        lambda m: m.backward(m.exp(m.tensor(1.0, grad=True)), inputs=[]),
        "NO_INPUTS",
    ),
    "a second pass": (
        lambda m: twice(m, m.exp(m.tensor(1.0, grad=True))),
        "GRAPH_FREED",
    ),
    "two losses over one subgraph": (lambda m: two_losses(m), "GRAPH_FREED"),
}


def under_no_grad(m: Side, make: Callable[[], Any]) -> Any:
    with m.no_grad():
        return make()


def twice(m: Side, root: Any, **options: Any) -> None:
    m.backward(root, **options)
    m.backward(root)


def two_losses(m: Side) -> None:
    shared = m.exp(m.tensor(1.0, grad=True))
    m.backward(m.mul(shared, 2.0))
    m.backward(m.mul(shared, 3.0))


@pytest.mark.parametrize(("case", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(case: Callable[[Side], Any], reason: str) -> None:
    refused(case, reason)


def test_zeros_for_unused_inputs_exclude_refusing_them() -> None:
    def case(m: Side) -> Any:
        x, y = m.tensor(1.0, grad=True), m.tensor(2.0, grad=True)
        return m.grad(m.exp(x), [x, y], materialize_grads=True, allow_unused=False)

    refused(case, "BAD_VALUE", ValueError)


def test_gradients_of_another_precision_are_cast() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.0, 2.0], grad=True)
        m.backward(m.mul(x, 3.0), m.tensor([0.1, 0.2], dtype="float64"))
        return m.array(x.grad)

    same(case)


def test_an_integer_direction_is_cast() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.0, 2.0], grad=True)
        m.backward(m.mul(x, 3.0), m.tensor([1, 2], dtype="int64"))
        return m.array(x.grad)

    same(case)


def test_a_scalar_of_one_element_and_some_dimensions_needs_no_direction() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([[2.0]], grad=True)
        m.backward(m.mul(x, x))
        return m.array(x.grad)

    same(case)


def test_a_leaf_is_its_own_root() -> None:
    def case(m: Side) -> Any:
        x = m.tensor(2.0, grad=True)
        m.backward(x)
        m.backward(x, m.tensor(3.0))
        return m.array(x.grad)

    same(case)


@pytest.mark.parametrize(
    "make",
    [
        lambda m, x: m.add(x, x),
        lambda m, x: m.sum(x),
        lambda m, x: m.reshape(x, (1,)),
        lambda m, x: m.neg(x),
        lambda m, x: m.mean(m.add(x, 1.0)),
    ],
    ids=["add", "sum", "reshape", "neg", "mean"],
)
def test_what_saved_nothing_goes_backward_twice(make: Callable[[Side, Any], Any]) -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.5], grad=True)
        twice(m, make(m, x))
        return m.array(x.grad)

    same(case)


@pytest.mark.parametrize(
    "make",
    [
        lambda m, x: m.mul(x, 2.0),
        lambda m, x: m.mul(x, x),
        lambda m, x: m.exp(x),
        lambda m, x: m.pow(x, 2),
        lambda m, x: m.relu(x),
        lambda m, x: m.max(x),
    ],
    ids=["mul by a number", "mul", "exp", "pow", "relu", "max"],
)
def test_what_saved_something_does_not(make: Callable[[Side, Any], Any]) -> None:
    refused(lambda m: twice(m, make(m, m.tensor([1.5], grad=True))), "GRAPH_FREED")


def test_retain_graph_keeps_what_was_saved() -> None:
    def case(m: Side) -> Any:
        x = m.tensor(1.5, grad=True)
        twice(m, m.exp(x), retain_graph=True)
        return m.array(x.grad)

    same(case)


def test_create_graph_retains_by_default() -> None:
    def case(m: Side) -> Any:
        x = m.tensor(1.5, grad=True)
        y = m.exp(x)
        return [m.array(each) for _ in range(2) for each in m.grad(y, x, create_graph=True)]

    same(case)


def test_a_branch_that_grad_did_not_need_is_not_freed() -> None:
    def case(m: Side) -> Any:
        x, y = m.tensor(1.5, grad=True), m.tensor(0.5, grad=True)
        a, b = m.exp(x), m.exp(y)
        m.grad(m.add(a, b), x)
        m.backward(b)
        return [m.array(x.grad), m.array(y.grad)]

    same(case)


def test_grad_leaves_the_grad_of_leaves_alone() -> None:
    def case(m: Side) -> Any:
        x, w = m.tensor([1.0, 2.0], grad=True), m.tensor([3.0, 4.0], grad=True)
        y = m.sum(m.mul(m.mul(x, w), x))
        return [[m.array(each) for each in m.grad(y, [x, w])], x.grad, w.grad]

    same(case)


def test_grad_of_something_in_the_middle() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.0, 2.0], grad=True)
        middle = m.exp(x)
        y = m.sum(m.mul(middle, middle))
        return [m.array(each) for each in m.grad(y, [middle, x])]

    same(case)


@pytest.mark.parametrize("wanted", ["xyw", "x", "yw", "m", "xm", "xywm", "xxyw"])
def test_what_grad_is_asked_for_decides_what_it_runs_and_frees(wanted: str) -> None:
    """All leaves, some of them, something in the middle, and both."""

    def case(m: Side) -> Any:
        x, y, w = [m.tensor([at, 2.0], grad=True) for at in (0.5, 1.0, 1.5)]
        middle = m.mul(x, y)
        beside = m.exp(w)
        root = m.sum(m.mul(m.mul(middle, beside), x))
        tensors = {"x": x, "y": y, "w": w, "m": middle}
        found = [m.array(each) for each in m.grad(root, [tensors[name] for name in wanted])]
        reused = []
        for node in (middle, beside):
            try:
                m.backward(m.sum(node))
                reused.append(True)
            except (EngineError, RuntimeError):
                reused.append(False)
        return [found, reused]

    same(case)


@pytest.mark.parametrize("count", [1, 256, 257])
@pytest.mark.parametrize("name", ["sum", "mean"])
def test_a_reduction_of_few_elements_and_of_many(name: str, count: int) -> None:
    def case(m: Side) -> Any:
        x = m.tensor([0.5] * count, grad=True)
        m.backward(getattr(m, name)(m.mul(x, x)))
        m.backward(getattr(m, name)(x))
        return m.array(x.grad)

    same(case)


@pytest.mark.parametrize("options", [{"allow_unused": True}, {"materialize_grads": True}], ids=str)
def test_unused_inputs(options: dict[str, bool]) -> None:
    def case(m: Side) -> Any:
        x, y = m.tensor([1.0], grad=True), m.tensor([[2.0, 3.0]], grad=True)
        return [m.array(each) for each in m.grad(m.exp(x), [x, y], **options)]

    same(case)


def test_the_same_input_twice() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.0], grad=True)
        return [m.array(each) for each in m.grad(m.exp(x), [x, x])]

    same(case)


def test_several_outputs_add_up() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.0, 2.0], grad=True)
        y = m.exp(x)
        v = m.tensor([0.5, -1.0])
        return m.array(m.grad([y, m.sum(y), y], [x], [v, None, v])[0])

    same(case)


def test_backward_to_inputs_only() -> None:
    def case(m: Side) -> Any:
        x, w = m.tensor(2.0, grad=True), m.tensor(3.0, grad=True)
        middle = m.mul(x, w)
        m.backward(m.mul(middle, middle), inputs=[x, middle])
        return [m.array(x.grad), m.array(middle.grad), w.grad]

    same(case)


def test_gradients_accumulate_in_the_same_object() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.0, 2.0], grad=True)
        m.backward(m.sum(m.exp(x)))
        first = x.grad
        before = m.version(first)
        m.backward(m.sum(m.exp(x)))
        return [x.grad is first, m.version(first) - before, m.array(x.grad)]

    same(case)


def test_under_create_graph_accumulation_makes_a_new_object() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.0, 2.0], grad=True)
        m.backward(m.sum(m.exp(x)), create_graph=True)
        first = x.grad
        m.backward(m.sum(m.exp(x)), create_graph=True)
        return [x.grad is first, x.grad.requires_grad, m.array(first), m.array(x.grad)]

    same(case)


def test_a_linear_operator_gives_a_gradient_without_a_graph() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.0, 2.0], grad=True)
        (g,) = m.grad(m.sum(m.mul(x, 3.0)), x, create_graph=True)
        return [m.array(g), g.requires_grad]

    same(case)


def test_third_derivatives() -> None:
    def case(m: Side) -> Any:
        x = m.tensor(0.7, grad=True, dtype="float64")
        y = m.mul(m.sin(x), m.pow(x, 4))
        found = []
        for _ in range(3):
            (y,) = m.grad(y, x, create_graph=True)
            found.append(m.array(y))
        return found

    same(case)


def test_differentiating_by_the_cotangent() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([1.0, 2.0], grad=True)
        v = m.tensor([0.5, 0.25], grad=True)
        (g,) = m.grad(m.exp(x), x, v, create_graph=True)
        return [m.array(each) for each in m.grad(m.sum(g), [x, v])]

    same(case)


def test_a_backward_under_no_grad_still_works() -> None:
    def case(m: Side) -> Any:
        x = m.tensor(2.0, grad=True)
        y = m.mul(x, x)
        with m.no_grad():
            m.backward(y)
        return m.array(x.grad)

    same(case)


def test_a_result_that_nothing_used_stops_no_gradient() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([3.0, 1.0, 2.0], grad=True)
        parts = m.unbind(x)
        m.backward(m.mul(parts[0], parts[2]))
        return m.array(x.grad)

    same(case)


def test_values_and_indices() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([[3.0, 1.0], [2.0, 5.0]], grad=True)
        values, indices = m.max__dim(x, 1)
        m.backward(m.sum(m.mul(values, values)))
        return [m.array(x.grad), m.array(indices), indices.requires_grad]

    same(case)
