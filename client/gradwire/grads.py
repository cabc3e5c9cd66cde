"""The `.grad` of tensors: what a backward left there, and setting it."""

import warnings
from typing import TYPE_CHECKING

from gradwire import reading, tracing
from gradwire import tensors as _tensors
from gradwire.errors import refused
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.tensors import Tensor


def grad_of(tensor: "Tensor") -> "Tensor | None":
    """The gradient accumulated at a tensor; the same object until it is replaced.

    One round trip tells it of all tensors; none is needed where no backward was recorded since.
    """
    trace = tracing.running(tensor._session)
    if trace is not None:
        return trace.grad_of(tensor)
    tensor._session.grads_read = True
    known = tensor._known
    if known is not None and known.grad is not None and reading.is_resolved(tensor):
        return known.grad
    grad = tensor._session.finish(read_grad(tensor))
    if grad is None:
        warn_unless_filled(tensor, stacklevel=4)
    return grad


async def read_grad(tensor: "Tensor") -> "Tensor | None":
    """As `grad_of`, to be awaited. Where there is none, metadata is known then."""
    trace = tracing.running(tensor._session)
    if trace is not None:
        return trace.grad_of(tensor)
    tensor._session.grads_read = True
    return await reading.learn_grad(tensor)


def warn_unless_filled(tensor: "Tensor", stacklevel: int) -> None:
    """Warn of a `.grad` that is None because no backward fills it; metadata is known."""
    known = tensor._known
    info = None if known is None else known.info
    if info is not None and not info.is_leaf and not info.retains_grad:
        warnings.warn(
            "the .grad of a tensor that is not a leaf is read; backward() does not fill it. "
            "Call retain_grad() on the tensor before backward(), or read the .grad of a leaf",
            UserWarning,
            stacklevel=stacklevel,
        )


def set_grad(tensor: "Tensor", value: object) -> None:
    """Replace the gradient of a tensor; None takes it away.

    Raises:
        TypeError: the value is neither a tensor nor None.
        RuntimeError: it is the tensor itself; or (at the next reading) its shape or dtype differ.
    """
    session = tensor._session
    trace = tracing.running(session)
    if value is None:
        if trace is not None:
            trace.set_grad(tensor, None)
            return
        handle = 0
        known = reading.known(tensor)
        if known.grad is None and reading.is_resolved(tensor):
            return
    elif isinstance(value, _tensors.Tensor):
        if value is tensor:
            raise refused(
                "BAD_GRAD_ASSIGNMENT", "a tensor cannot be its own .grad; assign a clone()"
            )
        if value._session is not session:
            raise refused(
                "BAD_GRAD_ASSIGNMENT", "a .grad must live in the same session as its tensor"
            )
        if trace is not None:
            trace.set_grad(tensor, value)
            return
        handle = value._handle
        known = reading.known(tensor)
        session.grads_seen = True
    else:
        raise refused(
            "BAD_ATTRIBUTE", f".grad must be a tensor or None, not {type(value).__name__}"
        )
    session.step(pb.Step(set_grad=pb.SetGrad(tensor=tensor._handle, grad=handle)))
    known.grad = value
    known.grad_at = session.backwards
