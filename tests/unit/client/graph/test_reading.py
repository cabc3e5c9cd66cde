"""What GetGraph answers becomes a graph in the direction of data flow."""

import pytest

from gradwire.graph import Edge, Graph, Intermediate, Leaf, Op, Result, TensorType
from gradwire.v1 import autograd_pb2 as pb
from tests.unit.client.graph.samples import TUTORIAL, X, Y, Z, leaf, op, root, tutorial

ONE = TensorType("float32", (1,))


def test_the_tutorials_picture_goes_from_the_leaf_to_the_result() -> None:
    assert tutorial() == Graph(
        nodes=(
            Leaf("n10", "x", X, 10, ONE),
            Op("n11", 11, "AddBackward0", "add", (("other", 2),), (ONE,), constant_inputs=(1,)),
            Intermediate("t2", "z", Z, ONE),
            Op("n12", 12, "PowBackward0", "pow", (("exponent", 2),), (ONE,)),
            Result("t3", "y", Y, ONE),
        ),
        edges=(Edge("n10", "n11"), Edge("n11", "t2"), Edge("t2", "n12"), Edge("n12", "t3")),
    )


def test_the_sorts_are_told_apart() -> None:
    graph = tutorial()
    assert [node.name for node in graph.leaves] == ["x"]
    assert [node.op for node in graph.ops] == ["add", "pow"]
    assert [node.name for node in graph.results] == ["y"]
    assert repr(graph) == "<Graph of y: 1 leaf, 2 ops, 4 edges>"


def test_every_root_is_a_result_unless_told_otherwise() -> None:
    graph = Graph.from_responses([TUTORIAL], {})
    assert [node.handle for node in graph.results] == [Z, Y]


def test_a_root_with_no_name_that_was_not_asked_for_is_left_out() -> None:
    graph = Graph.from_responses([TUTORIAL], {X: "x", Y: "y"}, results=[Y])
    assert [node.key for node in graph] == ["n10", "n11", "n12", "t3"]


def test_what_the_results_do_not_depend_on_is_left_out() -> None:
    graph = Graph.from_responses([TUTORIAL], {Y: "y"}, results=[Z])
    assert [node.key for node in graph] == ["n10", "n11", "t2"]


def test_pages_make_one_graph() -> None:
    first, second = pb.GetGraphResponse(), pb.GetGraphResponse()
    first.CopyFrom(TUTORIAL)
    second.nodes.extend(TUTORIAL.nodes[2:])
    del first.nodes[2:]
    names = {X: "x", Z: "z", Y: "y"}
    assert Graph.from_responses([first, second], names, [Y]) == tutorial()


def test_the_same_value_taken_twice_is_two_edges() -> None:
    square = op(2, "MulBackward0", "mul", [(1, "AccumulateGrad"), (1, "AccumulateGrad")])
    answer = pb.GetGraphResponse(
        nodes=[square, leaf(1, 1)], roots=[root(2, (2, "MulBackward0", 0))]
    )
    graph = Graph.from_responses([answer], {})
    assert graph.edges[:2] == (Edge("n1", "n2", 0, 0), Edge("n1", "n2", 0, 1))


def test_edges_tell_which_output_goes_to_which_input() -> None:
    answer = pb.GetGraphResponse(
        nodes=[
            op(3, "SubBackward0", "sub", [(2, "UnbindBackward0", 1), (2, "UnbindBackward0", 0)]),
            op(2, "UnbindBackward0", "unbind", [(1, "AccumulateGrad")], outputs=2),
            leaf(1, 1, (2, 1)),
        ],
        roots=[root(9, (3, "SubBackward0", 0)), root(8, (2, "UnbindBackward0", 1))],
    )
    graph = Graph.from_responses([answer], {8: "second"}, results=[9])
    assert graph.edges == (
        Edge("n1", "n2"),
        Edge("n2", "t8", output_nr=1),
        Edge("t8", "n3", input_nr=0),
        Edge("n2", "n3", output_nr=0, input_nr=1),
        Edge("n3", "t9"),
    )


def test_a_leaf_is_its_own_graph() -> None:
    graph = Graph.from_responses([pb.GetGraphResponse(roots=[root(1, None)])], {1: "x"})
    assert graph == Graph((Leaf("t1", "x", 1, 0, ONE),))


def test_a_leaf_that_is_asked_for_beside_a_result_is_drawn_once() -> None:
    answer = pb.GetGraphResponse()
    answer.CopyFrom(TUTORIAL)
    answer.roots.append(root(X, None))
    graph = Graph.from_responses([answer], {X: "x", Z: "z", Y: "y"}, results=[Y, X])
    assert graph == tutorial()


def test_nodes_beyond_the_depth_that_was_asked_for_are_known_by_name() -> None:
    answer = pb.GetGraphResponse(nodes=TUTORIAL.nodes[:1], roots=TUTORIAL.roots[:1])
    graph = Graph.from_responses([answer], {})
    assert graph.nodes[0] == Op("n11", 11, "AddBackward0")
    deeper = pb.GetGraphResponse(nodes=TUTORIAL.nodes[:2], roots=TUTORIAL.roots[:1])
    assert Graph.from_responses([deeper], {}).nodes[0] == Leaf("n10", "", 0, 10, None)


def test_nodes_with_no_tensor_are_drawn_too() -> None:
    answer = pb.GetGraphResponse(nodes=TUTORIAL.nodes)
    assert [node.key for node in Graph.from_responses([answer], {})] == ["n10", "n11", "n12"]


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        (pb.Attribute(bool_value=False), False),
        (pb.Attribute(int_value=-3), -3),
        (pb.Attribute(double_value=0.5), 0.5),
        (pb.Attribute(complex_value=pb.Complex(real=1, imag=-2)), 1 - 2j),
        (pb.Attribute(string_value="mean"), "mean"),
        (pb.Attribute(dtype_value=pb.DTYPE_COMPLEX64), "complex64"),
        (pb.Attribute(int_list=pb.IntList(values=[1, 2])), (1, 2)),
        (pb.Attribute(double_list=pb.DoubleList(values=[0.5])), (0.5,)),
        (pb.Attribute(tensor_list=pb.TensorList(tensors=[4, 0])), (4, 0)),
    ],
)
def test_attributes_are_python_values(attribute: pb.Attribute, value: object) -> None:
    attribute.name = "argument"
    answer = pb.GetGraphResponse(nodes=[op(1, "SomeBackward0", "some", [], attribute)])
    (node,) = Graph.from_responses([answer], {}).ops
    assert node.attributes == (("argument", value),)


def test_a_dtype_of_a_newer_server_is_shown_by_its_number() -> None:
    answer = pb.GetGraphResponse(nodes=[leaf(1, 1)])
    answer.nodes[0].outputs[0].dtype = 99  # type: ignore[assignment]
    (node,) = Graph.from_responses([answer], {}).leaves
    assert node.type == TensorType("dtype 99", (1,))


def test_a_result_that_is_no_root_is_refused() -> None:
    with pytest.raises(ValueError, match=r"handles \[7\] are not among the roots \[3, 2\]"):
        Graph.from_responses([TUTORIAL], {}, results=[7])


def test_a_chain_of_20_000_is_read_without_recursion() -> None:
    answer = pb.GetGraphResponse(
        nodes=[op(id, "AddBackward0", "add", [(id - 1, "AddBackward0")]) for id in range(2, 20_000)]
    )
    answer.nodes.append(leaf(1, 1))
    graph = Graph.from_responses([answer], {})
    assert len(graph) == 20_000 - 1
    assert graph.nodes[0].key == "n1"
