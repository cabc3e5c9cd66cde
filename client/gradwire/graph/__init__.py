"""Pictures of dynamic graphs: as data, text, DOT, Mermaid, SVG and networkx."""

from gradwire.graph.model import (
    AttributeValue,
    Direction,
    Edge,
    Graph,
    Intermediate,
    Leaf,
    Node,
    Op,
    Result,
    TensorType,
)

__all__ = [
    "AttributeValue",
    "Direction",
    "Edge",
    "Graph",
    "Intermediate",
    "Leaf",
    "Node",
    "Op",
    "Result",
    "TensorType",
]
