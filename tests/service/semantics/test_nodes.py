"""Nodes of the graph: names, edges, order."""

from __future__ import annotations

from typing import Any

import pytest

import gradwire
from tests.service.sdk import session
from tests.service.semantics.table import Table, chain, name_of

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

table = Table()
gives = table.gives


def edges(node: Any) -> Any:
    return [(name_of(each), nr) for each, nr in node.next_functions]


@gives
def names_that_surprise(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    results = (
        1 - x, 2 / x, x**2, x.square(), x**x, 2**x, x.sum(), x.sum(0), x.mean(), x.mean(0),
        x.max(), x.max(0).values, x.min(), x.min(0)[0], x.norm(), x.prod(), x.prod(0),
    )  # fmt: skip
    return [chain(each.grad_fn) for each in results]


@gives
def names_of_matrix_operators(gw: Any) -> Any:
    m = gw.ones(2, 2, requires_grad=True)
    b = gw.ones(3, 2, 2, requires_grad=True)
    v = gw.ones(2, requires_grad=True)
    linear = gw.nn.functional.linear
    results = (
        m.t(), m.T, m.mT, m.H, m.mH, m.adjoint(),
        m @ m, m @ v, v @ m, v @ v, b @ b, b @ m, b @ v, gw.bmm(b, b),
        linear(m, m), linear(m, m, v), linear(b, m, v), linear(b, m), gw.addmm(v, m, m),
        gw.matmul(m, b), gw.mv(m, v), gw.dot(v, v), gw.mm(m, m),
    )  # fmt: skip
    return [chain(each.grad_fn) for each in results]


@gives
def names_of_elementwise_operators(gw: Any) -> Any:
    x = gw.tensor([0.5, 0.7], requires_grad=True)
    f = gw.nn.functional
    results = (
        x + 1, x + x, x - 1, x - x, x * 2, x * x, x / 2, x / x, -x, abs(x), x.exp(), x.log(),
        x.sin(), x.cos(), x.tanh(), x.sigmoid(), x.relu(), x.sqrt(), x.rsqrt(), x.reciprocal(),
        f.leaky_relu(x), f.gelu(x), f.silu(x), x.clamp(0.0, 1.0), x.clamp(min=0.6),
        gw.maximum(x, x), gw.minimum(x, x), gw.where(x > 0.6, x, 0.0), gw.where(x > 0.6, x, x),
        x.masked_fill(x > 0.6, 0.0), x.masked_fill(x > 0.6, x.sum()), x.clone(), x.double(),
        x.softmax(0), x.log_softmax(0), x.logsumexp(0), x.var(), x.std(0), x.amax(0), x.amin(),
        x.float() * 1, gw.pow(2, x), gw.sub(x, x, alpha=2), x.expand(2, 2), gw.rsub(x, 3),
    )  # fmt: skip
    return [chain(each.grad_fn) for each in results]


@gives
def names_of_losses_and_layers(gw: Any) -> Any:
    x = gw.tensor([[0.5, 0.7], [0.1, 0.2]], requires_grad=True)
    f = gw.nn.functional
    target = gw.tensor([0, 1])
    results = (
        f.mse_loss(x, gw.zeros(2, 2)), f.nll_loss(f.log_softmax(x, 1), target),
        f.cross_entropy(x, target), f.layer_norm(x, (2,)), f.embedding(target, x),
        f.softmax(x, dim=-1), f.linear(x, x), f.layer_norm(x, (2,), gw.ones(2), gw.zeros(2)),
    )  # fmt: skip
    return [chain(each.grad_fn) for each in results]


@gives
def names_of_transforms_and_of_dropout(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    f = gw.nn.functional
    spectrum = gw.fft.rfft(x)
    results = (
        f.dropout(x, 0.5), f.dropout(x, 0.5, training=False), gw.fft.fft(x), spectrum,
        gw.fft.irfft(spectrum), gw.fft.ifft(spectrum), x.cumprod(0), x.sort()[0], f.pad(x, (1, 1)),
        f.pad(x[None, None], (1, 1), mode="reflect"), f.pad(x[None], (1, 1), mode="replicate"),
    )  # fmt: skip
    return [chain(each.grad_fn) for each in results]


@gives
def names_of_indexing_and_joining(gw: Any) -> Any:
    x = gw.arange(6.0).reshape(2, 3).clone().requires_grad_()
    results = (
        x[0], x[0, 1], x[:, 1], x[None], x[..., 0], x[[0, 1]], x[x > 2], x[0:1, 1:], x[:],
        gw.cat([x, x]), gw.stack([x, x]), x.flatten(), x.view(3, 2), x.reshape(3, 2),
        x.permute(1, 0), x.squeeze(), x.unsqueeze(1), x.split(1)[1], x.chunk(3, 1)[0],
        x.unbind(1)[2], x.expand(2, 2, 3), x[:, [0, 1]], x[gw.tensor([True, False])],
    )  # fmt: skip
    return [chain(each.grad_fn) for each in results]


@gives
def edges_of_what_needs_no_grad(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    c = gw.ones(2)
    return [
        edges(each.grad_fn)
        for each in (x + c, c + x, c * x, x + 1, gw.cat([c, x, x * 2]), gw.where(c > 0, x, c))
    ]


@gives
def edges_to_a_later_result(gw: Any) -> Any:
    x = gw.ones(4, requires_grad=True)
    first, second = x.split(2)
    values, _ = x.view(2, 2).max(1)
    return edges((second * 2).grad_fn), edges((first + second).grad_fn), edges(values.grad_fn)


@gives
def the_same_node_seen_twice(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    y = x * 2
    z = y + y
    (one, _), (other, _) = z.grad_fn.next_functions
    first, second = y.split(1)
    return (
        one == other, one == y.grad_fn, hash(one) == hash(other), one == z.grad_fn,
        first.grad_fn == second.grad_fn, y.grad_fn == y.grad_fn, z.grad_fn != one,
    )  # fmt: skip


@gives
def the_leaf_of_an_accumulation(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    y = x * 2
    node = y.grad_fn.next_functions[0][0]
    return name_of(node), node.variable is x, node.next_functions, x.grad_fn


@gives
def metadata_is_empty_and_may_be_written(gw: Any) -> Any:
    y = gw.ones(2, requires_grad=True) * 2
    return y.grad_fn.metadata


@gives
def numbers_rise_in_order_of_recording(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    a = x * 2
    b = x * 3
    c = b + a
    leaf = a.grad_fn.next_functions[0][0]
    numbers = [each.grad_fn._sequence_nr() for each in (a, b, c)]
    return numbers == sorted(numbers), leaf._sequence_nr() > max(numbers)


@gives
def numbers_that_were_given_for_tensors(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    nodes = [each.grad_fn for each in (x * 2, x * 2.0, 3 * x, x * True, x / 2, x / 4.0)]
    c = gw.tensor(2.0)
    return (
        [(each._saved_other, each._saved_self) for each in nodes],
        (x * c).grad_fn._saved_other, (x**2).grad_fn._saved_exponent,
        (2**x).grad_fn._saved_self, (x + 2).grad_fn._saved_alpha,
    )  # fmt: skip


@gives
def a_tensor_that_moves_on_keeps_its_old_nodes(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    y = x * 2
    z = y.exp()
    y.add_(1)
    return chain(y.grad_fn), chain(z.grad_fn)


@gives
def a_graph_ends_where_it_is_detached(gw: Any) -> Any:
    x = gw.ones(2, requires_grad=True)
    y = (x * 2).detach()
    z = y.requires_grad_() + 1
    return chain(z.grad_fn)


test_gives_what_torch_gives, _ = table.tests()


def test_a_graph_prints_its_nodes(session: gradwire.Session) -> None:
    x = gradwire.ones(2, requires_grad=True)
    text = str(gradwire.graph((x * 2).sum()))
    assert "SumBackward0" in text and "MulBackward0" in text
