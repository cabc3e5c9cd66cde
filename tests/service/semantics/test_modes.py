"""no_grad, enable_grad, set_grad_enabled and inference_mode."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import gradwire
from tests.service.sdk import session
from tests.service.semantics.table import Table, category_of

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

table = Table()
gives, refuses = table.gives, table.refuses


@gives
def no_grad_records_nothing(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    with gw.no_grad():
        y = x * 2
        inside = gw.is_grad_enabled()
        made = gw.ones(2, requires_grad=True)
        alias = x
    return y, inside, made, alias, gw.is_grad_enabled(), x * 2


@gives
def enable_grad_within_no_grad(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    with gw.no_grad():
        with gw.enable_grad():
            y = x * 2
        z = x * 2
    return y, z


@gives
def set_grad_enabled_as_a_function(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    gw.set_grad_enabled(False)
    y = x * 2
    gw.set_grad_enabled(True)
    return y, x * 2


@gives
def set_grad_enabled_as_a_context_manager(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    found = []
    for mode in (True, False):
        with gw.set_grad_enabled(mode):
            found.append(x * 2)
        found.append(gw.is_grad_enabled())
    with gw.no_grad():
        with gw.set_grad_enabled(True):
            found.append(x * 2)
        found.append(gw.is_grad_enabled())
    return found


@gives
def modes_as_decorators(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)

    @gw.no_grad()
    def silent(factor: float) -> Any:
        """Says nothing."""
        return x * factor

    @gw.no_grad
    def bare() -> Any:
        return x * 2

    @gw.enable_grad()
    def loud() -> Any:
        return x * 2

    @gw.set_grad_enabled(False)
    def switched() -> Any:
        return x * 2

    @gw.inference_mode()
    def inferred() -> Any:
        return gw.is_inference_mode_enabled(), (x * 2).is_inference()

    enabled = gw.is_grad_enabled()
    with gw.no_grad():
        inside = loud()
    return (
        silent(3.0), bare(), inside, switched(), inferred(), enabled, silent.__name__,
        silent.__doc__, silent(2.0), x * 2,
    )  # fmt: skip


@gives
def modes_on_generators(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)

    @gw.no_grad()
    def numbers() -> Iterator[Any]:
        sent = yield x * 2, gw.is_grad_enabled()
        try:
            yield sent, gw.is_grad_enabled()
        except KeyError:
            yield gw.is_grad_enabled()
        return "end"

    running = numbers()
    found = [next(running), gw.is_grad_enabled(), running.send("hello")]
    found += [running.throw(KeyError()), gw.is_grad_enabled()]
    with pytest.raises(StopIteration) as stopped:
        next(running)
    return found, stopped.value.value


@gives
def a_mode_ends_with_an_exception(gw: Any) -> Any:
    try:
        with gw.no_grad():
            raise KeyError
    except KeyError:
        return gw.is_grad_enabled()


@gives
def a_mode_object_may_be_used_again(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    mode = gw.no_grad()
    with mode:
        y = x * 2
    z = x * 2
    with mode:
        w = x * 2
    return y, z, w, gw.is_grad_enabled()


@gives
def detach_needs_no_mode(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    with gw.no_grad():
        d = x.detach()
        c = x.clone()
    return d, c


@gives
def the_flag_may_be_set_under_no_grad(gw: Any) -> Any:
    with gw.no_grad():
        x = gw.ones(2).requires_grad_()
    (x * 3).sum().backward()
    return x, x.grad


@gives
def grad_under_no_grad(gw: Any) -> Any:
    x = gw.tensor(2.0, requires_grad=True)
    y = x**3
    with gw.no_grad():
        (g,) = gw.autograd.grad(y, x, create_graph=True)
    return g, gw.autograd.grad(g, x)


@gives
def inference_mode_records_nothing(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    with gw.inference_mode():
        y = x * 2
        inside = gw.is_inference_mode_enabled(), gw.is_grad_enabled()
        flags = y.is_inference(), x.is_inference(), y.requires_grad, y.is_leaf
        y.add_(1)
        values = y.tolist()
    return inside, flags, values, gw.is_inference_mode_enabled(), gw.is_grad_enabled()


@gives
def inference_mode_may_be_off(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    with gw.inference_mode(False):
        y = x * 2
    with gw.inference_mode():
        with gw.inference_mode(mode=False):
            z = x * 2
            inside = gw.is_inference_mode_enabled(), gw.is_grad_enabled()
        with gw.enable_grad():
            w = x * 2
            flags = w.requires_grad, w.is_inference(), gw.is_grad_enabled()
    return y, z, inside, flags


@gives
def an_inference_tensor_may_be_used_without_being_saved(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    with gw.inference_mode():
        c = gw.tensor([3.0, 4.0])
    y = x + c
    y.sum().backward()
    doubled = c * 2
    copied = c.clone()
    return y, x.grad, doubled, copied, copied.is_inference(), doubled.is_inference()


@gives
def a_clone_of_an_inference_tensor_may_be_saved(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    with gw.inference_mode():
        c = gw.tensor([3.0, 4.0])
    (x * c.clone()).sum().backward()
    return x.grad


@gives
def a_normal_tensor_may_change_in_inference_mode(gw: Any) -> Any:
    x = gw.zeros(2)
    with gw.inference_mode():
        x.add_(1)
        view = x[:1]
        view.mul_(5)
    return x, x._version, x.is_inference(), view.is_inference()


@gives
def views_of_inference_tensors(gw: Any) -> Any:
    with gw.inference_mode():
        x = gw.zeros(2, 2)
        inside = x[0]
    outside = x[0]
    return inside.is_inference(), outside.is_inference(), x.detach().is_inference()


@gives
def gradients_made_in_inference_mode(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    with gw.inference_mode():
        y.backward(retain_graph=True)
        y.backward(retain_graph=True)
        (g,) = gw.autograd.grad(y, x, retain_graph=True)
        (h,) = gw.autograd.grad(y, x, create_graph=True)
    kept = x.grad
    x.grad = None
    y.backward()
    return (
        kept.tolist(), kept.is_inference(), x.grad, x.grad.is_inference(), g.is_inference(),
        h.is_inference(), h.requires_grad, h.tolist(),
    )  # fmt: skip


@refuses("INFERENCE_TENSOR", "clone()")
def a_backward_into_a_grad_made_in_inference_mode(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    with gw.inference_mode():
        y.backward(retain_graph=True)
    y.backward()


@gives
def anomaly_mode_says_that_it_is_on(gw: Any) -> Any:
    def flags() -> Any:
        return gw.is_anomaly_enabled(), gw.is_anomaly_check_nan_enabled()

    found = [flags()[0]]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with gw.autograd.detect_anomaly():
            found.append(flags())
            with gw.autograd.set_detect_anomaly(False):
                found.append(flags()[0])
            with gw.autograd.detect_anomaly(check_nan=False):
                found.append(flags())
            found.append(flags())
        with gw.autograd.set_detect_anomaly(True, check_nan=False):
            found.append(flags())
        found.append(flags()[0])
    return found, category_of(caught)


@gives
def anomaly_mode_may_let_nan_pass(gw: Any) -> Any:
    x = gw.tensor([-1.0], requires_grad=True)
    with gw.autograd.detect_anomaly(check_nan=False):
        x.sqrt().backward()
    return x.grad


@refuses("NO_GRAPH", "requires_grad=True")
def backward_of_what_was_made_under_no_grad(gw: Any) -> Any:
    x = gw.ones(1, requires_grad=True)
    with gw.no_grad():
        y = x * 2
    y.backward()


@refuses("INFERENCE_TENSOR", "clone()")
def an_inference_tensor_saved_for_backward(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    with gw.inference_mode():
        c = gw.tensor([3.0, 4.0])
    x * c


@refuses("INFERENCE_TENSOR", "clone()")
def an_inference_tensor_changed_outside(gw: Any) -> Any:
    with gw.inference_mode():
        c = gw.tensor([3.0, 4.0])
    c.add_(1)


@refuses("INFERENCE_TENSOR", "clone()")
def a_view_of_an_inference_tensor_changed_outside(gw: Any) -> Any:
    with gw.inference_mode():
        c = gw.tensor([3.0, 4.0])
    c[0] = 5


@refuses("INFERENCE_TENSOR", "clone()")
def the_version_of_an_inference_tensor(gw: Any) -> Any:
    with gw.inference_mode():
        c = gw.ones(2) * 2
    c._version  # noqa: B018 (reading it is what is refused)


@refuses("INFERENCE_TENSOR", "clone()")
def an_inference_tensor_that_is_to_require_grad(gw: Any) -> Any:
    with gw.inference_mode():
        c = gw.ones(2)
    c.requires_grad_()


test_gives_what_torch_gives, test_refuses_as_torch_does = table.tests()


def test_modes_cost_no_round_trip(session: gradwire.Session) -> None:
    gw = gradwire
    x = gw.ones(2, requires_grad=True)
    session.synchronize()
    before = session.traffic
    for mode in (gw.no_grad(), gw.enable_grad(), gw.set_grad_enabled(False), gw.inference_mode()):
        with mode:
            y = x * 2
    gw.set_grad_enabled(True)
    assert (session.traffic - before).sequences == 0
    y = x * 2
    assert y.requires_grad
    assert (session.traffic - before).sequences == 1
