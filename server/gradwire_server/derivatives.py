"""Steps that go through the graph, or give it nodes of the client's own making."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.autograd import backward, grad
from gradwire_engine.errors import EngineError
from gradwire_engine.forward import jvp
from gradwire_engine.functions import checkpoint, custom_function
from gradwire_engine.jacobians import forward_jacobian, jacobian
from gradwire_engine.program import Program
from gradwire_engine.tensor import Tensor
from gradwire_server.errors import ServiceError, failure_of
from gradwire_server.programs import program_of, require_name
from gradwire_server.workspace import STEP_FLOPS

if TYPE_CHECKING:
    from gradwire_server.execute import Execution


@dataclass(slots=True)
class BackwardStep:
    """What a Backward says.

    Attributes:
        tensors: handles of the roots; 0 stands for the next of the edges.
        edges: roots of which the client has no handle.
        gradients: handles of their gradients; 0 for the implicit one.
        inputs: the only places that get gradients, handles and edges as above; None for all leaves.
        retain_graph: None where it was not said.
        create_graph: record the pass.
    """

    tensors: list[int]
    edges: Sequence[pb.GradientEdge]
    gradients: list[int]
    inputs: tuple[list[int], Sequence[pb.GradientEdge]] | None
    retain_graph: bool | None
    create_graph: bool

    @classmethod
    def read(cls, message: pb.Backward) -> BackwardStep:
        """Take the message apart."""
        inputs = None
        if message.HasField("inputs"):
            inputs = (message.inputs.tensors[:], message.input_edges[:])
        return cls(
            message.tensors[:],
            message.edges[:],
            message.gradients[:],
            inputs,
            message.retain_graph if message.HasField("retain_graph") else None,
            message.create_graph,
        )


def backward_step(run: Execution, told: BackwardStep) -> None:
    """Go backward into `.grad`."""
    tensors = run.tensors_at(told.tensors, "backward.tensors", told.edges, "backward.edges")
    if not tensors:
        raise _names_none("backward.tensors")
    gradients = None
    if told.gradients:
        gradients = run.named_or_none(told.gradients, "backward.gradients")
    inputs = None
    if told.inputs is not None:
        handles, edges = told.inputs
        inputs = run.tensors_at(handles, "backward.inputs.tensors", edges, "backward.input_edges")
    run.may_call_client()
    run.spend_on_backward("backward")
    run.settle()
    try:
        backward(
            tensors,
            gradients,
            retain_graph=told.retain_graph,
            create_graph=told.create_graph,
            inputs=inputs,
        )
    except EngineError as error:
        raise _of_backward(error, "backward", "tensors", "gradients", "inputs") from None
    run.count_backward(told.create_graph, told.retain_graph)


def grad_step(run: Execution, message: pb.Grad) -> None:
    """Make gradients, or Jacobians, as new tensors."""
    workspace = run.workspace
    outputs = run.tensors_at(
        message.outputs[:], "grad.outputs", message.output_edges, "grad.output_edges"
    )
    if not outputs:
        raise _names_none("grad.outputs")
    inputs = run.tensors_at(
        message.inputs[:], "grad.inputs", message.input_edges, "grad.input_edges"
    )
    grad_outputs = run.named_or_none(message.grad_outputs, "grad.grad_outputs") or None
    variables = None
    if message.HasField("variables"):
        variables = run.named(message.variables.tensors, "grad.variables.tensors")
    first = message.output
    made = range(first, first + len(inputs))
    workspace.require_free(made, "grad.output")
    keep = message.retain_graph if message.HasField("retain_graph") else None
    create_graph = message.create_graph
    options: dict[str, Any] = {
        "retain_graph": keep,
        "create_graph": create_graph,
        "allow_unused": message.allow_unused if message.HasField("allow_unused") else None,
        "materialize_grads": message.materialize_grads,
        "variables": variables,
    }
    passes = 1
    if message.is_jacobian:
        _require_alone(message.outputs, message.grad_outputs, "grad", "outputs", "grad_outputs")
        passes = outputs[0].data.size
    elif message.is_grads_batched and grad_outputs and grad_outputs[0] is not None:
        passes = grad_outputs[0].shape[0] if grad_outputs[0].ndim else 1
    run.may_call_client()
    run.spend_on_backward("grad", passes)
    # Hooks may change tensors in place.
    run.settle()
    try:
        if message.is_jacobian:
            gradients = jacobian(outputs[0], inputs, **options)
        else:
            gradients = grad(
                outputs,
                inputs,
                grad_outputs,
                is_grads_batched=message.is_grads_batched,
                **options,
            )
    except EngineError as error:
        raise _of_backward(error, "grad", "outputs", "grad_outputs", "inputs") from None
    _count_derivatives(run, gradients, create_graph, keep, variables)
    for handle, gradient in zip(made, gradients, strict=True):
        run.make(handle, gradient)


def jvp_step(run: Execution, message: pb.Jvp) -> None:
    """Make Jacobian-vector products as new tensors."""
    workspace = run.workspace
    outputs = run.named(message.outputs, "jvp.outputs")
    if not outputs:
        raise _names_none("jvp.outputs")
    inputs = run.named(message.inputs, "jvp.inputs")
    tangents = run.named(message.tangents, "jvp.tangents")
    variables = None
    if message.HasField("variables"):
        variables = run.named(message.variables.tensors, "jvp.variables.tensors")
    first = message.output
    made = range(first, first + len(outputs))
    workspace.require_free(made, "jvp.output")
    create_graph = message.create_graph
    passes = 1
    if message.is_jacobian:
        _require_alone(message.inputs, message.tangents, "jvp", "inputs", "tangents")
        passes = inputs[0].data.size
    run.may_call_client()
    # Each goes through a backward that was recorded, which is about twice as long.
    run.spend_on_backward("jvp", 1 + 2 * passes)
    # Hooks may change tensors in place.
    run.settle()
    results: Sequence[Tensor]
    try:
        if message.is_jacobian:
            results = forward_jacobian(
                outputs, inputs[0], create_graph=create_graph, variables=variables
            )
        else:
            results = jvp(outputs, inputs, tangents, create_graph=create_graph, variables=variables)
    except EngineError as error:
        raise _of_backward(error, "jvp", "outputs", "tangents", "inputs") from None
    _count_derivatives(run, results, create_graph, True, variables)
    for handle, tangent in zip(made, results, strict=True):
        run.make(handle, tangent)


def custom_function_step(run: Execution, message: pb.CustomFunction) -> None:
    """Give tensors a backward of the client's own."""
    settings = run.workspace.settings
    inputs = run.named(message.inputs, "custom_function.inputs")
    outputs = run.named(message.outputs, "custom_function.outputs")
    saved = run.named(message.saved, "custom_function.saved")
    name = require_name(message.name, "custom_function.name")
    backward = program_of(message.backward, "custom_function.backward", settings.max_steps)
    require_count(backward.inputs, len(saved) + len(outputs), "custom_function.backward.inputs")
    require_count(len(backward.outputs), len(inputs), "custom_function.backward.outputs")
    partial = _partial_backwards(run, message, len(saved))
    dirty = run.named(message.dirty, "custom_function.dirty")
    for at, each in enumerate(dirty):
        if not (any(each is one for one in inputs) and any(each is one for one in outputs)):
            raise ServiceError(
                "BAD_VALUE",
                "a tensor that a custom function has changed in place must be both an input and an "
                "output",
                field=f"custom_function.dirty[{at}]",
            )
    for at, output in enumerate(outputs):
        if output.requires_grad and not any(output is each for each in dirty):
            raise ServiceError(
                "BAD_VALUE",
                "an output of a custom function has a graph already; compute it under no_grad",
                field=f"custom_function.outputs[{at}]",
            )
    try:
        custom_function(
            name,
            inputs,
            outputs,
            saved,
            backward,
            once_differentiable=message.once_differentiable,
            partial=partial,
            dirty=dirty,
        )
    except EngineError as error:
        failure = failure_of(error)
        failure.field = "custom_function.dirty"
        raise failure from None
    run.workspace.work += STEP_FLOPS * (1 + len(backward.instructions))
    run.workspace.nodes_bound += 1


