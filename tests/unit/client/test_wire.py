"""What travels is protobuf, byte for byte, though payloads never pass through a protobuf object."""

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from gradwire import wire
from gradwire.v1 import autograd_pb2 as pb

DTYPES = ["?", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"]

headers = st.builds(
    lambda session_id, number, name, inputs: pb.RunStreamRequest(
        session_id=session_id,
        sequence=pb.Sequence(
            number=number, steps=[pb.Step(op=pb.Op(name=name, inputs=inputs, output=7))]
        ),
    ),
    st.text(max_size=5),
    st.integers(0, 2**64 - 1),
    st.text(max_size=200),
    st.lists(st.integers(0, 2**64 - 1), max_size=5),
)
payload_lists = st.lists(st.binary(max_size=300), max_size=4)


def with_payloads(header: pb.RunStreamRequest, payloads: list[bytes]) -> pb.RunStreamRequest:
    whole = pb.RunStreamRequest()
    whole.CopyFrom(header)
    whole.payloads.extend(payloads)
    return whole


@given(headers, payload_lists)
def test_protobuf_reads_what_is_encoded(header: pb.RunStreamRequest, payloads: list[bytes]) -> None:
    encoded = wire.encode_message(header, payloads)
    assert encoded == with_payloads(header, payloads).SerializeToString()
    assert type(encoded) is bytes


@given(headers, payload_lists)
def test_what_protobuf_writes_is_split(header: pb.RunStreamRequest, payloads: list[bytes]) -> None:
    data = with_payloads(header, payloads).SerializeToString()
    found, views = wire.split_message(pb.RunStreamRequest, data)
    assert found == header
    assert [bytes(view) for view in views] == payloads


large_payload_lists = st.lists(
    st.one_of(st.binary(max_size=9), st.integers(4000, 5000).map(bytes)), max_size=4
)


@given(headers, large_payload_lists)
def test_padding_is_nothing_but_padding(header: pb.RunStreamRequest, payloads: list[bytes]) -> None:
    encoded = wire.encode_message(header, payloads)
    read = pb.RunStreamRequest.FromString(encoded)
    assert not read.padding.strip(b"\0")
    read.ClearField("padding")
    assert read == with_payloads(header, payloads)
    found, views = wire.split_message(pb.RunStreamRequest, encoded)
    assert found == header
    assert [bytes(view) for view in views] == payloads


@given(headers, large_payload_lists)
def test_padding_of_others_is_ignored(header: pb.RunStreamRequest, payloads: list[bytes]) -> None:
    data = header.SerializeToString()
    for at, payload in enumerate(payloads):
        data += pb.RunStreamRequest(padding=b"\x7a" * at, payloads=[payload]).SerializeToString()
    found, views = wire.split_message(pb.RunStreamRequest, data)
    assert found == header
    assert [bytes(view) for view in views] == payloads


@pytest.mark.parametrize("length", range(64))
def test_arrays_lie_in_the_message_where_they_can_be_used(length: int) -> None:
    arrays = [np.arange(1000.0), np.arange(1001, dtype="c16"), np.arange(5001, dtype="i1")]
    header = pb.RunRequest(session_id="x" * length)
    encoded = wire.encode_message(header, map(wire.payload_from_array, arrays))
    _, views = wire.split_message(pb.RunRequest, encoded)
    whole = np.frombuffer(encoded, np.uint8)
    for array, view in zip(arrays, views, strict=True):
        found = wire.array_from_payload(wire.dtype_to_wire(array.dtype), array.shape, view)
        assert np.shares_memory(found, whole)
        assert (found.ctypes.data - whole.ctypes.data) % wire.ALIGNMENT == 0
        np.testing.assert_array_equal(found, array)


def test_payloads_are_views_of_the_message() -> None:
    data = wire.encode_message(pb.RunRequest(session_id="s"), [b"abc", b"defg"])
    _, views = wire.split_message(pb.RunRequest, data)
    assert all(view.obj is data for view in views)


def test_a_field_behind_the_payloads_is_read_all_the_same() -> None:
    payloads = wire.encode_message(pb.RunRequest(), [b"abc", b"", b"d"])
    data = payloads + pb.RunRequest(session_id="late").SerializeToString()
    header, views = wire.split_message(pb.RunRequest, data)
    assert header == pb.RunRequest(session_id="late")
    assert [bytes(view) for view in views] == [b"abc", b"", b"d"]


def test_a_padded_tag_is_read_all_the_same() -> None:
    header, views = wire.split_message(pb.RunRequest, b"\xfa\x00\x02hi")
    assert header == pb.RunRequest()
    assert [bytes(view) for view in views] == [b"hi"]


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message_fail_as_protobuf_fails(data: bytes) -> None:
    def outcome(parse: type[Message] | None) -> object:
        try:
            if parse is None:
                header, views = wire.split_message(pb.RunStreamRequest, data)
                return with_payloads(header, [bytes(view) for view in views])
            return pb.RunStreamRequest.FromString(data)
        except Exception as error:
            return getattr(error, "reason", "MALFORMED_REQUEST")

    assert outcome(None) == outcome(pb.RunStreamRequest)


@pytest.mark.parametrize(
    "data",
    [
        b"\x7a",
        b"\x7a\x05abc",
        b"\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\x02\xff\xfe",
        b"\x0a\x05ab",
    ],
)
def test_malformed_bytes(data: bytes) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.split_message(pb.RunRequest, data)
    assert caught.value.reason == "MALFORMED_REQUEST"


@pytest.mark.parametrize("code", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (4, 0, 2), (300, 50)])
def test_an_array_survives_the_round_trip(code: str, shape: tuple[int, ...]) -> None:
    array = (np.random.default_rng(0).standard_normal(shape) * 3).astype(np.dtype(code))
    payload = wire.payload_from_array(array)
    found = wire.array_from_payload(wire.dtype_to_wire(array.dtype), shape, payload)
    assert found.dtype == array.dtype and found.shape == shape
    np.testing.assert_array_equal(found, array)
    assert not found.flags.writeable


