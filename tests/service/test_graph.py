"""GetGraph: newest first, each node once, in pages, to a depth, from tensors and from nodes."""

from __future__ import annotations

import grpc
import pytest

from gradwire.v1 import autograd_pb2 as pb
from tests.service.harness import Client, Refusal, backward, grad, op, put, refusal_of_call, release

X, Y, Z, W = 1, 2, 3, 4


def graph(client: Client, **fields: object) -> pb.GetGraphResponse:
    return client.stub.GetGraph(pb.GetGraphRequest(session_id=client.id, **fields))


def names(response: pb.GetGraphResponse) -> list[str]:
    return [node.name for node in response.nodes]


def refused(client: Client, **fields: object) -> Refusal:
    with pytest.raises(grpc.RpcError) as caught:
        graph(client, **fields)
    return refusal_of_call(caught.value)


def chain(client: Client, length: int) -> int:
    client.run(put(X, [1.0], requires_grad=True))
    client.run(*[op("neg", [handle], handle + 1) for handle in range(X, X + length)])
    return X + length


def test_a_diamond_has_each_node_once_and_edges_with_input_numbers(client: Client) -> None:
    client.run(
        put(X, [[1.0, 2.0]], requires_grad=True),
        put(W, [[3.0], [4.0]], requires_grad=True),
        op("exp", [X], Y),
        op("mul", [Y, X], Z),
        op("mm", [Z, W], 5),
    )
    response = graph(client, tensors=[5])
    assert names(response) == [
        "MmBackward0",
        "AccumulateGrad",
        "MulBackward0",
        "ExpBackward0",
        "AccumulateGrad",
    ]
    mm, weight, mul, exp, leaf = response.nodes
    assert [(edge.id, edge.name) for edge in mm.next] == [
        (mul.id, "MulBackward0"),
        (weight.id, "AccumulateGrad"),
    ]
    assert [edge.id for edge in mul.next] == [exp.id, leaf.id]
    assert [edge.id for edge in exp.next] == [leaf.id]
    assert (leaf.variable, weight.variable) == (X, W)
    assert list(mm.outputs[0].shape) == [1, 1]
    assert mm.outputs[0].dtype == pb.DTYPE_FLOAT32
    assert leaf.sequence_number == 2**64 - 1
    assert mm.sequence_number > mul.sequence_number > exp.sequence_number


def test_an_edge_names_the_output_of_the_node_that_it_leads_to(client: Client) -> None:
    client.run(
        put(X, [[1.0, 2.0]], requires_grad=True),
        op("exp", [X], Y),
        op("unbind", [Y], 10, dim=1),
        op("neg", [11], Z),
    )
    neg, unbind = graph(client, tensors=[Z]).nodes[:2]
    assert (neg.next[0].id, neg.next[0].nr) == (unbind.id, 1)
    assert len(unbind.outputs) == 2


def test_pages_together_are_the_whole_graph(client: Client) -> None:
    last = chain(client, 25)
    whole = graph(client, tensors=[last])
    assert len(whole.nodes) == 26
    found, token = [], ""
    while True:
        page = graph(client, tensors=[last], page_size=10, page_token=token)
        assert len(page.nodes) <= 10
        assert [root.tensor for root in page.roots] == [last]
        found += [node.id for node in page.nodes]
        token = page.next_page_token
        if not token:
            break
    assert found == [node.id for node in whole.nodes]
    assert found == sorted(found, reverse=True)


def test_a_page_token_belongs_to_its_call(client: Client) -> None:
    last = chain(client, 5)
    token = graph(client, tensors=[last], page_size=2).next_page_token
    refusal = refused(client, tensors=[last - 1], page_size=2, page_token=token)
    assert (refusal.code_name, refusal.reason) == ("INVALID_ARGUMENT", "BAD_PAGE_TOKEN")


@pytest.mark.parametrize(("depth", "count"), [(1, 2), (3, 4), (100, 11), (0, 11)])
def test_the_graph_is_followed_to_a_depth(client: Client, depth: int, count: int) -> None:
    last = chain(client, 10)
    assert len(graph(client, tensors=[last], max_depth=depth).nodes) == count


def test_the_graph_may_be_read_from_a_node(client: Client) -> None:
    last = chain(client, 10)
    middle = graph(client, tensors=[last]).nodes[5]
    response = graph(client, nodes=[middle.id])
    assert response.nodes[0].id == middle.id
    assert len(response.nodes) == 6
    assert not response.roots


def test_a_node_or_tensor_that_is_not_there(client: Client) -> None:
    last = chain(client, 3)
    refusal = refused(client, nodes=[12345])
    assert (refusal.code_name, refusal.reason) == ("NOT_FOUND", "NODE_NOT_FOUND")
    assert (refusal.field, refusal.metadata) == ("nodes[0]", {"node": "12345"})
    refusal = refused(client, tensors=[last, 99])
    assert (refusal.reason, refusal.field) == ("HANDLE_NOT_FOUND", "tensors[1]")
    assert refused(client, tensors=[last], page_size=-1).reason == "BAD_VALUE"


def test_what_backward_released_is_told(client: Client) -> None:
    client.run(put(X, [1.0], requires_grad=True), op("exp", [X], Y))
    assert [node.released for node in graph(client, tensors=[Y]).nodes] == [False, False]
    client.run(backward(Y))
    assert [node.released for node in graph(client, tensors=[Y]).nodes] == [True, False]


def test_the_graph_of_a_gradient_can_be_read(client: Client) -> None:
    client.run(
        put(X, [2.0], requires_grad=True),
        op("pow", [X], Y, exponent=3),
        grad([Y], [X], Z, create_graph=True),
    )
    response = graph(client, tensors=[Z])
    assert response.roots[0].info.requires_grad
    assert "PowBackward0" in names(response)
    assert response.nodes[-1].name == "AccumulateGrad"


def test_a_leaf_that_no_handle_names_has_variable_0(client: Client) -> None:
    client.run(put(X, [1.0], requires_grad=True), op("exp", [X], Y), release(X))
    assert graph(client, tensors=[Y]).nodes[-1].variable == 0


def test_plain_arguments_are_told_as_a_client_sends_them(client: Client) -> None:
    client.run(
        put(X, [[1.0, 2.0]], requires_grad=True),
        op("sum", [X], Y, dim=(1,), keepdim=True),
        op("mul", [Y], Z, other=2.5),
    )
    mul, total = graph(client, tensors=[Z]).nodes[:2]
    assert [(a.name, a.double_value) for a in mul.attributes] == [("other", 2.5)]
    dim, keepdim = total.attributes
    assert (dim.name, list(dim.int_list.values)) == ("dim", [1])
    assert (keepdim.name, keepdim.bool_value) == ("keepdim", True)


def test_reading_a_long_graph_neither_recurses_nor_takes_part_in_the_queue_twice(
    client: Client,
) -> None:
    last = chain(client, 5000)
    response = graph(client, tensors=[last], page_size=10_000)
    assert len(response.nodes) == 5001
    assert client.still_works()