def _partial_backwards(
    run: Execution, message: pb.CustomFunction, saved: int
) -> dict[tuple[int, ...], Program]:
    """The backwards for when not all outputs have a gradient, by the indices of those that have."""
    found: dict[tuple[int, ...], Program] = {}
    left = run.workspace.settings.max_steps
    for at, each in enumerate(message.partial):
        field = f"custom_function.partial[{at}]"
        present = tuple(each.present)
        if any(index >= len(message.outputs) for index in present) or present in found:
            raise ServiceError(
                "BAD_VALUE",
                f"{list(present)} are not indices of outputs, or there is a backward for them "
                "already",
                field=f"{field}.present",
            )
        program = program_of(each.backward, f"{field}.backward", left)
        left -= len(program.instructions)
        require_count(program.inputs, saved + len(present), f"{field}.backward.inputs")
        require_count(len(program.outputs), len(message.inputs), f"{field}.backward.outputs")
        found[present] = program
    return found


def checkpoint_step(run: Execution, message: pb.Checkpoint) -> None:
    """Run a program that keeps nothing but its inputs."""
    workspace = run.workspace
    inputs = run.named(message.inputs, "checkpoint.inputs")
    program = program_of(message.program, "checkpoint.program", workspace.settings.max_steps)
    require_count(program.inputs, len(inputs), "checkpoint.program.inputs")
    if None in program.outputs:
        raise ServiceError(
            "BAD_VALUE",
            "each output of a checkpointed program must be there",
            field="checkpoint.program.outputs",
        )
    made = range(message.output, message.output + len(program.outputs))
    workspace.require_free(made, "checkpoint.output")
    run.leave_loop()
    outputs = checkpoint(program, inputs)
    for handle, output in zip(made, outputs, strict=True):
        run.make(handle, output)
    # The backward runs the program again, with a graph of its own.
    workspace.work += 3 * STEP_FLOPS * len(program.instructions)
    workspace.nodes_bound += 1


