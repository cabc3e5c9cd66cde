"""A graph checks itself, shows itself and saves itself."""

import sys
from collections.abc import Callable
from pathlib import Path

import networkx
import pytest

from gradwire.graph import Edge, Graph, Leaf
from tests.unit.client.graph.samples import chain, tutorial


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ([Leaf("a"), Leaf("a")], [], "2 nodes have only 1 different keys"),
        ([Leaf("a")], [Edge("a", "b")], "names a node that is not in the graph"),
        ([Leaf("b"), Leaf("a")], [Edge("a", "b")], "put 'a' before 'b'"),
        ([Leaf("a")], [Edge("a", "a")], "goes back"),
    ],
)
def test_nodes_and_edges_that_do_not_fit_are_refused(
    nodes: list[Leaf], edges: list[Edge], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Graph(tuple(nodes), tuple(edges))


def test_printing_a_graph_gives_its_text() -> None:
    assert str(tutorial()) == tutorial().to_text()


def test_a_notebook_gets_the_picture_and_the_text() -> None:
    bundle = tutorial()._repr_mimebundle_(include=None, exclude=None)
    assert bundle == {"image/svg+xml": tutorial().to_svg(), "text/plain": tutorial().to_text()}


def test_a_notebook_gets_a_huge_graph_as_text_and_how_to_get_its_picture() -> None:
    bundle = chain(501)._repr_mimebundle_()
    assert bundle.keys() == {"text/plain"}
    note, _, text = bundle["text/plain"].partition("\n\n")
    assert "501 nodes" in note
    assert 'save("graph.svg")' in note
    assert text == chain(501).to_text()


@pytest.mark.parametrize(
    ("suffix", "form"),
    [
        (".svg", Graph.to_svg),
        (".SVG", Graph.to_svg),
        (".dot", Graph.to_dot),
        (".gv", Graph.to_dot),
        (".mmd", Graph.to_mermaid),
        (".txt", Graph.to_text),
    ],
)
def test_the_suffix_chooses_the_form_of_a_file(
    tmp_path: Path, suffix: str, form: Callable[[Graph], str]
) -> None:
    path = tmp_path / f"graph{suffix}"
    assert tutorial().save(path) == path
    assert path.read_text(encoding="utf-8") == form(tutorial()) + "\n"


def test_a_text_file_has_every_node(tmp_path: Path) -> None:
    text = chain(1000).save(tmp_path / "graph.txt").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 1000


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"suffix '\.png'.*use \.svg, \.dot, \.gv, \.mmd or \.txt"):
        tutorial().save(tmp_path / "graph.png")
    assert not list(tmp_path.iterdir())


def test_networkx_gets_nodes_edges_and_what_is_known_of_them() -> None:
    graph = tutorial().to_networkx()
    assert list(networkx.topological_sort(graph)) == ["n10", "n11", "t2", "n12", "t3"]
    assert networkx.get_node_attributes(graph, "sort") == {
        "n10": "leaf",
        "n11": "op",
        "t2": "intermediate",
        "n12": "op",
        "t3": "result",
    }
    assert graph.nodes["n12"]["label"] == "Pow (**2)"
    assert graph.nodes["n12"]["node"] is not None
    assert graph.edges["t2", "n12", 0] == {"output_nr": 0, "input_nr": 0}


def test_without_networkx_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ImportError, match="pip install networkx"):
        tutorial().to_networkx()
