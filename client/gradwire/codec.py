"""Recorded steps as messages, and answers as arrays and metadata. Pure: bytes in, bytes out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from gradwire import dtypes, wire
from gradwire.dtypes import dtype
from gradwire.encoding import delimited, encode_steps
from gradwire.recorder import Batch
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
    """The bytes of a RunStreamRequest, the very same that protobuf would write."""
    steps = encode_steps(batch.entries)
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
    return wire.join_message(request + delimited(_SEQUENCE, sequence), batch.payloads)


_SEQUENCE: Final = b"\x12"  # RunStreamRequest.sequence


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
