"""What the server tells of tensors and nodes, as messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import Payload, dtype_to_wire, encode_message, payload_from_array
from gradwire_engine.errors import EngineError
from gradwire_engine.node import AnyNode
from gradwire_engine.tensor import Tensor
from gradwire_server.errors import ServiceError, failure_of

HEADER_BYTES: Final = 64
"""About what one fetched value takes in a message beside its data."""

_INT64: Final = range(-(1 << 63), 1 << 63)


def set_value(message: pb.TensorValue, array: np.ndarray, payload: int) -> None:
    """Describe a value whose data is the payload of that index."""
    message.dtype = dtype_to_wire(array.dtype)  # type: ignore[assignment]
    message.shape.extend(array.shape)
    message.payload = payload


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
    """

    __slots__ = ("_payloads", "_response", "_unsettled", "size")

    def __init__(self, number: int) -> None:
        self._response = pb.RunStreamResponse()
        self._response.result.number = number
        self._payloads: list[Payload] = []
        self._unsettled = 0
        self.size = 0

    def add_absent(self, handle: int) -> None:
        """A handle that holds none."""
        self._response.result.fetched.add(tensor=handle, absent=True)

    def add(
        self,
        handle: int,
        tensor: Tensor,
        *,
        value: bool,
        info: bool,
        base: int = 0,
        download: int = 0,
    ) -> None:
        """A tensor, with its value or metadata or both; for a view a handle of its base.

        The value is in the message, unless a download has it.
        """
        fetched = self._response.result.fetched.add()
        fetched.tensor = handle
        self.size += HEADER_BYTES
        if download:
            set_value(fetched.value, tensor.data, 0)
            fetched.value.download = download
        elif value:
            set_value(fetched.value, tensor.data, len(self._payloads))
            self.size += tensor.data.nbytes
            self._payloads.append(payload_from_array(tensor.data))
        if info:
            set_info(fetched.info, tensor)
            fetched.info.base = base

    def add_gradcheck(self, result: pb.GradcheckResult) -> None:
        """What a gradcheck came to."""
        self._response.result.gradchecks.append(result)
        self.size += result.ByteSize()

    def set_profile(self, profile: pb.Profile) -> None:
        """Where the time went."""
        self._response.result.profile.CopyFrom(profile)

    def settle(self) -> None:
        """Copy the values that are still views."""
        payloads = self._payloads
        for at in range(self._unsettled, len(payloads)):
            payloads[at] = bytes(payloads[at])
        self._unsettled = len(payloads)

    def hook_call(self, call: pb.HookCall) -> bytes:
        """A call of a client's hook with what was added, as a RunStreamResponse."""
        call.gradients.extend(self._response.result.fetched)
        return encode_message(pb.RunStreamResponse(hook_call=call), self._payloads)

    def hook_result(self, call: int, failure: ServiceError | None) -> bytes:
        """What the steps of a HookAnswer fetched, as a RunStreamResponse."""
        found = self._response.result
        result = pb.HookResult(call=call, fetched=found.fetched, gradchecks=found.gradchecks)
        if failure is not None:
            result.error.CopyFrom(failure.error())
        return encode_message(pb.RunStreamResponse(hook_result=result), self._payloads)

    def end_hooks(self, numbers: Iterable[int]) -> None:
        """Tell of hooks whose tensor or node is gone."""
        self._response.result.ended_hooks.extend(numbers)

    def finish(self, failure: ServiceError | None) -> Answer:
        """The whole answer."""
        if failure is not None:
            self._response.result.error.CopyFrom(failure.error())
        return Answer(encode_message(self._response, self._payloads), failure)
