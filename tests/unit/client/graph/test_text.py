"""The text form reads from the result down to the leaves."""

import pytest
from hypothesis import given

from gradwire.graph import Edge, Graph, Leaf, Op, Result, TensorType
from tests.unit.client.graph.samples import chain, graphs, loop, tutorial

T = TensorType("float32", (2,))


def op(key: str, name: str) -> Op:
    return Op(key, int(key[1:]), f"{name}Backward0", name.lower(), (), (T,))


def test_the_tutorial() -> None:
    assert tutorial().to_text() == "\n".join(
        [
            "◆ y  float32 [1]",
            "□ Pow (**2)  PowBackward0  float32 [1]",
            "○ z  float32 [1]",
            "□ Add (+2)  AddBackward0  float32 [1]",
            "● x  float32 [1]  leaf, requires_grad",
        ]
    )


def test_side_inputs_branch_off_and_shared_nodes_are_written_after_their_last_taker() -> None:
    """Y = relu(x * w) + exp(relu(x * w)) * w."""
    graph = Graph(
        (
            Leaf("x", "x", 1, 0, T),
            Leaf("w", "w", 2, 0, T),
            op("n1", "Mul"),
            op("n2", "Relu"),
            op("n3", "Exp"),
            op("n4", "Mul"),
            op("n5", "Add"),
            Result("y", "y", 3, T),
        ),
        (
            Edge("x", "n1"),
            Edge("w", "n1", 0, 1),
            Edge("n1", "n2"),
            Edge("n2", "n3"),
            Edge("n3", "n4"),
            Edge("w", "n4", 0, 1),
            Edge("n2", "n5"),
            Edge("n4", "n5", 0, 1),
            Edge("n5", "y"),
        ),
    )
    assert graph.to_text() == "\n".join(
        [
            "◆ y  float32 [2]",
            "□ Add  AddBackward0  float32 [2]",
            "├─□ Relu  #2  (below)",
            "□ Mul  MulBackward0  float32 [2]",
            "├─● w  float32 [2]  leaf, requires_grad",
            "□ Exp  ExpBackward0  float32 [2]",
            "□ Relu  ReluBackward0  float32 [2]  #2",
            "□ Mul  MulBackward0  float32 [2]",
            "├─● w  (above)",
            "● x  float32 [2]  leaf, requires_grad",
        ]
    )


def test_a_branch_has_a_rail_down_to_its_leaf() -> None:
    graph = Graph(
        (
            Leaf("a", "a", 1, 0, T),
            op("n1", "Exp"),
            op("n2", "Exp"),
            Leaf("b", "b", 2, 0, T),
            op("n3", "Neg"),
            op("n4", "Add"),
        ),
        (
            Edge("a", "n1"),
            Edge("n1", "n2"),
            Edge("b", "n3"),
            Edge("n3", "n4"),
            Edge("n2", "n4", 0, 1),
        ),
    )
    assert [line.split("  ")[0] for line in graph.to_text().splitlines()] == [
        "□ Add",
        "├─□ Neg",
        "│ ● b",
        "□ Exp",
        "□ Exp",
        "● a",
    ]


def test_a_long_graph_is_cut_and_the_rest_is_counted() -> None:
    lines = chain(2000).to_text(max_lines=10).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "… 1,990 more nodes"
    assert chain(2).to_text(max_lines=1).splitlines()[-1] == "… 1 more node"


def test_max_lines_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_lines is 0"):
        tutorial().to_text(max_lines=0)


def test_a_chain_of_20_000_is_written_without_recursion() -> None:
    assert len(chain(20_000).to_text(max_lines=None).splitlines()) == 20_000


def test_a_loop_does_not_drift_to_the_right() -> None:
    assert all(line[0] in "◆□●├" for line in loop(50).to_text().splitlines())


@given(graphs())
def test_every_node_is_written_in_full_once(graph: Graph) -> None:
    lines = graph.to_text(max_lines=None).splitlines()
    full = [line for line in lines if not line.endswith(("(above)", "(below)"))]
    assert len(full) == len(graph)
