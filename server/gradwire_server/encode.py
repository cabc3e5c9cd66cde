"""What the server tells of tensors and nodes, as messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from google.protobuf.message import Message

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import (
    Payload,
    delimited,
    dtype_to_wire,
    encode_message,
    join_message,
    payload_from_array,
    varint,
)
from gradwire_engine.errors import EngineError
from gradwire_engine.node import AnyNode
from gradwire_engine.tensor import Tensor
from gradwire_server.errors import ServiceError, failure_of

HEADER_BYTES: Final = 64
"""About what one fetched value takes in a message beside its data."""

_INT64: Final = range(-(1 << 63), 1 << 63)


def set_info(message: pb.TensorInfo, tensor: Tensor) -> None:
    """Describe a tensor without its values."""
    data = tensor.data
    message.dtype = dtype_to_wire(data.dtype)  # type: ignore[assignment]
    message.shape.extend(data.shape)
    message.strides.extend([stride // data.itemsize for stride in data.strides])
    try:
        message.requires_grad = tensor.requires_grad
        message.is_leaf = tensor.is_leaf
        node = tensor.grad_fn
    except EngineError as error:
        # A view that has lost its place in the graph still has values and a shape.
        message.requires_grad = True
        message.stale.CopyFrom(failure_of(error).error())
        node = None
    message.retains_grad = tensor.retains_grad
    if tensor.is_inference:
        message.is_inference = True
    else:
        message.version = tensor._version
    message.is_view = tensor.view is not None
    if node is not None:
        set_node_ref(message.grad_fn, node, tensor.output_nr)


def set_node_ref(message: pb.NodeRef, node: AnyNode, nr: int) -> None:
    """Name a node, and an output or input of it."""
    message.id = node.id
    message.name = node.name
    message.nr = nr


def set_attribute(message: pb.Attribute, name: str, value: Any) -> None:
    """Write a plain argument in the form that a client sends it in."""
    message.name = name
    match value:
        case None:
            pass
        case bool():
            message.bool_value = value
        case int() if value in _INT64:
            message.int_value = value
        case int() | float():
            message.double_value = float(value)
        case complex():
            message.complex_value.real = value.real
            message.complex_value.imag = value.imag
        case str():
            message.string_value = value
        case np.dtype():
            message.dtype_value = dtype_to_wire(value)  # type: ignore[assignment]
        case tuple() | list() if all(isinstance(each, int) for each in value):
            message.int_list.values.extend(value)
        case tuple() | list() if all(isinstance(each, (int, float)) for each in value):
            message.double_list.values.extend(value)
        case _:
            message.string_value = repr(value)


class Answer:
    """The answer to one sequence, ready to be sent, as often as it is asked for.

    Attributes:
        data: a RunStreamResponse, which is a RunResponse too: the same fields.
        failure: why a step failed; the status of a unary call.
    """

    __slots__ = ("data", "failure")

    def __init__(self, data: bytes, failure: ServiceError | None) -> None:
        self.data = data
        self.failure = failure

    @classmethod
    def refusal(cls, number: int, failure: ServiceError) -> Answer:
        """The answer to a sequence of which nothing ran."""
        response = pb.RunStreamResponse()
        response.result.number = number
        response.result.error.CopyFrom(failure.error())
        return cls(response.SerializeToString(), failure)


class AnswerBuilder:
    """Collects what the steps of a sequence fetch.

    Values of large tensors are views of their memory until they are sent, so `settle` must be
    called before anything may change them.

    Attributes:
        number: of the sequence.
        size: of the answer so far, about.
    """

    __slots__ = ("_fetched", "_payloads", "_rest", "_unsettled", "number", "size")

    def __init__(self, number: int) -> None:
        self.number = number
        # Encoded: what an answer has most of is cheaper to write than to build and have written.
        self._fetched: list[bytes] = []
        self._rest: pb.SequenceResult | None = None
        self._payloads: list[Payload] = []
        self._unsettled = 0
        self.size = 0

    def add_absent(self, name: bytes) -> None:
        """A handle that holds none."""
        self._fetched.append(delimited(_FETCHED, name + _ABSENT))

    def add(
        self,
        name: bytes,
        tensor: Tensor,
        value: bool,
        info: bool,
        base: int = 0,
        download: int = 0,
    ) -> None:
        """A tensor, with its value or metadata or both.

        Args:
            name: its handle, as `name_of` writes it.
            tensor: the tensor.
            value: the value is in the message, unless a download has it.
            info: so is the metadata.
            base: of a view, a handle of its base; or 0.
            download: the number of the download that has the value; or 0.
        """
        data = tensor.data
        told = name
        self.size += HEADER_BYTES
        if download:
            told += _value(data.dtype, data.shape, 0, download)
        elif value:
            told += _value(data.dtype, data.shape, len(self._payloads))
            self.size += data.nbytes
            self._payloads.append(payload_from_array(data))
        if info:
            message = pb.FetchedTensor()
            set_info(message.info, tensor)
            message.info.base = base
            told += message.SerializeToString()
        self._fetched.append(delimited(_FETCHED, told))

    @property
    def payload_count(self) -> int:
        """How many payloads there are so far."""
        return len(self._payloads)

    def add_alike(self, fetched: bytes, payloads: Iterable[bytes], size: int) -> None:
        """Values that are already encoded, as elements of `SequenceResult.fetched`."""
        self._fetched.append(fetched)
        self._payloads += payloads
        self.size += size

    @property
    def _other(self) -> pb.SequenceResult:
        """What the answer has beside tensors."""
        if self._rest is None:
            self._rest = pb.SequenceResult()
        return self._rest

    def add_gradcheck(self, result: pb.GradcheckResult) -> None:
        """What a gradcheck came to."""
        self._other.gradchecks.append(result)
        self.size += result.ByteSize()

    def set_profile(self, profile: pb.Profile) -> None:
        """Where the time went."""
        self._other.profile.CopyFrom(profile)

    def settle(self) -> None:
        """Copy the values that are still views."""
        payloads = self._payloads
        if len(payloads) > self._unsettled:
            for at in range(self._unsettled, len(payloads)):
                payloads[at] = bytes(payloads[at])
            self._unsettled = len(payloads)

    def _tensors(self) -> Sequence[pb.FetchedTensor]:
        return pb.SequenceResult.FromString(b"".join(self._fetched)).fetched

    def hook_call(self, call: pb.HookCall) -> bytes:
        """A call of a client's hook with what was added, as a RunStreamResponse."""
        call.gradients.extend(self._tensors())
        return encode_message(pb.RunStreamResponse(hook_call=call), self._payloads)

    def hook_result(self, call: int, failure: ServiceError | None) -> bytes:
        """What the steps of a HookAnswer fetched, as a RunStreamResponse."""
        result = pb.HookResult(
            call=call, fetched=self._tensors(), gradchecks=self._other.gradchecks
        )
        if failure is not None:
            result.error.CopyFrom(failure.error())
        return encode_message(pb.RunStreamResponse(hook_result=result), self._payloads)

    def end_hooks(self, numbers: Iterable[int]) -> None:
        """Tell of hooks whose tensor or node is gone."""
        self._other.ended_hooks.extend(numbers)

    def finish(self, failure: ServiceError | None) -> Answer:
        """The whole answer."""
        if failure is not None:
            self._other.error.CopyFrom(failure.error())
        result = b"".join(self._fetched)
        if self.number:
            result = _NUMBER + varint(self.number) + result
        if self._rest is not None:
            result += self._rest.SerializeToString()
        return Answer(join_message(delimited(_RESULT, result), self._payloads), failure)