@pytest.mark.parametrize("size", [6, 60_000])
def test_any_layout_is_sent_contiguous_and_little_endian(size: int) -> None:
    plain = np.arange(size, dtype="<f8").reshape(2, -1)
    for layout in (plain.T, plain[:, ::-1], plain.astype(">f8"), np.asfortranarray(plain)):
        payload = wire.payload_from_array(layout)
        found = wire.array_from_payload(pb.DTYPE_FLOAT64, layout.shape, payload)
        np.testing.assert_array_equal(found, layout)


def test_a_large_contiguous_array_is_not_copied() -> None:
    array = np.zeros(100_000)
    payload = wire.payload_from_array(array)
    assert isinstance(payload, memoryview)
    assert np.shares_memory(np.frombuffer(payload, np.uint8), array)


def test_a_misaligned_payload_becomes_an_aligned_array() -> None:
    data = np.arange(5.0).tobytes()
    for offset in range(8):
        shifted = memoryview(bytes(offset) + data)[offset:]
        found = wire.array_from_payload(pb.DTYPE_FLOAT64, (5,), shifted)
        assert found.flags.aligned and not found.flags.writeable
        np.testing.assert_array_equal(found, np.arange(5.0))


def test_a_writable_array_is_a_copy() -> None:
    data = np.arange(5.0).tobytes()
    found = wire.array_from_payload(pb.DTYPE_FLOAT64, (5,), data, writable=True)
    found[:] = 0
    assert data == np.arange(5.0).tobytes()


@pytest.mark.parametrize(
    ("dtype", "shape", "payload", "reason"),
    [
        (0, (1,), b"\0", "UNKNOWN_DTYPE"),
        (99, (1,), b"\0", "UNKNOWN_DTYPE"),
        (pb.DTYPE_FLOAT32, (2,), bytes(7), "PAYLOAD_MISMATCH"),
        (pb.DTYPE_FLOAT32, (2,), bytes(9), "PAYLOAD_MISMATCH"),
        (pb.DTYPE_FLOAT64, (2**32, 2**32), b"", "PAYLOAD_MISMATCH"),
        (pb.DTYPE_FLOAT64, (2**61,), b"", "PAYLOAD_MISMATCH"),
        (pb.DTYPE_FLOAT64, (-1, -1), bytes(8), "BAD_VALUE"),
        (pb.DTYPE_FLOAT64, (1,) * 65, bytes(8), "BAD_VALUE"),
        (pb.DTYPE_FLOAT64, (0, 2**62, 2**62), b"", "BAD_VALUE"),
        (pb.DTYPE_BOOL, (2,), b"\x01\x02", "PAYLOAD_MISMATCH"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused(
    dtype: int, shape: tuple[int, ...], payload: bytes, reason: str
) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.array_from_payload(dtype, shape, payload)
    assert caught.value.reason == reason


def test_a_payload_that_is_not_there_is_refused() -> None:
    assert wire.payload_at([b"a"], 0) == b"a"
    for index in (-1, 1):
        with pytest.raises(wire.WireError, match="the message has 1"):
            wire.payload_at([b"a"], index)


@pytest.mark.parametrize("dtype", ["U3", "O", "M8[s]", "i4,i4"])
def test_a_dtype_without_a_number_is_refused(dtype: str) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.dtype_to_wire(dtype)
    assert caught.value.reason == "UNKNOWN_DTYPE"


def test_every_dtype_of_the_contract_has_its_numpy_dtype() -> None:
    for number in pb.Dtype.values():
        if number != pb.DTYPE_UNSPECIFIED:
            assert wire.dtype_to_wire(wire.dtype_from_wire(number)) == number


def test_method_paths_are_those_of_the_contract() -> None:
    service = pb.DESCRIPTOR.services_by_name["AutogradService"]
    paths = {f"/{service.full_name}/{method.name}" for method in service.methods}
    assert paths == {
        wire.CREATE_SESSION,
        wire.GET_SESSION,
        wire.LIST_SESSIONS,
        wire.DELETE_SESSION,
        wire.KEEP_ALIVE,
        wire.RUN,
        wire.RUN_STREAM,
        wire.GET_GRAPH,
        wire.LIST_OPERATORS,
        wire.UPLOAD,
        wire.DOWNLOAD,
        wire.CREATE_PROGRAM,
        wire.LIST_PROGRAMS,
        wire.DELETE_PROGRAM,
        wire.EXPLAIN_PROGRAM,
    }
