"""Graphs for a terminal: from the results down to the leaves, one node a line.

◆ y  float32 [1]
□ Mul  MulBackward0  float32 [1]
├─● w  float32 [1]  leaf, requires_grad
□ Add (+2)  AddBackward0  float32 [1]
● x  float32 [1]  leaf, requires_grad
"""

from collections import Counter
from typing import Final

from gradwire.graph.labels import heading, one_line, sort_of
from gradwire.graph.model import Graph, Node, Op

_MARKS: Final = {"leaf": "●", "op": "□", "intermediate": "○", "result": "◆"}


def to_text(graph: Graph, max_lines: int | None) -> str:
    """The graph's text; see `Graph.to_text`."""
    if max_lines is not None and max_lines < 1:
        raise ValueError(f"max_lines is {max_lines}: give 1 or more, or None for all")
    nodes = {node.key: node for node in graph.nodes}
    inputs: dict[str, dict[str, None]] = {key: {} for key in nodes}
    for edge in graph.edges:
        inputs[edge.target][edge.source] = None
    # Takers of each node that have not been written: it is written in full after the last.
    waiting = Counter(source for sources in inputs.values() for source in sources)
    shared = {key for key, takers in waiting.items() if takers > 1}
    depth: dict[str, int] = {}
    for key in nodes:
        depth[key] = max((depth[source] + 1 for source in inputs[key]), default=0)

    lines: list[str] = []
    written: set[str] = set()
    # What is to be written next, last first: a node, what stands before it, and before its inputs.
    todo = [(key, "", "") for key in reversed(nodes) if not waiting[key]]
    while todo and (max_lines is None or len(lines) < max_lines):
        key, before, rail = todo.pop()
        waiting[key] -= 1
        node = nodes[key]
        again = key in written or (bool(inputs[key]) and waiting[key] > 0)
        lines.append(before + _line(node, key in shared, again, key in written))
        if again:
            continue
        written.add(key)
        if sources := list(inputs[key]):
            trunk = max(sources, key=lambda source: depth[source])
            todo.append((trunk, rail, rail))
            todo += [
                (source, f"{rail}├─", f"{rail}│ ")
                for source in reversed(sources)
                if source != trunk
            ]
    if left_out := len(nodes) - len(written):
        lines.append(f"… {left_out:,} more {'node' if left_out == 1 else 'nodes'}")
    return "\n".join(lines)


def _line(node: Node, shared: bool, again: bool, above: bool) -> str:
    mark = _MARKS[sort_of(node)]
    tag = f"  #{node.id}" if shared and isinstance(node, Op) else ""
    if again:
        return f"{mark} {heading(node)}{tag}  ({'above' if above else 'below'})"
    return f"{mark} {one_line(node)}{tag}"
