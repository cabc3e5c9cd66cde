"""Hooks of the user, in the SDK: PyTorch's order, values and refusals."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import gradwire as gw
import gradwire.aio
from gradwire.errors import AutogradError, GradwireError, SessionError
from tests.service.sdk import Proxy, session

__all__ = ["session"]

pytestmark = pytest.mark.usefixtures("session")


def plain(value: Any) -> Any:
    """Tensors as lists, so that what two libraries log compares."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (tuple, list)):
        return [plain(each) for each in value]
    return value.tolist()


# Each case runs on a library, logs what its hooks see, and gives what is to be compared.


def order_of_all_kinds(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([2.0], requires_grad=True)
    y = x * 3
    z = y * y
    y.register_hook(lambda g: log.append(("first", plain(g))))
    y.retain_grad()
    y.register_hook(lambda g: g * 2)
    node = y.grad_fn
    node.register_hook(lambda gi, go: log.append(("post", plain(gi), plain(go))))
    node.register_prehook(lambda go: log.append(("pre", plain(go))))
    x.register_post_accumulate_grad_hook(lambda t: log.append(("accumulated", plain(t.grad))))
    x.register_hook(lambda g: log.append(("leaf", plain(g))))
    z.backward()
    return [x.grad, y.grad]


def replacement(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x.register_hook(lambda g: g.clamp(-3.0, 3.0))
    x.register_hook(lambda g: g + 1)
    (x**2).sum().backward()
    return x.grad


def none_leaves_it(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([1.0], requires_grad=True)
    x.register_hook(lambda g: None)
    (x * 4).backward()
    return x.grad


def removal(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([1.0], requires_grad=True)
    handle = x.register_hook(lambda g: log.append("hook") or g * 10)
    (x * 2).backward()
    handle.remove()
    handle.remove()
    (x * 2).backward()
    with x.register_hook(lambda g: g * 100):
        (x * 2).backward()
    (x * 2).backward()
    return x.grad


def node_hooks_replace(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([2.0], requires_grad=True)
    w = lib.tensor([5.0], requires_grad=True)
    y = x * w
    y.grad_fn.register_prehook(lambda go: (go[0] * 2,))
    y.grad_fn.register_hook(lambda gi, go: (gi[0] + 100, gi[1]))
    y.backward()
    return [x.grad, w.grad]


def several_results(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([[1.0, 5.0], [7.0, 2.0]], requires_grad=True)
    values, _ = x.max(1)
    values.grad_fn.register_prehook(lambda go: log.append(plain(go[0])))
    values.sum().backward()
    return x.grad


def through_grad(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([3.0], requires_grad=True)
    y = x * x
    y.register_hook(lambda g: g * 5)
    x.register_hook(lambda g: log.append(plain(g)) or g + 1)
    return lib.autograd.grad(y, [x])


def on_an_input_of_grad(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([3.0], requires_grad=True)
    y = x * x
    y.register_hook(lambda g: g * 7)
    return lib.autograd.grad(y * 2, [y])


def under_create_graph(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([2.0], requires_grad=True)
    y = x**3
    y.register_hook(lambda g: g * x)
    (first,) = lib.autograd.grad(y, x, create_graph=True)
    (second,) = lib.autograd.grad(first, x)
    return [first, second]


def grad_mode_within(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([2.0], requires_grad=True)
    y = x**3
    y.register_hook(lambda g: log.append((lib.is_grad_enabled(), (g * x).requires_grad)))
    y.backward(retain_graph=True)
    y.backward(create_graph=True)
    return lib.is_grad_enabled()


def all_of_several(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([1.0, 2.0], requires_grad=True)
    w = lib.tensor([3.0], requires_grad=True)
    unused = lib.tensor([4.0], requires_grad=True)
    y = x * w
    handle = lib.autograd.graph.register_multi_grad_hook(
        (x, y, w, unused), lambda gs: log.append(plain(gs))
    )
    y.sum().backward(retain_graph=True)
    y.sum().backward(retain_graph=True)
    handle.remove()
    y.sum().backward()
    return [x.grad, w.grad]


def any_of_several(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    lib.autograd.graph.register_multi_grad_hook([x, y], lambda g: log.append(plain(g)), mode="any")
    y.sum().backward(retain_graph=True)
    (y * 2).sum().backward()
    return x.grad


def optimizer_in_backward(lib: Any, log: list[Any]) -> Any:
    w = lib.tensor([1.0, 2.0], requires_grad=True)

    def step(parameter: Any) -> None:
        with lib.no_grad():
            parameter -= 0.1 * parameter.grad
        parameter.grad = None

    w.register_post_accumulate_grad_hook(step)
    for _ in range(3):
        (w * w).sum().backward()
        log.append(w.grad is None)
    return w


def kept_for_later(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([3.0], requires_grad=True)
    kept: list[Any] = []
    x.register_hook(kept.append)
    (x * x).backward()
    return [each * 2 for each in kept]


def backward_within(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([3.0], requires_grad=True)
    w = lib.tensor([2.0], requires_grad=True)

    def inner(gradient: Any) -> Any:
        with lib.enable_grad():
            (w * w * gradient).backward()
        return w.grad * gradient

    w.register_hook(lambda g: log.append(plain(g)))
    x.register_hook(inner)
    (x * 5).backward()
    return [x.grad, w.grad]


def data_dependent(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([3.0, 4.0], requires_grad=True)

    def clip(gradient: Any) -> Any:
        norm = float((gradient * gradient).sum().sqrt())
        log.append(norm)
        return gradient * (1.0 / norm) if norm > 1 else None

    x.register_hook(clip)
    (x * x).sum().backward()
    return x.grad


def after_a_change_in_place(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    y.register_hook(lambda g: log.append(("before", plain(g))))
    y.mul_(3)
    y.register_hook(lambda g: log.append(("after", plain(g))))
    y.sum().backward()
    return x.grad


def a_new_tensor_for_a_gradient(lib: Any, log: list[Any]) -> Any:
    x = lib.tensor([1.0, 2.0], requires_grad=True)
    x.register_hook(lambda g: lib.tensor([7.0, 8.0]))
    (x * 3).sum().backward()
    return x.grad


CASES = [
    order_of_all_kinds,
    replacement,
    none_leaves_it,
    removal,
    node_hooks_replace,
    several_results,
    through_grad,
    on_an_input_of_grad,
    under_create_graph,
    grad_mode_within,
    all_of_several,
    any_of_several,
    optimizer_in_backward,
    kept_for_later,
    backward_within,
    data_dependent,
    after_a_change_in_place,
    a_new_tensor_for_a_gradient,
]


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_hooks_do_what_they_do_in_pytorch(case: Callable[[Any, list[Any]], Any]) -> None:
    ours: list[Any] = []
    theirs: list[Any] = []
    given, expected = case(gw, ours), case(torch, theirs)
    assert ours == theirs
    assert plain(given) == plain(expected)


def wrong_shape(lib: Any) -> None:
    x = lib.tensor([1.0, 2.0], requires_grad=True)
    x.register_hook(lambda g: g[:1])
    (x * 2).sum().backward()
    # A hook of operators alone runs on the server, and is not waited for.
    lib.zeros(1).item()


def wrong_dtype(lib: Any) -> None:
    x = lib.tensor([1.0, 2.0], requires_grad=True)
    x.register_hook(lambda g: g.double())
    (x * 2).sum().backward()
    lib.zeros(1).item()


def too_few(lib: Any) -> None:
    x = lib.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    y.grad_fn.register_hook(lambda gi, go: (gi[0],))
    y.sum().backward()


def no_grad_needed(lib: Any) -> None:
    x = lib.tensor([1.0])
    x.register_hook(lambda g: None)
    x.item()


def no_grad_to_accumulate(lib: Any) -> None:
    x = lib.tensor([1.0])
    x.register_post_accumulate_grad_hook(lambda t: None)
    x.item()


def no_leaf(lib: Any) -> None:
    x = lib.tensor([1.0], requires_grad=True)
    y = x * 2
    y.register_post_accumulate_grad_hook(lambda t: None)
    y.detach().item()


REFUSALS = [
    (wrong_shape, "HOOK_SHAPE"),
    (wrong_dtype, "HOOK_SHAPE"),
    (too_few, "HOOK_SHAPE"),
    (no_grad_needed, "HOOK_NO_GRAD"),
    (no_grad_to_accumulate, "HOOK_NO_GRAD"),
    (no_leaf, "HOOK_NON_LEAF"),
]


@pytest.mark.parametrize(
    ("case", "reason"), REFUSALS, ids=lambda case: getattr(case, "__name__", case)
)
def test_what_a_hook_may_not_do(case: Callable[[Any], None], reason: str) -> None:
    with pytest.raises(RuntimeError):
        case(torch)
    with pytest.raises(AutogradError) as refused:
        case(gw)
    assert refused.value.reason == reason
    assert refused.value.location is not None
    assert refused.value.location.filename == __file__
    assert gw.tensor([2.0]).item() == 2.0


def test_a_hook_is_a_function() -> None:
    x = gw.tensor([1.0], requires_grad=True)
    with pytest.raises(TypeError):
        x.register_hook(3)  # type: ignore[arg-type]


def test_a_hook_returns_tensors(session: gw.Session) -> None:
    x = gw.tensor([1.0], requires_grad=True)
    handle = x.register_hook(lambda g: 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="None, or a tensor"):
        (x * 2).backward()
    handle.remove()
    (x * 2).backward()
    assert x.grad is not None and x.grad.item() == 2


def test_the_value_of_a_gradient_comes_with_the_call(session: gw.Session) -> None:
    x = gw.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    seen: list[Any] = []

    def look(gradient: gw.Tensor) -> None:
        before = session.traffic.sequences, session.traffic.sent
        seen.append((gradient.tolist(), gradient.shape, gradient.dtype, gradient.requires_grad))
        assert (session.traffic.sequences, session.traffic.sent) == before

    x.register_hook(look)
    (x * 2).sum().backward()
    assert seen == [([[2.0] * 3] * 2, (2, 3), gw.float64, False)]


def test_large_gradients_stay_on_the_server_unless_they_are_read(session: gw.Session) -> None:
    x = gw.ones(1000, 1000, dtype=gw.float64, requires_grad=True)
    handle = x.register_hook(lambda g: g * 2)
    before = session.traffic
    (x * 2).sum().backward()
    assert (session.traffic - before).received < 10_000
    handle.remove()
    seen: list[float] = []
    x.register_hook(lambda g: seen.append(float(g.numpy()[5, 5])))
    (x * 2).sum().backward()
    assert seen == [2.0]


SCALE = 2.0


def numbered(scale: float) -> Callable[[Any], Any]:
    return lambda g: g * scale


def changes(gradient: Any) -> Any:
    gradient *= 2
    return gradient


def branches(gradient: Any) -> Any:
    return gradient * 2 if SCALE else None


THERE: list[Callable[[Any], Any]] = [
    lambda g: g * 2,
    lambda g: -g.clamp(-1.5, 1.5) + 3,
    lambda g: gw.tanh(g).abs() ** 2,
    lambda g: gw.nn.functional.relu(g - 1),
    lambda g: g[0:2].square(),
    lambda g: g.to(gw.float64).float(),
]
HERE: list[Callable[[Any], Any]] = [
    lambda g: None,
    lambda g: g * SCALE,
    lambda g: g * float(g.sum()),
    lambda g: print(g),
    lambda g: g * g.shape[0],
    lambda g: g.mul_(2),
    numbered(2.0),
    changes,
    branches,
]


@pytest.mark.parametrize("hook", THERE, ids=range(len(THERE)))
def test_hooks_of_operators_alone_run_on_the_server(
    session: gw.Session, hook: Callable[[Any], Any]
) -> None:
    x = gw.tensor([2.0, -3.0], requires_grad=True)
    handle = x.register_hook(hook)
    assert not session.hooks
    before = session.traffic.sequences
    (x * x).sum().backward()
    assert session.traffic.sequences == before
    assert x.grad is not None
    assert x.grad.tolist() == hook(gw.tensor([4.0, -6.0])).tolist()
    handle.remove()
    x.grad = None
    (x * x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [4.0, -6.0]


@pytest.mark.parametrize("hook", HERE, ids=range(len(HERE)))
def test_hooks_that_do_more_run_here(session: gw.Session, hook: Callable[[Any], Any]) -> None:
    x = gw.tensor([2.0, -3.0], requires_grad=True)
    x.register_hook(hook)
    assert len(session.hooks) == 1
    (x * x).sum().backward()
    assert x.grad is not None


def test_hooks_on_the_server_are_differentiated_too() -> None:
    x = gw.tensor([2.0], requires_grad=True)
    x.register_hook(lambda g: g * g)
    (first,) = gw.autograd.grad(x**3, x, create_graph=True)
    (second,) = gw.autograd.grad(first, x)
    assert first.item() == 144
    # The hook sees the second derivative, 288, as well.
    assert second.item() == 288**2


def test_a_hook_ends_with_what_it_is_registered_on(session: gw.Session) -> None:
    x = gw.tensor([1.0], requires_grad=True)
    y = x * 2
    y.register_hook(lambda g: None)
    assert len(session.hooks) == 1
    y.backward()
    del y
    x.sum().item()
    gc.collect()
    x.sum().item()
    assert not session.hooks


def test_backward_waits_for_its_hooks(session: gw.Session) -> None:
    x = gw.tensor([1.0], requires_grad=True)
    seen: list[str] = []
    x.register_hook(lambda g: seen.append("hook"))
    (x * 2).backward()
    seen.append("after")
    assert seen == ["hook", "after"]


class MineError(Exception):
    pass


def test_the_users_own_exception_is_raised_by_backward(session: gw.Session) -> None:
    x = gw.tensor([1.0], requires_grad=True)
    error = MineError("of mine")

    def broken(gradient: gw.Tensor) -> None:
        raise error

    handle = x.register_hook(broken)
    with pytest.raises(MineError) as raised:
        (x * 2).backward()
    assert raised.value is error
    assert any(entry.name == "broken" for entry in raised.traceback)
    handle.remove()
    (x * 3).backward()
    assert x.grad is not None and x.grad.item() == 3


def test_a_step_that_fails_in_a_hook_shows_its_line(session: gw.Session) -> None:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    handle = x.register_hook(lambda g: g @ gw.ones(5))
    with pytest.raises(GradwireError) as raised:
        (x * 2).sum().backward()
    assert raised.value.reason == "SHAPE_MISMATCH"
    assert raised.value.location is not None
    assert "g @ gw.ones(5)" in raised.value.location.source
    handle.remove()

    def reads(gradient: gw.Tensor) -> None:
        with pytest.raises(GradwireError, match="shape"):
            (gradient @ gw.ones(5)).item()

    x.register_hook(reads)
    (x * 2).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 2.0]


def test_what_was_recorded_by_a_hook_that_raised_is_forgotten(session: gw.Session) -> None:
    x = gw.tensor([1.0], requires_grad=True)
    kept: list[gw.Tensor] = []

    def broken(gradient: gw.Tensor) -> None:
        kept.append(gradient + 1)
        raise MineError

    handle = x.register_hook(broken)
    with pytest.raises(MineError):
        (x * 2).backward()
    handle.remove()
    with pytest.raises(GradwireError):
        kept[0].item()
    kept.clear()
    gc.collect()
    assert (x * 2).item() == 2


def test_the_graph_cannot_be_read_within_a_hook(session: gw.Session) -> None:
    x = gw.tensor([1.0], requires_grad=True)
    y = x * 2
    y.register_hook(lambda g: print(gw.graph(y)))
    with pytest.raises(SessionError, match="before the backward"):
        y.backward()


def test_an_interrupt_in_a_hook_stops_the_backward_and_leaves_the_session(
    session: gw.Session,
) -> None:
    x = gw.tensor([1.0], requires_grad=True)

    def interrupted(gradient: gw.Tensor) -> None:
        raise KeyboardInterrupt

    handle = x.register_hook(interrupted)
    with pytest.raises(KeyboardInterrupt):
        (x * 2).backward()
    handle.remove()
    (x * 3).backward()
    assert x.grad is not None and x.grad.item() == 3


def test_other_threads_wait_their_turn(session: gw.Session) -> None:
    x = gw.tensor([1.0], requires_grad=True)
    w = gw.tensor([5.0])
    inside, seen = threading.Event(), []

    def other() -> None:
        inside.wait()
        seen.append((w * 2).item())

    def slow(gradient: gw.Tensor) -> gw.Tensor:
        inside.set()
        time.sleep(0.1)
        return gradient * w

    x.register_hook(slow)
    thread = threading.Thread(target=other)
    thread.start()
    (x * 2).backward()
    thread.join()
    assert seen == [10.0]
    assert x.grad is not None and x.grad.item() == 10


def test_a_lost_connection_fails_the_backward_and_nothing_else(address: str) -> None:
    proxy = Proxy(address)
    with gw.connect(proxy.address):
        x = gw.tensor([1.0], requires_grad=True)
        handle = x.register_hook(lambda g: proxy.cut())
        with pytest.raises(RuntimeError) as raised:
            (x * 2).backward()
        assert isinstance(raised.value, GradwireError)
        assert raised.value.reason == "HOOK_FAILED"
        handle.remove()
        (x * 3).backward()
        assert x.grad is not None and x.grad.item() == 3
    proxy.close()


async def test_hooks_of_event_loops_run_in_threads_and_may_read(address: str) -> None:
    async with gw.aio.connect(address):
        x = gw.tensor([3.0, 4.0], requires_grad=True)
        threads = []

        def clip(gradient: gw.Tensor) -> gw.Tensor:
            threads.append(threading.current_thread())
            return gradient / float((gradient * gradient).sum().sqrt())

        x.register_hook(clip)
        (x * x).sum().backward()
        found = await gw.aio.fetch(await x.get_grad())  # type: ignore[attr-defined]
        assert found.tolist() == pytest.approx([0.6, 0.8])
        assert threads != [threading.current_thread()]


async def test_hooks_of_event_loops_may_be_coroutines(address: str) -> None:
    async with gw.aio.connect(address):
        x = gw.tensor([3.0, 4.0], requires_grad=True)

        async def clip(gradient: Any) -> Any:
            return gradient / await (gradient * gradient).sum().sqrt().item()

        x.register_hook(clip)
        (x * x).sum().backward()
        found = await gw.aio.fetch(await x.get_grad())  # type: ignore[attr-defined]
        assert found.tolist() == pytest.approx([0.6, 0.8])


async def test_what_a_hook_raises_is_raised_where_the_loop_waits(address: str) -> None:
    async with gw.aio.connect(address):
        x = gw.tensor([1.0], requires_grad=True)

        def broken(gradient: gw.Tensor) -> None:
            raise MineError

        handle = x.register_hook(broken)
        (x * 2).backward()
        with pytest.raises(MineError):
            await x.get_grad()  # type: ignore[attr-defined]
        handle.remove()
        (x * 3).backward()
        assert (await gw.aio.fetch(await x.get_grad())).tolist() == [3.0]  # type: ignore[attr-defined]
