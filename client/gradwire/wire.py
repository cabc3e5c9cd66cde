"""Arrays and messages as they travel: shared by the client and the server.

A message is a protobuf *header* followed by its payloads. On the wire the payloads are the
message's last field, `repeated bytes payloads = 15`, so any protobuf library reads and writes
the same bytes; here they are appended to and split off the header by hand, because protobuf's
own `bytes` fields copy tensor data twice on the way in and once on the way out.

Large payloads begin at multiples of `ALIGNMENT` bytes, for which `bytes padding = 14` goes before
them. A receiver's buffer is aligned too, so its arrays are views of the message as it came.
"""

import functools
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

import google_crc32c
import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError, Message

from gradwire.v1 import autograd_pb2 as pb

M = TypeVar("M", bound=Message)
Payload = bytes | memoryview
P = TypeVar("P", bound=Payload)
Array = npt.NDArray[np.generic]

SERVICE: Final = "gradwire.v1.AutogradService"
CREATE_SESSION: Final = f"/{SERVICE}/CreateSession"
GET_SESSION: Final = f"/{SERVICE}/GetSession"
LIST_SESSIONS: Final = f"/{SERVICE}/ListSessions"
DELETE_SESSION: Final = f"/{SERVICE}/DeleteSession"
KEEP_ALIVE: Final = f"/{SERVICE}/KeepAlive"
RUN: Final = f"/{SERVICE}/Run"
RUN_STREAM: Final = f"/{SERVICE}/RunStream"
GET_GRAPH: Final = f"/{SERVICE}/GetGraph"
CREATE_PROGRAM: Final = f"/{SERVICE}/CreateProgram"
LIST_PROGRAMS: Final = f"/{SERVICE}/ListPrograms"
DELETE_PROGRAM: Final = f"/{SERVICE}/DeleteProgram"
EXPLAIN_PROGRAM: Final = f"/{SERVICE}/ExplainProgram"
UPLOAD: Final = f"/{SERVICE}/Upload"
DOWNLOAD: Final = f"/{SERVICE}/Download"
LIST_OPERATORS: Final = f"/{SERVICE}/ListOperators"

PAYLOADS_TAG: Final = 15 << 3 | 2
"""The byte that precedes each payload: field 15, length-delimited."""

PADDING_TAG: Final = 14 << 3 | 2
"""The byte that begins what may lie between payloads: field 14, length-delimited."""

ALIGNMENT: Final = 64
"""Payloads that are not small begin at multiples of so many bytes: a cache line."""

MAX_RANK: Final = 64
"""NumPy's bound on the number of dimensions; servers may admit fewer."""

DOMAIN: Final = "gradwire"
"""Domain of every `google.rpc.ErrorInfo` of the service."""

_PIECE: Final = 1 << 20
_PIECE_HEADER: Final = 512
"""More than what goes with a piece of a transfer in its message."""

_SMALL: Final = 4096
"""Up to this many bytes a copy costs less than the view that saves it."""

_DTYPES: Final[Mapping[int, np.dtype[np.generic]]] = {
    pb.DTYPE_BOOL: np.dtype("?"),
    pb.DTYPE_UINT8: np.dtype("u1"),
    pb.DTYPE_INT8: np.dtype("i1"),
    pb.DTYPE_INT16: np.dtype("<i2"),
    pb.DTYPE_INT32: np.dtype("<i4"),
    pb.DTYPE_INT64: np.dtype("<i8"),
    pb.DTYPE_FLOAT16: np.dtype("<f2"),
    pb.DTYPE_FLOAT32: np.dtype("<f4"),
    pb.DTYPE_FLOAT64: np.dtype("<f8"),
    pb.DTYPE_COMPLEX64: np.dtype("<c8"),
    pb.DTYPE_COMPLEX128: np.dtype("<c16"),
}
_WIRE_DTYPES: Final[Mapping[np.dtype[np.generic], int]] = {
    dtype: number for number, dtype in _DTYPES.items()
}


