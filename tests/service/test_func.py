"""gw.func, gw.autograd.functional: as torch has them, and one request each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import gradwire
from tests.service.sdk import session
from tests.service.semantics.table import Table

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

table = Table()
gives, refuses = table.gives, table.refuses


class Pair(NamedTuple):
    first: Any
    second: Any


def point(gw: Any) -> tuple[Any, Any]:
    return gw.tensor([1.0, 2.0, -1.5]), gw.tensor([3.0, -1.0, 0.5])


def energy(x: Any, y: Any) -> Any:
    return (x**2 * y).sum() + x.prod()


def several(x: Any, y: Any) -> Any:
    """A tree of results; one depends on one argument only."""
    return {"a": x**2 * y, "b": (x.sum(), [y.exp()])}


@gives
def gradient(gw: Any) -> Any:
    x, y = point(gw)
    return (
        gw.func.grad(energy)(x, y),
        gw.func.grad(energy, argnums=-1)(x, y),
        gw.func.grad(energy, argnums=(1, 0))(x, y),
        gw.func.grad(energy, argnums=(0,))(x, y=y),
    )


@gives
def gradient_and_value(gw: Any) -> Any:
    def with_aux(x: Any, y: Any) -> Any:
        return energy(x, y), {"parts": x * y}

    x, y = point(gw)
    return (
        gw.func.grad_and_value(energy)(x, y),
        gw.func.grad(with_aux, has_aux=True)(x, y),
        gw.func.grad_and_value(with_aux, has_aux=True)(x, y),
    )


@gives
def gradient_by_trees(gw: Any) -> Any:
    def loss(parameters: Any, inputs: Any) -> Any:
        return (parameters["layer"][0] @ inputs + parameters["bias"]).tanh().sum()

    parameters = {"layer": [gw.ones(2, 3), gw.ones(1)], "bias": gw.tensor([0.5, -0.5])}
    return gw.func.grad(loss)(parameters, point(gw)[0])


@gives
def gradient_of_a_gradient(gw: Any) -> Any:
    fourth = gw.func.grad(gw.func.grad(gw.func.grad(lambda x: x**4)))
    return fourth(gw.tensor(2.0))


@gives
def gradients_do_not_confuse_their_variables(gw: Any) -> Any:
    def outer(x: Any) -> Any:
        return x * gw.func.grad(lambda y: x + y**2 * x)(gw.tensor(2.0))

    def constant(x: Any) -> Any:
        return gw.func.grad(lambda y: (y * y * x).sum())(gw.ones(3)).sum()

    return gw.func.grad(outer)(gw.tensor(3.0)), gw.func.grad(constant)(point(gw)[0])


@gives
def vector_jacobian_products(gw: Any) -> Any:
    output, pull = gw.func.vjp(several, *point(gw))
    cotangents = {"a": gw.ones(3), "b": (gw.tensor(2.0), [gw.zeros(3)])}
    again = pull({"a": gw.zeros(3), "b": (gw.tensor(0.0), [gw.ones(3)])})
    return output, pull(cotangents), again


@gives
def vector_jacobian_products_with_aux(gw: Any) -> Any:
    output, pull, aux = gw.func.vjp(lambda x: (x.exp(), x * 2), point(gw)[0], has_aux=True)
    return output, pull(output), aux


@gives
def jacobian_vector_products(gw: Any) -> Any:
    x, y = point(gw)
    return (
        gw.func.jvp(several, (x, y), (y, x)),
        gw.func.jvp(lambda x: (x.sin(), x), (x,), (y,), has_aux=True),
        gw.func.jvp(lambda d: d["x"] * d["y"], ({"x": x, "y": y},), ({"x": y, "y": x},)),
    )


@gives
def linear_function_close_by(gw: Any) -> Any:
    x, y = point(gw)
    output, push = gw.func.linearize(several, x, y)
    return output, push(y, x), push(x, gw.zeros(3))


@gives
def jacobians_by_rows(gw: Any) -> Any:
    x, y = point(gw)
    return (
        gw.func.jacrev(several)(x, y),
        gw.func.jacrev(several, argnums=(1, 0))(x, y),
        gw.func.jacrev(lambda x: (x.outer(x), x.sum()), has_aux=True)(x),
        gw.func.jacrev(lambda x: x.sin(), chunk_size=1)(x),
        gw.func.jacrev(lambda x: x["w"].sin())({"w": x}),
    )


@gives
def jacobians_by_columns(gw: Any) -> Any:
    x, y = point(gw)
    return (
        gw.func.jacfwd(several)(x, y),
        gw.func.jacfwd(several, argnums=(1, 0))(x, y),
        gw.func.jacfwd(several, argnums=None)(x, y),
        gw.func.jacfwd(lambda x: x.outer(x))(x),
    )


@gives
def jacobians_of_jacobians(gw: Any) -> Any:
    x, y = point(gw)
    modes = (gw.func.jacrev, gw.func.jacfwd)
    return [outer(inner(several))(x, y) for outer in modes for inner in modes]


@gives
def hessians(gw: Any) -> Any:
    x, y = point(gw)
    return gw.func.hessian(energy)(x, y), gw.func.hessian(energy, argnums=(0, 1))(x, y)


@gives
def batches(gw: Any) -> Any:
    rows, y = gw.arange(6.0).reshape(2, 3) + 1, point(gw)[1]
    return (
        gw.func.vmap(energy)(rows, rows),
        gw.func.vmap(gw.func.grad(energy), in_dims=(0, None))(rows, y),
        gw.func.vmap(gw.func.jacrev(lambda x: x.sin()))(rows),
        gw.func.vmap(lambda d: d["x"] * d["y"], in_dims=({"x": 0, "y": None},))(
            {"x": rows, "y": y}
        ),
        gw.func.vmap(lambda x, y: (x * y, x), in_dims=(1, None), out_dims=(1, 0))(rows, rows[:, 0]),
    )


@gives
def results_that_do_not_depend_on_the_arguments(gw: Any) -> Any:
    x, y = point(gw)
    return (
        gw.func.grad(lambda x: gw.tensor(3.0))(x),
        gw.func.jacrev(lambda x: (x, y))(x),
        gw.func.jacfwd(lambda x: (x, y))(x),
        gw.func.jvp(lambda x: y, (x,), (x,)),
        gw.func.vjp(lambda x: y, x)[1](x),
    )


@gives
def derivatives_stay_in_the_graph_outside(gw: Any) -> Any:
    weight = gw.tensor([1.0, 2.0, 3.0], requires_grad=True)
    gradient, value = gw.func.grad_and_value(lambda x: (weight * x**2).sum())(point(gw)[0])
    (gradient.sum() + value).backward()
    by_itself = gw.func.grad(lambda x: (x**3).sum())(weight)
    return (
        weight.grad,
        gw.autograd.grad(by_itself.sum(), weight)[0],
        gw.func.jvp(lambda x: x**2, (weight,), (gw.ones(3),))[1].requires_grad,
        gw.func.grad(lambda x: (x**2).sum())(point(gw)[0]).requires_grad,
    )


@gives
def modes_outside_do_not_matter_and_inside_do(gw: Any) -> Any:
    weight = gw.tensor([1.0, 2.0, 3.0], requires_grad=True)

    def partly_constant(x: Any) -> Any:
        with gw.no_grad():
            c = x**2
        return (x - c).sum()

    with gw.no_grad():
        outside = gw.func.grad(lambda x: (weight * x**2).sum())(weight)
        pushed = gw.func.jvp(lambda x: weight * x, (weight,), (weight,))
    return outside, pushed, gw.func.grad(partly_constant)(weight.detach())


@gives
def values_read_in_between(gw: Any) -> Any:
    def clipped(x: Any) -> Any:
        return (x**3).sum() if x.sum().item() > 0 else x.sum()

    x, _ = point(gw)
    return gw.func.grad(clipped)(x), gw.func.hessian(clipped)(x), gw.func.jvp(clipped, (x,), (x,))


@gives
def complex_functions(gw: Any) -> Any:
    z = gw.tensor([1.0 + 2.0j, -0.5j], dtype=gw.complex128)
    t = gw.tensor([0.5 - 1.0j, 2.0 + 0.0j], dtype=gw.complex128)
    return (
        gw.func.vjp(lambda z: z * z * z.conj(), z)[1](t),
        gw.func.jvp(lambda z: z * z * z.conj(), (z,), (t,)),
        gw.func.grad(lambda z: gw.real(z * z.conj()).sum())(z),
    )


@gives
def functional_products(gw: Any) -> Any:
    functional = gw.autograd.functional
    x, y = point(gw)
    pair = (x, y)
    return (
        functional.vjp(lambda x: x.exp(), x, y),
        functional.vjp(lambda x: x.sum(), x),
        functional.vjp(lambda x, y: (x * y, x), pair, (y, x)),
        functional.jvp(lambda x: x.exp(), x, y),
        functional.jvp(lambda x, y: (x * y, x), pair, (y, x)),
        functional.hvp(energy, pair, (y, x)),
        functional.vhp(energy, pair, (y, x)),
        functional.hvp(lambda x: (x**3).sum(), x, y),
    )


@gives
def functional_jacobians(gw: Any) -> Any:
    functional = gw.autograd.functional
    x, y = point(gw)
    return (
        functional.jacobian(lambda x: x.exp(), x),
        functional.jacobian(lambda x, y: (x * y, x.sum()), (x, y)),
        functional.jacobian(lambda x, y: x * y, (x, y), vectorize=True, strategy="forward-mode"),
        functional.hessian(lambda x: (x**3).sum().reshape(1), x),
        functional.hessian(energy, (x, y), vectorize=True),
        # Torch leaves these in the graph, against its own documentation.
        [
            [each.detach() for each in row]
            for row in functional.hessian(
                energy, (x, y), vectorize=True, outer_jacobian_strategy="forward-mode"
            )
        ],
    )


@gives
def functional_results_can_be_differentiated(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    functional = gw.autograd.functional
    jacobian = functional.jacobian(lambda x: x**3, x, create_graph=True)
    product = functional.hvp(lambda x: (x**4).sum(), x, gw.ones(2), create_graph=True)[1]
    plain = functional.jacobian(lambda x: x**3, x)
    return (
        gw.autograd.grad(jacobian.sum(), x)[0],
        gw.autograd.grad(product.sum(), x)[0],
        plain.requires_grad,
    )


@gives
def batched_directions(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y, z = x**2, x.sum()
    several = gw.autograd.grad(
        (y, z),
        x,
        (gw.ones(4, 3), gw.arange(4.0)),
        is_grads_batched=True,
        retain_graph=True,
    )
    unused = gw.autograd.grad(
        y, (x, gw.ones(2, requires_grad=True)), gw.eye(3), is_grads_batched=True, allow_unused=True
    )
    return several, unused


@refuses("NON_SCALAR_ROOT", "jacrev")
def a_gradient_of_what_is_known_to_be_no_scalar(gw: Any) -> Any:
    gw.func.grad(lambda x: x)(point(gw)[0])


@refuses("NON_SCALAR_ROOT", "reduce")
def a_gradient_of_what_turns_out_to_be_no_scalar(gw: Any) -> Any:
    gw.func.grad(lambda x: (x * 2)[:1])(point(gw)[0])


@refuses("BAD_VALUE", "must be a tensor of no dimensions")
def a_gradient_of_a_number(gw: Any) -> Any:
    gw.func.grad(lambda x: 3.0)(point(gw)[0])


@refuses("DTYPE_NO_GRAD", "floating-point")
def a_gradient_by_integers(gw: Any) -> Any:
    gw.func.grad(lambda x: x.sum())(gw.tensor([1, 2]))


@refuses("BAD_VALUE", "argnums")
def a_gradient_by_a_number(gw: Any) -> Any:
    gw.func.grad(lambda x: x)(3.0)


@refuses("BAD_VALUE", "there are 1 positional ones")
def an_argument_that_is_not_there(gw: Any) -> Any:
    gw.func.grad(lambda x: x.sum(), argnums=2)(gw.ones(2))


@refuses("BAD_VALUE", "argnums names an argument twice")
def an_argument_named_twice(gw: Any) -> Any:
    gw.func.grad(energy, argnums=(0, 0))(*point(gw))


@refuses("BAD_VALUE", "(output, aux)")
def no_aux(gw: Any) -> Any:
    gw.func.grad(energy, has_aux=True)(*point(gw))


@refuses("BAD_VALUE", "has_aux=True")
def a_jacobian_of_a_number(gw: Any) -> Any:
    gw.func.jacrev(lambda x: (x, 3))(gw.ones(2))


@refuses("BAD_VALUE", "view_as_real")
def a_jacobian_by_complex_numbers(gw: Any) -> Any:
    gw.func.jacrev(lambda z: z * z)(
        gw.ones(2, dtype=gw.complex64) * 1j if gw is torch else gw.tensor([1j])
    )


@refuses("BAD_VALUE", "the cotangents must be built as the output")
def cotangents_of_another_structure(gw: Any) -> Any:
    _, pull = gw.func.vjp(several, *point(gw))
    pull(gw.ones(3))


@refuses("GRADIENT_SHAPE", "must be equal")
def cotangents_of_another_shape(gw: Any) -> Any:
    _, pull = gw.func.vjp(lambda x: x * 2, point(gw)[0])
    pull(gw.ones(2))


@refuses("BAD_VALUE", "primals must be a tuple")
def primals_that_are_no_tuple(gw: Any) -> Any:
    gw.func.jvp(lambda x: x, gw.ones(2), gw.ones(2))


@refuses("BAD_VALUE", "the tangents must be built as the primals")
def tangents_of_another_structure(gw: Any) -> Any:
    gw.func.jvp(lambda x: x, (gw.ones(2),), (gw.ones(2), gw.ones(2)))


@refuses("GRADIENT_SHAPE", "tangent 0")
def tangents_of_another_shape(gw: Any) -> Any:
    gw.func.jvp(lambda x: x, (gw.ones(2),), (gw.ones(3),))


@refuses("BAD_VALUE", "equal size")
def batches_of_different_sizes(gw: Any) -> Any:
    gw.func.vmap(lambda x, y: x)(gw.ones(2), gw.ones(3))


@refuses("BAD_VALUE", "at least one dimension")
def a_batch_of_nothing(gw: Any) -> Any:
    gw.func.vmap(lambda x: x, in_dims=(None,))(gw.ones(2))


@refuses("BAD_VALUE", "out_dims")
def a_batch_of_numbers(gw: Any) -> Any:
    gw.func.vmap(lambda x: 3.0)(gw.ones(2))


@refuses("BAD_VALUE", "dimension 0 of a tensor that has 0")
def a_batch_of_no_dimensions(gw: Any) -> Any:
    gw.func.vmap(lambda x: x)(gw.ones(()))


@refuses("GRADIENT_SHAPE", "counts directions")
def a_batch_of_gradients_of_another_shape(gw: Any) -> Any:
    x = gw.ones(3, requires_grad=True)
    gw.autograd.grad(x * 2, x, gw.ones(3), is_grads_batched=True)


@refuses("UNUSED_INPUT", "materialize_grads")
def a_strict_jacobian_by_an_unused_input(gw: Any) -> Any:
    gw.autograd.functional.jacobian(lambda x, y: x * 2, (gw.ones(2), gw.ones(2)), strict=True)


@refuses("NO_GRAPH", "requires_grad")
def a_strict_product_of_a_constant(gw: Any) -> Any:
    gw.func.jvp(lambda x: gw.ones(2), (gw.ones(2),), (gw.ones(2),), strict=True)


@refuses("NON_SCALAR_ROOT", "needs v")
def a_product_without_a_vector(gw: Any) -> Any:
    gw.autograd.functional.vjp(lambda x: x, gw.ones(3))


test_gives_what_torch_gives, test_refuses_as_torch_does = table.tests()


def trips(session: gradwire.Session, function: Callable[[], Any]) -> int:
    session.synchronize()
    before = session.traffic
    gradwire.fetch(function())
    return (session.traffic - before).sequences


@pytest.mark.parametrize(
    "transformed",
    [
        lambda gw, x: gw.func.grad(lambda x: (x**2).sum())(x),
        lambda gw, x: gw.func.vjp(lambda x: x * 2, x)[1](x)[0],
        lambda gw, x: gw.func.jvp(lambda x: x * 2, (x,), (x,))[1],
        lambda gw, x: gw.func.jacrev(lambda x: x.outer(x))(x),
        lambda gw, x: gw.func.jacfwd(lambda x: x.outer(x))(x),
        lambda gw, x: gw.func.hessian(lambda x: (x**3).sum())(x),
        lambda gw, x: gw.func.hvp(lambda x: (x**3).sum(), (x,), (x,))[1][0],
        lambda gw, x: gw.func.vmap(gw.func.grad(lambda x: x**2))(x),
        lambda gw, x: gw.func.jacrev(gw.func.hessian(lambda x: (x**3).sum()))(x),
        lambda gw, x: gw.autograd.functional.hessian(lambda x: (x**3).sum(), x),
        lambda gw, x: gw.func.jacrev(lambda y: y**2)(x * x),
    ],
    ids="grad vjp jvp jacrev jacfwd hessian hvp vmap third functional of_a_result".split(),
)
def test_each_is_one_request(
    session: gradwire.Session, transformed: Callable[[Any, Any], Any]
) -> None:
    x = gradwire.tensor(np.arange(1.0, 21.0))
    assert trips(session, lambda: transformed(gradwire, x)) == 1


def test_reading_in_between_costs_a_request(session: gradwire.Session) -> None:
    gw = gradwire
    x = gw.tensor([1.0, 2.0])
    f = gw.func.grad(lambda x: x.sum() if x.sum().item() > 0 else (x * x).sum())
    assert trips(session, lambda: f(x)) == 2


def test_a_hessian_vector_product_is_that_of_the_hessian() -> None:
    gw = gradwire
    x, y = point(gw)
    value, (by_x, by_y) = gw.func.hvp(energy, (x, y), (y, x))
    expected, products = torch.autograd.functional.hvp(energy, point(torch), point(torch)[::-1])
    assert value.item() == pytest.approx(expected.item())
    np.testing.assert_allclose(gw.fetch(by_x), products[0].numpy(), 1e-5)
    np.testing.assert_allclose(gw.fetch(by_y), products[1].numpy(), 1e-5)


def test_named_tuples_stay_what_they_are() -> None:
    gw = gradwire
    x, y = point(gw)
    gradient = gw.func.grad(lambda pair: (pair.first * pair.second).sum())(Pair(x, y))
    assert isinstance(gradient, Pair)
    np.testing.assert_array_equal(gw.fetch(gradient.first), gw.fetch(y))


def test_keyword_arguments_are_mapped_over_their_first_dimension() -> None:
    gw = gradwire
    rows = gw.arange(6.0).reshape(2, 3)
    found = gw.func.vmap(lambda x, scale: (x * scale).sum())(rows, scale=gw.tensor([1.0, 2.0]))
    assert found.tolist() == [3.0, 24.0]


def test_many_derivatives_of_a_session_do_not_add_up(session: gradwire.Session) -> None:
    gw = gradwire
    x = gw.tensor([1.0, 2.0])
    third = gw.func.jacrev(gw.func.hessian(lambda x: (x**3).sum()))
    for _ in range(60):
        found = third(x)
    assert found[0, 0, 0].item() == 6.0
