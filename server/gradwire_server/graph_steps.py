"""Steps about the graph itself: hooks, saved values, edges, origins of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.errors import EngineError
from gradwire_engine.node import AccumulateGrad, AnyNode, Node
from gradwire_engine.saved import saved_tensor
from gradwire_engine.tensor import Tensor
from gradwire_server.errors import ServiceError, failure_of, malformed
from gradwire_server.graph import nodes_by_id
from gradwire_server.hooks import ClientHook
from gradwire_server.programs import program_of
from gradwire_server.saved_hooks import register_pack_hook
from gradwire_server.workspace import ABSENT, Workspace

if TYPE_CHECKING:
    from gradwire_server.execute import Execution


class Origin(NamedTuple):
    """What recorded a node.

    Attributes:
        sequence: the number of its sequence.
        step: the step.
        call: of an Ops step, the call.
        handle: of the first result.
    """

    sequence: int
    step: int
    call: int | None
    handle: int


def note_origin(workspace: Workspace, origin: Origin, before: int) -> None:
    """Let the nodes that a step recorded remember it: those numbered after `before`."""
    result = workspace.tensors.get(origin.handle)
    nodes: list[AnyNode] = [] if result is None or result.edge is None else [result.edge[0]]
    while nodes:
        node = nodes.pop()
        if isinstance(node, Node) and node.id > before:
            node.origin = origin
            nodes += [edge[0] for edge in node.edges if edge is not None]


def add_origin(workspace: Workspace, failure: ServiceError) -> None:
    """Say of the node that a failure is about which step recorded it, if that is known."""
    number = failure.metadata.get("node", "")
    if not number.isdecimal():
        return
    for node in workspace.nodes():
        if node.id == int(number):
            origin = getattr(node, "origin", None)
            if origin is not None:
                failure.metadata |= {
                    "handle": str(origin.handle),
                    "origin_sequence": str(origin.sequence),
                    "origin_step": str(origin.step),
                }
                if origin.call is not None:
                    failure.metadata["origin_call"] = str(origin.call)
            return


def register_hook_step(run: Execution, message: pb.RegisterHook) -> None:
    """Register a hook of the client.

    Raises:
        ServiceError: HANDLE_IN_USE, HANDLE_NOT_FOUND, NODE_NOT_FOUND, HOOK_NO_GRAD, HOOK_NON_LEAF,
            MALFORMED_REQUEST.
    """
    workspace = run.workspace
    hooks = workspace.hooks
    if message.hook in hooks or not message.hook:
        raise ServiceError(
            "HANDLE_IN_USE",
            f"{message.hook} cannot be the number of a new hook: it is 0, or a live hook has it",
            field="register_hook.hook",
            metadata={"hook": message.hook},
        )
    if message.kind == pb.HOOK_KIND_PACK:
        register_pack_hook(workspace, message)
        return
    kind = message.WhichOneof("target")
    field = f"register_hook.{kind}"
    target: Any
    match kind:
        case "tensor":
            target = workspace.tensor(message.tensor, field)
        case "grad_fn_of":
            edge = workspace.tensor(message.grad_fn_of, field).gradient_edge()
            if edge is None:
                raise ServiceError(
                    "HOOK_NO_GRAD",
                    "a hook on a node needs a tensor with a place in the graph; this one does not "
                    "require grad",
                    field=field,
                )
            target = edge[0]
        case "node":
            (target,) = nodes_by_id(workspace, [message.node], field)
        case "tensors":
            handles = message.tensors.tensors
            target = [workspace.tensor(each, f"{field}[{at}]") for at, each in enumerate(handles)]
            if not target:
                raise malformed("a hook on several tensors needs at least one", field)
        case _:
            raise malformed("the hook has no target", "register_hook.target")
    program = None
    if message.HasField("program"):
        maximum = workspace.settings.max_steps
        program = program_of(message.program, "register_hook.program", maximum)
    hook = ClientHook(hooks, message.hook, message.max_value_bytes, program)
    try:
        hook.register(message.kind, target)
    except EngineError as error:
        failure = failure_of(error)
        failure.field = field
        raise failure from None


def remove_hook_step(run: Execution, message: pb.RemoveHook) -> None:
    """Remove a hook of the client."""
    run.workspace.hooks.remove(message.hook)


def get_saved_step(run: Execution, message: pb.GetSaved) -> None:
    """Give handles to tensors that a node holds.

    Raises:
        ServiceError: NODE_NOT_FOUND, WRONG_ARITY, BAD_VALUE, GRAPH_FREED, SAVED_MODIFIED, and what
            `require_free` raises.
    """
    # What a client packed, the client must unpack.
    run.may_call_client()
    workspace = run.workspace
    names, outputs = list(message.names), message.outputs[:]
    if len(outputs) != len(names):
        raise ServiceError(
            "WRONG_ARITY",
            f"{len(names)} names and {len(outputs)} outputs; each name needs one handle",
            field="get_saved.outputs",
            metadata={"names": len(names), "outputs": len(outputs)},
        )
    workspace.require_free(outputs, "get_saved.outputs")
    (node,) = nodes_by_id(workspace, [message.node], "get_saved.node")
    try:
        found = [saved_tensor(node, name) for name in names]
    except EngineError as error:
        failure = failure_of(error)
        failure.field = "get_saved.names"
        raise failure from None
    for handle, tensor in zip(outputs, found, strict=True):
        if tensor is None:
            workspace.blanks[handle] = ABSENT
        else:
            workspace.tensors[handle] = tensor


def tensors_or_edges(
    workspace: Workspace,
    handles: Sequence[int],
    field: str,
    edges: Sequence[pb.GradientEdge],
    edge_field: str,
) -> list[Tensor]:
    """Tensors by handle; 0 stands for the next edge, as a tensor that would have that edge.

    Raises:
        ServiceError: HANDLE_NOT_FOUND, NODE_NOT_FOUND, BAD_VALUE, WRONG_ARITY.
    """
    nodes = nodes_by_id(workspace, [each.node for each in edges], edge_field)
    held = []
    for at, (node, edge) in enumerate(zip(nodes, edges, strict=True)):
        if edge.nr >= len(node.outputs):
            raise ServiceError(
                "BAD_VALUE",
                f"{node.name} has no output {edge.nr}; it has {len(node.outputs)}",
                field=f"{edge_field}[{at}].nr",
                metadata={"nr": edge.nr, "outputs": len(node.outputs)},
            )
        held.append(_stand_in(node, edge.nr))
    if sum(not handle for handle in handles) != len(held):
        raise ServiceError(
            "WRONG_ARITY",
            f"{len(held)} edges, for which {field} must have as many zeros",
            field=edge_field,
            metadata={"edges": len(held)},
        )
    following = iter(held)
    return [
        workspace.tensor(handle, f"{field}[{at}]") if handle else next(following)
        for at, handle in enumerate(handles)
    ]


def _stand_in(node: AnyNode, nr: int) -> Tensor:
    """A tensor for a place in the graph whose own tensor nobody holds any more: without values."""
    if isinstance(node, AccumulateGrad):
        return node.variable
    shape, dtype = node.outputs[nr]
    tensor = Tensor(np.broadcast_to(np.zeros((), dtype), shape))
    tensor.edge = (node, nr)
    return tensor
