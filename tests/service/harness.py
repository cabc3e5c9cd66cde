"""A client made of generated stubs and nothing else: what any language's client could be."""

from __future__ import annotations

import gc
import queue
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2, status_pb2

from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from gradwire_engine.node import Node

DTYPES = {
    np.dtype(name): getattr(pb, f"DTYPE_{name.upper()}")
    for name in "bool uint8 int8 int16 int32 int64 float16 float32 float64".split()
} | {np.dtype("c8"): pb.DTYPE_COMPLEX64, np.dtype("c16"): pb.DTYPE_COMPLEX128}
NUMPY = {number: dtype for dtype, number in DTYPES.items()}

TIMEOUT = 60.0
"""Far above what any call takes; a hang fails instead of hanging."""


@dataclass
class Data:
    """A put step whose payload has no index yet."""

    put: pb.Put
    payload: bytes


Step = pb.Step | Data


def put(handle: int, values: Any, *, requires_grad: bool = False, dtype: str = "f4") -> Data:
    array = np.asarray(values, dtype)
    return Data(
        pb.Put(
            output=handle,
            dtype=DTYPES[array.dtype],
            shape=array.shape,
            requires_grad=requires_grad,
        ),
        array.tobytes(),
    )


def attribute(name: str, value: Any) -> pb.Attribute:
    match value:
        case bool():
            return pb.Attribute(name=name, bool_value=value)
        case int():
            return pb.Attribute(name=name, int_value=value)
        case float():
            return pb.Attribute(name=name, double_value=value)
        case complex():
            return pb.Attribute(
                name=name, complex_value=pb.Complex(real=value.real, imag=value.imag)
            )
        case str():
            return pb.Attribute(name=name, string_value=value)
        case np.dtype():
            return pb.Attribute(name=name, dtype_value=DTYPES[value])
        case list():
            return pb.Attribute(name=name, tensor_list=pb.TensorList(tensors=value))
        case tuple() if all(isinstance(each, int) for each in value):
            return pb.Attribute(name=name, int_list=pb.IntList(values=value))
        case tuple():
            return pb.Attribute(name=name, double_list=pb.DoubleList(values=value))
        case _:
            raise TypeError(value)


def op(name: str, inputs: Sequence[int], output: int = 0, /, **attributes: Any) -> pb.Step:
    return pb.Step(
        op=pb.Op(
            name=name,
            inputs=inputs,
            output=output,
            attributes=[attribute(key, value) for key, value in attributes.items()],
        )
    )


def no_grad(step: pb.Step) -> pb.Step:
    step.grad_mode = pb.GRAD_MODE_NO_GRAD
    return step


def backward(*tensors: int, gradients: Sequence[int] = (), **flags: Any) -> pb.Step:
    return pb.Step(backward=pb.Backward(tensors=tensors, gradients=gradients, **flags))


def grad(outputs: Sequence[int], inputs: Sequence[int], output: int, **flags: Any) -> pb.Step:
    return pb.Step(grad=pb.Grad(outputs=outputs, inputs=inputs, output=output, **flags))


def get_grad(tensor: int, output: int) -> pb.Step:
    return pb.Step(get_grad=pb.GetGrad(tensors=[tensor], outputs=[output]))


def set_grad(tensor: int, gradient: int) -> pb.Step:
    return pb.Step(set_grad=pb.SetGrad(tensor=tensor, grad=gradient))


def requires_grad(tensor: int, value: bool) -> pb.Step:
    return pb.Step(requires_grad=pb.RequiresGrad(tensor=tensor, value=value))


def retain_grad(tensor: int) -> pb.Step:
    return pb.Step(retain_grad=pb.RetainGrad(tensor=tensor))


def release(*tensors: int) -> pb.Step:
    return pb.Step(release=pb.Release(tensors=tensors))


def fetch(*tensors: int, values: bool = True, info: bool = False, most: int = 0) -> pb.Step:
    return pb.Step(fetch=pb.Fetch(tensors=tensors, values=values, info=info, max_value_bytes=most))


def sequence(number: int, *steps: Step, **fields: Any) -> tuple[pb.Sequence, list[bytes]]:
    payloads: list[bytes] = []
    message = pb.Sequence(number=number, **fields)
    for step in steps:
        if isinstance(step, Data):
            step.put.payload = len(payloads)
            payloads.append(step.payload)
            message.steps.add(put=step.put)
        else:
            message.steps.append(step)
    return message, payloads


@dataclass
class Refusal:
    """A failure as it came over the wire."""

    code: int
    message: str
    details: list[Any]
    error: pb.Error

    @property
    def code_name(self) -> str:
        return next(code.name for code in grpc.StatusCode if code.value[0] == self.code)

    def detail(self, kind: type[Any]) -> Any:
        return next(each for each in self.details if isinstance(each, kind))

    @property
    def info(self) -> error_details_pb2.ErrorInfo:
        info: error_details_pb2.ErrorInfo = self.detail(error_details_pb2.ErrorInfo)
        assert info.domain == "gradwire"
        return info

    @property
    def reason(self) -> str:
        return str(self.info.reason)

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.info.metadata)

    @property
    def field(self) -> str:
        """The path of the field at fault; empty where none is."""
        for each in self.details:
            if isinstance(each, error_details_pb2.BadRequest):
                return str(each.field_violations[0].field)
        return ""


def refusal_of_error(error: pb.Error) -> Refusal:
    kinds = (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.PreconditionFailure,
        error_details_pb2.QuotaFailure,
        error_details_pb2.RetryInfo,
    )
    details = []
    for packed in error.details:
        kind = next(kind for kind in kinds if packed.Is(kind.DESCRIPTOR))
        detail = kind()
        packed.Unpack(detail)
        details.append(detail)
    return Refusal(error.code, error.message, details, error)