def _tag(message: type[Message], field: str) -> bytes:
    """The byte before a field: its number, and whether it is an integer or has a length."""
    found = message.DESCRIPTOR.fields_by_name[field]
    has_length = found.message_type is not None
    return bytes((found.number << 3 | 2 * has_length,))


_RESULT: Final = _tag(pb.RunStreamResponse, "result")
_NUMBER: Final = _tag(pb.SequenceResult, "number")
_FETCHED: Final = _tag(pb.SequenceResult, "fetched")
_TENSOR: Final = _tag(pb.FetchedTensor, "tensor")
_ABSENT: Final = pb.FetchedTensor(absent=True).SerializeToString()


def name_of(handle: int) -> bytes:
    """`FetchedTensor.tensor`, encoded."""
    return _TENSOR + varint(handle) if handle else b""


def fetched_value(name: bytes, dtype: np.dtype, shape: tuple[int, ...], payload: int) -> bytes:
    """What `AnswerBuilder.add` writes of a value that is in the message."""
    return delimited(_FETCHED, name + _value(dtype, shape, payload))


@lru_cache(maxsize=4096)
def _value(dtype: np.dtype, shape: tuple[int, ...], payload: int, download: int = 0) -> bytes:
    """`FetchedTensor.value`, encoded: the data is the payload of that index, or a download."""
    value = pb.TensorValue(
        dtype=dtype_to_wire(dtype),  # type: ignore[arg-type]
        shape=shape,
        payload=payload,
        download=download,
    )
    return pb.FetchedTensor(value=value).SerializeToString()
