"""GetGraph: the graph behind tensors or nodes, newest node first, in pages."""

from __future__ import annotations

from collections.abc import Iterable

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import dtype_to_wire
from gradwire_engine.node import AccumulateGrad, AnyNode
from gradwire_engine.saved import saved_arrays, saved_attributes
from gradwire_engine.tensor import Tensor
from gradwire_server.encode import set_attribute, set_info, set_node_ref
from gradwire_server.errors import ServiceError
from gradwire_server.pages import make_token, page_size, read_token
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
    position = read_token(call, request.page_token)
    tensors = [
        workspace.tensor(handle, f"tensors[{at}]") for at, handle in enumerate(request.tensors)
    ]
    starts = [tensor.edge[0] for tensor in tensors if tensor.edge is not None]
    starts += nodes_by_id(workspace, request.nodes, "nodes")
    # Numbers rise in order of recording, so a page is found again though nodes were added.
    found = sorted(_reachable(starts, request.max_depth), key=lambda node: -node.id)
    if position is not None:
        found = [node for node in found if node.id < int(position)]
    response = pb.GetGraphResponse()
    for handle, tensor in zip(request.tensors, tensors, strict=True):
        root = response.roots.add()
        root.tensor = handle
        set_info(root.info, tensor)
        edge = tensor.gradient_edge()
        if edge is not None:
            set_node_ref(root.gradient_edge, *edge)
    leaves = _Leaves(workspace)
    for node in found[:size]:
        _add_node(response, node, leaves)
    if len(found) > size:
        response.next_page_token = make_token(call, str(found[size - 1].id))
    return response


def nodes_by_id(workspace: Workspace, ids: Iterable[int], field: str) -> list[AnyNode]:
    """Nodes that the handles of a session reach; `field` is where they were named.

    Raises:
        ServiceError: NODE_NOT_FOUND.
    """
    wanted = list(ids)
    if not wanted:
        return []
    missing = set(wanted)
    found: dict[int, AnyNode] = {}
    for node in workspace.nodes():
        if node.id in missing:
            missing.discard(node.id)
            found[node.id] = node
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


def _reachable(starts: Iterable[AnyNode], max_depth: int) -> list[AnyNode]:
    """Each node within `max_depth` edges of the starts, once; 0 for no bound."""
    layer = list(dict.fromkeys(starts))
    seen: set[AnyNode] = set(layer)
    reached = list(layer)
    depth = 0
    while layer and (not max_depth or depth < max_depth):
        following: list[AnyNode] = []
        for node in layer:
            for edge in node.edges:
                if edge is not None and edge[0] not in seen:
                    seen.add(edge[0])
                    following.append(edge[0])
        reached += following
        layer = following
        depth += 1
    return reached


class _Leaves:
    """Handles of leaves, looked up only if a page has an AccumulateGrad."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._handles: dict[int, int] | None = None

    def handle_of(self, tensor: Tensor) -> int:
        """The first handle of a leaf; 0 if none names it."""
        if self._handles is None:
            self._handles = {}
            for handle, each in self._workspace.tensors.items():
                if each.edge is None:
                    self._handles.setdefault(id(each), handle)
        return self._handles.get(id(tensor), 0)


def _add_node(response: pb.GetGraphResponse, node: AnyNode, leaves: _Leaves) -> None:
    message = response.nodes.add()
    message.id = node.id
    message.name = node.name
    message.sequence_number = node.sequence_number
    message.released = node.released
    for edge in node.edges:
        target = message.next.add()
        if edge is not None:
            set_node_ref(target, *edge)
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
