"""Graphs in the language of Graphviz."""

from collections import Counter
from typing import Final

from gradwire.graph import style
from gradwire.graph.labels import details, heading, sort_of, tooltip
from gradwire.graph.model import Direction, Graph, Intermediate, Node

_SHAPES: Final = {
    "leaf": 'shape=box, style="rounded,filled"',
    "op": "shape=box, style=filled",
    "intermediate": 'shape=box, style="rounded,filled", height=0.3, margin="0.15,0.05"',
    "result": "shape=hexagon, style=filled, penwidth=2",
}


def to_dot(graph: Graph, direction: Direction) -> str:
    """The graph as a digraph in the DOT language."""
    flow = {"down": "TB", "right": "LR"}[direction]
    lines = [
        "digraph gradwire {",
        f'  graph [rankdir={flow}, bgcolor="transparent"];',
        '  node [fontname="Helvetica,Arial,sans-serif", fontsize=11];',
        f'  edge [color="{style.EDGE}", fontcolor="{style.EDGE}", fontsize=9, arrowsize=0.7];',
        *(f"  {_node(node)}" for node in graph.nodes),
    ]
    taken = Counter(edge.target for edge in graph.edges)
    for edge in graph.edges:
        port = f" [headlabel={_quoted(str(edge.input_nr))}]" if taken[edge.target] > 1 else ""
        lines.append(f"  {edge.source} -> {edge.target}{port};")
    return "\n".join([*lines, "}"])


def _node(node: Node) -> str:
    sort = sort_of(node)
    colours = style.NODE[sort]
    words = [heading(node), *(() if isinstance(node, Intermediate) else details(node))]
    return (
        f"{node.key} [label={_quoted(*words)}, tooltip={_quoted(*tooltip(node).splitlines())}, "
        f'{_SHAPES[sort]}, fillcolor="{colours.fill}", color="{colours.line}", '
        f'fontcolor="{colours.text}"];'
    )


def _quoted(*lines: str) -> str:
    """A DOT string of these lines; a backslash would begin one of DOT's own escapes."""
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'
