"""The facts of the tutorial on computation graphs, over the bare wire."""

from __future__ import annotations

import numpy as np
import pytest

from gradwire.v1 import autograd_pb2 as pb
from tests.service.harness import (
    Client,
    backward,
    fetch,
    get_grad,
    op,
    put,
    sequence,
)

X, Z, Y, G, V, W, T, LOSS = range(1, 9)


def forward(client: Client, *, requires_grad: bool = True) -> None:
    """Z = x + 2; y = z ** 2, from x = 3."""
    client.run(
        put(X, [3.0], requires_grad=requires_grad),
        op("add", [X], Z, other=2),
        op("pow", [Z], Y, exponent=2),
    )


def test_the_graph_is_acyclic_and_its_edges_are_the_flow_of_data(client: Client) -> None:
    forward(client)
    graph = client.stub.GetGraph(pb.GetGraphRequest(session_id=client.id, tensors=[Y]))
    numbers = [node.id for node in graph.nodes]
    for node in graph.nodes:
        assert all(edge.id < node.id for edge in node.next if edge.id)
    power, add, leaf = graph.nodes
    assert [edge.id for edge in power.next] == [add.id]
    assert add.next[0].id == leaf.id
    assert leaf.variable == X
    assert len(set(numbers)) == 3


@pytest.mark.parametrize(("start", "name"), [(3.0, "PowBackward0"), (-3.0, "NegBackward0")])
def test_the_graph_is_rebuilt_on_every_forward_pass(
    client: Client, start: float, name: str
) -> None:
    client.run(put(X, [start], requires_grad=True))
    (x,) = client.values(X)
    # An ordinary conditional of the client shapes the graph.
    client.run(op("pow", [X], Y, exponent=2) if x[0] > 0 else op("neg", [X], Y))
    assert client.info(Y).grad_fn.name == name


def test_forward_and_backward_give_the_tutorials_numbers(client: Client) -> None:
    forward(client)
    x, y, g = client.run(backward(Y), get_grad(X, G), fetch(X, Y, G))
    assert (x.value, y.value, g.value) == ([3.0], [25.0], [10.0])


def test_each_tensor_knows_the_function_that_made_it_and_a_leaf_has_none(client: Client) -> None:
    forward(client)
    y, z, x = client.info(Y), client.info(Z), client.info(X)
    assert (y.grad_fn.name, z.grad_fn.name) == ("PowBackward0", "AddBackward0")
    assert (y.is_leaf, z.is_leaf, x.is_leaf) == (False, False, True)
    assert not x.HasField("grad_fn")


def test_the_graph_can_be_drawn_and_backward_walks_it_from_the_result(client: Client) -> None:
    forward(client)
    graph = client.stub.GetGraph(pb.GetGraphRequest(session_id=client.id, tensors=[Y, X]))
    assert [(n.name, n.op) for n in graph.nodes] == [
        ("PowBackward0", "pow"),
        ("AddBackward0", "add"),
        ("AccumulateGrad", ""),
    ]
    assert [(a.name, a.int_value) for n in graph.nodes for a in n.attributes] == [
        ("exponent", 2),
        ("other", 2),
    ]
    root, leaf = graph.roots
    assert (root.tensor, root.info.grad_fn.id) == (Y, graph.nodes[0].id)
    assert (leaf.tensor, leaf.info.is_leaf, leaf.info.requires_grad) == (X, True, True)


def test_without_requires_grad_nothing_is_recorded(client: Client) -> None:
    forward(client, requires_grad=False)
    info = client.info(Y)
    assert not info.HasField("grad_fn")
    assert not info.requires_grad
    graph = client.stub.GetGraph(pb.GetGraphRequest(session_id=client.id, tensors=[Y]))
    assert not graph.nodes


def test_grad_holds_gradients_of_leaves_only(client: Client) -> None:
    forward(client)
    leaf, inner = client.run(backward(Y), get_grad(X, G), get_grad(Z, V), fetch(G, V))
    assert leaf.value == [10.0]
    assert inner.absent


def test_backward_along_a_direction_is_a_vector_jacobian_product(client: Client) -> None:
    client.run(put(X, [1.0, 2.0], requires_grad=True), put(V, [0.3, 0.7]))
    (g,) = client.run(
        op("pow", [X], Y, exponent=2), backward(Y, gradients=[V]), get_grad(X, G), fetch(G)
    )
    np.testing.assert_allclose(g.value, [0.6, 2.8], rtol=1e-6)


def test_a_vector_backward_without_a_direction_says_what_to_pass(client: Client) -> None:
    client.run(put(X, [1.0, 2.0], requires_grad=True), op("pow", [X], Y, exponent=2))
    refusal = client.refused(backward(Y))
    assert refusal.reason == "NON_SCALAR_ROOT"
    assert refusal.code_name == "INVALID_ARGUMENT"
    assert "gradient=" in refusal.message


def test_the_training_form_needs_no_direction(client: Client) -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0]], "f4")
    target = np.array([[1.0], [2.0]], "f4")
    weight = np.array([[0.5, -0.5]], "f4")
    loss, g = client.run(
        put(X, x),
        put(T, target),
        put(W, weight, requires_grad=True),
        op("linear", [X, W], Y),
        op("mse_loss", [Y, T], LOSS),
        backward(LOSS),
        get_grad(W, G),
        fetch(LOSS, G),
    )
    error = x @ weight.T - target
    np.testing.assert_allclose(loss.value, np.mean(error**2), rtol=1e-6)
    np.testing.assert_allclose(g.value, 2 * error.T @ x / 2, rtol=1e-6)


def test_one_unary_call_without_a_session_gives_value_and_gradient(client: Client) -> None:
    message, payloads = sequence(
        0,
        put(X, [3.0], requires_grad=True),
        op("add", [X], Z, other=2),
        op("pow", [Z], Y, exponent=2),
        backward(Y),
        get_grad(X, G),
        fetch(Y, G),
    )
    response = client.stub.Run(pb.RunRequest(sequence=message, payloads=payloads))
    assert [np.frombuffer(each, "<f4") for each in response.payloads] == [[25.0], [10.0]]