class WireError(ValueError):
    """Bytes or metadata that do not make a message or an array.

    Free of gRPC, so that the server can make it a status and the client an exception.

    Attributes:
        reason: Name of an `ErrorReason` without its prefix: `MALFORMED_REQUEST`, `UNKNOWN_DTYPE`,
            `PAYLOAD_MISMATCH` or `BAD_VALUE`.
        message: What was wrong with which values.
        metadata: Each dynamic part of the message.
    """

    def __init__(self, reason: str, message: str, metadata: Mapping[str, str] | None = None):
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata: Mapping[str, str] = metadata or {}


def dtype_from_wire(number: int) -> np.dtype[np.generic]:
    """The NumPy dtype (little-endian) of a `Dtype` of the wire.

    Raises:
        WireError: `UNKNOWN_DTYPE` where there is none of that number, 0 included.
    """
    dtype = _DTYPES.get(number)
    if dtype is None:
        known = ", ".join(f"{n} ({d.name})" for n, d in _DTYPES.items())
        what = "the dtype is not set" if number == 0 else f"no dtype has number {number}"
        raise WireError("UNKNOWN_DTYPE", f"{what}; known are {known}", {"dtype": str(number)})
    return dtype


def dtype_to_wire(dtype: npt.DTypeLike) -> int:
    """The `Dtype` of the wire for a NumPy dtype of either byte order.

    Raises:
        WireError: `UNKNOWN_DTYPE` for one that the wire has no number for.
    """
    found = np.dtype(dtype)
    number = _WIRE_DTYPES.get(found)
    if number is None:
        number = _WIRE_DTYPES.get(found.newbyteorder("<"))
    if number is None:
        known = ", ".join(d.name for d in _WIRE_DTYPES)
        raise WireError(
            "UNKNOWN_DTYPE",
            f"arrays of dtype {found} cannot travel; convert to one of {known}",
            {"dtype": str(found)},
        )
    return number


def payload_from_array(array: npt.NDArray[np.generic]) -> Payload:
    """The elements of an array, C-contiguous and little-endian.

    A large array that already lies so is not copied: the payload is a view of its memory, which
    must not change until the payload was encoded.
    """
    if array.dtype.byteorder == ">" or (sys.byteorder == "big" and array.dtype.byteorder == "="):
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.nbytes <= _SMALL:
        return array.tobytes()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def array_from_payload(
    dtype: int, shape: Sequence[int], payload: Payload, *, writable: bool = False
) -> Array:
    """The array of `shape` that a payload holds.

    Without `writable` it shares the payload's memory where that is aligned for the dtype and is
    read-only; with `writable` it is always a copy of its own. Everything is checked, in Python
    integers, before anything is allocated.

    Raises:
        WireError: `UNKNOWN_DTYPE`; `BAD_VALUE` for a negative size or more than `MAX_RANK`
            dimensions; `PAYLOAD_MISMATCH` for a payload that is not exactly as long as the shape
            and dtype say, or a bool that is neither 0 nor 1.
    """
    found, sizes, expected = _layout(dtype, tuple(shape[:]))
    length = len(payload) if isinstance(payload, bytes) else payload.nbytes
    if length != expected:
        raise WireError(
            "PAYLOAD_MISMATCH",
            f"shape {sizes} of {found.name} takes {expected} bytes, the payload has {length}",
            {
                "shape": _joined(sizes),
                "dtype": found.name,
                "expected": str(expected),
                "found": str(length),
            },
        )
    is_small = length <= _SMALL
    if is_small:
        payload = bytes(payload)  # aligned, read-only, and no view of the whole message
    try:
        array: Array = np.ndarray(sizes, found, payload)
    except ValueError:  # only an empty tensor whose other sizes overflow gets here
        raise WireError(
            "BAD_VALUE", f"shape {sizes} is beyond what can be addressed", {"shape": _joined(sizes)}
        ) from None
    if dtype == pb.DTYPE_BOOL and length and int(array.view(np.uint8).max()) > 1:
        raise WireError(
            "PAYLOAD_MISMATCH",
            "a bool takes one byte, 0 or 1; the payload has other bytes",
            {"shape": _joined(sizes), "dtype": found.name},
        )
    if writable:
        return array.copy()
    if not is_small:
        if not array.flags.aligned:
            array = array.copy()
        array.flags.writeable = False
    return array


