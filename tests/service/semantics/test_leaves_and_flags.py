"""Leaves, requires_grad, `.grad`, detach and `.data`."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch

import gradwire
from tests.service.sdk import session
from tests.service.semantics.table import Table, category_of

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

table = Table()
gives, refuses = table.gives, table.refuses


@gives
def flags_of_leaves_and_results(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    c = gw.ones(2)
    return x, c, x * 2, c * 2, x + c, x.detach(), x > 0, (x * 2).sum().detach(), x.clone()


@gives
def a_leaf_may_change_its_flag(gw: Any) -> Any:
    x = gw.ones(2)
    before = x.requires_grad
    x.requires_grad = True
    between = x.requires_grad
    x.requires_grad_(False)
    after = x.requires_grad
    return before, between, after, x.requires_grad_() is x, x


@gives
def the_flag_of_a_result_without_graph_may_change(gw: Any) -> Any:
    y = gw.ones(2) * 2
    y.requires_grad_()
    (y * 3).sum().backward()
    return y, y.grad


@gives
def setting_the_flag_that_a_non_leaf_has_is_fine(gw: Any) -> Any:
    y = gw.ones(2, requires_grad=True) * 2
    return y.requires_grad_(True)


@gives
def the_flag_of_a_view_may_be_set(gw: Any) -> Any:
    base = gw.zeros(3)
    view = base[:2]
    view.requires_grad = True
    with gw.no_grad():
        inner = gw.ones(2, requires_grad=True)[:1]
        made = gw.ones(2, requires_grad=True) * 2
    inner.requires_grad = True
    made.requires_grad = False
    return base.requires_grad, view, inner, made


@gives
def a_flag_that_integers_have_anyway(gw: Any) -> Any:
    x = gw.tensor([1])
    x.requires_grad = False
    return x


@gives
def a_flag_set_later_does_not_reach_back(gw: Any) -> Any:
    x = gw.ones(2)
    before = x * 2
    x.requires_grad_()
    after = x * 2
    return before, after


@gives
def a_leaf_changes_in_place_under_no_grad(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    with gw.no_grad():
        x.add_(1)
        x[0] = 5
        x.view(-1).mul_(2)
        x -= 1
    return x, x._version


@gives
def grad_is_none_until_a_backward(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    before = x.grad
    (x * 2).sum().backward()
    after = x.grad
    x.grad = None
    return before, after, x.grad


@gives
def grad_of_what_needs_none_is_none_and_no_warning(gw: Any) -> Any:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return gw.ones(2).grad, (gw.ones(2) * 2).grad, category_of(caught)


@gives
def grad_of_a_non_leaf_warns(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    y = x * 2
    y.sum().backward()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return y.grad, category_of(caught)


@gives
def a_retained_grad_does_not_warn(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    y = x * 2
    y.retain_grad()
    y.retain_grad()
    x.retain_grad()
    (y * y).sum().backward()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return y.grad, x.grad, y.retains_grad, x.retains_grad, category_of(caught)


@gives
def a_retained_grad_accumulates(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    y = x * 2
    y.retain_grad()
    (y * 3).sum().backward(retain_graph=True)
    first = y.grad.tolist()
    (y * 5).sum().backward()
    return first, y.grad


@gives
def grad_is_the_same_object(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    (x * 2).sum().backward()
    return x.grad is x.grad, x.grad.grad, x.grad


@gives
def an_assigned_grad_is_accumulated_into(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    mine = gw.tensor([5.0, 6.0])
    x.grad = mine
    (x * 2).sum().backward()
    return x.grad is mine, mine


@gives
def two_leaves_may_share_a_grad(gw: Any) -> Any:
    x, y = gw.ones(2, requires_grad=True), gw.ones(2, requires_grad=True)
    x.grad = y.grad = gw.zeros(2)
    (x * 2 + y * 3).sum().backward()
    return x.grad, y.grad


@gives
def a_grad_set_to_none_leaves_the_old_one_alone(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    (x * 2).sum().backward()
    old = x.grad
    x.grad = None
    (x * 3).sum().backward()
    return old, x.grad, old is x.grad


@gives
def a_grad_may_be_deleted(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    (x * 2).sum().backward()
    del x.grad
    return x.grad


@gives
def grad_can_be_zeroed_and_scaled(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    (x * 2).sum().backward()
    x.grad.mul_(10)
    scaled = x.grad.tolist()
    x.grad.zero_()
    zeroed = x.grad.tolist()
    (x * 3).sum().backward()
    return scaled, zeroed, x.grad


@gives
def an_assigned_grad_need_not_require_grad(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    x.grad = gw.ones(2) * 3
    c = gw.ones(2)
    c.grad = gw.ones(2)
    return x.grad, c.grad, c


@gives
def detach_shares_storage_and_version(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    d = y.detach()
    d.add_(10)
    return y, d, y._version, d._version, d.is_leaf


@gives
def what_is_detached_may_require_grad_again(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    d = (x * 2).detach().requires_grad_()
    (d * 3).sum().backward()
    return d, d.grad, x.grad


@gives
def detach_in_place_leaves_the_graph(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    y = x * 2
    same = y.detach_()
    return same is y, y


@gives
def data_bypasses_the_counter(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x.exp()
    y.data.mul_(2)
    versions = y._version, y.data._version
    y.sum().backward()
    return versions, x.grad, y.data


@gives
def data_of_a_leaf_may_change(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    x.data.add_(1)
    x.data[0] = 7
    return x, x._version


@gives
def data_may_be_replaced(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    same = x
    x.data = gw.tensor([3.0, 4.0])
    (x * x).sum().backward()
    return x, x is same, x.grad


@gives
def replaced_data_is_shared(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    other = gw.tensor([3.0, 4.0, 5.0])
    x.data = other
    other.add_(1)
    return x, list(x.shape)


@gives
def a_deep_copy_is_a_leaf_of_its_own(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = copy.deepcopy(x)
    (y * 2).sum().backward()
    return y, x.grad, y.grad


@gives
def is_tensor(gw: Any) -> Any:
    return gw.is_tensor(gw.ones(2)), gw.is_tensor(2.0), gw.is_tensor([gw.ones(2)])


@gives
def a_new_tensor_of_a_tensor_is_a_leaf(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    y = gw.tensor(x * 2)
    return y, gw.tensor(x, requires_grad=True), gw.as_tensor(x) is x


@refuses("LEAF_IN_PLACE", "no_grad()")
def in_place_on_a_leaf(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    x.add_(1)


@refuses("LEAF_IN_PLACE", "no_grad()")
def an_augmented_assignment_to_a_leaf(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    x += 1


@refuses("LEAF_IN_PLACE", "no_grad()")
def in_place_on_a_view_of_a_leaf(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    x.view(-1).mul_(2)


@refuses("LEAF_IN_PLACE", "no_grad()")
def assignment_into_a_leaf(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    x[0] = 1


@refuses("LEAF_IN_PLACE", "no_grad()")
def assignment_by_mask_into_a_leaf(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    x[x > 0] = 0.0


@refuses("LEAF_IN_PLACE", "no_grad()")
def a_copy_into_a_leaf(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    x.copy_(gw.zeros(2))


@refuses("NON_LEAF_FLAG", "detach()")
def the_flag_of_a_non_leaf(gw: Any) -> Any:
    y = gw.ones(2, requires_grad=True) * 2
    y.requires_grad = False


@refuses("NON_LEAF_FLAG", "detach()")
def the_flag_of_a_non_leaf_by_method(gw: Any) -> Any:
    y = gw.ones(2, requires_grad=True) * 2
    y.requires_grad_(False)


@refuses("DTYPE_NO_GRAD", "float32")
def integers_that_require_grad(gw: Any) -> Any:
    gw.tensor([1, 2], requires_grad=True)


@refuses("DTYPE_NO_GRAD", "float32")
def a_filled_integer_tensor_that_requires_grad(gw: Any) -> Any:
    gw.zeros(2, dtype=gw.int64, requires_grad=True)


@refuses("DTYPE_NO_GRAD", "float32")
def a_mask_that_is_to_require_grad(gw: Any) -> Any:
    x = gw.ones(2) > 0
    x.requires_grad_()


@refuses("DTYPE_NO_GRAD", "float32")
def a_known_mask_that_is_to_require_grad(gw: Any) -> Any:
    x = gw.tensor([True])
    x.requires_grad = True


@refuses("NO_GRAD_TO_RETAIN", "requires grad")
def retain_grad_of_what_needs_none(gw: Any) -> Any:
    x = gw.ones(2)
    x.retain_grad()


@refuses("BAD_GRAD_ASSIGNMENT", "shape")
def a_grad_of_another_shape(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    x.grad = gw.ones(3)


@refuses("BAD_GRAD_ASSIGNMENT", "dtype")
def a_grad_of_another_dtype(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    x.grad = gw.ones(2, dtype=gw.float64)


@refuses("BAD_GRAD_ASSIGNMENT", "own")
def a_tensor_as_its_own_grad(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    x.grad = x


@refuses("BAD_ATTRIBUTE", "tensor or None")
def a_number_as_grad(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    x.grad = 1.0


@refuses("BAD_VALUE", "detach()")
def detach_in_place_of_a_view(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    y = (x * 2)[0]
    y.detach_()


@refuses("BAD_ATTRIBUTE", "must be a tensor")
def a_number_as_data(gw: Any) -> Any:
    x = gw.ones(2)
    x.data = 1.0


@refuses("NON_LEAF_FLAG", "retain_grad()")
def assigning_the_flag_of_a_non_leaf(gw: Any) -> None:
    y = gw.ones(2, requires_grad=True) * 2
    y.requires_grad = True


@refuses("NON_LEAF_FLAG", "retain_grad()")
def assigning_the_flag_of_a_non_leaf_that_is_known(gw: Any) -> None:
    y = gw.ones(2, requires_grad=True) * 2
    if y.requires_grad and not y.is_leaf:
        y.requires_grad = True


@pytest.mark.parametrize("value", [None, 1, "x"])
def test_the_flag_is_a_bool(session: gradwire.Session, value: Any) -> None:
    for library in (torch, gradwire):
        x = library.ones(2)
        with pytest.raises(RuntimeError, match="must be a bool"):
            x.requires_grad = value
        with pytest.raises(TypeError, match=r"must be (a )?bool"):
            x.requires_grad_(value)
        assert not x.requires_grad


def test_data_replaced_after_it_was_used_leaves_the_backward_alone(
    session: gradwire.Session,
) -> None:
    # PyTorch would differentiate at the new values where a leaf was saved, and at the old ones
    # where anything else was.
    x = gradwire.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    x.data = gradwire.tensor([5.0, 6.0])
    y.backward()
    assert x.grad is not None
    assert (x.tolist(), x.grad.tolist()) == ([5.0, 6.0], [2.0, 4.0])


test_gives_what_torch_gives, test_refuses_as_torch_does = table.tests()
