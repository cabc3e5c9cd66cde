"""backward and grad: roots, directions, what is kept, what is accumulated where."""

from __future__ import annotations

from typing import Any

import pytest

import gradwire
from tests.service.sdk import session
from tests.service.semantics.table import (
    Table,
    category_of,
    name_of,
)

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

table = Table()
gives, refuses = table.gives, table.refuses


@gives
def a_scalar_root_needs_no_direction(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    (x**2).sum().backward()
    y = gw.tensor([[3.0]], requires_grad=True)
    (y * 2).backward()
    return x.grad, y.grad


@gives
def a_direction_gives_the_vector_jacobian_product(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x**2
    y.backward(gw.tensor([0.5, -1.0]))
    return x.grad


@gives
def a_root_that_is_the_leaf_itself(gw: Any) -> Any:
    x = gw.tensor(2.0, requires_grad=True)
    x.backward()
    (same,) = gw.autograd.grad(x, x)
    return x.grad, same


@gives
def a_float64_direction_is_cast_to_a_float32_root(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    (x * 3).backward(gw.tensor([1.0, 2.0], dtype=gw.float64))
    y = gw.tensor([1.0, 2.0], requires_grad=True)
    (g,) = gw.autograd.grad(y * 3, y, gw.tensor([1, 2]))
    return x.grad, g


@gives
def a_complex_direction_of_a_complex_root(gw: Any) -> Any:
    z = gw.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    (z * z).backward(gw.tensor([1.0 + 1j, 2.0], dtype=gw.complex128))
    return z.grad


@gives
def several_roots_add_up(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y, z = (x * 2).sum(), x**2
    gw.autograd.backward([y, z], [None, gw.tensor([1.0, 10.0])])
    w = gw.tensor(3.0, requires_grad=True)
    gw.autograd.backward((w * 2, w * w))
    return x.grad, w.grad


@gives
def grad_of_several_outputs(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = gw.tensor(3.0, requires_grad=True)
    return gw.autograd.grad([x.sum() * y, x * y], [x, y], [None, gw.ones(2)])


@gives
def grad_with_respect_to_what_lies_between(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    z = (y**2).sum()
    return gw.autograd.grad(z, [y, x])


@gives
def grad_of_the_same_input_twice(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    return gw.autograd.grad((x**2).sum(), [x, x])


@gives
def grad_leaves_grad_alone(gw: Any) -> Any:
    x = gw.tensor(1.0, requires_grad=True)
    w = gw.tensor(2.0, requires_grad=True)
    gw.autograd.grad(x * w, x)
    return x.grad, w.grad


@gives
def an_unused_input_gives_none_or_zeros(gw: Any) -> Any:
    x = gw.tensor(1.0, requires_grad=True)
    y = gw.tensor([2.0, 3.0], requires_grad=True)
    return (
        gw.autograd.grad(x * 2, [x, y], allow_unused=True),
        gw.autograd.grad(x * 2, [x, y], materialize_grads=True),
        gw.autograd.grad(x * 2, [y], allow_unused=True, materialize_grads=True),
    )


@gives
def a_linear_graph_without_saved_values_goes_twice(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = (x + x - 1).sum()
    y.backward()
    y.backward()
    return x.grad


@gives
def retain_graph_keeps_saved_values(gw: Any) -> Any:
    x = gw.tensor(3.0, requires_grad=True)
    y = x**2
    y.backward(retain_graph=True)
    gw.autograd.grad(y, x, retain_graph=True)
    y.backward()
    return x.grad


@gives
def create_graph_keeps_them_too(gw: Any) -> Any:
    x = gw.tensor(3.0, requires_grad=True)
    y = x**3
    (first,) = gw.autograd.grad(y, x, create_graph=True)
    (again,) = gw.autograd.grad(y, x)
    (second,) = gw.autograd.grad(first, x)
    return first, again, second


@gives
def create_graph_through_a_linear_operator(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    (first,) = gw.autograd.grad((x + x).sum(), x, create_graph=True)
    (second,) = gw.autograd.grad((x * 3).sum(), x, create_graph=True)
    return first, second


@gives
def the_third_derivative(gw: Any) -> Any:
    x = gw.tensor([0.5, 1.5], requires_grad=True, dtype=gw.float64)
    y = (x.sin() * x.exp()).sum()
    (a,) = gw.autograd.grad(y, x, create_graph=True)
    (b,) = gw.autograd.grad(a.sum(), x, create_graph=True)
    (c,) = gw.autograd.grad(b.sum(), x)
    return b, c


@gives
def the_derivative_by_the_direction(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    v = gw.tensor([3.0, 4.0], requires_grad=True)
    (g,) = gw.autograd.grad(x**2, x, v, create_graph=True)
    return gw.autograd.grad(g.sum(), [v, x])


@gives
def gradients_accumulate_in_place(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    (x * 2).sum().backward()
    grad = x.grad
    before = grad._version
    (x * 3).sum().backward()
    return x.grad is grad, grad, grad._version - before


@gives
def under_create_graph_they_accumulate_out_of_place(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    (x * 2).sum().backward()
    grad = x.grad
    (x**2).sum().backward(create_graph=True)
    return x.grad is grad, grad, x.grad


@gives
def backward_of_chosen_inputs(gw: Any) -> Any:
    x, y, w = (gw.tensor(value, requires_grad=True) for value in (2.0, 3.0, 4.0))
    (x * y * w).backward(inputs=[x, y])
    return x.grad, y.grad, w.grad


@gives
def backward_into_a_non_leaf(gw: Any) -> Any:
    x = gw.tensor(2.0, requires_grad=True)
    y = x * 3
    (y * y).backward(inputs=y, retain_graph=True)
    (y * y).backward(inputs=[y])
    return y.grad, x.grad


@gives
def two_losses_over_one_graph(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    shared = x.exp()
    one, two = shared.sum(), (shared * 2).sum()
    one.backward(retain_graph=True)
    two.backward()
    return x.grad


@gives
def backward_works_within_no_grad(gw: Any) -> Any:
    x = gw.tensor(3.0, requires_grad=True)
    y = x**2
    with gw.no_grad():
        y.backward()
    return x.grad


@gives
def a_branch_that_does_not_need_grad(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    (x * x.detach()).sum().backward()
    return x.grad


@gives
def a_diamond(gw: Any) -> Any:
    x = gw.tensor(2.0, requires_grad=True)
    a = x * 3
    b, c = a.exp(), a.sin()
    (b * c + a).backward()
    return x.grad


@gives
def a_long_chain(gw: Any) -> Any:
    x = gw.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(2000):
        y = y + x
    y.backward()
    return x.grad


@gives
def a_part_of_several_results(gw: Any) -> Any:
    x = gw.tensor([[1.0, 5.0], [7.0, 2.0]], requires_grad=True)
    values, indices = x.max(1)
    (values[0] * 2).backward()
    return x.grad, values, indices


@gives
def retain_graph_false_under_create_graph(gw: Any) -> Any:
    x = gw.tensor(2.0, requires_grad=True)
    (g,) = gw.autograd.grad(x**3, x, create_graph=True, retain_graph=True)
    return g, gw.autograd.grad(g, x)


@gives
def reading_grad_of_a_non_leaf_warns_once_each_time(gw: Any) -> Any:
    import warnings

    x = gw.tensor(2.0, requires_grad=True)
    y = x * 3
    y.backward()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return y.grad, category_of(caught)


@gives
def batched_directions(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0, 3.0], requires_grad=True)
    w = gw.tensor(2.0, requires_grad=True)
    return gw.autograd.grad(x**2 * w, [x, w], gw.eye(3), is_grads_batched=True)


@gives
def gradients_within_a_graph_that_is_kept(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = (x**3).sum()
    found = [gw.autograd.grad(y, x, retain_graph=True)[0] for _ in range(3)]
    y.backward(create_graph=True)
    return found, x.grad, gw.autograd.grad(x.grad.sum(), x)


@refuses("GRADIENT_SHAPE", "batched")
def batched_directions_of_another_size(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0, 3.0], requires_grad=True)
    gw.autograd.grad(x**2, x, gw.ones(3, 2), is_grads_batched=True)


@refuses("NON_SCALAR_ROOT", "gradient=")
def a_vector_root_without_direction(gw: Any) -> Any:
    y = gw.tensor([1.0, 2.0], requires_grad=True) * 2
    y.backward()


@refuses("NON_SCALAR_ROOT", "gradient=")
def a_known_vector_root_without_direction(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    x.backward()


@refuses("NON_SCALAR_ROOT", "gradient=")
def a_complex_scalar_without_direction(gw: Any) -> Any:
    z = gw.tensor(1 + 2j, requires_grad=True)
    y = z * z
    y.backward()


@refuses("NON_SCALAR_ROOT", "gradient=")
def an_empty_root_without_direction(gw: Any) -> Any:
    y = gw.zeros(0, requires_grad=True) * 2
    y.backward()


@refuses("GRADIENT_SHAPE", "(3,)")
def a_direction_of_another_shape(gw: Any) -> Any:
    y = gw.ones(3, requires_grad=True) * 2
    y.backward(gw.ones(1, 3))


@refuses("GRADIENT_SHAPE", "(3,)")
def a_direction_that_would_broadcast(gw: Any) -> Any:
    x = gw.ones(3, requires_grad=True)
    y = x * 2
    gw.autograd.grad(y, x, gw.ones(()))


@refuses("GRADIENT_DTYPE", "real part")
def a_complex_direction_of_a_real_root(gw: Any) -> Any:
    y = gw.ones(2, requires_grad=True) * 2
    y.backward(gw.tensor([1j, 1 + 1j]))


@refuses("GRADIENT_DTYPE", "complex")
def a_real_direction_of_a_complex_root(gw: Any) -> Any:
    y = gw.tensor([1j, 1 + 1j], requires_grad=True) * 2
    y.backward(gw.ones(2))


@refuses("NO_GRAPH", "requires_grad=True")
def a_root_without_graph(gw: Any) -> Any:
    y = gw.ones(1) * 2
    y.backward()


@refuses("NO_GRAPH", "requires_grad=True")
def a_root_made_under_no_grad(gw: Any) -> Any:
    x = gw.ones(1, requires_grad=True)
    with gw.no_grad():
        y = x * 2
    y.backward()


@refuses("GRAPH_FREED", "retain_graph=True")
def a_second_pass(gw: Any) -> Any:
    x = gw.tensor(1.0, requires_grad=True)
    y = x * x
    y.backward()
    y.backward()


@refuses("GRAPH_FREED", "retain_graph=True")
def a_second_pass_through_a_product_with_a_number(gw: Any) -> Any:
    x = gw.tensor(1.0, requires_grad=True)
    y = x * 2
    y.backward()
    y.backward()


@refuses("GRAPH_FREED", "retain_graph=True")
def a_second_loss_over_a_freed_part(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    shared = x.exp()
    shared.sum().backward()
    (shared * 2).sum().backward()


@refuses("GRAPH_FREED", "retain_graph=True")
def a_pass_after_grad(gw: Any) -> Any:
    x = gw.tensor(1.0, requires_grad=True)
    y = x.exp()
    gw.autograd.grad(y, x)
    y.backward()


@refuses("UNUSED_INPUT", "allow_unused=True")
def an_unused_input(gw: Any) -> Any:
    x, y = gw.ones(1, requires_grad=True), gw.ones(1, requires_grad=True)
    gw.autograd.grad(x * 2, [x, y])


@refuses("INPUT_NO_GRAD", "requires_grad")
def an_input_that_does_not_require_grad(gw: Any) -> Any:
    x, y = gw.ones(1, requires_grad=True), gw.ones(1)
    gw.autograd.grad(x * y, [x, y])


@refuses("INPUT_NO_GRAD", "requires_grad")
def backward_into_what_does_not_require_grad(gw: Any) -> Any:
    x, y = gw.ones(1, requires_grad=True), gw.ones(1)
    (x * y).backward(inputs=[y])


@refuses("NO_INPUTS", "leave inputs out")
def backward_of_no_inputs(gw: Any) -> Any:
    x = gw.ones(1, requires_grad=True)
    (x * 2).backward(inputs=[])


@refuses("NO_INPUTS", "at least one input")
def grad_of_no_inputs(gw: Any) -> Any:
    x = gw.ones(1, requires_grad=True)
    gw.autograd.grad(x * 2, [])


@refuses("BAD_VALUE", "materialize_grads=True")
def zeros_for_what_must_be_used(gw: Any) -> Any:
    x = gw.ones(1, requires_grad=True)
    gw.autograd.grad(x * 2, x, allow_unused=False, materialize_grads=True)


@refuses("BAD_VALUE", "one for each")
def too_few_directions(gw: Any) -> Any:
    x = gw.ones(1, requires_grad=True)
    gw.autograd.backward([x * 2, x * 3], [gw.ones(1)])


@gives
def backward_into_gradient_edges(gw: Any) -> Any:
    edge_of = gw.autograd.graph.get_gradient_edge
    x, w = gw.tensor([1.0, 2.0], requires_grad=True), gw.tensor([3.0, 4.0], requires_grad=True)
    y = x * w
    z = (y * y).sum()
    z.backward(inputs=[edge_of(x)], retain_graph=True)
    first = x.grad.tolist(), w.grad
    z.backward(inputs=edge_of(w), retain_graph=True)
    second = x.grad.tolist(), w.grad.tolist()
    accumulation = y.grad_fn.next_functions[0]
    gw.autograd.backward(z, inputs=[gw.autograd.graph.GradientEdge(*accumulation), w])
    return first, second, x.grad, w.grad


@gives
def backward_into_the_edge_of_a_non_leaf(gw: Any) -> Any:
    edge_of = gw.autograd.graph.get_gradient_edge
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    z = (y * y).sum()
    z.backward(inputs=[edge_of(y)], retain_graph=True)
    before = y.grad, x.grad
    y.retain_grad()
    z.backward(inputs=[edge_of(y)], retain_graph=True)
    between = y.grad.tolist(), x.grad
    z.backward(inputs=[edge_of(y), x])
    return before, between, x.grad


@gives
def inputs_that_come_one_by_one(gw: Any) -> Any:
    xs = [gw.tensor([float(n), 1.0], requires_grad=True) for n in range(3)]
    z = (xs[0] * xs[1] * xs[2]).sum()
    found = gw.autograd.grad(z, (x for x in xs), retain_graph=True)
    z.backward(inputs=iter(xs[:2]))
    return found, [x.grad for x in xs]


@refuses("INPUT_NO_GRAD", "gradient edges")
def an_input_of_backward_that_is_no_tensor(gw: Any) -> None:
    x = gw.tensor([1.0], requires_grad=True)
    x.backward(inputs=[3])


@refuses("INPUT_NO_GRAD", "gradient edges")
def an_input_of_grad_that_is_no_tensor(gw: Any) -> None:
    gw.autograd.grad(gw.tensor([1.0], requires_grad=True), [None])


@refuses("BAD_ATTRIBUTE", "several of these")
def inputs_of_backward_that_are_none(gw: Any) -> None:
    x = gw.tensor([1.0], requires_grad=True)
    x.backward(inputs=3)


@gives
def nodes_run_newest_first_and_leaves_before_all(gw: Any) -> Any:
    a, b = gw.ones(2, requires_grad=True), gw.ones(2, requires_grad=True)
    early = a * 2
    late = b.exp() + early
    root = (late * early).sum() + b.sum()
    order: list[Any] = []
    stack, seen = [root.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        node.register_prehook(lambda gs, node=node: order.append(name_of(node)))
        stack += [each for each, _ in node.next_functions]
    for name, leaf in (("a", a), ("b", b)):
        leaf.register_hook(lambda g, name=name: order.append(name))
    root.backward()
    return order


@refuses("GRAPH_FREED", "retain_graph=True")
def a_saved_value_that_was_released(gw: Any) -> None:
    y = gw.ones(2, requires_grad=True).exp()
    node = y.grad_fn
    y.sum().backward()
    node._saved_result  # noqa: B018 (reading it is what is refused)


test_gives_what_torch_gives, test_refuses_as_torch_does = table.tests()


def test_losses_and_gradients_take_one_round_trip(session: gradwire.Session) -> None:
    gw = gradwire
    x = gw.ones(8000, requires_grad=True)
    first = x * 2
    first.backward(gw.ones(8000))
    loss = (x**2).sum()
    loss.backward()
    session.synchronize()
    before = session.traffic
    assert x.grad is not None
    assert loss.item() == 8000
    gw.fetch(first, loss, x.grad)
    assert (session.traffic - before).sequences == 1
