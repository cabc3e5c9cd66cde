"""What hooks, custom functions and anomaly mode refuse in the midst of a backward."""

from __future__ import annotations

import time
from typing import Any

import pytest

import gradwire
from gradwire_server.embedded import EmbeddedServer
from tests.service.sdk import session
from tests.service.semantics.table import Table

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

table = Table()
refuses = table.refuses


def leaf(gw: Any, *values: float) -> Any:
    return gw.tensor(values, requires_grad=True)


@refuses("HOOK_SHAPE", "must stay")
def a_hook_that_changes_the_shape(gw: Any) -> None:
    x = leaf(gw, 1.0, 2.0)
    x.register_hook(lambda g: (g[:1], "runs with the client")[0])
    (x * 2).sum().backward()


@refuses("HOOK_SHAPE", "must stay")
def a_hook_of_operators_alone_that_changes_the_shape(gw: Any) -> None:
    x = leaf(gw, 1.0, 2.0)
    x.register_hook(lambda g: g[:1])
    (x * 2).sum().backward()


@refuses("HOOK_SHAPE", "must stay")
def a_hook_that_changes_the_dtype(gw: Any) -> None:
    x = leaf(gw, 1.0, 2.0)
    x.register_hook(lambda g: g.double())
    (x * 2).sum().backward()


@refuses("HOOK_SHAPE", "in place of 2")
def a_node_hook_that_gives_too_few(gw: Any) -> None:
    y = leaf(gw, 1.0) * leaf(gw, 2.0)
    y.grad_fn.register_hook(lambda gi, go: (gi[0],))
    y.backward()


@refuses("HOOK_NO_GRAD", "requires grad")
def a_hook_on_what_needs_no_grad(gw: Any) -> None:
    gw.ones(2).register_hook(lambda g: None)


@refuses("HOOK_NO_GRAD", "requires grad")
def a_post_accumulate_hook_on_what_needs_no_grad(gw: Any) -> None:
    gw.ones(2).register_post_accumulate_grad_hook(lambda t: None)


@refuses("HOOK_NON_LEAF", "register_hook()")
def a_post_accumulate_hook_on_a_non_leaf(gw: Any) -> None:
    y = leaf(gw, 1.0) * 2
    y.register_post_accumulate_grad_hook(lambda t: None)


@refuses("ONCE_DIFFERENTIABLE", "take the mark away")
def the_derivative_of_what_is_differentiable_once(gw: Any) -> None:
    class Square(gw.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @gw.autograd.function.once_differentiable
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return 2 * x * g

    x = leaf(gw, 3.0)
    (g,) = gw.autograd.grad(Square.apply(x) ** 2, x, create_graph=True)
    g.backward()


@refuses("LEAF_IN_PLACE", "clone()")
def a_function_that_changes_a_leaf(gw: Any) -> None:
    class Double(gw.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)
            return x.mul_(2)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2

    Double.apply(leaf(gw, 1.0))


@refuses("GRADIENT_SHAPE", "None for those without")
def a_function_that_gives_too_few_gradients(gw: Any) -> None:
    class Product(gw.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(ctx: Any, x: Any, y: Any) -> Any:
            return x * y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    product = Product.apply(leaf(gw, 1.0), leaf(gw, 2.0)) if gw is not gradwire else None
    product.backward() if product is not None else Product.apply(leaf(gw, 1.0), leaf(gw, 2.0))


@refuses("ANOMALY", "Look at the values")
def a_nan_in_anomaly_mode(gw: Any) -> None:
    x = leaf(gw, -1.0)
    with gw.autograd.detect_anomaly():
        x.sqrt().backward()


_, test_refuses_as_torch_does = table.tests()


def test_hook_failed_is_for_functions_that_do_not_answer() -> None:
    # PyTorch has no such thing: its functions are never far away.
    with (
        EmbeddedServer.start(address="127.0.0.1:0", hook_seconds=0.2) as server,
        gradwire.connect(server.address),
    ):
        x = leaf(gradwire, 1.0)
        handle = x.register_hook(lambda g: time.sleep(0.6))
        with pytest.raises(RuntimeError) as caught:
            (x * 2).backward()
        handle.remove()
        ours = caught.value
        assert isinstance(ours, gradwire.GradwireError)
        assert (ours.reason, ours.code) == ("HOOK_FAILED", "ABORTED")
        assert "hook_seconds" in str(ours)
        assert ours.location is not None
        assert ours.location.source == "(x * 2).backward()"
        (x * 3).backward()
        assert x.grad is not None
        assert x.grad.item() == 3.0