@functools.lru_cache(maxsize=1024)
def _layout(
    dtype: int, sizes: tuple[int, ...]
) -> tuple[np.dtype[np.generic], tuple[int, ...], int]:
    """The dtype, shape and bytes of an array as it is described, remembered once they are checked.

    Raises:
        WireError: `UNKNOWN_DTYPE`, `BAD_VALUE`.
    """
    found = dtype_from_wire(dtype)
    if len(sizes) > MAX_RANK:
        raise WireError(
            "BAD_VALUE",
            f"a tensor of {len(sizes)} dimensions; at most {MAX_RANK} are possible",
            {"rank": str(len(sizes)), "maximum": str(MAX_RANK)},
        )
    if sizes and min(sizes) < 0:
        raise WireError(
            "BAD_VALUE", f"shape {sizes} has a negative size", {"shape": _joined(sizes)}
        )
    return found, sizes, math.prod(sizes) * found.itemsize


def payload_at(payloads: Sequence[P], index: int) -> P:
    """The payload that a step or a value names.

    Raises:
        WireError: `PAYLOAD_MISMATCH` where there is none of that index.
    """
    if 0 <= index < len(payloads):
        return payloads[index]
    raise WireError(
        "PAYLOAD_MISMATCH",
        f"payload {index} is named, the message has {len(payloads)}",
        {"payload": str(index), "payloads": str(len(payloads))},
    )


def _joined(sizes: Iterable[int]) -> str:
    return ",".join(map(str, sizes))


def encode_message(header: Message, payloads: Iterable[Payload] = ()) -> bytes:
    """The bytes of `header` with `payloads` as its field 15, which the header leaves empty."""
    return join_message(header.SerializeToString(), payloads)


def join_message(header: bytes, payloads: Iterable[Payload]) -> bytes:
    """The bytes of a message: those of its header, and `payloads` as its field 15."""
    parts: list[Payload] = [header]
    at = len(header)
    for payload in payloads:
        length = len(payload) if isinstance(payload, bytes) else payload.nbytes
        if length <= _SMALL:
            before = _SHORT_PAYLOADS[length]
        else:
            before = _PAYLOADS + varint(length)
            before = _PADDINGS[-(at + len(before)) % ALIGNMENT] + before
        parts.append(before)
        parts.append(payload)
        at += len(before) + length
    return header if len(parts) == 1 else b"".join(parts)


def varint(number: int) -> bytes:
    """A number of up to 64 bits, not negative, in protobuf's variable length."""
    if number < _TABLE:
        return _ENDING[number]
    rest = number >> 14
    return _GOING_ON[number & _TABLE - 1] + (_ENDING[rest] if rest < _TABLE else varint(rest))


def delimited(tag: bytes, content: bytes) -> bytes:
    """A field of bytes, a string or a message, after the byte or bytes of its tag."""
    length = len(content)
    # Most are short, and this is called several times a step.
    return tag + (_ENDING[length] if length < _TABLE else varint(length)) + content


def varint_at(data: bytes, at: int) -> tuple[int, int]:
    """The variable-length integer at an offset, and the offset after it.

    Raises:
        WireError: `MALFORMED_REQUEST` where there is none.
    """
    value = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
            if shift > 63:
                raise _malformed("message: a number has more than 64 bits")
    except IndexError:
        raise _malformed("message: it ends early") from None


_PAYLOADS: Final = bytes((PAYLOADS_TAG,))


def _padding(gap: int) -> bytes:
    """A field that fills `gap` bytes: its tag, its length, and zeros; one more round for 1."""
    if gap == 0:
        return b""
    zeros = (gap if gap > 1 else gap + ALIGNMENT) - 2
    return bytes((PADDING_TAG, zeros)) + bytes(zeros)


