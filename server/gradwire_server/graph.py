"""GetGraph: the graph behind tensors or nodes, newest node first, in pages."""

from __future__ import annotations

from collections.abc import Iterable

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import dtype_to_wire
from gradwire_engine.node import AccumulateGrad, AnyNode
from gradwire_engine.saved import saved_arrays, saved_attributes
from gradwire_server.encode import set_attribute, set_info, set_node_ref
from gradwire_server.errors import ServiceError
from gradwire_server.pages import make_token, page_size, read_number
from gradwire_server.walks import Leaves, Reading, Walk
from gradwire_server.workspace import Workspace


def read_graph(workspace: Workspace, request: pb.GetGraphRequest) -> pb.GetGraphResponse:
    """One page of the graph.

    Raises:
        ServiceError: HANDLE_NOT_FOUND, NODE_NOT_FOUND, BAD_VALUE, BAD_PAGE_TOKEN.
    """
    size = page_size(request.page_size, 1000, 10_000)
    call = pb.GetGraphRequest(
        session_id=request.session_id,
        tensors=request.tensors,
        nodes=request.nodes,
        max_depth=request.max_depth,
    ).SerializeToString(deterministic=True)
    position = read_number(call, request.page_token)
    tensors = [
        workspace.tensor(handle, f"tensors[{at}]") for at, handle in enumerate(request.tensors)
    ]
    reading = workspace.readings.take(request.page_token) if request.page_token else None
    if reading is None:
        starts = [node for tensor in tensors if (node := tensor.grad_fn) is not None]
        starts += nodes_by_id(workspace, request.nodes, "nodes")
        reading = Reading(Walk(starts, request.max_depth), Leaves(workspace.tensors))
    response = pb.GetGraphResponse()
    for handle, tensor in zip(request.tensors, tensors, strict=True):
        root = response.roots.add()
        root.tensor = handle
        set_info(root.info, tensor)
        edge = tensor.gradient_edge()
        if edge is not None:
            set_node_ref(root.gradient_edge, *edge)
            workspace.seen.add(edge[0])
    # Numbers rise in order of recording, so a page is found again though nodes were added.
    found = reading.walk.take(size, before=position)
    for node in found:
        _add_node(response, node, reading.leaves, workspace)
    if found and reading.walk.waiting:
        response.next_page_token = make_token(call, str(found[-1].id))
        workspace.readings.keep(response.next_page_token, reading)
    return response


def nodes_by_id(workspace: Workspace, ids: Iterable[int], field: str) -> list[AnyNode]:
    """Nodes that the handles of a session reach; `field` is where they were named.

    Raises:
        ServiceError: NODE_NOT_FOUND.
    """
    wanted = list(ids)
    if not wanted:
        return []
    seen = {number: workspace.seen.find(number) for number in wanted}
    found = {number: node for number, node in seen.items() if node is not None}
    missing = seen.keys() - found.keys()
    for node in workspace.nodes() if missing else ():
        if node.id in missing:
            missing.discard(node.id)
            found[node.id] = node
            workspace.seen.add(node)
            if not missing:
                break
    for at, number in enumerate(wanted):
        if number not in found:
            raise ServiceError(
                "NODE_NOT_FOUND",
                f"there is no node {number}; it was never recorded, or nothing holds it any more",
                field=f"{field}[{at}]",
                metadata={"node": number},
            )
    return [found[number] for number in wanted]


def _add_node(
    response: pb.GetGraphResponse, node: AnyNode, leaves: Leaves, workspace: Workspace
) -> None:
    seen = workspace.seen
    seen.add(node)
    message = response.nodes.add()
    message.id = node.id
    message.name = node.name
    message.sequence_number = node.sequence_number
    message.released = node.released
    times = workspace.node_times.get(node)
    if times is not None:
        message.forward_ns = times.forward
        message.backward_ns = times.backward
    for edge in node.edges:
        target = message.next.add()
        if edge is not None:
            set_node_ref(target, *edge)
            seen.add(edge[0])
    for shape, dtype in node.outputs:
        output = message.outputs.add()
        output.dtype = dtype_to_wire(dtype)  # type: ignore[assignment]
        output.shape.extend(shape)
    if isinstance(node, AccumulateGrad):
        message.variable = leaves.handle_of(node.variable)
        return
    message.op = node.op.name
    for name, value in node.attributes.items():
        set_attribute(message.attributes.add(), name, value)
    for name, array in saved_arrays(node).items():
        saved = message.saved.add()
        saved.name = name
        saved.type.dtype = dtype_to_wire(array.dtype)  # type: ignore[assignment]
        saved.type.shape.extend(array.shape)
        saved.size_bytes = array.nbytes
    for name, value in saved_attributes(node).items():
        set_attribute(message.saved_attributes.add(), name, value)
