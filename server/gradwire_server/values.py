"""Steps that carry values: from the client, to the client, and away."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import MAX_RANK, WireError, array_from_payload, dtype_from_wire, payload_at
from gradwire_engine.errors import EngineError
from gradwire_engine.tensor import Tensor
from gradwire_server.encode import HEADER_BYTES, fetched_value, name_of
from gradwire_server.errors import ServiceError, failure_of
from gradwire_server.limits import exceeded, message_too_large
from gradwire_server.workspace import ABSENT

if TYPE_CHECKING:
    from gradwire_server.execute import Execution

_COPIED_PUT_BYTES: Final = 1 << 16
"""A tensor of up to this size is copied out of its message, so as not to keep all of it alive."""

_COPIED_FETCH_BYTES: Final = 4096
"""A value of up to this size is copied at once, which costs less than a view of it."""


@dataclass(slots=True)
class PutStep:
    """What a Put says.

    Attributes:
        output: the handle of the leaf.
        wire_dtype: the number of its dtype.
        dtype: the same for NumPy.
        shape: of the leaf, as it was said.
        elements: their number; of no meaning where a size is negative.
        size: the bytes of these.
        requires_grad: a backward brings a gradient to it.
        payload: the index of its data, unless it comes as an upload.
        upload: the number of the upload, or 0.
        is_plain: nothing about the shape needs another look, and the data is short.
    """

    output: int
    wire_dtype: int
    dtype: np.dtype
    shape: tuple[int, ...]
    elements: int
    size: int
    requires_grad: bool
    payload: int
    upload: int
    is_plain: bool

    @classmethod
    def read(cls, message: pb.Put) -> PutStep:
        """Take the message apart.

        Raises:
            ServiceError: UNKNOWN_DTYPE.
        """
        shape = tuple(message.shape[:])
        number = message.dtype
        try:
            dtype = dtype_from_wire(number)
        except WireError as error:
            failure = failure_of(error)
            failure.field = "put.dtype"
            raise failure from None
        elements = math.prod(shape)
        size = abs(elements) * dtype.itemsize
        upload = message.upload
        return cls(
            message.output,
            number,
            dtype,
            shape,
            elements,
            size,
            message.requires_grad,
            message.payload,
            upload,
            # Not every byte is a bool, and NumPy itself refuses very many dimensions.
            not upload
            and size <= _COPIED_PUT_BYTES
            and dtype.kind != "b"
            and len(shape) <= MAX_RANK
            and min(shape, default=1) > 0,
        )


def put_step(run: Execution, told: PutStep) -> None:
    """Make a leaf from data of the client."""
    workspace = run.workspace
    handle = told.output
    tensors, blanks = workspace.tensors, workspace.blanks
    if (
        not handle
        or handle in tensors
        or handle in blanks
        or len(tensors) + len(blanks) >= workspace.max_tensors
    ):
        workspace.require_free((handle,), "put.output")
    limits = workspace.context.limits
    elements = told.elements
    if elements > limits.max_elements:
        raise exceeded(
            "max_tensor_elements",
            elements,
            limits.max_elements,
            f"a tensor of shape {told.shape} has too many elements",
            field="put.shape",
        )
    if len(told.shape) > limits.max_rank:
        raise exceeded(
            "max_rank",
            len(told.shape),
            limits.max_rank,
            "a tensor of too many dimensions",
            field="put.shape",
        )
    size = told.size
    field = "put.upload" if told.upload else "put.payload"
    try:
        payload = _data_of(run, told)
        if told.is_plain and payload.nbytes == size:
            if elements > run.heavy or run.flops + elements > workspace.max_flops:
                run.spend(elements, field)
            else:
                run.flops += elements
            array = np.ndarray(told.shape, told.dtype, payload).copy()
        else:
            field = "put.shape" if min(told.shape, default=0) < 0 else field
            run.spend(elements, field)
            is_small = size <= _COPIED_PUT_BYTES
            array = array_from_payload(told.wire_dtype, told.shape, payload, writable=is_small)
            if told.upload and not is_small:
                # Nobody else has this memory.
                array.flags.writeable = True
        if not told.upload and not workspace.has_bytes(size):
            workspace.require_bytes(size, "put")
        field = "put.requires_grad"
        tensor = Tensor.from_array(array, requires_grad=told.requires_grad)
    except (WireError, EngineError, ServiceError) as error:
        failure = failure_of(error)
        failure.field = failure.field or field
        raise failure from None
    tensors[handle] = tensor
    workspace.bytes_bound += size
    if told.requires_grad:
        workspace.grad_bytes += size
    if told.upload:
        workspace.transfers.release((), (told.upload,))


def _data_of(run: Execution, told: PutStep) -> memoryview:
    if not told.upload:
        payloads, index = run.payloads, told.payload
        return payloads[index] if index < len(payloads) else payload_at(payloads, index)
    return run.workspace.transfers.uploaded(told.upload).data


@dataclass(frozen=True, slots=True)
class Form:
    """What short values of certain types look like in an answer, apart from their data.

    Attributes:
        first: the index of the first payload.
        types: dtype and shape of each.
        fetched: encoded, as elements of `SequenceResult.fetched`.
        size: about what they add to the answer, data included.
    """

    first: int
    types: tuple[tuple[np.dtype, tuple[int, ...]], ...]
    fetched: bytes
    size: int


@dataclass(slots=True)
class FetchStep:
    """What a Fetch says.

    Attributes:
        tensors: handles.
        names: the same, as an answer has them.
        values: answer with values,
        max_value_bytes: but not with larger ones, unless this is 0.
        info: answer with metadata.
        downloads: values that do not fit into the message may be read from downloads.
        bases: name the bases of views.
        repeats: it has run before.
        form: of its last answer, if it repeats and will be answered alike.
    """

    tensors: list[int]
    names: list[bytes]
    values: bool
    max_value_bytes: int
    info: bool
    downloads: bool
    bases: bool
    repeats: bool = False
    form: Form | None = None

    @classmethod
    def read(cls, message: pb.Fetch) -> FetchStep:
        """Take the message apart."""
        tensors = message.tensors[:]
        return cls(
            tensors,
            [name_of(handle) for handle in tensors],
            message.values,
            message.max_value_bytes,
            message.info,
            message.downloads,
            message.bases,
        )


def fetch_step(run: Execution, told: FetchStep) -> None:
    """Answer with values and metadata of tensors."""
    workspace = run.workspace
    tensors = workspace.tensors
    transfers = workspace.transfers
    found: list[tuple[Tensor | None, bool, bool]] = []
    builder = run.builder
    if told.form is not None and _fetch_alike(run, told.tensors, told.form):
        return
    size = builder.size
    first = builder.payload_count
    values, bound = told.values, told.max_value_bytes
    maximum = workspace.settings.max_message_bytes
    may_wait = told.downloads and transfers.opens_downloads
    waiting = 0
    for handle in told.tensors:
        tensor = tensors.get(handle)
        if tensor is None:
            if workspace.blanks.get(handle) != ABSENT:
                raise workspace.why_not(handle, f"fetch.tensors[{len(found)}]")
            found.append((None, False, False))
            continue
        nbytes = tensor.data.nbytes
        value = values and (not bound or nbytes <= bound)
        size += HEADER_BYTES
        waits = value and may_wait and size + nbytes > maximum
        if waits:
            waiting += 1
            transfers.require_room(waiting)
            if not tensor.data.flags.c_contiguous:
                workspace.require_bytes(nbytes, f"fetch.tensors[{len(found)}]")
        elif value:
            size += nbytes
        found.append((tensor, value, waits))
    if size > maximum:
        failure = message_too_large(size, maximum, "the answer to this sequence")
        failure.field = "fetch.tensors"
        raise failure
    run.spend(size // 4, "fetch")
    names: dict[int, int] = {}
    if told.bases:
        run.spend(len(tensors), "fetch.bases")
        names = {id(tensor): handle for handle, tensor in tensors.items()}
    for name, (tensor, value, waits) in zip(told.names, found, strict=True):
        if tensor is None:
            builder.add_absent(name)
            continue
        base = names.get(id(tensor.view.base), 0) if names and tensor.view is not None else 0
        download = transfers.open_download(tensor.data) if waits else 0
        builder.add(name, tensor, value, told.info, base, download)
    if told.repeats and not told.info and builder.payload_count == first + len(found):
        told.form = _form_of(told.names, [tensor for tensor, *_ in found], first)
    told.repeats = True


def _form_of(names: list[bytes], tensors: list[Tensor | None], first: int) -> Form | None:
    """The form of an answer with these values; None where one of them is not short."""
    types = []
    fetched = []
    size = 0
    for at, (name, tensor) in enumerate(zip(names, tensors, strict=True)):
        if tensor is None or tensor.data.nbytes > _COPIED_FETCH_BYTES:
            return None
        dtype, shape = tensor.dtype, tensor.shape
        if dtype != dtype.newbyteorder("<"):
            return None
        types.append((dtype, shape))
        fetched.append(fetched_value(name, dtype, shape, first + at))
        size += HEADER_BYTES + tensor.data.nbytes
    return Form(first, tuple(types), b"".join(fetched), size)


def _fetch_alike(run: Execution, handles: list[int], form: Form) -> bool:
    """Answer in a form that is known; whether the tensors are of that form."""
    workspace, builder = run.workspace, run.builder
    tensors = workspace.tensors
    payloads = []
    for handle, (dtype, shape) in zip(handles, form.types, strict=True):
        tensor = tensors.get(handle)
        if tensor is None:
            return False
        data = tensor.data
        if data.dtype is not dtype or data.shape != shape:
            return False
        payloads.append(data.tobytes())
    size = builder.size + form.size
    if builder.payload_count != form.first or size > workspace.settings.max_message_bytes:
        return False
    run.spend(size // 4, "fetch")
    builder.add_alike(form.fetched, payloads, form.size)
    return True


@dataclass(slots=True)
class ReleaseStep:
    """What a Release says: what is to be dropped."""

    tensors: list[int]
    programs: list[str]
    downloads: list[int]
    uploads: list[int]

    @classmethod
    def read(cls, message: pb.Release) -> ReleaseStep:
        """Take the message apart."""
        return cls(
            message.tensors[:], message.programs[:], message.downloads[:], message.uploads[:]
        )


def release_step(run: Execution, told: ReleaseStep) -> None:
    """Drop handles, programs, and what is left of transfers."""
    run.workspace.release(told.tensors)
    if told.programs:
        run.workspace.programs.drop(told.programs)
    if told.downloads or told.uploads:
        run.workspace.transfers.release(told.downloads, told.uploads)
