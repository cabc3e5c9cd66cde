"""Graphs as networkx graphs."""

from typing import TYPE_CHECKING

from gradwire.graph.labels import heading, sort_of
from gradwire.graph.model import Graph

if TYPE_CHECKING:
    import networkx


def to_networkx(graph: Graph) -> "networkx.MultiDiGraph[str]":
    """The graph as a networkx.MultiDiGraph.

    Raises:
        ImportError: networkx is not installed.
    """
    try:
        import networkx
    except ImportError as error:
        raise ImportError("to_networkx() needs networkx: pip install networkx") from error
    result: networkx.MultiDiGraph[str] = networkx.MultiDiGraph()
    for node in graph.nodes:
        result.add_node(node.key, sort=sort_of(node), label=heading(node), node=node)
    for edge in graph.edges:
        result.add_edge(edge.source, edge.target, output_nr=edge.output_nr, input_nr=edge.input_nr)
    return result