def refusal_of_call(call: grpc.RpcError) -> Refusal:
    """The failure of a call; its status and its rich status must say the same."""
    trailers = dict(call.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert status.code == call.code().value[0]
    assert status.message == call.details()
    return refusal_of_error(pb.Error.FromString(status.SerializeToString()))


@dataclass
class Fetched:
    """What was fetched of one tensor."""

    tensor: int
    absent: bool
    value: np.ndarray | None
    info: pb.TensorInfo | None


def fetched_of(result: pb.SequenceResult, payloads: Sequence[bytes]) -> list[Fetched]:
    found = []
    for each in result.fetched:
        value = None
        if each.HasField("value"):
            dtype = NUMPY[each.value.dtype]
            value = np.frombuffer(payloads[each.value.payload], dtype).reshape(each.value.shape)
        info = each.info if each.HasField("info") else None
        found.append(Fetched(each.tensor, each.absent, value, info))
    return found


@dataclass
class Client:
    """One session, over unary calls."""

    stub: AutogradServiceStub
    session: pb.Session
    number: int = 0

    @classmethod
    def open(cls, stub: AutogradServiceStub, **fields: Any) -> Client:
        response = stub.CreateSession(pb.CreateSessionRequest(**fields), timeout=TIMEOUT)
        return cls(stub, response.session)

    @property
    def id(self) -> str:
        return self.session.id

    def send(self, message: pb.Sequence, payloads: Sequence[bytes]) -> list[Fetched]:
        request = pb.RunRequest(session_id=self.id, sequence=message, payloads=payloads)
        response = self.stub.Run(request, timeout=TIMEOUT)
        return fetched_of(response.result, response.payloads)

    def run(self, *steps: Step, **fields: Any) -> list[Fetched]:
        self.number += 1
        return self.send(*sequence(self.number, *steps, **fields))

    def refused(self, *steps: Step, **fields: Any) -> Refusal:
        try:
            self.run(*steps, **fields)
        except grpc.RpcError as error:
            return refusal_of_call(error)
        raise AssertionError("the sequence was not refused")

    def until_taken_in(self) -> None:
        """Wait until the session has all that was sent: a gap tells which number is next."""
        following = self.number + 1
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            try:
                self.send(*sequence(1 << 60))
            except grpc.RpcError as error:
                if refusal_of_call(error).metadata.get("expected") == str(following):
                    return
            time.sleep(0.01)
        raise AssertionError(f"sequence {self.number} was not taken in")

    def values(self, *tensors: int) -> list[np.ndarray]:
        return [each.value for each in self.run(fetch(*tensors)) if each.value is not None]

    def info(self, tensor: int) -> pb.TensorInfo:
        (found,) = self.run(fetch(tensor, values=False, info=True))
        assert found.info is not None
        return found.info

    def stream(self) -> Stream:
        return Stream(self.stub, self.id, self)

    def still_works(self) -> bool:
        """Whether the session computes a fresh gradient rightly."""
        base = 1_000_000 + 10 * self.number
        x, z, y, g = range(base, base + 4)
        found = self.run(
            put(x, [3.0], requires_grad=True),
            op("add", [x], z, other=2),
            op("pow", [z], y, exponent=2),
            backward(y),
            get_grad(x, g),
            fetch(y, g),
            release(x, z, y, g),
        )
        return [float(each.value[0]) for each in found if each.value is not None] == [25.0, 10.0]


@dataclass
class Answer:
    """One answer of a stream."""

    number: int
    fetched: list[Fetched]
    refusal: Refusal | None


@dataclass
class Stream:
    """One RunStream call."""

    stub: AutogradServiceStub
    session_id: str
    client: Client
    _requests: queue.SimpleQueue[pb.RunStreamRequest | None] = field(
        default_factory=queue.SimpleQueue
    )

    def __post_init__(self) -> None:
        self.call = self.stub.RunStream(self._outgoing(), timeout=TIMEOUT)
        self._named = False

    def _outgoing(self) -> Iterator[pb.RunStreamRequest]:
        return iter(self._requests.get, None)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.put(None)
        self.call.cancel()

    def write(self, request: pb.RunStreamRequest) -> None:
        if not self._named:
            request.session_id = self.session_id
            self._named = True
        self._requests.put(request)

    def send(self, message: pb.Sequence, payloads: Iterable[bytes] = ()) -> int:
        self.write(pb.RunStreamRequest(sequence=message, payloads=payloads))
        return message.number

    def start(self, *steps: Step, **fields: Any) -> int:
        """Send the next sequence of the session without waiting."""
        self.client.number += 1
        return self.send(*sequence(self.client.number, *steps, **fields))

    def cancel(self, number: int) -> None:
        self.write(pb.RunStreamRequest(cancel=pb.Cancel(number=number)))

    def receive(self) -> Answer:
        response = next(self.call)
        result = response.result
        refusal = refusal_of_error(result.error) if result.HasField("error") else None
        return Answer(result.number, fetched_of(result, response.payloads), refusal)

    def run(self, *steps: Step, **fields: Any) -> Answer:
        number = self.start(*steps, **fields)
        answer = self.receive()
        assert answer.number == number
        return answer

    def close(self) -> None:
        """Say that nothing more will be sent."""
        self._requests.put(None)


def live_nodes() -> int:
    """Nodes that are alive in this process, where the server under test runs."""
    return sum(type(each) is Node for each in gc.get_objects())
