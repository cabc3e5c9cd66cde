"""Graphs to draw: answers of GetGraph, put together by hand, and random ones."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import strategies as st

from gradwire.graph import Edge, Graph, Leaf, Node, Op, Result, TensorType
from gradwire.v1 import autograd_pb2 as pb

F32 = pb.DTYPE_FLOAT32
FLOATS = TensorType("float32", (2, 3))


def op(
    id: int,
    name: str,
    wire_name: str,
    next: Sequence[tuple[int, str] | tuple[int, str, int] | None],
    *attributes: pb.Attribute,
    shape: Sequence[int] = (1,),
    outputs: int = 1,
) -> pb.Node:
    return pb.Node(
        id=id,
        name=name,
        op=wire_name,
        sequence_number=id,
        next=[
            pb.NodeRef() if ref is None else pb.NodeRef(id=ref[0], name=ref[1], nr=sum(ref[2:]))
            for ref in next
        ],
        attributes=attributes,
        outputs=[pb.TensorType(dtype=F32, shape=shape)] * outputs,
    )


def leaf(id: int, variable: int, shape: Sequence[int] = (1,)) -> pb.Node:
    return pb.Node(
        id=id,
        name="AccumulateGrad",
        sequence_number=2**64 - 1,
        variable=variable,
        outputs=[pb.TensorType(dtype=F32, shape=shape)],
    )


def root(
    tensor: int, made_by: tuple[int, str, int] | None, shape: Sequence[int] = (1,)
) -> pb.GraphRoot:
    info = pb.TensorInfo(dtype=F32, shape=shape, requires_grad=True, is_leaf=made_by is None)
    if made_by is not None:
        id, name, nr = made_by
        info.grad_fn.CopyFrom(pb.NodeRef(id=id, name=name, nr=nr))
    return pb.GraphRoot(tensor=tensor, info=info)


X, Z, Y = 1, 2, 3
TUTORIAL = pb.GetGraphResponse(
    nodes=[
        op(
            12,
            "PowBackward0",
            "pow",
            [(11, "AddBackward0")],
            pb.Attribute(name="exponent", int_value=2),
        ),
        op(
            11,
            "AddBackward0",
            "add",
            [(10, "AccumulateGrad"), None],
            pb.Attribute(name="other", int_value=2),
        ),
        leaf(10, X),
    ],
    roots=[root(Y, (12, "PowBackward0", 0)), root(Z, (11, "AddBackward0", 0))],
)
"""x = tensor([3.0], requires_grad=True); z = x + 2; y = z ** 2, asked of y and z."""


def tutorial() -> Graph:
    return Graph.from_responses([TUTORIAL], {X: "x", Z: "z", Y: "y"}, results=[Y])


def loop(turns: int) -> Graph:
    """X = w * x, again and again: w is taken in every layer."""
    nodes: list[Node] = [
        Leaf("w", "w", 1, 1, FLOATS),
        Leaf("x", "x", 2, 2, FLOATS),
        *(Op(f"m{turn}", turn + 3, "MulBackward0", "mul", (), (FLOATS,)) for turn in range(turns)),
        Result("y", "y", 3, FLOATS),
    ]
    keys = ["x", *(f"m{turn}" for turn in range(turns)), "y"]
    edges = [Edge(source, target) for source, target in pairwise(keys)]
    edges += [Edge("w", f"m{turn}", 0, 1) for turn in range(turns)]
    return Graph(tuple(nodes), tuple(edges))


def chain(length: int) -> Graph:
    nodes = [
        Leaf("n0", "x", 1, 0, FLOATS),
        *(
            Op(f"n{step}", step, "AddBackward0", "add", (("other", 1),), (FLOATS,))
            for step in range(1, length)
        ),
    ]
    return Graph(tuple(nodes), tuple(Edge(f"n{step - 1}", f"n{step}") for step in range(1, length)))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Random graphs: several components, parallel edges, edges over many layers, long names."""
    count = draw(st.integers(1, 25))
    nodes: list[Node] = []
    edges: list[Edge] = []
    for index in range(count):
        key = f"n{index}"
        sources = draw(st.lists(st.integers(0, index - 1), max_size=4)) if index else []
        if not sources:
            nodes.append(Leaf(key, draw(st.text(max_size=20)), index, 0, FLOATS))
            continue
        outputs = (FLOATS,) * draw(st.integers(1, 3))
        nodes.append(Op(key, index, f"{draw(st.text(max_size=30))}Backward0", "", (), outputs))
        edges += (Edge(f"n{source}", key, 0, number) for number, source in enumerate(sources))
    return Graph(tuple(nodes), tuple(edges))