def _count_derivatives(
    run: Execution,
    found: Sequence[Tensor | None],
    create_graph: bool,
    keep: bool | None,
    variables: Sequence[Tensor] | None,
) -> None:
    """Count what passes for new tensors left."""
    if variables is not None:
        create_graph = any(each is not None and each.requires_grad for each in found)
    run.count_backward(create_graph, keep)


def require_count(given: int, expected: int, field: str) -> None:
    """Refuse a list of another length than it must have.

    Raises:
        ServiceError: WRONG_ARITY.
    """
    if given != expected:
        raise ServiceError(
            "WRONG_ARITY",
            f"{field} names {given}, and there must be {expected}",
            field=field,
            metadata={"given": given, "expected": expected},
        )


def _names_none(field: str) -> ServiceError:
    return ServiceError(
        "WRONG_ARITY",
        f"{field} names no tensor; there must be at least one to go backward from",
        field=field,
    )


def _require_alone(
    tensors: Sequence[int], directions: Sequence[int], step: str, field: str, other: str
) -> None:
    """Refuse a Jacobian of several tensors, or with directions besides the unit ones."""
    if len(tensors) != 1:
        raise ServiceError(
            "WRONG_ARITY",
            f"is_jacobian takes one tensor in {field}, not {len(tensors)}; use one step for each",
            field=f"{step}.{field}",
            metadata={"given": len(tensors)},
        )
    if directions:
        raise ServiceError(
            "BAD_VALUE",
            f"is_jacobian goes along every unit direction itself; leave out {other}",
            field=f"{step}.{other}",
        )


def _of_backward(
    error: EngineError, step: str, roots: str, seeds: str, inputs: str
) -> ServiceError:
    """The failure of a backward, with the field that the engine's error is about."""
    failure = failure_of(error)
    match error.reason:
        case "NO_GRAPH":
            at = f"{roots}[{error.metadata['tensor']}]"
        case "NON_SCALAR_ROOT" | "GRADIENT_SHAPE" | "GRADIENT_DTYPE" | "WRONG_ARITY":
            at = seeds
        case "UNUSED_INPUT" | "INPUT_NO_GRAD":
            at = f"{inputs}[{error.metadata['input']}]"
        case "NO_INPUTS":
            at = inputs
        case "BAD_VALUE":
            at = error.argument or "allow_unused"
        case _:
            at = roots
    failure.field = f"{step}.{at}"
    return failure
