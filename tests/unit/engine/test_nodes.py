"""Nodes: names that surprise, what follows what, and the order in which they run, as in torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradwire_engine import Tensor, backward, operators
from tests.unit.engine.sides import Side, same

GRAPHS: dict[str, Callable[[Side, Any], Any]] = {
    "1 - x": lambda m, x: 1 - x,
    "x - 1": lambda m, x: x - 1,
    "x - y": lambda m, x: x - m.tensor(1.0),
    "2 / x": lambda m, x: 2 / x,
    "x / 2": lambda m, x: x / 2,
    "-x": lambda m, x: -x,
    "x ** 2": lambda m, x: x**2,
    "x ** y": lambda m, x: x ** m.tensor([2.0], grad=True),
    "2 ** x": lambda m, x: 2**x,
    "x * 2": lambda m, x: x * 2,
    "2 * x": lambda m, x: 2 * x,
    "x @ x": lambda m, x: x @ m.tensor([[1.0, 2.0], [3.0, 4.0]]),
    "square": lambda m, x: m.square(x),
    "sum": lambda m, x: m.sum(x),
    "sum over a dimension": lambda m, x: m.sum(x, 1),
    "mean": lambda m, x: m.mean(x),
    "mean over a dimension": lambda m, x: m.mean(x, 0),
    "max": lambda m, x: m.max(x),
    "max over a dimension": lambda m, x: m.max__dim(x, 1)[0],
    "amax": lambda m, x: m.amax(x, (1,)),
    "prod": lambda m, x: m.prod(x),
    "prod over a dimension": lambda m, x: m.prod(x, 1),
    "var": lambda m, x: m.var(x),
    "norm": lambda m, x: m.norm(x),
    "t": lambda m, x: m.t(x),
    "permute": lambda m, x: m.permute(x, (1, 0)),
    "transpose": lambda m, x: m.transpose(x, 0, 1),
    "view": lambda m, x: m.view(x, (4,)),
    "reshape": lambda m, x: m.reshape(x, (4,)),
    "reshape of a transpose": lambda m, x: m.reshape(m.t(x), (4,)),
    "flatten": lambda m, x: m.flatten(x),
    "expand": lambda m, x: m.expand(x, (3, 2, 2)),
    "squeeze": lambda m, x: m.squeeze(m.unsqueeze(x, 0)),
    "squeeze one": lambda m, x: m.squeeze(m.unsqueeze(x, 0), 0),
    "squeeze two": lambda m, x: m.squeeze(m.unsqueeze(x, 0), (0, 1)),
    "select": lambda m, x: m.select(x, 0, 1),
    "narrow": lambda m, x: m.narrow(x, 0, 0, 1),
    "chunk": lambda m, x: m.chunk(x, 2)[1],
    "split by sizes": lambda m, x: m.split_with_sizes(x, [1, 1])[0],
    "unbind": lambda m, x: m.unbind(x)[1],
    "cat": lambda m, x: m.cat([x, m.tensor([[1.0, 2.0]])]),
    "stack": lambda m, x: m.stack([x, x]),
    "matmul, batched": lambda m, x: m.matmul(m.stack([x, x]), m.stack([x, x])),
    "matmul with a vector": lambda m, x: m.matmul(x, m.tensor([1.0, 2.0], grad=True)),
    "linear": lambda m, x: m.linear(x, m.tensor([[1.0, 2.0]], grad=True)),
    "linear with a bias": lambda m, x: m.linear(
        x, m.tensor([[1.0, 2.0]], grad=True), m.tensor([1.0], grad=True)
    ),
    "softmax": lambda m, x: m.softmax(x, 1),
    "log_softmax": lambda m, x: m.log_softmax(x, 1),
    "cross_entropy": lambda m, x: m.cross_entropy(x, m.tensor([0, 1], dtype="int64")),
    "mse_loss": lambda m, x: m.mse_loss(x, m.tensor([[0.0, 1.0], [1.0, 0.0]])),
    "layer_norm": lambda m, x: m.layer_norm(x, (2,)),
    "gelu": lambda m, x: m.gelu(x),
    "where": lambda m, x: m.where(m.gt(x, 1.0), x, 0.0),
    "clamp": lambda m, x: m.clamp(x, 0.0, 1.0),
    "clamp by a tensor": lambda m, x: m.clamp(x, m.tensor(0.0)),
    "masked_fill": lambda m, x: m.masked_fill(x, m.gt(x, 1.0), 0.0),
    "log1p": lambda m, x: m.log1p(x),
    "floor": lambda m, x: m.floor(x),
    "div, rounded": lambda m, x: m.div(x, 2.0, rounding_mode="floor"),
    "real of a real": lambda m, x: m.exp(m.real(x)),
    "one operand twice": lambda m, x: x * x + x,
}


@pytest.mark.parametrize("make", GRAPHS.values(), ids=GRAPHS)
def test_graphs(make: Callable[[Side, Any], Any]) -> None:
    def case(m: Side) -> Any:
        y = make(m, m.tensor([[1.0, 2.0], [3.0, 4.0]], grad=True))
        return [m.array(y), m.names(y)]

    same(case)


def test_outputs_of_one_node() -> None:
    def case(m: Side) -> Any:
        x = m.tensor([[3.0, 1.0], [2.0, 5.0]], grad=True)
        first, second = m.unbind(x)
        return [
            first.grad_fn is second.grad_fn,
            [first.output_nr, second.output_nr],
            [nr for _, nr in m.add(first, second).grad_fn.next_functions],
        ]

    same(case)


def test_what_does_not_require_grad_is_nothing_and_zero() -> None:
    x = Tensor.from_array(np.ones(2), requires_grad=True)
    node = (Tensor(np.ones(2)) * x).grad_fn
    assert node is not None
    assert node.next_functions[0] == (None, 0)
    after, nr = node.next_functions[1]
    assert (after and after.name, nr) == ("AccumulateGrad", 0)
    assert after is not None and after.variable is x


def test_attributes_are_the_plain_arguments_that_differ_from_defaults() -> None:
    x = Tensor.from_array(np.ones((2, 3)), requires_grad=True)
    node = operators["sum"](x, (1,)).grad_fn
    assert node.attributes == {"dim": (1,)}
    assert repr(node) == "<SumBackward1>"
    assert operators["add"](x, x, alpha=2).grad_fn.attributes == {"alpha": 2}
    assert operators["exp"](x).grad_fn.attributes == {}


def test_sequence_numbers_rise_in_order_of_recording() -> None:
    x = Tensor.from_array(np.ones(2), requires_grad=True)
    y = x * 2
    z = y * 3
    assert y.grad_fn is not None and z.grad_fn is not None
    assert y.grad_fn.sequence_number < z.grad_fn.sequence_number


def test_a_freed_node_says_so() -> None:
    x = Tensor.from_array(np.ones(()), requires_grad=True)
    y = operators["exp"](x)
    assert not y.grad_fn.released
    backward([y])
    assert y.grad_fn.released


def test_later_nodes_run_first_and_leaves_at_once() -> None:
    def case(m: Side) -> Any:
        order: list[str] = []
        x, w = m.tensor(1.0, grad=True), m.tensor(2.0, grad=True)
        a = m.exp(x)
        b = m.sin(w)
        c = m.cos(a)
        total = m.add(c, b)
        for name, each in {"x": x, "w": w, "a": a, "b": b, "c": c}.items():
            watch(each, name, order)
        m.backward(total)
        return order

    same(case)


def watch(tensor: Any, name: str, order: list[str]) -> None:
    """Note when a gradient arrives."""
    from gradwire_engine.hooks import register_hook

    def hook(gradient: Any) -> None:
        order.append(name)

    if isinstance(tensor, Tensor):
        register_hook(tensor, hook)
    else:
        tensor.register_hook(hook)
