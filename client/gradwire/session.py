"""The session of blocking programs, threads and greenlets."""

import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from gradwire import embedded
from gradwire import tensors as _tensors
from gradwire.answers import note_answer
from gradwire.core import SessionCore
from gradwire.hooks import HookRun
from gradwire.opening import Terms
from gradwire.pipeline import Aside, Request
from gradwire.transfer import Upload, upload
from gradwire.transport import Stream, receive_pieces, send_pieces, unary
from gradwire.v1 import autograd_pb2 as pb
from gradwire.waiting import T
from gradwire.wire import M


class Session(SessionCore):
    """A namespace of tensors with one graph, on a server. Made by `gradwire.connect`.

    A context manager: leaving it closes the session. Threads may share a session; what each records
    runs in the order in which it was recorded.

    Attributes:
        id: The server's name for it.
        name: Its name for people; may be empty.
        address: Where the server is.
        limits: What the server accepts.
        server_version: The server's version.
        features: Optional abilities of the server.
        timeout: Seconds that a sequence may take; None for no such bound. May be set.
    """

    tensor_type = _tensors.Tensor
    _kind = "gradwire.Session"

    def __init__(
        self, channel: grpc.Channel, created: pb.CreateSessionResponse, terms: Terms
    ) -> None:
        super().__init__(created, terms)
        self._channel = channel
        self._stream: Stream = Stream(
            channel,
            self._pipeline,
            address=terms.address,
            metadata=terms.metadata,
            retry=terms.retry,
            on_answer=partial(note_answer, self),
            on_hook_call=self._on_hook_call,
            on_progress=self._on_progress,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A failed step must not go unnoticed because nothing was read after it; but where an
        # exception is on its way already, that one is the news.
        self.finish(self._close(report=error is None))

    def close(self) -> None:
        """End the session and free all that it holds on the server. Closing twice is fine.

        Raises:
            GradwireError: a step failed whose failure was not reported yet. The session is closed
                all the same.
        """
        self.finish(self._close(report=True))

    def flush(self) -> None:
        """Send all that is recorded, without waiting for it to run."""
        if self.hook_here() is not None:
            return
        with self.lock:
            self.send_ahead()

    def synchronize(self) -> None:
        """Send all that is recorded, and wait until it ran.

        Raises:
            GradwireError: a step failed that was recorded since the last report.
        """
        self.finish(self.settle())

    def leave(self) -> None:
        """Close at the end of the process, when an embedded server cannot work any more."""
        if self._is_embedded:
            self._end("closed")
            self.finish(self._hang_up())
        else:
            self.finish(self._close(report=False))

    def keep_alive(self) -> None:
        """Renew the lease."""
        self.finish(self._renew())

    def finish(self, doing: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of ours to its end. It waits where it stands, so one step is all."""
        try:
            doing.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        raise AssertionError("a coroutine of a blocking session was suspended")

    def answer_hook(self, data: bytes, connection: object) -> bool:
        """Send the answer to the call of a hook; whether its connection is still there."""
        return self._stream.answer_hook(data, connection)

    async def hook_result(self, number: int, connection: object) -> Aside:
        """Read until there is what steps in the midst of a hook came to."""
        return self._stream.hook_result(number, connection)

    async def call_hook(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Call the function of a hook, here."""
        return function(*arguments)

    def wait_for_backward(self) -> None:
        """Wait for what was recorded."""
        self.finish(self.settle())

    def _on_hook_call(self, message: Aside) -> None:
        """Run a hook in the thread that reads, while its backward waits."""
        self.finish(self._run_hook(HookRun(self, message, self._stream.connection)))

    async def answer_to(self, request: Request) -> None:
        """Wait for the answer to a request."""
        self._stream.wait(request)

    async def _answers(self) -> None:
        self._stream.wait_all()

    async def _unary(self, path: str, request: Message, response: type[M], timeout: float) -> M:
        return unary(self._channel, path, request, response, timeout, self._metadata, self.address)

    def upload(self, sent: Upload) -> None:
        """Send data, here."""
        self.finish(upload(self, sent))

    async def send_pieces(self, pieces: Iterator[bytes], timeout: float) -> bytes:
        """Make an Upload call; its answer."""
        return send_pieces(self._channel, pieces, timeout, self._metadata, self.address)

    async def receive_pieces(
        self, request: bytes, take: Callable[[bytes], None], timeout: float
    ) -> None:
        """Make a Download call, and hand over each piece."""
        receive_pieces(self._channel, request, take, timeout, self._metadata, self.address)

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    async def _hang_up(self) -> None:
        self._channel.close()
        if self._is_embedded:
            embedded.release()
