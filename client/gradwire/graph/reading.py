"""GetGraph's answers, read into the nodes and edges of a `Graph`."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from gradwire.graph.model import (
    AttributeValue,
    Edge,
    Intermediate,
    Leaf,
    Node,
    Op,
    Result,
    TensorType,
)
from gradwire.v1 import autograd_pb2 as pb

_LEAF_NODE: Final = "AccumulateGrad"


def read(
    responses: Iterable[pb.GetGraphResponse],
    names: Mapping[int, str],
    results: Collection[int] | None,
) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    """Nodes in order of data flow, and edges in order of their targets.

    Raises:
        ValueError: A handle of `results` is not a root of the call.
    """
    recorded: dict[int, pb.Node] = {}
    roots: dict[int, pb.TensorInfo] = {}
    for response in responses:
        recorded.update((node.id, node) for node in response.nodes)
        roots.update((root.tensor, root.info) for root in response.roots)
    wanted = list(roots) if results is None else list(dict.fromkeys(results))
    missing = [handle for handle in wanted if handle not in roots]
    if missing:
        raise ValueError(f"handles {missing} are not among the roots {list(roots)} of the graph")

    nodes: dict[str, Node] = {_key(id): _node(node, names) for id, node in recorded.items()}
    for node in recorded.values():
        for ref in node.next:
            if ref.id and ref.id not in recorded:
                # Beyond the depth that was asked for: no more than its name is known.
                nodes.setdefault(_key(ref.id), _node(pb.Node(id=ref.id, name=ref.name), names))

    leaves = {node.handle: key for key, node in nodes.items() if isinstance(node, Leaf)}
    made_by: dict[str, pb.NodeRef] = {}
    tensor_of: dict[tuple[int, int], str] = {}
    starts: list[str] = []
    for handle in wanted + [handle for handle in roots if handle not in wanted]:
        info, name, is_result = roots[handle], names.get(handle, ""), handle in wanted
        maker = (info.grad_fn.id, info.grad_fn.nr)
        key = f"t{handle}"
        if not info.grad_fn.id:
            if not is_result:
                continue
            key = leaves.get(handle, key)
            nodes.setdefault(key, Leaf(key, name, handle, 0, _type(info), info.requires_grad))
        elif is_result:
            nodes[key] = Result(key, name, handle, _type(info))
        elif name and maker not in tensor_of:
            nodes[key] = Intermediate(key, name, handle, _type(info))
        else:
            continue
        if info.grad_fn.id:
            made_by[key] = info.grad_fn
            tensor_of.setdefault(maker, key)
        if is_result:
            starts.append(key)
    if results is None:
        taken = {ref.id for node in recorded.values() for ref in node.next}
        starts += [_key(id) for id in recorded if id not in taken]

    def inputs(key: str) -> list[Edge]:
        if key in made_by:
            maker = made_by[key]
            return [Edge(_key(maker.id), key, output_nr=maker.nr)]
        node = nodes[key]
        if not isinstance(node, Op) or node.id not in recorded:
            return []
        return [
            Edge(tensor, key, input_nr=number)
            if (tensor := tensor_of.get((ref.id, ref.nr)))
            else Edge(_key(ref.id), key, output_nr=ref.nr, input_nr=number)
            for number, ref in enumerate(recorded[node.id].next)
            if ref.id
        ]

    order, edges = _data_flow(starts, inputs)
    return tuple(nodes[key] for key in order), edges


def _data_flow(
    starts: Iterable[str], inputs: Callable[[str], list[Edge]]
) -> tuple[list[str], tuple[Edge, ...]]:
    """What the starts depend on, each node after its inputs, and the edges into each."""
    order: list[str] = []
    edges: list[Edge] = []
    seen: set[str] = set()
    for start in starts:
        if start in seen:
            continue
        seen.add(start)
        stack: list[tuple[str, list[Edge], Iterator[Edge]]] = []
        into = inputs(start)
        stack.append((start, into, iter(into)))
        while stack:
            key, into, rest = stack[-1]
            source = next((edge.source for edge in rest if edge.source not in seen), None)
            if source is None:
                stack.pop()
                order.append(key)
                edges += into
            else:
                seen.add(source)
                into = inputs(source)
                stack.append((source, into, iter(into)))
    return order, tuple(edges)


def _key(id: int) -> str:
    return f"n{id}"


def _node(node: pb.Node, names: Mapping[int, str]) -> Leaf | Op:
    outputs = tuple(_type(output) for output in node.outputs)
    if node.name == _LEAF_NODE:
        type_ = outputs[0] if outputs else None
        return Leaf(_key(node.id), names.get(node.variable, ""), node.variable, node.id, type_)
    return Op(
        _key(node.id),
        node.id,
        node.name,
        node.op,
        tuple((attribute.name, _value(attribute)) for attribute in node.attributes),
        outputs,
        tuple(number for number, ref in enumerate(node.next) if not ref.id),
        node.released,
        node.forward_ns,
        node.backward_ns,
    )


def _type(type_: pb.TensorType | pb.TensorInfo) -> TensorType:
    return TensorType(_dtype(type_.dtype), tuple(type_.shape))


def _dtype(dtype: pb.Dtype) -> str:
    """PyTorch's name of an element type; "dtype 99" for one newer than this client."""
    try:
        return pb.Dtype.Name(dtype).removeprefix("DTYPE_").lower()
    except ValueError:
        return f"dtype {int(dtype)}"


def _value(attribute: pb.Attribute) -> AttributeValue:
    match attribute.WhichOneof("value"):
        case "bool_value":
            return attribute.bool_value
        case "int_value":
            return attribute.int_value
        case "double_value":
            return attribute.double_value
        case "complex_value":
            return complex(attribute.complex_value.real, attribute.complex_value.imag)
        case "string_value":
            return attribute.string_value
        case "dtype_value":
            return _dtype(attribute.dtype_value)
        case "int_list":
            return tuple(attribute.int_list.values)
        case "double_list":
            return tuple(attribute.double_list.values)
        case "tensor_list":
            return tuple(attribute.tensor_list.tensors)
        case _:
            return "?"
