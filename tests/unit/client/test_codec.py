"""Requests are written by hand and are, byte for byte, what protobuf writes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradwire as gw
from gradwire import attributes, codec, wire
from gradwire.encoding import entry_at
from gradwire.recorder import AttributeValue, Handles, Recorder
from gradwire.v1 import autograd_pb2 as pb

int64 = st.integers(-(2**63), 2**63 - 1)
values: st.SearchStrategy[Any] = st.one_of(
    st.booleans(),
    int64,
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=10),
    st.sampled_from(gw.dtypes.ALL),
    st.lists(int64, max_size=4).map(tuple),
    st.lists(st.floats(), min_size=1, max_size=4).map(tuple),
    st.lists(st.integers(0, 2**64 - 1), max_size=4).map(Handles),
)
handles = st.integers(1, 2**64 - 1)
ops = st.tuples(
    st.text(min_size=1, max_size=200),
    st.lists(st.integers(0, 2**64 - 1), max_size=4).map(tuple),
    st.lists(st.tuples(st.text(min_size=1, max_size=20), values), max_size=3).map(tuple),
    st.booleans(),
)


def as_protobuf(message: pb.Attribute, value: AttributeValue) -> None:
    match value:
        case bool():
            message.bool_value = value
        case int():
            message.int_value = value
        case float():
            message.double_value = value
        case complex():
            message.complex_value.CopyFrom(pb.Complex(real=value.real, imag=value.imag))
        case str():
            message.string_value = value
        case gw.dtype():
            message.dtype_value = value.wire  # type: ignore[assignment]
        case Handles():
            message.tensor_list.CopyFrom(pb.TensorList(tensors=value))
        case tuple() if value and isinstance(value[0], float):
            message.double_list.CopyFrom(pb.DoubleList(values=value))
        case tuple():
            message.int_list.CopyFrom(pb.IntList(values=value))  # type: ignore[arg-type]


@given(
    st.lists(ops, max_size=5),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.one_of(st.none(), st.floats(0.001, 1e6)),
    st.lists(st.binary(max_size=20), max_size=2),
)
def test_a_request_is_what_protobuf_writes(
    recorded: list[Any],
    number: int,
    acknowledged: int,
    timeout: float | None,
    payloads: list[bytes],
) -> None:
    recorder = Recorder()
    expected = pb.RunStreamRequest(session_id="s", payloads=payloads)
    sequence = expected.sequence
    sequence.number, sequence.acknowledged = number, acknowledged
    if timeout is not None:
        sequence.timeout.FromNanoseconds(round(timeout * 1e9))
    sequence.steps.add().put.output = recorder.handles()
    recorder.step(pb.Step(put=pb.Put(output=1)))
    for name, inputs, given_attributes, no_grad in recorded:
        output = recorder.op(name, inputs, given_attributes, 1, int(no_grad))
        step = sequence.steps.add()
        step.op.name, step.op.output = name, output
        step.op.inputs.extend(inputs)
        for key, value in given_attributes:
            as_protobuf(step.op.attributes.add(name=key), value)
        step.grad_mode = pb.GRAD_MODE_NO_GRAD if no_grad else pb.GRAD_MODE_UNSPECIFIED
    for each in payloads:
        recorder.payload(each)
    batch = recorder.take()
    assert batch is not None
    encoded = codec.encode_request("s", batch, number, acknowledged, timeout)
    request = pb.RunStreamRequest.FromString(encoded)
    assert encoded == request.SerializeToString()
    assert expanded(request) == expected
    for at in range(len(batch.entries)):
        step, call = place_of(at, request)
        assert entry_at(batch.entries, {"step": str(step), "call": str(call)}) == at


def expanded(request: pb.RunStreamRequest) -> pb.RunStreamRequest:
    """The same request with each call as a step of its own."""
    expected = pb.RunStreamRequest()
    expected.CopyFrom(request)
    del expected.sequence.steps[:]
    expected.ClearField("padding")
    for step in request.sequence.steps:
        if not step.HasField("ops"):
            expected.sequence.steps.add().CopyFrom(step)
            continue
        given = iter(step.ops.handles)
        for index in step.ops.calls:
            made = expected.sequence.steps.add(grad_mode=step.grad_mode)
            made.op.CopyFrom(step.ops.forms[index])
            made.op.inputs[:] = [next(given) for _ in made.op.inputs]
            for attribute in made.op.attributes:
                if attribute.HasField("tensor_list"):
                    listed = attribute.tensor_list.tensors
                    listed[:] = [next(given) for _ in listed]
            made.op.output = next(given)
        assert next(given, None) is None
    return expected


def place_of(entry: int, request: pb.RunStreamRequest) -> tuple[int, int]:
    """Which call of which step an entry became."""
    for at, step in enumerate(request.sequence.steps):
        calls = len(step.ops.calls) if step.HasField("ops") else 1
        if entry < calls:
            return at, entry
        entry -= calls
    raise AssertionError("an entry is missing")


def test_calls_of_one_form_share_it() -> None:
    recorder = Recorder()
    for value in (1, 1.0, True, 0.0, -0.0, 1, math.nan, True):
        recorder.op("add", (7,), (("other", value),), 1, 0)
    batch = recorder.take()
    assert batch is not None
    request = pb.RunStreamRequest.FromString(codec.encode_request("s", batch, 1, 0, None))
    (step,) = request.sequence.steps
    assert list(step.ops.calls) == [0, 1, 2, 3, 4, 0, 5, 2]


@given(st.integers(0, 2**64 - 1))
def test_varints(number: int) -> None:
    assert (
        b"\x08" + wire.varint(number) == pb.Cancel(number=number).SerializeToString() or not number
    )


@given(values)
def test_attributes_survive_the_round_trip(value: AttributeValue) -> None:
    message = pb.Attribute()
    attributes.set_attribute(message, value)
    found = attributes.get_attribute(message)
    assert found is not None
    np.testing.assert_equal(found, value)
    assert type(found) is type(value)


def test_an_attribute_without_a_value_has_none() -> None:
    assert attributes.get_attribute(pb.Attribute()) is None


def test_answers_become_arrays_and_metadata() -> None:
    payload = np.arange(3, dtype="<f4").tobytes()
    result = pb.SequenceResult(
        number=4,
        fetched=[
            pb.FetchedTensor(tensor=1, absent=True),
            pb.FetchedTensor(
                tensor=2,
                value=pb.TensorValue(dtype=pb.DTYPE_FLOAT32, shape=[3], payload=0),
                info=pb.TensorInfo(
                    dtype=pb.DTYPE_FLOAT32,
                    shape=[3],
                    requires_grad=True,
                    version=2,
                    grad_fn=pb.NodeRef(id=5, name="AddBackward0"),
                    strides=[1],
                ),
            ),
        ],
    )
    data = pb.RunStreamResponse(result=result, payloads=[payload]).SerializeToString()
    found, payloads = codec.decode_response(data)
    assert found.result.number == 4
    absent, fetched = codec.decode_fetched(found.result.fetched, payloads)
    assert absent.absent and absent.value is None and absent.info is None
    assert fetched.value is not None and fetched.value.tolist() == [0.0, 1.0, 2.0]
    info = fetched.info
    assert info is not None
    assert (info.dtype, info.shape, info.requires_grad) == (gw.float32, (3,), True)
    assert info.grad_fn is not None and info.grad_fn.name == "AddBackward0"
    assert not info.is_leaf and info.version == 2 and info.strides == (1,)


def test_an_answer_that_does_not_fit_is_refused() -> None:
    fetched = [pb.FetchedTensor(value=pb.TensorValue(dtype=pb.DTYPE_FLOAT32, shape=[3]))]
    with pytest.raises(wire.WireError):
        codec.decode_fetched(fetched, [b"short"])
