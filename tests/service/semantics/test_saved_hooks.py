"""Saved-tensor hooks: what is packed, when, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import gradwire
from tests.service.sdk import session
from tests.service.semantics.table import Table

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

table = Table()
gives, refuses = table.gives, table.refuses


def logged(gw: Any, log: list[Any], name: str = "") -> Any:
    """Hooks that keep what they are given, and say what that was."""

    def pack(tensor: Any) -> Any:
        log.append((f"{name}pack", tensor.tolist(), gw.is_grad_enabled()))
        return tensor

    def unpack(packed: Any) -> Any:
        log.append((f"{name}unpack", gw.is_grad_enabled()))
        return packed

    return gw.autograd.graph.saved_tensors_hooks(pack, unpack)


def leaf(gw: Any, *values: float) -> Any:
    return gw.tensor(values, requires_grad=True)


@gives
def each_saved_tensor_is_packed_once(gw: Any) -> Any:
    log: list[Any] = []
    x = leaf(gw, 2.0)
    with logged(gw, log):
        y = x * x
        z = y.exp()
        w = (z * 0.1) ** x
        v = w.sin()
    packed = len(log)
    v.backward()
    return log[:packed], log[packed:], x.grad


@gives
def what_operators_of_all_kinds_keep(gw: Any) -> Any:
    a, b = leaf(gw, 1.0, 2.0), leaf(gw, 3.0, 4.0)
    m = gw.tensor([[5.0, 6.0], [7.0, 8.0]], requires_grad=True)
    f = gw.nn.functional
    found = []
    for make in (
        lambda: a / b, lambda: gw.where(a > 1, a, b), lambda: m.softmax(1), lambda: a.prod(),
        lambda: m @ a, lambda: a.norm(), lambda: gw.cat([a, b]), lambda: gw.addmm(a, m, m),
        lambda: a + b, lambda: a * 2, lambda: a.sum(), lambda: a.sigmoid(), lambda: m[0],
        lambda: f.mse_loss(a, b), lambda: a.abs(), lambda: gw.bmm(m[None], m[None]),
    ):  # fmt: skip
        log: list[Any] = []
        with logged(gw, log):
            make()
        found.append([values for _, values, _ in log])
    return found


@gives
def what_needs_no_grad_is_not_packed(gw: Any) -> Any:
    log: list[Any] = []
    x, c = leaf(gw, 2.0), gw.tensor([3.0])
    with logged(gw, log):
        with gw.no_grad():
            x.exp()
        with gw.inference_mode():
            x.exp()
        c.exp()
        y = x * c
        with gw.no_grad(), gw.enable_grad():
            z = x.exp()
    y.backward()
    return log, z


@gives
def the_innermost_hooks_count(gw: Any) -> Any:
    log: list[Any] = []
    x = leaf(gw, 0.5)
    with logged(gw, log, "outer "):
        with logged(gw, log, "inner "):
            y = x.exp()
        z = y.exp()
    z.sin().backward()
    return log, x.grad


@gives
def a_pair_may_be_entered_again(gw: Any) -> Any:
    log: list[Any] = []
    x = leaf(gw, 0.5)
    pair = logged(gw, log)
    entered = []
    with pair as it:
        x.exp()
        entered.append(it)
        with pair:
            x.exp()
    x.exp()
    with pair:
        x.exp()
    return log, entered


@gives
def a_scope_ends_with_an_exception(gw: Any) -> Any:
    log: list[Any] = []
    x = leaf(gw, 0.5)
    with pytest.raises(KeyError), logged(gw, log):
        raise KeyError
    x.exp()
    return log


@gives
def anything_may_be_kept(gw: Any) -> Any:
    x = leaf(gw, 1.0, 2.0)
    shelf: dict[str, Any] = {}

    def pack(tensor: Any) -> str:
        shelf[f"shelf {len(shelf)}"] = tensor.tolist()
        return f"shelf {len(shelf) - 1}"

    with gw.autograd.graph.saved_tensors_hooks(pack, lambda name: gw.tensor(shelf[name])):
        y = (x.exp() * x).sum()
    y.backward()
    return sorted(shelf), x.grad


@gives
def what_is_unpacked_is_what_the_rules_see(gw: Any) -> Any:
    x = leaf(gw, 1.0, 2.0)
    with gw.autograd.graph.saved_tensors_hooks(lambda t: t * 10, lambda t: t + 1):
        y = x * x
    y.sum().backward()
    return x.grad


@gives
def a_lower_precision_is_kept(gw: Any) -> Any:
    x = leaf(gw, 1.0001, 2.0)
    with gw.autograd.graph.saved_tensors_hooks(lambda t: t.half(), lambda t: t.float()):
        y = (x * x).sum()
    y.backward()
    return x.grad


@gives
def changes_in_place_go_unnoticed(gw: Any) -> Any:
    x = leaf(gw, 2.0)
    log: list[Any] = []
    with logged(gw, log):
        y = x.exp()
    y.mul_(3)
    y.backward()
    return x.grad


@gives
def a_copy_keeps_the_value_of_then(gw: Any) -> Any:
    x = leaf(gw, 2.0)
    with gw.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        y = x.exp()
    y.mul_(3)
    y.backward()
    return x.grad


@gives
def a_graph_that_is_kept_is_unpacked_each_time(gw: Any) -> Any:
    log: list[Any] = []
    x = leaf(gw, 0.5)
    with logged(gw, log):
        y = x.exp()
    y.backward(retain_graph=True)
    y.backward()
    return log, x.grad


@gives
def higher_derivatives(gw: Any) -> Any:
    log: list[Any] = []
    x = leaf(gw, 2.0)
    with logged(gw, log):
        (first,) = gw.autograd.grad(x**3, x, create_graph=True)
    (second,) = gw.autograd.grad(first, x, create_graph=True)
    (third,) = gw.autograd.grad(second, x)
    return log, first, second, third


@gives
def a_backward_outside_records_without_hooks(gw: Any) -> Any:
    log: list[Any] = []
    x = leaf(gw, 2.0)
    with logged(gw, log):
        y = x**3
    (first,) = gw.autograd.grad(y, x, create_graph=True)
    first.backward()
    return log, x.grad


@gives
def writing_through_views(gw: Any) -> Any:
    log: list[Any] = []
    base, w = gw.zeros(3), leaf(gw, 0.5, 0.25)
    with logged(gw, log):
        view = base[:2]
        view.copy_(w)
        view.mul_(w)
        view.exp_()
        base.sin_()
    base.sum().backward()
    return log, base.grad_fn.name(), w.grad


@gives
def with_hooks_of_other_kinds(gw: Any) -> Any:
    log: list[Any] = []
    x = leaf(gw, 0.5)
    with logged(gw, log):
        y = x.exp()
    y.register_hook(lambda g: log.append(("tensor", g.tolist())))
    y.grad_fn.register_prehook(lambda gs: log.append(("pre", gs[0].tolist())))
    y.grad_fn.register_hook(lambda gi, go: log.append(("post", gi[0].tolist())))
    y.backward()
    return log


@gives
def saved_attributes_are_unpacked(gw: Any) -> Any:
    x = leaf(gw, 2.0)
    with gw.autograd.graph.saved_tensors_hooks(lambda t: t.tolist(), lambda v: gw.tensor(v) + 1):
        y, z = x.exp(), x * 2 + x * x
    square = z.grad_fn.next_functions[1][0]
    result = y.grad_fn._saved_result.tolist()
    y.backward()
    return result, square._saved_self.tolist(), square._saved_other.tolist()


@gives
def a_custom_function(gw: Any) -> Any:
    log: list[Any] = []

    class Exp(gw.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = x.exp()
            ctx.save_for_backward(y, None, x)
            return y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            y, nothing, _ = ctx.saved_tensors
            assert nothing is None
            return g * y

    x = leaf(gw, 0.5)
    with logged(gw, log):
        y = Exp.apply(x)
    y.backward()
    return log, x.grad


@gives
def in_anomaly_mode(gw: Any) -> Any:
    log: list[Any] = []
    x = leaf(gw, 4.0)
    with gw.autograd.detect_anomaly():
        with logged(gw, log):
            y = x.sqrt()
        y.backward()
    return log, x.grad


@gives
def hooks_may_be_disabled(gw: Any) -> Any:
    log: list[Any] = []
    x = leaf(gw, 0.5)
    disable = gw.autograd.graph.disable_saved_tensors_hooks
    with disable("not here"), disable("nor here"):
        x.exp()
    with logged(gw, log):
        x.exp()
    return log


@refuses("HOOK_IN_PLACE", "clone()")
def a_pack_hook_that_changes_its_tensor(gw: Any) -> None:
    x = leaf(gw, 2.0)
    with gw.autograd.graph.saved_tensors_hooks(lambda t: t.mul_(2), lambda t: t):
        x.exp()


@refuses("HOOK_IN_PLACE", "clone()")
def a_pack_hook_that_changes_its_tensor_and_looks(gw: Any) -> None:
    def pack(tensor: Any) -> Any:
        tensor.mul_(2)
        return tensor.tolist()

    y = leaf(gw, 2.0) * 2
    pair = gw.autograd.graph.saved_tensors_hooks(pack, lambda t: t)
    pair.__enter__()
    try:
        y.exp() if gw is not gradwire else (y.exp(), gradwire.ones(1).item())
    finally:
        pair.__exit__(KeyError, KeyError(), None)


@refuses("HOOKS_DISABLED", "use clones")
def hooks_where_they_are_disabled(gw: Any) -> None:
    with gw.autograd.graph.disable_saved_tensors_hooks("use clones"):
        logged(gw, []).__enter__()


@refuses("HOOKS_DISABLED", "use clones")
def disabling_within_hooks(gw: Any) -> None:
    with logged(gw, []):
        gw.autograd.graph.disable_saved_tensors_hooks("use clones").__enter__()


@refuses("HOOKS_DISABLED", "use clones")
def hooks_in_a_function_that_disables_them(gw: Any) -> None:
    @gw.autograd.graph.disable_saved_tensors_hooks("use clones")
    def inner() -> None:
        logged(gw, []).__enter__()

    inner()


test_gives_what_torch_gives, test_refuses_as_torch_does = table.tests()


def no_tensor(gw: Any) -> None:
    x = leaf(gw, 2.0)
    with gw.autograd.graph.saved_tensors_hooks(lambda t: 3, lambda kept: kept):
        y = x.exp()
    y.backward()


def no_function(gw: Any) -> None:
    with gw.autograd.graph.saved_tensors_hooks(3, lambda t: t):
        pass


def an_exception_while_packing(gw: Any) -> None:
    x = leaf(gw, 2.0)
    with gw.autograd.graph.saved_tensors_hooks(lambda t: {}["nothing"], lambda t: t):
        x.exp()


def an_exception_while_unpacking(gw: Any) -> None:
    x = leaf(gw, 2.0)
    with gw.autograd.graph.saved_tensors_hooks(lambda t: {}, lambda kept: kept["nothing"]):
        y = x.exp()
    y.backward()


@pytest.mark.parametrize(
    ("case", "error"),
    [
        (no_tensor, TypeError),
        (no_function, TypeError),
        (an_exception_while_packing, KeyError),
        (an_exception_while_unpacking, KeyError),
    ],
)
def test_a_function_that_fails_raises_what_it_raises_in_torch(
    case: Callable[[Any], None], error: type[Exception], session: gradwire.Session
) -> None:
    import torch

    for library in (torch, gradwire):
        with pytest.raises(error):
            case(library)
    assert gradwire.tensor([1.0]).add(1).item() == 2.0


@pytest.mark.parametrize("gives", [lambda t: t.double(), lambda t: gradwire.cat([t, t])])
def test_what_is_unpacked_has_the_shape_and_dtype_of_what_was_packed(
    gives: Callable[[Any], Any], session: gradwire.Session
) -> None:
    x = leaf(gradwire, 2.0)
    for unpack in (gives, lambda t: (gives(t), "runs here")[0]):
        with gradwire.autograd.graph.saved_tensors_hooks(lambda t: t, unpack):
            y = x.exp()
        with pytest.raises(RuntimeError, match=r"float32\[1\]") as caught:
            y.backward() or session.synchronize()
        assert getattr(caught.value, "reason", "") == "HOOK_SHAPE"
        assert x.grad is None


def test_a_step_whose_pack_hook_fails_has_not_happened(session: gradwire.Session) -> None:
    y = leaf(gradwire, 2.0) * 1
    with (
        pytest.raises(KeyError),
        gradwire.autograd.graph.saved_tensors_hooks(lambda t: {}[t.tolist()[0]], lambda t: t),
    ):
        y.exp_()
    assert (y.tolist(), y._version) == ([2.0], 0)
    assert y.grad_fn is not None
    assert y.grad_fn.name() == "MulBackward0"


def test_save_on_cpu_keeps_a_copy(session: gradwire.Session) -> None:
    x = leaf(gradwire, 2.0)
    with gradwire.autograd.graph.save_on_cpu(pin_memory=True):
        y = x.exp()
    value = y.item()
    y.mul_(3)
    y.backward()
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(3 * value)
