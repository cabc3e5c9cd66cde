"""The blocking transport: one bidirectional stream a session, pipelined, resumed when it breaks.

Only threading primitives and gRPC's blocking API, looked up when they are called, so that it works
on threads and, after `grpc.experimental.gevent.init_gevent()`, on greenlets alike.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol

import grpc
from google.protobuf.message import Message

from gradwire import wire
from gradwire.codec import decode_response
from gradwire.errors import GradwireError, UnavailableError, from_call, from_wire_error
from gradwire.recorder import Entry
from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import M

Metadata = tuple[tuple[str, str], ...]

CHANNEL_OPTIONS: Final = (
    # The server's limits decide, and say so in a way that can be understood.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A peer that vanished is noticed. Servers refuse pings more frequent than every five minutes
    # unless told otherwise.
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # After a restart of the server a second is long.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

_MAX_IN_FLIGHT: Final = 64
_MAX_BYTES_IN_FLIGHT: Final = 64 << 20


@dataclass(slots=True, eq=False)
class Request:
    """A sequence that was sent, until it is answered and looked at.

    Attributes:
        number: Its number in the session.
        data: The bytes that were sent, to be sent again where the stream breaks.
        entries: Its steps, to find the user's line if one fails.
        released: Handles that its release steps drop, each with the step's index.
        result: The answer, once there.
        payloads: The answer's tensor data.
        error: The exception that the answer amounts to, if it is one.
        interrupted: The user gave up waiting for it.
    """

    number: int
    data: bytes
    entries: list[Entry]
    released: list[tuple[int, tuple[int, ...]]]
    result: pb.SequenceResult | None = None
    payloads: list[memoryview] = field(default_factory=list)
    error: GradwireError | None = None
    interrupted: bool = False


@dataclass(slots=True)
class Traffic:
    """What went over a session's stream.

    Attributes:
        sequences: Sequences that were answered.
        sent: Bytes of the sequences that were sent, each counted once.
        received: Bytes of their answers.
    """

    sequences: int = 0
    sent: int = 0
    received: int = 0

    def __sub__(self, earlier: "Traffic") -> "Traffic":
        return Traffic(
            self.sequences - earlier.sequences,
            self.sent - earlier.sent,
            self.received - earlier.received,
        )


class _Call(Protocol):
    def __next__(self) -> bytes: ...
    def cancel(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Retry:
    """How long and how often a lost connection is tried again.

    Attributes:
        timeout: Seconds after which it is given up.
        first: Seconds before the first retry; each next waits twice as long.
        most: Seconds that no single wait exceeds.
    """

    timeout: float = 30.0
    first: float = 0.05
    most: float = 2.0

    def waits(self) -> Iterator[float]:
        """Seconds to wait before each retry, until the time is up."""
        end = time.monotonic() + self.timeout
        wait = self.first
        while (left := end - time.monotonic()) > 0:
            yield min(wait, left)
            wait = min(wait * 2, self.most)


class Stream:
    """Sends the sequences of one session and reads their answers, in order.

    There is no reader thread: whoever waits for an answer reads, and leaves what others wait for
    with their requests. So an answer takes no detour on its way.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        session_id: str,
        *,
        address: str,
        metadata: Metadata,
        retry: Retry,
        max_in_flight: int,
        max_bytes_in_flight: int,
        on_answer: Callable[[Request], None],
    ) -> None:
        self._open_call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            wire.RUN_STREAM
        )
        self._session_id = session_id
        self._address = address
        self._metadata = metadata
        self._retry = retry
        self._max_in_flight = max(1, min(max_in_flight or _MAX_IN_FLIGHT, _MAX_IN_FLIGHT))
        self._max_bytes = max(
            1, min(max_bytes_in_flight or _MAX_BYTES_IN_FLIGHT, _MAX_BYTES_IN_FLIGHT)
        )
        self._on_answer = on_answer
        self.traffic = Traffic()
        # Whoever reads holds `_reading`, for as long as it takes. `_sending` guards what is to be
        # sent, for moments only, and is taken last.
        self._reading = threading.RLock()
        self._sending = threading.Lock()
        self._unanswered: deque[Request] = deque()
        self._bytes_in_flight = 0
        self._outgoing: queue.SimpleQueue[bytes | None] | None = None
        self._call: _Call | None = None
        self._reconnecting = False
        self._stale = False
        self._broken: GradwireError | None = None

    def send(self, request: Request) -> None:
        """Send a request without waiting for its answer, unless too much is under way.

        Raises:
            GradwireError: the stream ended for good.
        """
        while (oldest := self._oldest_if_crowded(len(request.data))) is not None:
            self.wait(oldest)
        if self._broken is not None:
            raise self._broken.with_traceback(None)
        if self._stale:
            with self._reading:
                self._hang_up()
        with self._sending:
            self._unanswered.append(request)
            self._bytes_in_flight += len(request.data)
            self.traffic.sent += len(request.data)
            if self._outgoing is not None:
                self._outgoing.put(request.data)
            elif not self._reconnecting:
                self._connect()

    def wait(self, request: Request) -> None:
        """Read answers until that of `request` is there.

        Raises:
            GradwireError: the server cannot be reached any more, or ended the stream.
            KeyboardInterrupt: the user gave up; the sequences under way are cancelled. So they are
                for whatever else cuts a thread or greenlet short, such as gevent's GreenletExit.
        """
        with self._reading:
            try:
                while request.result is None and request.error is None:
                    self._read()
            except BaseException as error:
                if not isinstance(error, Exception):
                    self._give_up()
                raise

    def wait_all(self) -> None:
        """Read all answers that are due."""
        while (last := self._last_unanswered()) is not None:
            self.wait(last)

    def close(self) -> None:
        """End the stream. What is under way goes on at the server."""
        self._hang_up()

    def forget(self) -> None:
        """Drop the stream without a word, as a forked child must."""
        self._outgoing = self._call = None

    def _oldest_if_crowded(self, more: int) -> Request | None:
        with self._sending:
            crowded = (
                len(self._unanswered) >= self._max_in_flight
                or self._bytes_in_flight + more > self._max_bytes
            )
            return self._unanswered[0] if self._unanswered and crowded else None

    def _last_unanswered(self) -> Request | None:
        with self._sending:
            return self._unanswered[-1] if self._unanswered else None

    def _read(self) -> None:
        if self._broken is not None:
            raise self._broken.with_traceback(None)
        if self._stale:
            self._hang_up()
        with self._sending:
            call = self._call if self._call is not None else self._connect()
        try:
            data = next(call)
        except StopIteration:
            self._reconnect(UnavailableError("the server ended the stream", code="UNAVAILABLE"))
            return
        except grpc.RpcError as error:
            failure = from_call(error, self._address)
            if failure.code != "UNAVAILABLE":
                self._break(failure)
            self._reconnect(failure)
            return
        self._answered(data)

    def _answered(self, data: bytes) -> None:
        try:
            result, payloads = decode_response(data)
        except wire.WireError as error:
            self._break(from_wire_error(error))
        if not self._unanswered or result.number != self._unanswered[0].number:
            due = self._unanswered[0].number if self._unanswered else "none"
            self._break(
                GradwireError(
                    f"the server answered sequence {result.number} where {due} was due",
                    reason="MALFORMED_REQUEST",
                )
            )
        request = self._unanswered[0]
        request.payloads = payloads
        request.result = result
        self._on_answer(request)
        with self._sending:
            self._unanswered.popleft()
            self._bytes_in_flight -= len(request.data)
            self.traffic.sequences += 1
            self.traffic.received += len(data)
        request.data = b""

    def _connect(self) -> _Call:
        """Open the call and send what was not answered. `_sending` is held."""
        outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for request in self._unanswered:
            if request.interrupted:
                outgoing.put(self._cancel(request.number))
            outgoing.put(request.data)
        call: _Call = self._open_call(iter(outgoing.get, None), metadata=self._metadata)
        self._outgoing, self._call = outgoing, call
        return call

    def _reconnect(self, failure: GradwireError) -> None:
        """Open the stream again and send again what was not answered; numbers make that safe."""
        self._reconnecting = True
        try:
            for wait in self._retry.waits():
                self._hang_up()
                time.sleep(wait)
                with self._sending:
                    call = self._connect()
                try:
                    data = next(call)
                except StopIteration:
                    continue
                except grpc.RpcError as error:
                    failure = from_call(error, self._address)
                    if failure.code != "UNAVAILABLE":
                        self._break(failure)
                    continue
                self._answered(data)
                return
        finally:
            self._reconnecting = False
        self._hang_up()
        raise failure from None

    def _break(self, failure: GradwireError) -> NoReturn:
        self._broken = failure
        self._hang_up()
        raise failure from None

    def _hang_up(self) -> None:
        with self._sending:
            outgoing, call = self._outgoing, self._call
            self._outgoing = self._call = None
            self._stale = False
        if outgoing is not None:
            outgoing.put(None)
        if call is not None:
            call.cancel()

    def _give_up(self) -> None:
        """Cancel what is under way. The read that was cut short leaves the call unusable."""
        with self._sending:
            self._stale = True
            for request in self._unanswered:
                request.interrupted = True
                if self._outgoing is not None:
                    self._outgoing.put(self._cancel(request.number))

    def _cancel(self, number: int) -> bytes:
        return pb.RunStreamRequest(
            session_id=self._session_id, cancel=pb.Cancel(number=number)
        ).SerializeToString()


def unary(
    channel: grpc.Channel,
    path: str,
    request: Message,
    response: type[M],
    timeout: float,
    metadata: Metadata,
    address: str,
    *,
    wait_for_ready: bool = False,
) -> M:
    """One unary call, its failure as an exception of ours."""
    method: grpc.UnaryUnaryMultiCallable[Message, M] = channel.unary_unary(
        path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response.FromString,
    )
    try:
        answer = method(request, timeout=timeout, metadata=metadata, wait_for_ready=wait_for_ready)
    except grpc.RpcError as error:
        raise from_call(error, address) from None
    return answer
