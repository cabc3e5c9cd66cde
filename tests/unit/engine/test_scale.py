"""Graphs of any depth and width: no recursion, no memory left behind, no work beyond the graph."""

import sys
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from gradwire_engine import Context, EngineError, Tensor, backward, grad, operators, use

LENGTH = 200_000


@pytest.fixture
def shallow_stack() -> Iterator[None]:
    """So little stack that a recursion of some hundred calls fails."""
    limit = sys.getrecursionlimit()
    depth = len(_frames())
    sys.setrecursionlimit(depth + 200)
    yield
    sys.setrecursionlimit(limit)


def _frames() -> list[object]:
    frame = sys._getframe()
    found: list[object] = [frame]
    while frame.f_back is not None:
        frame = frame.f_back
        found.append(frame)
    return found


@pytest.mark.usefixtures("shallow_stack")
def test_a_chain_of_200_000_operators() -> None:
    x = Tensor.from_array(np.zeros(()), requires_grad=True)
    y = x
    for _ in range(LENGTH):
        y = y + 1.0
    backward([y])
    assert y.data == LENGTH
    assert x.grad is not None and x.grad.data == 1
    # Taking the chain apart recurses no more than walking it.
    del y


def test_a_chain_gives_its_memory_back() -> None:
    x = Tensor.from_array(np.zeros(()), requires_grad=True)
    exp = operators["exp"]
    neg = operators["neg"]

    def chain(length: int) -> None:
        y = x
        for _ in range(length):
            y = neg(exp(y))
        backward([y])

    # Python keeps some freed tuples for later, as many after a long chain as after a short one.
    chain(3000)
    tracemalloc.start()
    chain(3000)
    short, peak = tracemalloc.get_traced_memory()
    chain(9000)
    long, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak > 2_000_000
    assert long - short < 50_000


def test_a_diamond_chain_is_walked_once() -> None:
    """2**60 paths, 60 nodes."""
    x = Tensor.from_array(np.ones(()), requires_grad=True)
    y = x
    for _ in range(60):
        y = y + y
    backward([y])
    assert x.grad is not None and x.grad.data == 2.0**60


def test_grad_runs_only_nodes_that_lead_to_its_inputs() -> None:
    context = Context()
    with use(context):
        x = Tensor.from_array(np.ones(3), requires_grad=True)
        w = Tensor.from_array(np.ones(3), requires_grad=True)
        near = operators["exp"](x)
        far = w
        for _ in range(50):
            far = operators["exp"](far)
        total = operators["sum"](near + far)
        far_node = far.grad_fn
        grad([total], [x])
    assert far_node is not None and not far_node.released


def test_a_backward_can_be_stopped_between_nodes() -> None:
    class StoppedError(Exception):
        pass

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise StoppedError

    with use(Context(check=check)):
        y = x = Tensor.from_array(np.ones(()), requires_grad=True)
        for _ in range(20):
            y = y * 1.5
        with pytest.raises(StoppedError):
            backward([y])
    assert x.grad is None


def test_a_freed_graph_is_refused_at_any_depth() -> None:
    x = Tensor.from_array(np.ones(()), requires_grad=True)
    shared = operators["exp"](x)
    backward([shared + 1.0])
    y = shared
    for _ in range(2000):
        y = y + 1.0
    with pytest.raises(EngineError) as refusal:
        backward([y])
    assert refusal.value.reason == "GRAPH_FREED"
    assert refusal.value.metadata["grad_fn"] == "ExpBackward0"


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere NumPy may not tell what is temporary"
)
@pytest.mark.parametrize("exponent", [2, 3.5, -1])
def test_the_backward_of_a_power_takes_memory_for_its_gradient_only(exponent: float) -> None:
    x = Tensor.from_array(np.full(1_000_000, 2.0), requires_grad=True)
    root = operators["sum"](x**exponent)
    tracemalloc.start()
    (slope,) = grad([root], [x])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert slope is not None
    assert peak < 1.5 * slope.data.nbytes
    np.testing.assert_allclose(slope.data, exponent * 2.0 ** (exponent - 1))
