"""Recorded steps as messages, and answers as arrays and metadata. Pure: bytes in, bytes out."""

import functools
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from gradwire import dtypes, wire
from gradwire.dtypes import dtype
from gradwire.modes import UnderHooks
from gradwire.recorder import AttributeValue, Batch, Handles, OpEntry
from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import varint

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Info:
    """Metadata of a tensor, as it was when it was fetched."""

    dtype: dtype
    shape: tuple[int, ...]
    requires_grad: bool
    is_leaf: bool
    retains_grad: bool
    version: int
    grad_fn: pb.NodeRef | None
    strides: tuple[int, ...]
    is_inference: bool = False
    is_view: bool = False
    base: int = 0
    stale: pb.Error | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch answers for one tensor; `absent` where its handle holds none."""

    tensor: int
    absent: bool
    value: Array | None
    info: Info | None


def encode_request(
    session_id: str,
    batch: Batch,
    number: int,
    acknowledged: int,
    timeout: float | None,
    detect_anomaly: bool = False,
    note_origins: bool = False,
    profile: bool = False,
) -> bytes:
    """The bytes of a RunStreamRequest, the very same that protobuf would write.

    Operators are written by hand, which takes half of the time that filling messages does.
    """
    steps = [
        encode_op(entry) if len(entry) > 2 else delimited_step(entry[0].SerializeToString())
        for entry in batch.entries
    ]
    # Fields are written in the order of their numbers: `number` before the steps, others after.
    last = pb.Sequence(
        acknowledged=acknowledged,
        detect_anomaly=detect_anomaly,
        note_origins=note_origins,
        profile=profile,
    )
    if timeout is not None:
        last.timeout.FromNanoseconds(round(timeout * 1e9))
    head = pb.Sequence(number=number).SerializeToString()
    sequence = b"".join((head, *steps, last.SerializeToString()))
    request = pb.RunStreamRequest(session_id=session_id).SerializeToString()
    return wire.join_message(request + _delimited(_SEQUENCE, sequence), batch.payloads)


_SEQUENCE: Final = b"\x12"  # RunStreamRequest.sequence
_STEPS: Final = b"\x12"  # Sequence.steps
_STEP_OP: Final = b"\x0a"  # Step.op
_STEP_GRAD_MODE: Final = b"\x78"  # Step.grad_mode
_STEP_SAVED_HOOKS: Final = b"\xa8\x01"  # Step.saved_hooks
_OP_NAME: Final = b"\x0a"  # Op.name
_OP_INPUTS: Final = b"\x12"  # Op.inputs, packed
_OP_OUTPUT: Final = b"\x18"  # Op.output
_OP_ATTRIBUTES: Final = b"\x22"  # Op.attributes
_ATTRIBUTE_NAME: Final = b"\x0a"  # Attribute.name
_INT_VALUE: Final = b"\x18"  # Attribute.int_value
_DOUBLE_VALUE: Final = b"\x21"  # Attribute.double_value
_double: Final = struct.Struct("<d").pack


@functools.lru_cache(maxsize=4096)
def _op_name(name: str) -> bytes:
    return _delimited(_OP_NAME, name.encode())


@functools.lru_cache(maxsize=4096)
def _attribute_name(name: str) -> bytes:
    return _delimited(_ATTRIBUTE_NAME, name.encode())


def _delimited(tag: bytes, content: bytes) -> bytes:
    return tag + varint(len(content)) + content


def delimited_step(step: bytes) -> bytes:
    """An encoded step as an element of Sequence.steps, or of Program.steps."""
    return _delimited(_STEPS, step)


def encode_op(entry: OpEntry) -> bytes:
    """An operator as an element of Sequence.steps."""
    name, inputs, output, _, attributes, grad_mode, _, _ = entry
    op = _op_name(name)
    if len(inputs) == 1:
        handles = varint(inputs[0])
    elif len(inputs) == 2:
        handles = varint(inputs[0]) + varint(inputs[1])
    else:
        handles = b"".join([varint(each) for each in inputs])
    if handles:
        op += _OP_INPUTS + varint(len(handles)) + handles
    if output:
        op += _OP_OUTPUT + varint(output)
    for attribute, value in attributes:
        content = _attribute_name(attribute)
        kind = value.__class__
        if kind is float:
            content += _DOUBLE_VALUE + _double(value)
        elif kind is int and value >= 0:  # type: ignore[operator]
            content += _INT_VALUE + varint(value)  # type: ignore[arg-type]
        else:
            message = pb.Attribute()
            set_attribute(message, value)
            content += message.SerializeToString()
        op += _OP_ATTRIBUTES + varint(len(content)) + content
    step = _STEP_OP + varint(len(op)) + op
    if isinstance(grad_mode, UnderHooks):
        step += _STEP_SAVED_HOOKS + varint(grad_mode.hooks)
    elif grad_mode:
        step += _STEP_GRAD_MODE + varint(grad_mode)
    return _STEPS + varint(len(step)) + step


def set_attribute(message: pb.Attribute, value: AttributeValue) -> None:
    """Set the value of an attribute's message."""
    if isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        message.int_value = value
    elif isinstance(value, float):
        message.double_value = value
    elif isinstance(value, Handles):
        message.tensor_list.SetInParent()
        message.tensor_list.tensors.extend(value)
    elif isinstance(value, tuple):
        if value and isinstance(value[0], float):
            message.double_list.values.extend(value)
        else:
            message.int_list.SetInParent()
            message.int_list.values.extend(value)  # type: ignore[arg-type]
    elif isinstance(value, dtype):
        message.dtype_value = value.wire  # type: ignore[assignment]
    elif isinstance(value, str):
        message.string_value = value
    else:
        number = complex(value)
        message.complex_value.real = number.real
        message.complex_value.imag = number.imag


