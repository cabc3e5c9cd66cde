"""Changes in place, views, and the histories of both."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.sdk import session
from tests.service.semantics.table import (
    Table,
    chain,
    name_of,
)

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

table = Table()
gives, refuses = table.gives, table.refuses


@gives
def one_counter_for_base_views_and_detached(gw: Any) -> Any:
    x = gw.zeros(2, 3)
    row, flat, detached = x[0], x.view(-1), x.detach()
    row.add_(1)
    flat.mul_(2)
    detached[1] = 5
    return [each._version for each in (x, row, flat, detached)], x, row, flat


@gives
def in_place_forms_give_the_tensor_itself(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0])
    same = x
    chained = x.add_(1).sub_(2).mul_(3).div_(4).neg_()
    x += 1
    x -= 2
    x *= 3
    x /= 4
    x **= 2
    return chained is same, x is same, x, x._version


@gives
def nodes_of_plain_changes(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    names = []
    for change in (
        lambda y: y.add_(1), lambda y: y.sub_(x), lambda y: y.mul_(3), lambda y: y.div_(2),
        lambda y: y.pow_(2), lambda y: y.exp_(), lambda y: y.neg_(), lambda y: y.clamp_(min=0),
        lambda y: y.zero_(), lambda y: y.fill_(3), lambda y: y.fill_(x.sum()),
        lambda y: y.copy_(gw.ones(2)), lambda y: y.copy_(x), lambda y: y.masked_fill_(x > 1, 0.0),
        lambda y: y.relu_(), lambda y: y.sigmoid_(), lambda y: y.tanh_(), lambda y: y.sqrt_(),
        lambda y: y.abs_(), lambda y: y.sin_(), lambda y: y.cos_(), lambda y: y.log_(),
        lambda y: y.reciprocal_(), lambda y: y.rsqrt_(), lambda y: y.clamp_(0.0, 1.0),
    ):  # fmt: skip
        y = x * 2
        change(y)
        names.append((chain(y.grad_fn), y._version))
    return names


@gives
def gradients_of_plain_changes(gw: Any) -> Any:
    found = []
    for change in (
        lambda y, x: y.add_(x, alpha=3), lambda y, x: y.sub_(x), lambda y, x: y.mul_(x),
        lambda y, x: y.div_(x), lambda y, x: y.pow_(2), lambda y, x: y.pow_(x),
        lambda y, x: y.exp_(), lambda y, x: y.clamp_(max=3.0), lambda y, x: y.zero_(),
        lambda y, x: y.fill_(x.sum()), lambda y, x: y.copy_(x), lambda y, x: y.tanh_(),
        lambda y, x: y.masked_fill_(x > 1, x.sum()), lambda y, x: y.copy_(x[0]),
    ):  # fmt: skip
        x = gw.tensor([1.0, 2.0], requires_grad=True)
        y = x * 2
        change(y, x)
        (y * y).sum().backward()
        found.append((y, x.grad))
    return found


@gives
def a_change_through_a_view_gives_the_base_slices(gw: Any) -> Any:
    x = gw.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = x * 1
    view = y[0]
    view.mul_(5)
    names = chain(y.grad_fn), chain(view.grad_fn)
    (y * y).sum().backward()
    return names, y, view, x.grad


@gives
def a_change_of_the_base_reaches_its_views(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 1
    view = y[1:]
    y.mul_(2)
    name = chain(view.grad_fn)
    view.sum().backward()
    return name, view, x.grad


@gives
def a_change_through_a_view_of_a_view(gw: Any) -> Any:
    x = gw.arange(12.0).reshape(3, 4).requires_grad_()
    y = x * 1
    part = y[1:].t()[0]
    part.exp_()
    name = chain(part.grad_fn), chain(y.grad_fn)
    (y * gw.arange(12.0).reshape(3, 4)).sum().backward()
    return name, part, x.grad


@gives
def a_base_without_grad_takes_one_in(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    base = gw.zeros(3, 2)
    base[1] = x * 3
    base[2].copy_(x)
    names = chain(base.grad_fn)
    (base**2).sum().backward()
    return names, base, x.grad


@gives
def views_and_what_they_are_views_of(gw: Any) -> Any:
    x = gw.arange(6.0).reshape(2, 3).clone()
    views = (
        x[0], x[:, 1:], x.t(), x.view(-1), x.unsqueeze(0), x.expand(4, 2, 3), x.permute(1, 0),
        x.transpose(0, 1), x.flatten(), x.reshape(3, 2), x.squeeze(), x[None], x[...],
        x.select(1, 0), x.narrow(0, 0, 1), x.T, x.mT, x.expand_as(gw.ones(2, 3)),
    )  # fmt: skip
    copies = x.clone(), x + 0, x[[0]], x.t().flatten(), x.sum(), x.t().reshape(-1)
    return (
        [each._is_view() for each in views], [each._base is x for each in views],
        [each._is_view() for each in copies], [each._base is None for each in copies],
        x._is_view(), x._base, x.t()[0]._base is x,
    )  # fmt: skip


@gives
def parts_are_views_too(gw: Any) -> Any:
    x = gw.arange(6.0).clone()
    parts = (*x.split(2), *x.chunk(2), *x.view(2, 3).unbind())
    before = [each._base is x for each in parts]
    parts[0].add_(10)
    return before, [each._is_view() for each in parts], x, parts[3]


@gives
def a_detached_tensor_and_data_are_views(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    y = x * 2
    return y.detach()._is_view(), y.data._is_view(), y.detach()._base is None


@gives
def view_nodes(gw: Any) -> Any:
    x = gw.arange(6.0).reshape(2, 3).clone().requires_grad_()
    return [
        chain(each.grad_fn)
        for each in (
            x[0], x[:, 1:], x.t(), x.view(-1), x.unsqueeze(0), x.expand(4, 2, 3), x.permute(1, 0),
            x.transpose(0, 1), x.flatten(), x.squeeze(), x.squeeze(0), x.T, x.mT, x[..., 0],
            x.split(1)[0], x.split([1, 1])[0], x.chunk(2)[0], x.unbind()[0], x.narrow(1, 0, 2),
            x.expand_as(gw.ones(2, 2, 3)), x.reshape(-1), x.view_as(gw.ones(3, 2)),
            x.reshape_as(gw.ones(6)), x.t().reshape(6), x.select(0, 1), x[None],
        )
    ]  # fmt: skip


@gives
def expand_as(gw: Any) -> Any:
    x = gw.tensor([[1.0], [2.0]], requires_grad=True)
    y = x.expand_as(gw.ones(2, 3))
    y.sum().backward()
    return y, x.grad


@gives
def a_view_of_a_leaf_under_no_grad_writes_to_the_leaf(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    with gw.no_grad():
        view = x[:1]
        view.add_(10)
    return x


@gives
def a_view_made_under_no_grad_may_be_read(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    with gw.no_grad():
        view = y[:1]
    return view.requires_grad, view.is_leaf, (view * 2).requires_grad


@gives
def a_part_may_change_under_no_grad(gw: Any) -> Any:
    x = gw.arange(4.0)
    with gw.no_grad():
        first, second = x.split(2)
        first.zero_()
    second.add_(1)
    return x, first, second


@gives
def in_place_casts_the_result_to_the_target(gw: Any) -> Any:
    x = gw.ones(2)
    x.add_(gw.tensor([1, 2]))
    x.mul_(gw.tensor([0.5, 2.0], dtype=gw.float64))
    y = gw.tensor([1, 2])
    y += True
    y *= 3
    z = gw.tensor([1 + 1j])
    z += 1.5
    h = gw.ones(2, dtype=gw.float16)
    h += gw.ones(2)
    return x, y, z, h


@gives
def in_place_broadcasts_the_other(gw: Any) -> Any:
    x = gw.zeros(2, 3, requires_grad=True)
    v = gw.tensor([[1.0], [2.0]], requires_grad=True)
    y = x * 1
    y.add_(v).mul_(gw.tensor(3.0))
    y.sum().backward()
    return y, v.grad, x.grad


@gives
def values_that_are_not_needed_may_change(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    z = y + 1
    y.add_(5)
    z.sum().backward()
    return x.grad, z, y


@gives
def a_changed_input_of_a_saved_result(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1
    z = y.exp()
    y.zero_()
    z.sum().backward()
    return x.grad, y, z


@gives
def a_tensor_changed_by_itself(gw: Any) -> Any:
    x = gw.tensor([2.0, 3.0], requires_grad=True)
    y = x * 1
    y.add_(y).sub_(y * 0.5)
    y[0] = y[1]
    w = gw.tensor([2.0, 3.0])
    w.mul_(w)
    y.sum().backward()
    return y, w, x.grad


@gives
def second_derivatives_through_a_change(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True, dtype=gw.float64)
    y = x * 1
    y[0] = x[1] ** 3
    (g,) = gw.autograd.grad((y * y).sum(), x, create_graph=True)
    return g, gw.autograd.grad(g.sum(), x)


@gives
def aliases_see_each_other(gw: Any) -> Any:
    x = gw.zeros(3)
    y = x
    y += 1
    z = x[1:]
    z[0] = 9
    x[2] = 4
    return x, y, z


@gives
def copy_gives_gradients_to_its_source(gw: Any) -> Any:
    source = gw.tensor([1.0, 2.0], requires_grad=True)
    target = gw.zeros(3, 2, dtype=gw.float64)
    target.copy_(source)
    target.sum().backward()
    return target, source.grad


@gives
def a_retained_grad_of_a_tensor_that_changes(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    y.retain_grad()
    y.mul_(3)
    y.sum().backward()
    return y.grad, x.grad


@gives
def in_place_forms_of_tier_one(gw: Any) -> Any:
    found = {}
    arguments = {
        "add": (2.0,), "sub": (2.0,), "mul": (2.0,), "div": (2.0,), "pow": (2,),
        "clamp": (0.2, 0.6), "neg": (), "reciprocal": (), "sqrt": (), "rsqrt": (), "exp": (),
        "log": (), "abs": (),
        "sin": (), "cos": (), "tanh": (), "sigmoid": (), "relu": (), "square": (), "zero": (),
        "fill": (3.0,), "t": (), "transpose": (0, 1), "squeeze": (), "unsqueeze": (1,),
        "eq": (0.5,),
        "ne": (0.5,), "lt": (0.5,), "le": (0.5,), "gt": (0.5,), "ge": (0.5,), "logical_not": (),
    }  # fmt: skip
    for name, given in arguments.items():
        x = gw.tensor([[0.5, 0.75]], requires_grad=True)
        y = x * 1
        same = getattr(y, f"{name}_")(*given)
        y.sum().backward()
        found[name] = (same is y, y, x.grad, chain(y.grad_fn), y._version, list(y.shape))
    return found


@gives
def in_place_forms_with_tensors(gw: Any) -> Any:
    found = {}
    m = gw.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    for name, given in {
        "addmm": (m, m), "masked_fill": (m > 2, 7.0), "copy": (m,), "eq": (m,), "logical_or": (m,),
        "logical_and": (m,), "logical_xor": (m,), "index_put": ((gw.tensor([0]),), m[1]),
        "scatter_add": (0, gw.tensor([[0, 1], [1, 1]]), m),
    }.items():  # fmt: skip
        x = gw.tensor([[0.5, 0.0], [1.0, 2.0]], requires_grad=True)
        y = x * 1
        getattr(y, f"{name}_")(*given)
        grads = gw.autograd.grad((y * y).sum(), [x, m], allow_unused=True)
        found[name] = (y, grads, name_of(y.grad_fn))
    return found


@gives
def functions_in_place(gw: Any) -> Any:
    f = gw.nn.functional
    found = []
    for function in (
        lambda y: f.relu(y, inplace=True), lambda y: f.leaky_relu(y, 0.5, True),
        lambda y: f.silu(y, inplace=True), lambda y: f.relu_(y), lambda y: f.leaky_relu_(y, 0.2),
        lambda y: f.relu(y), lambda y: f.leaky_relu(y), lambda y: f.silu(y),
    ):  # fmt: skip
        x = gw.tensor([-1.0, 2.0], requires_grad=True)
        y = x * 1
        z = function(y)
        z.sum().backward()
        found.append((z is y, y, z, x.grad))
    return found


@gives
def a_shape_that_changes_in_place(gw: Any) -> Any:
    x = gw.arange(6.0).reshape(1, 2, 3).clone().requires_grad_()
    y = x * 1
    y.squeeze_(0).t_().unsqueeze_(0)
    y[0, 0] = 7
    row = (x * 1)[0]
    row.t_()
    row.mul_(2)
    (y.sum() + (row * row).sum()).backward()
    with gw.no_grad():
        z = gw.ones(2, 3, requires_grad=True)
        z.t_()
    (z * 2).sum().backward()
    return y, chain(y.grad_fn), row, chain(row.grad_fn), x.grad, z, z.grad


@gives
def where_as_a_method(gw: Any) -> Any:
    x = gw.tensor([1.0, -2.0], requires_grad=True)
    y = x.where(x > 0, gw.tensor(5.0)), x.where(x > 0, 0.0)
    (y[0] + y[1]).sum().backward()
    return y, x.grad


@refuses("LEAF_IN_PLACE", "no_grad()")
def a_leaf_transposed_in_place(gw: Any) -> Any:
    x = gw.ones(2, 3, requires_grad=True)
    x.t_()


@refuses("SAVED_MODIFIED", "clone()")
def a_saved_input_that_changed(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1
    z = y**2
    y.add_(1)
    z.sum().backward()


@refuses("SAVED_MODIFIED", "made by AddBackward0")
def a_saved_result_of_a_change_that_changed(gw: Any) -> None:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1
    y.add_(1)
    z = y * y
    y.mul_(2)
    z.sum().backward()


@refuses("SAVED_MODIFIED", "clone()")
def a_saved_result_that_changed(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x.exp()
    y[0] = 0
    y.sum().backward()


@refuses("SAVED_MODIFIED", "is at version 2, expected version 0")
def a_saved_value_that_changed_through_a_view(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    w = gw.tensor([3.0, 4.0])
    z = x * w
    w[:1].add_(1)
    w.detach().mul_(2)
    z.sum().backward()


@refuses("SAVED_MODIFIED", "float32[2]")
def a_leaf_that_changed_under_no_grad(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    with gw.no_grad():
        x.add_(1)
    y.sum().backward()


@refuses("SAVED_MODIFIED", "clone()")
def a_product_with_itself_in_place(gw: Any) -> Any:
    x = gw.tensor([1.0, 3.0], requires_grad=True)
    y = x * 1
    y.mul_(y)
    y.sum().backward()


@refuses("SAVED_MODIFIED", "clone()")
def a_product_with_another_view_of_the_same_base(gw: Any) -> Any:
    x = gw.tensor([2.0, 3.0], requires_grad=True)
    y = x * 1
    y[1].mul_(y[0])
    y.sum().backward()


@refuses("BAD_VALUE", "clone()")
def a_copy_onto_a_part_of_itself(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0, 3.0])
    x[1:] = x[:-1]


@refuses("SHAPE_MISMATCH", "copy_")
def a_fill_with_several_numbers(gw: Any) -> Any:
    x = gw.ones(2, 2)
    x.fill_(gw.ones(2))


@refuses("MULTI_VIEW_IN_PLACE", "clone()")
def in_place_on_a_part(gw: Any) -> Any:
    x = gw.ones(4, requires_grad=True) * 2
    first, _ = x.split(2)
    first.add_(1)


@refuses("MULTI_VIEW_IN_PLACE", "clone()")
def in_place_on_an_unbound_row(gw: Any) -> Any:
    x = gw.ones(2, 2, requires_grad=True) * 2
    for row in x:
        row.mul_(2)


@refuses("MULTI_VIEW_IN_PLACE", "clone()")
def in_place_on_a_chunk(gw: Any) -> Any:
    x = gw.ones(4, requires_grad=True) * 2
    x.chunk(2)[1].zero_()


@refuses("MULTI_VIEW_IN_PLACE", "clone()")
def use_of_a_part_after_its_base_changed(gw: Any) -> Any:
    x = gw.ones(4, requires_grad=True) * 2
    first, _ = x.split(2)
    x.add_(1)
    first * 2


@refuses("NO_GRAD_VIEW_IN_PLACE", "no_grad")
def in_place_on_a_view_made_under_no_grad(gw: Any) -> Any:
    x = gw.ones(4, requires_grad=True) * 2
    with gw.no_grad():
        view = x[:2]
    view.add_(1)


@refuses("NO_GRAD_VIEW_IN_PLACE", "inference_mode")
def in_place_on_a_view_made_in_inference_mode(gw: Any) -> Any:
    x = gw.ones(4, requires_grad=True) * 2
    with gw.inference_mode():
        view = x[:2]
    view.add_(1)


@refuses("NO_GRAD_VIEW_IN_PLACE", "no_grad")
def use_of_a_view_of_a_leaf_that_changed_under_no_grad(gw: Any) -> Any:
    x = gw.ones(4, requires_grad=True)
    with gw.no_grad():
        view = x[:2]
        view.add_(1)
    view * 2


@refuses("IN_PLACE_SHAPE", "without underscore")
def a_result_that_would_broadcast_the_target(gw: Any) -> Any:
    x = gw.ones(1)
    x.add_(gw.ones(3))


@refuses("IN_PLACE_DTYPE", "without underscore")
def a_float_result_for_an_integer_target(gw: Any) -> Any:
    x = gw.ones(2, dtype=gw.int64)
    x.add_(1.5)


@refuses("IN_PLACE_DTYPE", "without underscore")
def a_quotient_for_an_integer_target(gw: Any) -> Any:
    x = gw.ones(2, dtype=gw.int64)
    x /= 2


@refuses("IN_PLACE_DTYPE", "without underscore")
def a_complex_result_for_a_real_target(gw: Any) -> Any:
    x = gw.ones(2)
    x.mul_(gw.tensor([1j, 2j]))


@refuses("BAD_VALUE", "clone()")
def in_place_on_an_expanded_tensor(gw: Any) -> Any:
    x = gw.ones(1, 3).expand(2, 3)
    x.add_(1)


@gives
def a_view_that_cannot_follow_has_values_and_a_shape(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True) * 1
    part, _ = x.split(1)
    x.add_(1)
    return list(part.shape), part.dtype, part.tolist(), part.requires_grad, part._version


@refuses("MULTI_VIEW_IN_PLACE", "narrow()")
def the_node_of_a_view_that_cannot_follow(gw: Any) -> None:
    x = gw.tensor([1.0, 2.0], requires_grad=True) * 1
    part, _ = x.split(1)
    x.add_(1)
    part.grad_fn  # noqa: B018 (reading it is what is refused)


@refuses("MULTI_VIEW_IN_PLACE", "narrow()")
def whether_a_view_that_cannot_follow_is_a_leaf(gw: Any) -> None:
    x = gw.tensor([1.0, 2.0], requires_grad=True) * 1
    part, _ = x.split(1)
    x.add_(1)
    part.is_leaf  # noqa: B018 (reading it is what is refused)


@refuses("MULTI_VIEW_IN_PLACE", "narrow()")
def using_a_view_that_cannot_follow(gw: Any) -> None:
    x = gw.tensor([1.0, 2.0], requires_grad=True) * 1
    part, _ = x.split(1)
    x.add_(1)
    part * 2


@gives
def in_place_operators_as_functions(gw: Any) -> Any:
    x = gw.tensor([0.25, 0.5], requires_grad=True)
    made = []
    for name in ("abs_", "cos_", "exp_", "log1p_", "neg_", "relu_", "sigmoid_", "sqrt_", "tanh_"):
        y = x * 1
        made += [getattr(gw, name)(y) is y, y]
    y = x * 1
    made += [
        gw.clamp_(y, 0.3, 0.4),
        gw.fill_(x * 1, 3.0),
        gw.index_put_(y, (gw.tensor([0]),), x[1]),
    ]
    return made


test_gives_what_torch_gives, test_refuses_as_torch_does = table.tests()
