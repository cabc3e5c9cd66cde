"""The transport of event loops: one bidirectional stream a session, read by a task of its own.

Recording never waits, and may happen on any thread; so what is sent queues up here until there is
room for it, and goes out from the session's event loop.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import grpc
import grpc.aio
from google.protobuf.message import Message

from gradwire import wire
from gradwire.errors import GradwireError, SessionError, UnavailableError, from_call
from gradwire.pipeline import Aside, Pipeline, Request
from gradwire.transport import Metadata, Retry
from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import M

_HANG_UP_TIMEOUT: Final = 1.0


class Stream:
    """Sends the sequences of one session and reads their answers, in order.

    All but `send` is for the thread of the event loop that it was made on.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        pipeline: Pipeline,
        *,
        address: str,
        metadata: Metadata,
        retry: Retry,
        on_answer: Callable[[Request], None],
        on_hook_call: Callable[[Aside], None],
        on_progress: Callable[[pb.Progress], None],
    ) -> None:
        self._open_call: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            wire.RUN_STREAM
        )
        self._pipeline = pipeline
        self._address = address
        self._metadata = metadata
        self._retry = retry
        self._on_answer = on_answer
        self._on_hook_call = on_hook_call
        self._on_progress = on_progress
        self._hook_results: dict[int, asyncio.Future[Aside]] = {}
        self._loop = asyncio.get_running_loop()
        self._backlog: deque[Request] = deque()
        self._outgoing: asyncio.Queue[bytes | None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiters: dict[Request, set[asyncio.Future[None]]] = {}
        self._broken: GradwireError | None = None
        self._closed = False

    @property
    def last_due(self) -> Request | None:
        """The request whose answer will be the last of those that are due."""
        for due in (self._backlog, self._pipeline.unanswered):
            if due:
                return due[-1]
        return None

    def send(self, request: Request) -> None:
        """Send a request, at once or as soon as there is room. From any thread, in order.

        Raises:
            GradwireError: the stream ended for good, or its event loop has.
        """
        self._check()
        if self._loop.is_closed():
            raise SessionError("the event loop of this session has ended, and it with it")
        self._backlog.append(request)
        if is_running(self._loop):
            self.pump()
        else:
            self._loop.call_soon_threadsafe(self.pump)

    def hand_over(self) -> None:
        """Do nothing: what was sent leaves when the event loop has its turn."""

    async def wait(self, request: Request) -> None:
        """Wait for the answer to a request.

        Raises:
            GradwireError: the server cannot be reached any more, or ended the stream.
        """
        if request.result is not None:
            return
        self._check()
        waiter = self._loop.create_future()
        self._waiters.setdefault(request, set()).add(waiter)
        self.pump()
        try:
            await waiter
        finally:
            waiting = self._waiters.get(request, set())
            waiting.discard(waiter)
            if not waiting:
                self._waiters.pop(request, None)

    async def wait_for_room(self) -> None:
        """Wait until nothing queues up here."""
        while self._backlog:
            needs = self._backlog[0].needs
            if needs is not None and not needs.done():
                await asyncio.wait((needs,))
            elif self._pipeline.unanswered:
                await self.wait(self._pipeline.unanswered[0])
            else:
                return

    def cancel(self, owner: object, request: Request) -> None:
        """Stop what an owner gave up: a request that was waited for, and those before it.

        Where the owner waits for another one still, they may be needed for that; so they go on.
        """
        due = (*self._pipeline.unanswered, *self._backlog)
        own = [each for each in due if each.owner is owner]
        waits = any(each in self._waiters for each in own)
        for each in own:
            if each is request or (each.number < request.number and not waits):
                each.interrupted = True
                if self._outgoing is not None and each not in self._backlog:
                    self._outgoing.put_nowait(self._pipeline.cancellation(each))

    @property
    def connection(self) -> object:
        """What answers of hooks must go out on: the stream that brought their calls."""
        return self._outgoing

    def answer_hook(self, data: bytes, connection: object) -> bool:
        """Send the answer to a hook's call; whether its connection is still there."""
        if self._outgoing is None or self._outgoing is not connection:
            return False
        self._outgoing.put_nowait(data)
        return True

    async def hook_result(self, number: int, connection: object) -> Aside:
        """Wait for the result of steps in the midst of a hook.

        Raises:
            UnavailableError: the connection is lost, and the backward that waits with it.
        """
        if self._outgoing is None or self._outgoing is not connection:
            raise _lost()
        waiter: asyncio.Future[Aside] = self._loop.create_future()
        self._hook_results[number] = waiter
        try:
            return await waiter
        finally:
            self._hook_results.pop(number, None)

    def close(self) -> None:
        """End the stream, after what is under way is sent; that goes on at the server."""
        self._closed = True
        if self._loop.is_closed():
            return
        if self._outgoing is not None:
            self._outgoing.put_nowait(None)
        elif self._task is not None:
            self._task.cancel()

    async def closed(self) -> None:
        """Wait until the stream has ended."""
        if self._task is not None and not self._task.done():
            await asyncio.wait((self._task,), timeout=_HANG_UP_TIMEOUT)
            self._task.cancel()

    def forget(self) -> None:
        """Drop the stream without a word, as a forked child must."""
        self._outgoing = self._task = None
        self._closed = True

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken.with_traceback(None)

    def pump(self) -> None:
        """Send what is ready and there is room for, on a stream that is open or being opened."""
        while self._backlog:
            request = self._backlog[0]
            if not request.is_ready or self._pipeline.is_crowded(len(request.data)):
                break
            self._backlog.popleft()
            self._pipeline.add(request)
            if self._outgoing is not None:
                for message in self._pipeline.messages(request):
                    self._outgoing.put_nowait(message)
        if (self._task is None or self._task.done()) and not self._closed:
            self._task = self._loop.create_task(self._run(), name="gradwire-stream")

    async def _run(self) -> None:
        """Read answers; where the stream breaks open another one, as long as answers are due."""
        waits = self._retry.waits()
        while True:
            answered = self._pipeline.traffic.sequences
            failure = await self._serve()
            if self._closed:
                self._fail(SessionError("the session was closed meanwhile"))
                return
            if failure.code != "UNAVAILABLE" and failure.reason != "QUEUE_FULL":
                self._broken = failure
                self._fail(failure)
                return
            if not self._pipeline.unanswered:
                return
            if self._pipeline.traffic.sequences > answered:
                waits = self._retry.waits()
            wait = next(waits, None)
            if wait is None:
                self._fail(failure)
                return
            await asyncio.sleep(max(wait, failure.retry_after or 0))

    async def _serve(self) -> GradwireError:
        """Open a stream, send again what was not answered, and read until it ends; why it did."""
        outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
        for message in self._pipeline.again():
            outgoing.put_nowait(message)
        self._outgoing = outgoing
        call = self._open_call(_each(outgoing), metadata=self._metadata)
        try:
            while isinstance(data := await call.read(), bytes):
                self._answered(data)
            return UnavailableError("the server ended the stream", code="UNAVAILABLE")
        except grpc.aio.AioRpcError as error:
            failure = from_call(error, self._address)
            if failure.code == "INTERNAL" and not failure.reason:
                # So gRPC calls it where a connection breaks while it writes. Faults of the server
                # come with a reason.
                return UnavailableError(
                    f"the connection to the server at {self._address} broke: {failure.message}",
                    code="UNAVAILABLE",
                )
            return failure
        except GradwireError as error:
            return error
        finally:
            self._outgoing = None
            for result in self._hook_results.values():
                if not result.done():
                    result.set_exception(_lost())
            outgoing.put_nowait(None)
            call.cancel()

    def _answered(self, data: bytes) -> None:
        request = self._pipeline.match(data)
        if isinstance(request, Aside):
            if request.response.HasField("hook_call"):
                self._on_hook_call(request)
                return
            if request.response.HasField("progress"):
                self._on_progress(request.response.progress)
                return
            result = self._hook_results.get(request.response.hook_result.call)
            if result is not None and not result.done():
                result.set_result(request)
            return
        if (refusal := self._pipeline.refusal(request)) is not None:
            # So will those be that were sent behind it; all go out again, on another stream.
            raise refusal
        self._on_answer(request)
        self._pipeline.settle(request, len(data))
        for waiter in self._waiters.get(request, ()):
            if not waiter.done():
                waiter.set_result(None)
        if self._backlog:
            self.pump()

    def _fail(self, failure: GradwireError) -> None:
        for waiting in self._waiters.values():
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_exception(failure)


def _lost() -> UnavailableError:
    return UnavailableError(
        "the connection was lost while a hook ran, and with it the backward that waited for the "
        "hook; run the backward again",
        code="UNAVAILABLE",
    )


async def _each(outgoing: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (message := await outgoing.get()) is not None:
        yield message


def is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this thread runs that event loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


async def unary(
    channel: grpc.aio.Channel,
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
    method: grpc.aio.UnaryUnaryMultiCallable[Message, M] = channel.unary_unary(
        path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response.FromString,
    )
    try:
        answer: M = await method(
            request, timeout=timeout, metadata=metadata, wait_for_ready=wait_for_ready
        )
    except grpc.aio.AioRpcError as error:
        raise from_call(error, address) from None
    return answer


async def send_pieces(
    channel: grpc.aio.Channel,
    pieces: Iterator[bytes],
    timeout: float,
    metadata: Metadata,
    address: str,
) -> bytes:
    """One Upload call; its answer, or its failure as an exception of ours."""
    method: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(wire.UPLOAD)

    async def each() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    try:
        answer: bytes = await method(each(), timeout=timeout, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        raise from_call(error, address) from None
    return answer


async def receive_pieces(
    channel: grpc.aio.Channel,
    request: bytes,
    take: Callable[[bytes], None],
    timeout: float,
    metadata: Metadata,
    address: str,
) -> None:
    """One Download call, each piece handed over; its failure as an exception of ours."""
    method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(wire.DOWNLOAD)
    call = method(request, timeout=timeout, metadata=metadata)
    try:
        async for piece in call:
            take(piece)
    except grpc.aio.AioRpcError as error:
        raise from_call(error, address) from None
    finally:
        call.cancel()
