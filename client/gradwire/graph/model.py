"""A dynamic graph as data: leaves, operators, results, and the edges that values flow along."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    import networkx

AttributeValue = bool | int | float | complex | str | tuple[int, ...] | tuple[float, ...]
"""A plain argument of an operator; a dtype is its name, a list is a tuple."""

Direction = Literal["down", "right"]
"""Where data flows in a picture: from top to bottom, or from left to right."""

NOTEBOOK_NODES: Final = 500
"""Graphs of more nodes than this show themselves in notebooks as text."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """Dtype (PyTorch's name, "float32") and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A tensor that no recorded operator made; gradients accumulate here.

    Attributes:
        key: Unique in its graph: letters and digits only.
        name: The user's name for it, or "".
        handle: Its handle, or 0 if none names it any more.
        id: Its AccumulateGrad node, or 0 if it has none.
        type: Its dtype and shape; None where the graph was cut off before it.
        requires_grad: Whether gradients reach it.
    """

    key: str
    name: str = ""
    handle: int = 0
    id: int = 0
    type: TensorType | None = None
    requires_grad: bool = True


@dataclass(frozen=True, slots=True)
class Op:
    """A recorded operator: a grad_fn node.

    Attributes:
        key: Unique in its graph: letters and digits only.
        id: The node's id in its session.
        name: PyTorch's name of the node: "PowBackward0".
        op: The operator that was recorded: "pow"; "" where the graph was cut off before it.
        attributes: Its plain arguments that differ from the default, in order of the schema.
        outputs: What it returned, in order; empty where the graph was cut off before it.
        constant_inputs: Numbers of the inputs that need no gradient, so no edge shows them.
        released: Whether the values it kept for backward are gone.
        forward_ns: What running the operator took, if that was profiled; else 0.
        backward_ns: What going backward through it took in all, if that was profiled; else 0.
    """

    key: str
    id: int
    name: str
    op: str = ""
    attributes: tuple[tuple[str, AttributeValue], ...] = ()
    outputs: tuple[TensorType, ...] = ()
    constant_inputs: tuple[int, ...] = ()
    released: bool = False
    forward_ns: int = 0
    backward_ns: int = 0


@dataclass(frozen=True, slots=True)
class Intermediate:
    """A named tensor on the way: made by one operator, taken by others.

    Attributes:
        key: Unique in its graph: letters and digits only.
        name: The user's name for it.
        handle: Its handle.
        type: Its dtype and shape.
    """

    key: str
    name: str
    handle: int
    type: TensorType


@dataclass(frozen=True, slots=True)
class Result:
    """A tensor that the graph was asked of.

    Attributes:
        key: Unique in its graph: letters and digits only.
        name: The user's name for it, or "".
        handle: Its handle.
        type: Its dtype and shape.
    """

    key: str
    name: str
    handle: int
    type: TensorType


Node = Leaf | Op | Intermediate | Result


@dataclass(frozen=True, slots=True)
class Edge:
    """A value that flows from one node to the next; gradients flow against it.

    Attributes:
        source: Key of the node that it comes from.
        target: Key of the node that takes it.
        output_nr: Which output of the source it is; 0 if the source is a tensor.
        input_nr: Which input of the target it is; 0 if the target is a tensor.
    """

    source: str
    target: str
    output_nr: int = 0
    input_nr: int = 0


@dataclass(frozen=True, slots=True)
class Graph:
    """The graph behind some tensors, in the direction of data flow: leaves first, results last.

    Shows itself as a picture in notebooks and as text when printed.

    Attributes:
        nodes: Each after the nodes that it takes values from.
        edges: In order of their targets and, at one target, of its inputs.

    Raises:
        ValueError: Two nodes have the same key, or an edge names a node that is not there or
            that does not come before its target.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()

    def __post_init__(self) -> None:
        place = {node.key: index for index, node in enumerate(self.nodes)}
        if len(place) != len(self.nodes):
            raise ValueError(f"{len(self.nodes)} nodes have only {len(place)} different keys")
        for edge in self.edges:
            if edge.source not in place or edge.target not in place:
                raise ValueError(f"{edge} names a node that is not in the graph")
            if place[edge.source] >= place[edge.target]:
                raise ValueError(f"{edge} goes back: put {edge.source!r} before {edge.target!r}")

    @classmethod
    def from_responses(
        cls,
        responses: Iterable[pb.GetGraphResponse],
        names: Mapping[int, str],
        results: Collection[int] | None = None,
    ) -> "Graph":
        """Builds the graph that the pages of one GetGraph call describe.

        Args:
            responses: The pages, in order.
            names: The user's names of tensors, by handle.
            results: Handles of the tensors that the graph is asked of, among the roots of the
                call. Other roots that have a name and that the results depend on become
                intermediates; nothing else of them is kept. None: every root is a result.

        Raises:
            ValueError: A handle of `results` is not a root of the call.
        """
        from gradwire.graph.reading import read

        nodes, edges = read(responses, names, results)
        return cls(nodes, edges)

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The leaves, in order."""
        return tuple(node for node in self.nodes if isinstance(node, Leaf))

    @property
    def ops(self) -> tuple[Op, ...]:
        """The operators, in order."""
        return tuple(node for node in self.nodes if isinstance(node, Op))

    @property
    def results(self) -> tuple[Result, ...]:
        """The results, in order."""
        return tuple(node for node in self.nodes if isinstance(node, Result))

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def to_text(self, max_lines: int | None = 200) -> str:
        """The graph for a terminal, from the results to the leaves.

        A node stands under the node that takes its value. The longest way to a leaf goes straight
        down; other inputs branch off before it. A node that is used again is referred to.

        Args:
            max_lines: After this many lines, only the number of nodes left out is told;
                None: as many as there are.

        Raises:
            ValueError: `max_lines` is less than 1.
        """
        from gradwire.graph.text import to_text

        return to_text(self, max_lines)

    def to_dot(self, direction: Direction = "down") -> str:
        """The graph in the language of Graphviz."""
        from gradwire.graph.dot import to_dot

        return to_dot(self, direction)

    def to_mermaid(self, direction: Direction = "down") -> str:
        """The graph as a Mermaid flowchart, which GitHub, GitLab and Jupyter's Markdown draw.

        Mermaid itself refuses more than 500 edges or 50,000 characters unless it is configured
        otherwise.
        """
        from gradwire.graph.mermaid import to_mermaid

        return to_mermaid(self, direction)

    def to_svg(self, direction: Direction = "down") -> str:
        """The graph as a self-contained SVG, legible on light and on dark ground.

        Raises:
            ValueError: The graph is too large to lay out; `to_dot` and `to_text` take any.
        """
        from gradwire.graph.svg import to_svg

        return to_svg(self, direction)

    def to_networkx(self) -> "networkx.MultiDiGraph[str]":
        """The graph as a networkx.MultiDiGraph over the keys of the nodes.

        Each node has the attributes `sort` ("leaf", "op", "intermediate" or "result"), `label`
        and `node` (its dataclass); each edge has `output_nr` and `input_nr`.

        Raises:
            ImportError: networkx is not installed.
        """
        from gradwire.graph.nx import to_networkx

        return to_networkx(self)

    def save(self, path: str | PathLike[str], direction: Direction = "down") -> Path:
        """Writes the graph to a file in the form that its suffix names.

        Args:
            path: Ends in .svg, .dot (or .gv), .mmd, or .txt; .txt has every line.
            direction: Where data flows in the picture; .txt has none.

        Returns:
            The path.

        Raises:
            ValueError: Another suffix, or too large a graph for .svg.
        """
        file = Path(path)
        match file.suffix.lower():
            case ".svg":
                text = self.to_svg(direction)
            case ".dot" | ".gv":
                text = self.to_dot(direction)
            case ".mmd":
                text = self.to_mermaid(direction)
            case ".txt":
                text = self.to_text(max_lines=None)
            case other:
                raise ValueError(
                    f"cannot tell a form from the suffix {other!r} of {str(file)!r}: "
                    "use .svg, .dot, .gv, .mmd or .txt"
                )
        file.write_text(text + "\n", encoding="utf-8")
        return file

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        from gradwire.graph.labels import heading

        of = " of " + ", ".join(map(heading, self.results)) if self.results else ""
        leaves = _counted(len(self.leaves), "leaf", "leaves")
        ops = _counted(len(self.ops), "op", "ops")
        return f"<Graph{of}: {leaves}, {ops}, {_counted(len(self.edges), 'edge', 'edges')}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        text = self.to_text()
        if len(self.nodes) > NOTEBOOK_NODES:
            note = (
                f'A graph of {len(self.nodes):,} nodes; save("graph.svg") draws it all the same, '
                'save("graph.dot") writes it for Graphviz.'
            )
            return {"text/plain": f"{note}\n\n{text}"}
        try:
            return {"image/svg+xml": self.to_svg(), "text/plain": text}
        except ValueError as error:
            return {"text/plain": f"{error}\n\n{text}"}


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