def get_attribute(message: pb.Attribute) -> AttributeValue | None:
    """The value of an attribute's message; None if it has none."""
    match message.WhichOneof("value"):
        case "bool_value":
            return message.bool_value
        case "int_value":
            return message.int_value
        case "double_value":
            return message.double_value
        case "complex_value":
            return complex(message.complex_value.real, message.complex_value.imag)
        case "string_value":
            return message.string_value
        case "dtype_value":
            return dtypes.from_wire(message.dtype_value)
        case "int_list":
            return tuple(message.int_list.values)
        case "double_list":
            return tuple(message.double_list.values)
        case "tensor_list":
            return Handles(message.tensor_list.tensors)
        case _:
            return None


def decode_response(data: bytes) -> tuple[pb.RunStreamResponse, list[memoryview]]:
    """A message of the stream, and its payloads.

    Raises:
        WireError: the bytes are not such a message.
    """
    return wire.split_message(pb.RunStreamResponse, data)


def encode_hook_answer(session_id: str, answer: pb.HookAnswer, batch: Batch) -> bytes:
    """The bytes of a RunStreamRequest with an answer, and steps to run before it counts."""
    # Steps have the same field number in an answer as in a sequence.
    steps = b"".join(
        [
            encode_op(entry) if len(entry) > 2 else delimited_step(entry[0].SerializeToString())
            for entry in batch.entries
        ]
    )
    answer.MergeFromString(steps)
    request = pb.RunStreamRequest(session_id=session_id, hook_answer=answer)
    return wire.encode_message(request, batch.payloads)


def decode_fetched(
    fetched: Iterable[pb.FetchedTensor],
    payloads: Sequence[wire.Payload],
    downloaded: Mapping[int, Array] = MappingProxyType({}),
) -> list[Fetched]:
    """What fetch steps answered, in order. Arrays are read-only and may share the message.

    Args:
        fetched: The answers.
        payloads: Those of the message.
        downloaded: Values that were not in the message, by the number of their download.

    Raises:
        WireError: a payload does not fit its shape and dtype.
    """
    return [
        Fetched(
            each.tensor,
            each.absent,
            (
                downloaded[each.value.download]
                if each.value.download
                else decode_value(each.value, payloads)
            )
            if each.HasField("value")
            else None,
            decode_info(each.info) if each.HasField("info") else None,
        )
        for each in fetched
    ]


def decode_value(value: pb.TensorValue, payloads: Sequence[wire.Payload]) -> Array:
    """The array of a value; a `WireError` if its payload does not fit."""
    payload = wire.payload_at(payloads, value.payload)
    return wire.array_from_payload(value.dtype, value.shape, payload)


def decode_info(info: pb.TensorInfo) -> Info:
    """Metadata as a value of ours."""
    return Info(
        dtypes.from_wire(info.dtype),
        tuple(info.shape),
        info.requires_grad,
        info.is_leaf,
        info.retains_grad,
        info.version,
        info.grad_fn if info.HasField("grad_fn") else None,
        tuple(info.strides),
        info.is_inference,
        info.is_view,
        info.base,
        info.stale if info.HasField("stale") else None,
    )


def step_index(metadata: Mapping[str, str]) -> int | None:
    """Which step of its sequence an error is about; None where it is about none."""
    text = metadata.get("step", "")
    return int(text) if text.isdecimal() else None
