"""DOT that Graphviz's grammar accepts, with every node and edge once."""

import pydot
import pytest

from gradwire.graph import Direction, Edge, Graph, Leaf, Op
from tests.unit.client.graph.samples import FLOATS, tutorial

# pydot calls its own parser library by names that this has renamed.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pydot.dot_parser")


def parsed(graph: Graph) -> pydot.Dot:
    dots = pydot.graph_from_dot_data(graph.to_dot())
    assert dots is not None
    (dot,) = dots
    return dot


def attributes(dot: pydot.Dot, key: str) -> dict[str, str]:
    (node,) = dot.get_node(key)
    return {name: value.strip('"') for name, value in node.get_attributes().items()}


def test_every_node_and_edge_stands_once() -> None:
    dot = parsed(tutorial())
    names = [node.get_name() for node in dot.get_nodes()]
    assert [name for name in names if name not in ("node", "edge", "graph")] == [
        "n10",
        "n11",
        "t2",
        "n12",
        "t3",
    ]
    assert [(edge.get_source(), edge.get_destination()) for edge in dot.get_edges()] == [
        ("n10", "n11"),
        ("n11", "t2"),
        ("t2", "n12"),
        ("n12", "t3"),
    ]


def test_sorts_differ_in_shape_and_colour() -> None:
    dot = parsed(tutorial())
    looks = {
        tuple(attributes(dot, key)[name] for name in ("shape", "style", "fillcolor"))
        for key in ("n10", "n11", "t2", "t3")
    }
    assert len(looks) == 4
    assert len({fill for _, _, fill in looks}) == 4


def test_labels_tell_name_grad_fn_and_type() -> None:
    assert attributes(parsed(tutorial()), "n12")["label"] == r"Pow (**2)\nPowBackward0\nfloat32 [1]"


def test_only_several_inputs_are_numbered() -> None:
    graph = Graph(
        (Leaf("a"), Op("b", 1, "MulBackward0", "mul", (), (FLOATS,)), Op("c", 2, "ExpBackward0")),
        (Edge("a", "b"), Edge("a", "b", 0, 1), Edge("b", "c")),
    )
    labels = [edge.get("headlabel") for edge in parsed(graph).get_edges()]
    assert labels == ['"0"', '"1"', None]


@pytest.mark.parametrize(("direction", "rank"), [("down", "TB"), ("right", "LR")])
def test_data_flows_down_or_to_the_right(direction: Direction, rank: str) -> None:
    assert f"rankdir={rank}" in tutorial().to_dot(direction)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ('a"];evil[label="b', r"a\"];evil[label=\"b"),
        (r"\N \G", r"\\N \\G"),
        ("ends in \\", r"ends in \\"),
        ("<b>bold</b>", "<b>bold</b>"),
        ("two\nlines", "two lines"),
    ],
)
def test_hostile_names_stay_inside_their_label(name: str, label: str) -> None:
    dot = parsed(Graph((Leaf("a", name),)))
    assert {node.get_name() for node in dot.get_nodes()} <= {"graph", "node", "edge", "a"}
    assert attributes(dot, "a")["label"] == label
