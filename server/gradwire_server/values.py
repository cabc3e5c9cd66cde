"""Steps that carry values: from the client, to the client, and away."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import Payload, WireError, array_from_payload, dtype_from_wire, payload_at
from gradwire_engine.errors import EngineError
from gradwire_engine.tensor import Tensor
from gradwire_server.encode import HEADER_BYTES
from gradwire_server.errors import ServiceError, failure_of
from gradwire_server.limits import exceeded, message_too_large
from gradwire_server.workspace import ABSENT

if TYPE_CHECKING:
    from gradwire_server.execute import Execution

_COPIED_PUT_BYTES: Final = 1 << 16
"""A tensor of up to this size is copied out of its message, so as not to keep all of it alive."""


def put_step(run: Execution, message: pb.Put) -> None:
    """Make a leaf from data of the client."""
    workspace = run.workspace
    workspace.require_free((message.output,), "put.output")
    settings = workspace.settings
    shape = message.shape[:]
    elements = math.prod(shape)
    if elements > settings.max_tensor_elements:
        raise exceeded(
            "max_tensor_elements",
            elements,
            settings.max_tensor_elements,
            f"a tensor of shape {tuple(shape)} has too many elements",
            field="put.shape",
        )
    if len(shape) > settings.max_rank:
        raise exceeded(
            "max_rank",
            len(shape),
            settings.max_rank,
            "a tensor of too many dimensions",
            field="put.shape",
        )
    field = "put.dtype"
    try:
        size = abs(elements) * dtype_from_wire(message.dtype).itemsize
        field = "put.upload" if message.upload else "put.payload"
        payload = _data_of(run, message)
        field = "put.shape" if min(shape, default=0) < 0 else field
        run.spend(elements, field)
        is_small = size <= _COPIED_PUT_BYTES
        array = array_from_payload(message.dtype, shape, payload, writable=is_small)
        if not message.upload:
            workspace.require_bytes(size, "put")
        elif not is_small:
            # Nobody else has this memory.
            array.flags.writeable = True
        field = "put.requires_grad"
        tensor = Tensor.from_array(array, requires_grad=message.requires_grad)
    except (WireError, EngineError, ServiceError) as error:
        failure = failure_of(error)
        failure.field = failure.field or field
        raise failure from None
    workspace.tensors[message.output] = tensor
    workspace.bytes_bound += size
    if message.requires_grad:
        workspace.grad_bytes += size
    if message.upload:
        workspace.transfers.release((), (message.upload,))


def _data_of(run: Execution, message: pb.Put) -> Payload:
    if not message.upload:
        return payload_at(run.payloads, message.payload)
    return run.workspace.transfers.uploaded(message.upload).data


def fetch_step(run: Execution, message: pb.Fetch) -> None:
    """Answer with values and metadata of tensors."""
    workspace = run.workspace
    transfers = workspace.transfers
    found: list[tuple[int, Tensor | None, bool, bool]] = []
    size = run.builder.size
    handles = message.tensors[:]
    bound = message.max_value_bytes
    maximum = workspace.settings.max_message_bytes
    may_wait = message.downloads and transfers.opens_downloads
    waiting = 0
    for at, handle in enumerate(handles):
        tensor = workspace.tensors.get(handle)
        if tensor is None:
            if workspace.blanks.get(handle) != ABSENT:
                raise workspace.why_not(handle, f"fetch.tensors[{at}]")
            found.append((handle, None, False, False))
            continue
        nbytes = tensor.data.nbytes
        value = message.values and (not bound or nbytes <= bound)
        size += HEADER_BYTES
        waits = value and may_wait and size + nbytes > maximum
        if waits:
            waiting += 1
            transfers.require_room(waiting)
            if not tensor.data.flags.c_contiguous:
                workspace.require_bytes(nbytes, f"fetch.tensors[{at}]")
        elif value:
            size += nbytes
        found.append((handle, tensor, value, waits))
    if size > maximum:
        failure = message_too_large(size, maximum, "the answer to this sequence")
        failure.field = "fetch.tensors"
        raise failure
    run.spend(size // 4, "fetch")
    names: dict[int, int] = {}
    if message.bases:
        run.spend(len(workspace.tensors), "fetch.bases")
        names = {id(tensor): handle for handle, tensor in workspace.tensors.items()}
    for handle, tensor, value, waits in found:
        if tensor is None:
            run.builder.add_absent(handle)
            continue
        base = names.get(id(tensor.view.base), 0) if names and tensor.view is not None else 0
        download = transfers.open_download(tensor.data) if waits else 0
        run.builder.add(
            handle, tensor, value=value, info=message.info, base=base, download=download
        )


def release_step(run: Execution, message: pb.Release) -> None:
    """Drop handles, programs, and what is left of transfers."""
    run.workspace.release(message.tensors[:])
    run.workspace.programs.drop(message.programs)
    if message.downloads or message.uploads:
        run.workspace.transfers.release(message.downloads[:], message.uploads[:])
