"""Steps about the flags of tensors, and their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.errors import EngineError
from gradwire_server.errors import ServiceError, failure_of

if TYPE_CHECKING:
    from gradwire_server.execute import Execution


def requires_grad_step(run: Execution, message: pb.RequiresGrad) -> None:
    """Set whether a leaf requires grad."""
    tensor = run.workspace.tensor(message.tensor, "requires_grad.tensor")
    with _At("requires_grad.value"):
        tensor.set_requires_grad(message.value, leaf_only=message.leaf_only)
    if message.value:
        run.workspace.grad_bytes += tensor.data.nbytes


def retain_grad_step(run: Execution, message: pb.RetainGrad) -> None:
    """Let a non-leaf keep its gradient."""
    tensor = run.workspace.tensor(message.tensor, "retain_grad.tensor")
    with _At("retain_grad.tensor"):
        tensor.retain_grad()
    run.workspace.grad_bytes += tensor.data.nbytes


@dataclass(slots=True)
class GetGradStep:
    """What a GetGrad says: whose gradients, and the handle of each."""

    tensors: list[int]
    outputs: list[int]

    @classmethod
    def read(cls, message: pb.GetGrad) -> GetGradStep:
        """Take the message apart."""
        return cls(message.tensors[:], message.outputs[:])


def get_grad_step(run: Execution, told: GetGradStep) -> None:
    """Name the gradients of tensors."""
    tensors = run.named(told.tensors, "get_grad.tensors")
    outputs = told.outputs
    if len(outputs) != len(tensors):
        raise ServiceError(
            "WRONG_ARITY",
            f"{len(tensors)} tensors and {len(outputs)} outputs; there must be one handle for "
            "the gradient of each tensor",
            field="get_grad.outputs",
            metadata={"tensors": len(tensors), "outputs": len(outputs)},
        )
    run.workspace.require_free(outputs, "get_grad.outputs")
    for handle, tensor in zip(outputs, tensors, strict=True):
        run.make(handle, tensor.grad)


def set_grad_step(run: Execution, message: pb.SetGrad) -> None:
    """Replace the gradient of a tensor."""
    tensor = run.workspace.tensor(message.tensor, "set_grad.tensor")
    gradient = run.workspace.tensor(message.grad, "set_grad.grad") if message.grad else None
    with _At("set_grad.grad"):
        tensor.set_grad(gradient)


class _At:
    """Gives an engine's error the field that it is about."""

    __slots__ = ("field",)

    def __init__(self, field: str) -> None:
        self.field = field

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, EngineError):
            failure = failure_of(error)
            failure.field = self.field
            raise failure from None
