"""Recorded steps as messages, and answers as arrays and metadata. Pure: bytes in, bytes out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradwire import dtypes, wire
from gradwire.dtypes import dtype
from gradwire.recorder import AttributeValue, Batch, Handles
from gradwire.v1 import autograd_pb2 as pb

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


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch answers for one tensor; `absent` where its handle holds none."""

    tensor: int
    absent: bool
    value: Array | None
    info: Info | None


def encode_request(
    session_id: str, batch: Batch, number: int, acknowledged: int, timeout: float | None
) -> bytes:
    """The bytes of a RunStreamRequest."""
    request = pb.RunStreamRequest(session_id=session_id)
    sequence = request.sequence
    sequence.number = number
    sequence.acknowledged = acknowledged
    if timeout is not None:
        sequence.timeout.FromNanoseconds(round(timeout * 1e9))
    add = sequence.steps.add
    for step, _ in batch.entries:
        if isinstance(step, pb.Step):
            sequence.steps.append(step)
            continue
        name, inputs, output, _, attributes, no_grad = step
        message = add()
        op = message.op
        op.name = name
        op.inputs.extend(inputs)
        op.output = output
        for attribute, value in attributes:
            set_attribute(op.attributes.add(), attribute, value)
        if no_grad:
            message.grad_mode = pb.GRAD_MODE_NO_GRAD
    return wire.encode_message(request, batch.payloads)


def set_attribute(message: pb.Attribute, name: str, value: AttributeValue) -> None:
    """Fill an attribute's message."""
    message.name = name
    # By exact class, the frequent ones first: this runs for most recorded operators.
    kind = value.__class__
    if kind is float:
        message.double_value = value  # type: ignore[assignment]
    elif kind is int:
        message.int_value = value  # type: ignore[assignment]
    elif kind is bool:
        message.bool_value = value  # type: ignore[assignment]
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


def decode_response(data: bytes) -> tuple[pb.SequenceResult, list[memoryview]]:
    """The result that a RunStreamResponse bears, and its payloads.

    Raises:
        WireError: the bytes are not such a message.
    """
    response, payloads = wire.split_message(pb.RunStreamResponse, data)
    return response.result, payloads


def decode_fetched(
    fetched: Iterable[pb.FetchedTensor], payloads: Sequence[wire.Payload]
) -> list[Fetched]:
    """What fetch steps answered, in order. Arrays are read-only and may share the message.

    Raises:
        WireError: a payload does not fit its shape and dtype.
    """
    return [
        Fetched(
            each.tensor,
            each.absent,
            decode_value(each.value, payloads) if each.HasField("value") else None,
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
    )


def step_index(metadata: Mapping[str, str]) -> int | None:
    """Which step of its sequence an error is about; None where it is about none."""
    text = metadata.get("step", "")
    return int(text) if text.isdecimal() else None
