"""The blocking transport: one bidirectional stream a session, pipelined, resumed when it breaks.

Only threading primitives and gRPC's blocking API, looked up when they are called, so that it works
on threads and, after `grpc.experimental.gevent.init_gevent()`, on greenlets alike.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

import grpc
from google.protobuf.message import Message

from gradwire import wire
from gradwire.errors import GradwireError, UnavailableError, from_call
from gradwire.pipeline import Aside, Pipeline, Request
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


_HAND_OVER: Final = 50e-6
"""Seconds in which a thread that waits for the interpreter's lock wakes up and takes it."""

_HAND_OVERS: Final = 10
"""So many times it is given the chance; if it is slower than that, recording goes on first."""


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
        pipeline: Pipeline,
        *,
        address: str,
        metadata: Metadata,
        retry: Retry,
        on_answer: Callable[[Request], None],
        on_hook_call: Callable[[Aside], None],
        on_progress: Callable[[pb.Progress], None],
    ) -> None:
        self._open_call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            wire.RUN_STREAM
        )
        self._pipeline = pipeline
        self._address = address
        self._metadata = metadata
        self._retry = retry
        self._on_answer = on_answer
        self._on_hook_call = on_hook_call
        self._on_progress = on_progress
        self._hook_results: dict[int, Aside] = {}
        # Whoever reads holds `_reading`, for as long as it takes. `_sending` guards what is to be
        # sent, for moments only, and is taken last.
        self._reading = threading.RLock()
        self._sending = threading.Lock()
        # Requests for which there is no room yet; later than all that the pipeline holds.
        self._backlog: deque[Request] = deque()
        self._outgoing: queue.SimpleQueue[bytes | None] | None = None
        self._call: _Call | None = None
        self._reconnecting = False
        self._stale = False
        self._broken: GradwireError | None = None

    def send(self, request: Request) -> None:
        """Send a request without waiting for its answer, unless too much is under way.

        Where that wait is cut short, the request goes out at the next occasion.

        Raises:
            GradwireError: the stream ended for good; or the server cannot be reached, and too much
                is under way.
        """
        if self._broken is not None:
            raise self._broken.with_traceback(None)
        if self._stale:
            with self._reading:
                self._hang_up()
        with self._sending:
            self._backlog.append(request)
        while (oldest := self._send_backlog()) is not None:
            self.wait(oldest)

    def hand_over(self) -> None:
        """Let gRPC's thread take what was sent; it takes the next once the last is written.

        It would have to wait for the interpreter's lock, and that is the switch interval (5 ms)
        where this thread goes on recording.
        """
        outgoing = self._outgoing
        for _ in range(_HAND_OVERS):
            time.sleep(_HAND_OVER)
            if outgoing is None or outgoing.empty():
                return

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
                    if self._stale:
                        self._hang_up()
                    self._send_backlog()
                    self._read()
            except BaseException as error:
                if not isinstance(error, Exception):
                    self._give_up()
                raise

    def wait_all(self) -> None:
        """Read all answers that are due."""
        while (last := self.last_due) is not None:
            self.wait(last)

    @property
    def last_due(self) -> Request | None:
        """The request whose answer will be the last of those that are due."""
        with self._sending:
            due = self._backlog or self._pipeline.unanswered
            return due[-1] if due else None

    @property
    def connection(self) -> object:
        """What answers of hooks must go out on: the stream that brought their calls."""
        return self._outgoing

    def answer_hook(self, data: bytes, connection: object) -> bool:
        """Send the answer to a hook's call; whether its connection is still there."""
        with self._sending:
            outgoing = self._outgoing
            if outgoing is None or outgoing is not connection:
                return False
            outgoing.put(data)
        return True

    def hook_result(self, number: int, connection: object) -> Aside:
        """Read until there is the result of steps in the midst of a hook.

        Called by the thread that reads, from within a hook.

        Raises:
            UnavailableError: the connection is lost, and the backward that waits with it.
        """
        lost = UnavailableError(
            "the connection was lost while a hook ran, and with it the backward that waited for "
            "the hook; run the backward again",
            code="UNAVAILABLE",
        )
        while number not in self._hook_results:
            call = self._call
            if call is None or self._outgoing is not connection:
                raise lost
            try:
                data = next(call)
            except (StopIteration, grpc.RpcError):
                raise lost from None
            self._answered(data)
        return self._hook_results.pop(number)

    def close(self) -> None:
        """End the stream. What is under way goes on at the server."""
        self._hang_up()

    def forget(self) -> None:
        """Drop the stream without a word, as a forked child must."""
        self._outgoing = self._call = None

    def _send_backlog(self) -> Request | None:
        """Send what there is room for; the request whose answer makes room for more, if need be."""
        with self._sending:
            pipeline = self._pipeline
            while self._backlog:
                request = self._backlog[0]
                if pipeline.is_crowded(len(request.data)):
                    return pipeline.unanswered[0]
                pipeline.add(request)
                self._backlog.popleft()
                if self._outgoing is not None:
                    for message in pipeline.messages(request):
                        self._outgoing.put(message)
                elif not self._reconnecting:
                    self._connect()
        return None

    def _read(self) -> None:
        if self._broken is not None:
            raise self._broken.with_traceback(None)
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
        if (refusal := self._answered(data)) is not None:
            self._reconnect(refusal)

    def _answered(self, data: bytes) -> GradwireError | None:
        """Take in a message; why its request must be sent again, if it must."""
        try:
            request = self._pipeline.match(data)
        except GradwireError as error:
            self._break(error)
        if isinstance(request, Aside):
            if request.response.HasField("hook_call"):
                self._on_hook_call(request)
            elif request.response.HasField("progress"):
                self._on_progress(request.response.progress)
            else:
                self._hook_results[request.response.hook_result.call] = request
            return None
        if (refusal := self._pipeline.refusal(request)) is not None:
            return refusal
        self._on_answer(request)
        with self._sending:
            self._pipeline.settle(request, len(data))
        return None

    def _connect(self) -> _Call:
        """Open the call and send what was not answered. `_sending` is held."""
        outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for message in self._pipeline.again():
            outgoing.put(message)
        call: _Call = self._open_call(iter(outgoing.get, None), metadata=self._metadata)
        self._outgoing, self._call = outgoing, call
        return call

    def _reconnect(self, failure: GradwireError) -> None:
        """Open the stream again and send again what was not answered; numbers make that safe.

        So it is where the connection was lost, and where the server had no room: what was sent
        behind a refused sequence is refused too, and the answers say so to a stream that is gone.
        """
        self._reconnecting = True
        try:
            for wait in self._retry.waits():
                self._hang_up()
                time.sleep(max(wait, failure.retry_after or 0))
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
                refusal = self._answered(data)
                if refusal is None:
                    return
                failure = refusal
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
            for request in self._backlog:
                request.interrupted = True
            for request in self._pipeline.unanswered:
                request.interrupted = True
                if self._outgoing is not None:
                    self._outgoing.put(self._pipeline.cancellation(request))


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


def send_pieces(
    channel: grpc.Channel, pieces: Iterator[bytes], timeout: float, metadata: Metadata, address: str
) -> bytes:
    """One Upload call; its answer, or its failure as an exception of ours."""
    method: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(wire.UPLOAD)
    call = method.future(pieces, timeout=timeout, metadata=metadata)
    try:
        answer: bytes = call.result()
    except grpc.RpcError as error:
        raise from_call(error, address) from None
    finally:
        # Of a wait that was cut short too: else the rest would go on being sent.
        call.cancel()
    return answer


def receive_pieces(
    channel: grpc.Channel,
    request: bytes,
    take: Callable[[bytes], None],
    timeout: float,
    metadata: Metadata,
    address: str,
) -> None:
    """One Download call, each piece handed over; its failure as an exception of ours."""
    method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(wire.DOWNLOAD)
    call = method(request, timeout=timeout, metadata=metadata)
    try:
        for piece in call:
            take(piece)
    except grpc.RpcError as error:
        raise from_call(error, address) from None
    finally:
        call.cancel()
