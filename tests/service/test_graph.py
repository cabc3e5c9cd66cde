"""GetGraph: newest first, each node once, in pages, to a depth, from tensors and from nodes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from gradwire.v1 import autograd_pb2 as pb
from gradwire_server.walks import Walk
from gradwire_server.workspace import Workspace
from tests.service.harness import (
    Client,
    Refusal,
    backward,
    grad,
    live_nodes,
    op,
    put,
    refusal_of_call,
    release,
)

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


def test_a_page_may_be_asked_for_again(client: Client) -> None:
    last = chain(client, 25)
    token = graph(client, tensors=[last], page_size=10).next_page_token
    pages = [graph(client, tensors=[last], page_size=10, page_token=token) for _ in range(3)]
    assert pages[0] == pages[1] == pages[2]
    assert pages[0].nodes[0].id < graph(client, tensors=[last]).nodes[9].id


def test_nodes_that_are_recorded_between_pages_do_not_disturb(client: Client) -> None:
    last = chain(client, 25)
    whole = [node.id for node in graph(client, tensors=[last]).nodes]
    first = graph(client, tensors=[last], page_size=10)
    client.run(op("neg", [last], last + 1))
    rest = graph(client, tensors=[last], page_token=first.next_page_token)
    assert [node.id for node in (*first.nodes, *rest.nodes)] == whole


def forged(token: str) -> str:
    """A token whose position was changed."""
    raw = bytearray(base64.urlsafe_b64decode(token))
    raw[-1] ^= 1
    return base64.urlsafe_b64encode(raw).decode()


@pytest.mark.parametrize(
    "change", [forged, lambda token: token[:-4], lambda token: token + "AAAA", lambda _: "é"]
)
def test_a_page_token_that_is_not_ours_is_refused(client: Client, change: Any) -> None:
    last = chain(client, 5)
    token = graph(client, tensors=[last], page_size=2).next_page_token
    refusal = refused(client, tensors=[last], page_size=2, page_token=change(token))
    assert (refusal.code_name, refusal.reason) == ("INVALID_ARGUMENT", "BAD_PAGE_TOKEN")
    assert refusal.field == "page_token"


PAGES = 100


@pytest.fixture
def steps_of_walks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each node that a walk passed: the server runs in this process."""
    passed: list[int] = []
    step = Walk._step

    def counted(walk: Walk) -> Any:
        passed.append(walk.waiting)
        return step(walk)

    monkeypatch.setattr(Walk, "_step", counted)
    return passed


def deep(client: Client, nodes: int) -> int:
    """A chain of operators."""
    end = 10 + nodes - 2
    client.run(put(X, [1.0], requires_grad=True), op("neg", [X], 10))
    for start in range(10, end, 10_000):
        made = range(start, min(start + 10_000, end))
        client.run(*[op("neg", [handle], handle + 1) for handle in made], release(*made))
    return end


def wide(client: Client, nodes: int) -> int:
    """One operator on very many leaves."""
    leaves = range(10, 10 + nodes - 1)
    client.run(*[put(handle, 1.0, requires_grad=True) for handle in leaves])
    client.run(op("stack", [], Y, tensors=list(leaves)))
    return Y


@pytest.mark.parametrize(("shape", "nodes"), [(deep, 100_000), (wide, 20_000)])
def test_each_node_of_a_large_graph_is_visited_once_for_all_its_pages(
    client: Client, steps_of_walks: list[int], shape: Callable[[Client, int], int], nodes: int
) -> None:
    root = shape(client, nodes)
    found, token, pages = [], "", 0
    while token or not pages:
        page = graph(client, tensors=[root], page_size=nodes // PAGES, page_token=token)
        found += [node.id for node in page.nodes]
        token, pages = page.next_page_token, pages + 1
    assert (len(found), pages) == (nodes, PAGES)
    assert found == sorted(set(found), reverse=True)
    assert len(steps_of_walks) == nodes


def test_readers_of_one_graph_do_not_slow_each_other_down(
    client: Client, steps_of_walks: list[int]
) -> None:
    last = chain(client, 999)
    tokens = ["", "", ""]
    for _ in range(10):
        for at, token in enumerate(tokens):
            page = graph(client, tensors=[last], page_size=100, page_token=token)
            tokens[at] = page.next_page_token
    assert tokens == ["", "", ""]
    assert len(steps_of_walks) == 3 * 1000


def test_what_readers_leave_unread_is_forgotten_in_time(
    client: Client, steps_of_walks: list[int]
) -> None:
    last = chain(client, 99)
    first = graph(client, tensors=[last], page_size=10)
    for size in range(1, 10):
        graph(client, tensors=[last], page_size=size)
    steps_of_walks.clear()
    page = graph(client, tensors=[last], page_size=10, page_token=first.next_page_token)
    assert len(page.nodes) == 10
    assert len(steps_of_walks) == 20


def test_a_reader_keeps_no_graph_alive(client: Client) -> None:
    before = live_nodes()
    last = chain(client, 5000)
    assert graph(client, tensors=[last], page_size=10).next_page_token
    client.run(release(*range(X, last + 1)))
    assert live_nodes() < before + 100


def test_nodes_that_were_told_of_are_found_without_a_search(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = chain(client, 50)
    (edge,) = graph(client, tensors=[last], max_depth=1).nodes[1].next
    monkeypatch.delattr(Workspace, "nodes")
    (node, *_) = graph(client, nodes=[edge.id], max_depth=1).nodes
    assert node.id == edge.id


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
