"""Nodes over the wire: what they keep, which tensors they lead to, places in the graph."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch

import gradwire as gw
from gradwire.errors import AutogradError, GradwireError
from gradwire.v1 import autograd_pb2 as pb
from tests.service.harness import Client, backward, fetch, op, put, release
from tests.service.sdk import session

__all__ = ["session"]

pytestmark = pytest.mark.usefixtures("session")


def plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value.tolist() if hasattr(value, "tolist") else value


def leaf(lib: Any, *values: float) -> Any:
    return lib.tensor(list(values), requires_grad=True)


KEPT: list[tuple[str, Callable[[Any], Any], list[str]]] = [
    ("mul", lambda lib: leaf(lib, 2.0) * leaf(lib, 3.0), ["self", "other"]),
    ("mul by a number", lambda lib: leaf(lib, 2.0) * 3.0, ["self", "other"]),
    ("mul by a constant", lambda lib: leaf(lib, 2.0) * lib.tensor([5.0]), ["self", "other"]),
    ("pow", lambda lib: leaf(lib, 2.0) ** 3, ["self", "exponent"]),
    ("exp", lambda lib: leaf(lib, 2.0).exp(), ["result"]),
    ("sum", lambda lib: leaf(lib, 1.0, 2.0).sum(), ["self_sym_sizes"]),
    ("sum over a dim", lambda lib: leaf(lib, 1.0, 2.0).sum(0, keepdim=True), ["keepdim"]),
    ("log", lambda lib: leaf(lib, 2.0).log(), ["self"]),
    ("relu", lambda lib: leaf(lib, -1.0, 2.0).relu(), ["result"]),
    ("add", lambda lib: leaf(lib, 1.0) + leaf(lib, 2.0), ["alpha"]),
]


@pytest.mark.parametrize(
    ("make", "names"), [case[1:] for case in KEPT], ids=[case[0] for case in KEPT]
)
def test_what_a_node_keeps_is_named_as_in_pytorch(
    make: Callable[[Any], Any], names: list[str]
) -> None:
    ours, theirs = make(gw), make(torch)
    for name in names:
        given = getattr(ours.grad_fn, f"_saved_{name}")
        expected = plain(getattr(theirs.grad_fn, f"_saved_{name}"))
        assert plain(given) == (expected if expected is None else pytest.approx(expected))


def test_a_saved_tensor_stands_in_the_graph() -> None:
    x = leaf(gw, 2.0)
    y = x.exp()
    result = y.grad_fn._saved_result  # type: ignore[union-attr]
    assert result.grad_fn == y.grad_fn
    z = x * x
    (z.grad_fn._saved_self * 5).backward()  # type: ignore[union-attr]
    assert x.grad is not None and x.grad.item() == 5


@pytest.mark.parametrize("lib", [gw, torch], ids=["gradwire", "torch"])
def test_saved_tensors_are_gone_after_a_backward_and_numbers_are_not(lib: Any) -> None:
    y = leaf(lib, 2.0) ** 3
    node = y.grad_fn
    y.backward()
    with pytest.raises(RuntimeError):
        _ = node._saved_self
    assert node._saved_exponent == 3
    with pytest.raises(AttributeError):
        _ = node._saved_nonsense


def test_the_refusals_say_what_to_do() -> None:
    y = leaf(gw, 2.0).exp()
    node = y.grad_fn
    assert node is not None
    y.backward()
    with pytest.raises(AutogradError, match="retain_graph=True") as refused:
        _ = node._saved_result
    assert refused.value.reason == "GRAPH_FREED"
    x = leaf(gw, 2.0)
    z = x * x
    with gw.no_grad():
        x.add_(1)
    with pytest.raises(AutogradError, match=r"clone\(\)") as refused:
        _ = z.grad_fn._saved_self  # type: ignore[union-attr]
    assert refused.value.reason == "SAVED_MODIFIED"


@pytest.mark.parametrize("lib", [gw, torch], ids=["gradwire", "torch"])
def test_metadata_is_for_notes(lib: Any) -> None:
    y = leaf(lib, 2.0) * 3
    assert y.grad_fn.metadata == {}
    y.grad_fn.metadata["mark"] = "mine"
    assert y.grad_fn.metadata == {"mark": "mine"}
    assert (y * 2).grad_fn.next_functions[0][0].metadata == {"mark": "mine"}
    assert (y * 2).grad_fn.metadata == {}


@pytest.mark.parametrize("lib", [gw, torch], ids=["gradwire", "torch"])
def test_sequence_numbers_rise(lib: Any) -> None:
    x = leaf(lib, 2.0)
    y = x * 2
    z = y + x
    first, second = y.grad_fn._sequence_nr(), z.grad_fn._sequence_nr()
    assert first < second
    assert y.grad_fn.next_functions[0][0]._sequence_nr() == 2**64 - 1


@pytest.mark.parametrize("lib", [gw, torch], ids=["gradwire", "torch"])
def test_the_variable_of_an_accumulation(lib: Any) -> None:
    x = leaf(lib, 2.0)
    node = (x * 2).grad_fn.next_functions[0][0]
    assert node.variable is x
    with pytest.raises(AttributeError):
        _ = (x * 2).grad_fn.variable


@pytest.mark.parametrize("lib", [gw, torch], ids=["gradwire", "torch"])
def test_a_leaf_that_only_the_graph_holds_is_found_again(lib: Any) -> None:
    y = leaf(lib, 2.0) * 3
    gc.collect()
    variable = y.grad_fn.next_functions[0][0].variable
    y.backward()
    assert variable.item() == 2
    assert variable.grad.item() == 3


def edge_as_root(lib: Any) -> Any:
    x = leaf(lib, 2.0, 3.0)
    y = x * x
    edge = lib.autograd.graph.get_gradient_edge(y)
    return lib.autograd.grad(edge, x, lib.tensor([1.0, 10.0]))


def edge_as_input(lib: Any) -> Any:
    x = leaf(lib, 2.0)
    y = x * x
    edge = lib.autograd.graph.get_gradient_edge(y)
    return lib.autograd.grad(y.exp(), [edge, x], retain_graph=True)


def edge_outlives_its_tensor(lib: Any) -> Any:
    x = leaf(lib, 2.0)
    y = x * x
    edge = lib.autograd.graph.get_gradient_edge(y)
    z = y * 3
    del y
    return lib.autograd.grad(z, [edge])


def edge_of_a_leaf(lib: Any) -> Any:
    x = leaf(lib, 2.0)
    edge = lib.autograd.graph.get_gradient_edge(x)
    return [*lib.autograd.grad(x * 5, [edge]), edge.output_nr, edge.node.name().split("::")[-1]]


def backward_from_an_edge(lib: Any) -> Any:
    x = leaf(lib, 2.0)
    lib.autograd.backward(lib.autograd.graph.get_gradient_edge(x**2))
    return x.grad


def edge_of_a_second_result(lib: Any) -> Any:
    x = lib.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    _, second = x.unbind(0)
    edge = lib.autograd.graph.get_gradient_edge(second)
    return [edge.output_nr, *lib.autograd.grad(edge, x, lib.tensor([1.0, 5.0]))]


def edge_without_direction(lib: Any) -> Any:
    y = leaf(lib, 2.0, 3.0) * 2
    lib.autograd.backward(lib.autograd.graph.get_gradient_edge(y))


def edge_of_what_needs_no_grad(lib: Any) -> Any:
    lib.autograd.graph.get_gradient_edge(lib.tensor([1.0]))


EDGES = [
    edge_as_root,
    edge_as_input,
    edge_outlives_its_tensor,
    edge_of_a_leaf,
    backward_from_an_edge,
    edge_of_a_second_result,
]


@pytest.mark.parametrize("case", EDGES, ids=lambda case: case.__name__)
def test_gradient_edges_are_roots_and_inputs(case: Callable[[Any], Any]) -> None:
    assert plain(case(gw)) == plain(case(torch))


@pytest.mark.parametrize(
    "case", [edge_without_direction, edge_of_what_needs_no_grad], ids=lambda case: case.__name__
)
def test_edges_that_are_refused(case: Callable[[Any], Any]) -> None:
    with pytest.raises(RuntimeError):
        case(torch)

    def with_reading() -> None:
        case(gw)
        gw.tensor([1.0]).item()

    with pytest.raises(GradwireError) as refused:
        with_reading()
    assert isinstance(refused.value, RuntimeError)


def test_a_hook_on_the_accumulation_of_a_leaf() -> None:
    def run(lib: Any) -> Any:
        x = leaf(lib, 2.0)
        log: list[Any] = []
        node = lib.autograd.graph.get_gradient_edge(x).node
        node.register_prehook(lambda go: log.append(plain(go)))
        node.register_hook(lambda gi, go: log.append((plain(gi), plain(go))))
        (x * 3).backward()
        return log, plain(x.grad)

    assert run(gw) == run(torch)


def test_a_graph_tells_what_its_nodes_keep(client: Client) -> None:
    client.run(
        put(1, [1.0, 2.0], requires_grad=True),
        op("pow", [1], 2, exponent=3),
        op("sum", [2], 3),
    )
    graph = client.stub.GetGraph(pb.GetGraphRequest(session_id=client.id, tensors=[3, 1]))
    by_name = {node.name: node for node in graph.nodes}
    (saved,) = by_name["PowBackward0"].saved
    assert (saved.name, saved.size_bytes) == ("self", 8)
    assert (saved.type.dtype, list(saved.type.shape)) == (pb.DTYPE_FLOAT32, [2])
    (exponent,) = by_name["PowBackward0"].saved_attributes
    assert (exponent.name, exponent.int_value) == ("exponent", 3)
    sizes = {each.name: each for each in by_name["SumBackward0"].saved_attributes}
    assert list(sizes["self_sym_sizes"].int_list.values) == [2]
    assert [root.gradient_edge.name for root in graph.roots] == ["SumBackward0", "AccumulateGrad"]


def test_saved_values_get_handles(client: Client) -> None:
    client.run(put(1, [1.0, 2.0], requires_grad=True), op("mul", [1], 2, other=3.0))
    client.run(op("exp", [2], 3), op("sum", [3], 4))
    graph = client.stub.GetGraph(pb.GetGraphRequest(session_id=client.id, tensors=[4]))
    ids = {node.name: node.id for node in graph.nodes}

    def saved(node: str, name: str, handle: int) -> pb.Step:
        return pb.Step(get_saved=pb.GetSaved(node=ids[node], names=[name], outputs=[handle]))

    exp, variable, none = client.run(
        saved("ExpBackward0", "result", 10),
        saved("AccumulateGrad", "variable", 11),
        saved("MulBackward0", "self", 12),
        fetch(10, 11, 12),
    )
    assert exp.value is not None and exp.value.shape == (2,)
    assert variable.value is not None and variable.value.tolist() == [1.0, 2.0]
    assert none.absent
    refused = client.refused(saved("ExpBackward0", "nonsense", 13))
    assert (refused.reason, refused.field) == ("BAD_VALUE", "steps[0].get_saved.names")
    client.run(backward(4), release(10, 11, 12))
    assert client.refused(saved("ExpBackward0", "result", 14)).reason == "GRAPH_FREED"


@pytest.mark.parametrize(
    ("edge", "tensors", "reason"),
    [
        (pb.GradientEdge(node=999), [0], "NODE_NOT_FOUND"),
        (pb.GradientEdge(node=2, nr=3), [0], "BAD_VALUE"),
        (pb.GradientEdge(node=2), [2], "WRONG_ARITY"),
    ],
    ids=["node", "output", "count"],
)
def test_edges_that_name_no_place(
    client: Client, edge: pb.GradientEdge, tensors: list[int], reason: str
) -> None:
    client.run(put(1, [1.0], requires_grad=True), op("mul", [1], 2, other=3.0))
    graph = client.stub.GetGraph(pb.GetGraphRequest(session_id=client.id, tensors=[2]))
    if edge.node == 2:
        edge.node = graph.nodes[0].id
    refused = client.refused(pb.Step(backward=pb.Backward(tensors=tensors, edges=[edge])))
    assert refused.reason == reason
    assert client.still_works()
