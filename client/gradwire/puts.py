"""Data of the program that becomes tensors: within a message, or ahead of it in pieces."""

from typing import TYPE_CHECKING, Final

from gradwire import wire
from gradwire.errors import LimitError
from gradwire.modes import stamped
from gradwire.recorder import FLUSH_BYTES, Recorder
from gradwire.transfer import Upload
from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import Array, Payload

if TYPE_CHECKING:
    from gradwire.core import SessionCore

_ROOM_FOR_HEADER: Final = 4096


def put(session: "SessionCore", array: Array, requires_grad: bool) -> int:
    """Record a tensor made from data; its handle.

    Raises:
        LimitError: the data does not fit into a message, and the server takes none in pieces.
    """
    hook = session.hook_here()
    largest = session.limits.max_message_bytes - _ROOM_FOR_HEADER
    if 0 < largest < array.nbytes:
        return _put_in_pieces(session, array, requires_grad)
    payload = wire.payload_from_array(array)
    if hook is not None:
        return _record(session, hook.recorder, array, bytes(payload), requires_grad)
    with session.lock:
        recorder = session.recorder
        if 0 < largest < array.nbytes + recorder.payload_bytes:
            session.send_recorded()
        if isinstance(payload, memoryview) and array.nbytes < FLUSH_BYTES:
            # It waits until it is sent; the caller may change the array before that.
            payload = bytes(payload)
        output = _record(session, recorder, array, payload, requires_grad)
        if recorder.is_full:
            session.send_ahead()
    return output


def _put_in_pieces(session: "SessionCore", array: Array, requires_grad: bool) -> int:
    """Upload what does not fit into a message, and record that it becomes a tensor."""
    if "transfers" not in session.features:
        maximum = session.limits.max_message_bytes
        raise LimitError(
            f"a tensor of {array.nbytes} bytes does not fit into one message; the server takes "
            f"up to {maximum} (max_message_bytes)",
            reason="MESSAGE_TOO_LARGE",
            code="RESOURCE_EXHAUSTED",
            metadata={
                "limit": "max_message_bytes",
                "value": str(array.nbytes),
                "maximum": str(maximum),
            },
        )
    hook = session.hook_here()
    with session.lock:
        sent = Upload(session, next(session.upload_numbers), wire.payload_from_array(array))
        if hook is None:
            sent.after = session.send_recorded() or session.last_due
    session.upload(sent)
    if hook is not None:
        return _record(session, hook.recorder, array, None, requires_grad, sent.number)
    with session.lock:
        output = _record(session, session.recorder, array, None, requires_grad, sent.number)
        session.send_recorded()
    return output


def _record(
    session: "SessionCore",
    recorder: Recorder,
    array: Array,
    payload: Payload | None,
    requires_grad: bool,
    upload: int = 0,
) -> int:
    output = recorder.handles()
    # Set field by field, which takes a third of the time that keywords do.
    step = pb.Step()
    message = step.put
    message.output = output
    message.dtype = wire.dtype_to_wire(array.dtype)  # type: ignore[assignment]
    message.shape.extend(array.shape)
    if payload is not None:
        message.payload = recorder.payload(payload)
    if requires_grad:
        message.requires_grad = True
    if upload:
        message.upload = upload
    recorder.step(stamped(step))
    if (trace := session.trace_here()) is not None:
        trace.note_put(output)
    return output