_PADDINGS: Final = [_padding(gap) for gap in range(ALIGNMENT)]

# Two digits of a varint, seven bits each, as the last ones and as such that more follow.
_TABLE: Final = 1 << 14
_GOING_ON: Final = [bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(_TABLE)]
_ENDING: Final = [
    bytes((n,)) if n < 0x80 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(_TABLE)
]


_TAIL_TAGS: Final = frozenset((PAYLOADS_TAG, PADDING_TAG))


def split_message(message_class: type[M], data: bytes) -> tuple[M, list[memoryview]]:
    """The header that `data` holds, its payloads left out, and the payloads as views of `data`.

    Raises:
        WireError: `MALFORMED_REQUEST` where `data` is not such a message.
    """
    first = _first_payload(data)
    if first == len(data):
        return _parse(message_class, data), []
    if first is not None and (payloads := payloads_from(data, first)) is not None:
        return _parse(message_class, data[:first]), payloads
    # Fields may come in any order and numbers may be padded. No writer of ours does either, so
    # leave that to protobuf, copies and all.
    header = _parse(message_class, data)
    field = header.DESCRIPTOR.fields_by_number[PAYLOADS_TAG >> 3].name
    found: bytes | Sequence[bytes] = getattr(header, field)
    views = [memoryview(each) for each in ([found] if isinstance(found, bytes) else found)]
    header.ClearField(field)
    header.ClearField("padding")
    return header, views


def payloads_from(data: bytes, at: int) -> list[memoryview] | None:
    """The payloads of a message from an offset to its end, as views; None where other fields are.

    Raises:
        WireError: `MALFORMED_REQUEST` where the last of them ends early.
    """
    view, end = memoryview(data), len(data)
    payloads = []
    while at < end:
        tag = data[at]
        if tag not in _TAIL_TAGS:
            return None
        length, at = varint_at(data, at + 1)
        following = at + length
        if following > end:
            raise _malformed("list of payloads: it ends early")
        if tag == PAYLOADS_TAG:
            payloads.append(view[at:following])
        at = following
    return payloads


def split_piece(message_class: type[M], data: bytes) -> tuple[M, memoryview]:
    """The header of a piece of a transfer, and the tensor data that it carries, as a view.

    Raises:
        WireError: `MALFORMED_REQUEST` where `data` is not such a message.
    """
    header, found = split_message(message_class, data)
    return header, found[-1] if found else memoryview(b"")


def checksum(data: Payload) -> int:
    """CRC-32C of a piece of tensor data, C-contiguous."""
    # The library does not take memoryviews, but arrays over them.
    crc: int = google_crc32c.value(np.frombuffer(data, np.uint8))
    return crc


def piece_bytes(max_message_bytes: int) -> int:
    """Length of a piece of a transfer: 1 MiB, or what fits; 0 stands for no limit of messages."""
    return min(_PIECE, max_message_bytes - _PIECE_HEADER) if max_message_bytes else _PIECE


def _parse(message_class: type[M], data: bytes) -> M:
    try:
        return message_class.FromString(data)
    except DecodeError:
        raise _malformed(message_class.__name__) from None


def _malformed(what: str) -> WireError:
    return WireError("MALFORMED_REQUEST", f"the bytes are not a valid {what}", {"message": what})


def _first_payload(data: bytes) -> int | None:
    """Where payloads and padding begin, the end if there are none; None if unusually written."""
    at, end = 0, len(data)
    while at < end:
        if data[at] in _TAIL_TAGS:
            return at
        tag, at = varint_at(data, at)
        if tag in _TAIL_TAGS:
            return None
        match tag & 7:
            case 0:
                _, at = varint_at(data, at)
            case 1:
                at += 8
            case 2:
                length, at = varint_at(data, at)
                at += length
            case 5:
                at += 4
            case _:  # groups: protobuf decides
                return None
    return end


_SHORT_PAYLOADS: Final = [_PAYLOADS + varint(length) for length in range(_SMALL + 1)]
