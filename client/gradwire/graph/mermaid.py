"""Graphs as Mermaid flowcharts."""

import re
from collections import Counter
from typing import Final

from gradwire.graph import style
from gradwire.graph.labels import details, heading, sort_of
from gradwire.graph.model import Direction, Graph, Intermediate, Node

_SHAPES: Final = {
    "leaf": ('(["', '"])'),
    "op": ('["', '"]'),
    "intermediate": ('("', '")'),
    "result": ('{{"', '"}}'),
}


def to_mermaid(graph: Graph, direction: Direction) -> str:
    """The graph as a flowchart whose classes are the sorts of nodes."""
    flow = {"down": "TD", "right": "LR"}[direction]
    taken = Counter(edge.target for edge in graph.edges)
    return "\n".join(
        [
            f"flowchart {flow}",
            *(f"    {_node(node)}" for node in graph.nodes),
            *(
                f"    {edge.source} -->|{edge.input_nr}| {edge.target}"
                if taken[edge.target] > 1
                else f"    {edge.source} --> {edge.target}"
                for edge in graph.edges
            ),
            *(
                f"    classDef {sort} fill:{colours.fill},stroke:{colours.line},"
                f"color:{colours.text}"
                for sort, colours in style.NODE.items()
            ),
        ]
    )


def _node(node: Node) -> str:
    sort = sort_of(node)
    opening, closing = _SHAPES[sort]
    words = [heading(node), *(() if isinstance(node, Intermediate) else details(node))]
    return f"{node.key}{opening}{'<br/>'.join(map(_escaped, words))}{closing}:::{sort}"


def _escaped(text: str) -> str:
    """With Mermaid's `#number;` for what Mermaid, Markdown or HTML would take as theirs."""
    return re.sub(r'[#"&<>`*_\\;]', lambda found: f"#{ord(found[0])};", text)
