"""The steps that transforms record. None of them waits for an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradwire import reading
from gradwire.codec import Info
from gradwire.errors import refused
from gradwire.record import TensorList, record
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

Shape = tuple[int, ...]


def variable(tensor: Tensor, *, connected: bool) -> Tensor:
    """A tensor of the same values to differentiate by.

    Args:
        connected: Part of the graph of `tensor`, where that has one.
    """
    source = tensor if connected else record("detach", ("self",), (tensor,))
    made = record("clone", ("self",), (source,))
    step = pb.RequiresGrad(tensor=made._handle, value=True)
    made._session.step(pb.Step(requires_grad=step))
    _remember_as(made, tensor)
    remembered = reading.known(tensor)
    if remembered.value is not None:
        known = reading.known(made)
        known.value, known.value_at = remembered.value, remembered.value_at
    return made


def seen_from_outside(tensor: Tensor, variables: Sequence[Tensor], *, connected: bool) -> Tensor:
    """A tensor without what its graph has of a transform's variables.

    Args:
        connected: It stays in the graph if that leads to other leaves too.
    """
    if not connected:
        made = record("detach", ("self",), (tensor,))
    else:
        handles = TensorList("_detach_from", "variables", variables)
        made = record("_detach_from", ("self",), (tensor,), [("variables", handles)])
    _remember_as(made, tensor)
    return made


def grad(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    directions: Sequence[Tensor] | None,
    variables: Sequence[Tensor] | None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool,
    allow_unused: bool = True,
) -> list[Tensor]:
    """The VJP of the outputs along the directions: a gradient of each input, zeros if unused.

    Args:
        directions: None for a real output of no dimensions.
        variables: Those of the transform; None where a constant output is an error.
        allow_unused: False where an unused input is an error.
    """
    message = pb.Grad(
        outputs=[each._handle for each in outputs],
        inputs=[each._handle for each in inputs],
        grad_outputs=[each._handle for each in directions or ()],
        retain_graph=retain_graph,
        create_graph=create_graph,
        materialize_grads=allow_unused,
        variables=_listed(variables),
    )
    made = _made(message, [*outputs, *inputs, *(directions or ())], len(inputs))
    for gradient, tensor in zip(made, inputs, strict=True):
        _remember_as(gradient, tensor)
    return made


def jacobian(
    output: Tensor,
    inputs: Sequence[Tensor],
    variables: Sequence[Tensor] | None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool,
    allow_unused: bool = True,
) -> list[Tensor]:
    """The Jacobian of an output by each input, row by row; arguments as of `grad`."""
    message = pb.Grad(
        outputs=[output._handle],
        inputs=[each._handle for each in inputs],
        retain_graph=retain_graph,
        create_graph=create_graph,
        materialize_grads=allow_unused,
        is_jacobian=True,
        variables=_listed(variables),
    )
    made = _made(message, [output, *inputs], len(inputs))
    for each, tensor in zip(made, inputs, strict=True):
        _remember_jacobian(each, output, tensor)
    return made


def jvp(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    tangents: Sequence[Tensor],
    variables: Sequence[Tensor],
    *,
    create_graph: bool,
) -> list[Tensor]:
    """The tangents of the outputs, zeros for one that does not depend on the inputs."""
    message = pb.Jvp(
        outputs=[each._handle for each in outputs],
        inputs=[each._handle for each in inputs],
        tangents=[each._handle for each in tangents],
        create_graph=create_graph,
        variables=_listed(variables),
    )
    made = _made(message, [*outputs, *inputs, *tangents], len(outputs))
    for tangent, output in zip(made, outputs, strict=True):
        _remember_as(tangent, output)
    return made


def forward_jacobian(
    outputs: Sequence[Tensor],
    tensor: Tensor,
    variables: Sequence[Tensor] | None,
    *,
    create_graph: bool,
) -> list[Tensor]:
    """The Jacobian of each output by one input, column by column."""
    message = pb.Jvp(
        outputs=[each._handle for each in outputs],
        inputs=[tensor._handle],
        create_graph=create_graph,
        is_jacobian=True,
        variables=_listed(variables),
    )
    made = _made(message, [*outputs, tensor], len(outputs))
    for each, output in zip(made, outputs, strict=True):
        _remember_jacobian(each, output, tensor)
    return made


def known_type(tensor: Tensor) -> Info | None:
    """Shape and dtype of a tensor where they are known without asking; the rest may be stale."""
    known = tensor._known
    return None if known is None else known.info


def remember_shape(tensor: Tensor, like: Tensor, shape: Shape) -> None:
    """Note what is sure of a new tensor: its shape, and that its dtype is that of another."""
    info = known_type(like)
    if info is not None and tensor._known is None:
        reading.known(tensor).info = info._replace(
            shape=shape, requires_grad=False, is_leaf=False, grad_fn=None
        )


def _remember_as(tensor: Tensor, like: Tensor) -> None:
    info = known_type(like)
    if info is not None:
        remember_shape(tensor, like, info.shape)


def _remember_jacobian(tensor: Tensor, output: Tensor, by: Tensor) -> None:
    one, other = known_type(output), known_type(by)
    if one is not None and other is not None and one.dtype is other.dtype:
        remember_shape(tensor, by, (*one.shape, *other.shape))


def _listed(variables: Sequence[Tensor] | None) -> pb.TensorList | None:
    if variables is None:
        return None
    return pb.TensorList(tensors=[each._handle for each in variables])


def _made(message: pb.Grad | pb.Jvp, tensors: Sequence[Tensor], count: int) -> list[Tensor]:
    """Record a step, whose results take `count` new handles."""
    first = tensors[0]
    session = first._session
    if any(each._session is not session for each in tensors):
        raise refused(
            "BAD_VALUE",
            "a derivative of tensors of different sessions; carry a value over with "
            "session.tensor(t.detach().numpy())",
        )
    message.output = session.new_handles(count)
    if isinstance(message, pb.Grad):
        session.step(pb.Step(grad=message))
    else:
        session.step(pb.Step(jvp=message))
    return [type(first)(message.output + nr, session) for nr in range(count)]
