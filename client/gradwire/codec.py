"""Recorded steps as messages, and answers as arrays and metadata. Pure: bytes in, bytes out."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gradwire import dtypes, wire
from gradwire.dtypes import dtype
from gradwire.encoding import encode_steps
from gradwire.recorder import Batch
from gradwire.v1 import autograd_pb2 as pb

Array = npt.NDArray[np.generic]


class Info(NamedTuple):
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


class TensorType(NamedTuple):
    """What of a tensor's metadata no step but a reshaping in place changes."""

    dtype: dtype
    shape: tuple[int, ...]


class Fetched(NamedTuple):
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
    """The bytes of a RunStreamRequest, the very same that protobuf would write."""
    # Fields are written in the order of their numbers.
    parts = encode_steps(batch.entries)
    if number:
        parts.insert(0, _NUMBER + wire.varint(number))
    if acknowledged:
        parts.append(_ACKNOWLEDGED + wire.varint(acknowledged))
    if timeout is not None or detect_anomaly or note_origins or profile:
        options = pb.Sequence(
            detect_anomaly=detect_anomaly, note_origins=note_origins, profile=profile
        )
        if timeout is not None:
            options.timeout.FromNanoseconds(round(timeout * 1e9))
        parts.append(options.SerializeToString())
    request = wire.delimited(_SESSION_ID, session_id.encode())
    request += wire.delimited(_SEQUENCE, b"".join(parts))
    return wire.join_message(request, batch.payloads)


_SESSION_ID: Final = b"\x0a"  # RunStreamRequest.session_id
_SEQUENCE: Final = b"\x12"  # RunStreamRequest.sequence
_NUMBER: Final = b"\x08"  # Sequence.number
_ACKNOWLEDGED: Final = b"\x18"  # Sequence.acknowledged


def decode_response(data: bytes) -> tuple[pb.RunStreamResponse, list[memoryview]]:
    """A message of the stream, and its payloads.

    Raises:
        WireError: the bytes are not such a message.
    """
    return wire.split_message(pb.RunStreamResponse, data)


def encode_hook_answer(session_id: str, answer: pb.HookAnswer, batch: Batch) -> bytes:
    """The bytes of a RunStreamRequest with an answer, and steps to run before it counts."""
    # Steps have the same field number in an answer as in a sequence.
    answer.MergeFromString(b"".join(encode_steps(batch.entries)))
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
    found = []
    for each in fetched:
        value = None
        if each.HasField("value"):
            sent = each.value
            value = downloaded[sent.download] if sent.download else decode_value(sent, payloads)
        info = decode_info(each.info) if each.HasField("info") else None
        found.append(Fetched(each.tensor, each.absent, value, info))
    return found


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
