"""The session of an event loop: recording never waits, and what needs an answer is awaited."""

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import grpc.aio
from google.protobuf.message import Message

from gradwire import creation, embedded
from gradwire.aio.owners import OwnersRecorder, owner, serve
from gradwire.aio.tensors import Tensor
from gradwire.aio.transport import Stream, is_running, receive_pieces, send_pieces, unary
from gradwire.answers import note_answer
from gradwire.core import SessionCore
from gradwire.errors import GradwireError, SessionError
from gradwire.hooks import HookRun
from gradwire.location import Location, locate, mark
from gradwire.opening import Terms
from gradwire.pipeline import Aside, Request
from gradwire.recorder import Recorder
from gradwire.transfer import Upload, upload
from gradwire.v1 import autograd_pb2 as pb
from gradwire.waiting import T
from gradwire.wire import M

if TYPE_CHECKING:
    from gradwire.dtypes import DtypeLike


class Session(SessionCore):
    """A namespace of tensors with one graph, on a server. Made by `gradwire.aio.connect`.

    An asynchronous context manager: leaving it closes the session. Tasks may share a session; what
    each records runs in the order in which it was recorded, what one gets wrong is reported to it
    alone, and one that is cancelled stops its own sequences. It belongs to the event loop that
    opened it; in other threads, such as those of `asyncio.to_thread`, all of gradwire works with
    its tensors as it does with those of a blocking session, and waits there.

    Attributes:
        id: The server's name for it.
        name: Its name for people; may be empty.
        address: Where the server is.
        limits: What the server accepts.
        server_version: The server's version.
        features: Optional abilities of the server.
        timeout: Seconds that a sequence may take; None for no such bound. May be set.
    """

    tensor_type = Tensor
    _kind = "gradwire.aio.Session"

    def __init__(
        self, channel: grpc.aio.Channel, created: pb.CreateSessionResponse, terms: Terms
    ) -> None:
        super().__init__(created, terms)
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._writer: object = None
        self._uploading: asyncio.Task[None] | None = None
        self._uploads: set[asyncio.Task[None]] = set()
        self._hook_tasks: set[asyncio.Task[None]] = set()
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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A failed step must not go unnoticed because nothing was read after it; but where an
        # exception is on its way already, that one is the news.
        await self._close(report=error is None)

    async def close(self) -> None:
        """End the session and free all that it holds on the server. Closing twice is fine.

        Raises:
            GradwireError: a step failed whose failure was not reported yet. The session is closed
                all the same.
        """
        await self._close(report=True)

    def tensor(
        self,
        data: object,
        *,
        dtype: "DtypeLike | None" = None,
        requires_grad: bool = False,
    ) -> Tensor:
        """A new leaf tensor of this session, as `gradwire.tensor`."""
        return cast(Tensor, creation.put(self, data, dtype, requires_grad))

    async def flush(self) -> None:
        """Send all that is recorded, without waiting for it to run.

        Waits only while more is under way than the server queues; so a program that does nothing
        but record should call it now and then.
        """
        self.check_open()
        with self.lock:
            self.send_recorded()
        await self._stream.wait_for_room()

    async def synchronize(self) -> None:
        """Send all that is recorded, and wait until it ran.

        Raises:
            GradwireError: a step failed that this task recorded since the last report.
        """
        await self.settle()

    # What follows is for this package.

    def own(self, doing: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """A coroutine on behalf of who calls this, whichever task will run it."""
        return serve(owner(), doing)

    def finish(self, doing: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of ours on the event loop, and wait for its end in another thread.

        Raises:
            SessionError: this thread runs an event loop, which must not wait; or the session's
                event loop has ended.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            running = self._loop.is_running()
            why = "" if running else "the event loop of this session has ended, or does not run"
        else:
            why = (
                "this takes an answer of the server, for which an event loop must not wait here. "
                "Await what reads: t.item(), t.get_shape(), t.get_grad(), gradwire.aio.fetch(t); "
                "or await t.refresh() before, so that the answer is known; or run all of it in a "
                "thread: await asyncio.to_thread(function, t)"
            )
        if why:
            doing.close()
            raise SessionError(why)
        return asyncio.run_coroutine_threadsafe(self.own(doing), self._loop).result()

    def keep_alive(self) -> None:
        """Renew the lease; without waiting for it."""
        self._last_used = time.monotonic()
        renewing = self._renew()
        try:
            asyncio.run_coroutine_threadsafe(renewing, self._loop)
        except RuntimeError:
            renewing.close()
            self._end("closed, with its event loop")

    def leave(self) -> None:
        """Note the end of the process. The event loop has ended; the lease on the server will."""
        self._end("closed")
        if self._is_embedded:
            embedded.release()

    @property
    def is_near(self) -> bool:
        """Whether the session's event loop runs here."""
        return is_running(self._loop)

    def _make_recorder(self, most_steps: int) -> Recorder:
        return OwnersRecorder(most_steps, self._change_writer)

    def _change_writer(self) -> None:
        """Send what another owner recorded before. The lock is held."""
        writer = owner()
        if writer is not self._writer:
            self.send_recorded()
            self._writer = writer

    def answer_hook(self, data: bytes, connection: object) -> bool:
        """Send the answer to the call of a hook; whether its connection is still there."""
        return self._stream.answer_hook(data, connection)

    async def hook_result(self, number: int, connection: object) -> Aside:
        """Wait for what steps in the midst of a hook came to."""
        return await self._stream.hook_result(number, connection)

    async def call_hook(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Call the function of a hook: await a coroutine, run others in a thread."""
        if inspect.iscoroutinefunction(function):
            return await function(*arguments)
        return await asyncio.to_thread(function, *arguments)

    def wait_for_backward(self) -> None:
        """Wait in a thread; on an event loop whoever awaits an answer waits for it too."""
        if not is_running(self._loop):
            self.finish(self.settle())
        elif self.hook_here() is None:
            with self.lock:
                self.send_recorded()

    def _on_hook_call(self, message: Aside) -> None:
        """Run a hook in a task of its own, while its backward waits."""
        run = HookRun(self, message, self._stream.connection)
        task = self._loop.create_task(self._run_hook(run), name="gradwire-hook")
        self._hook_tasks.add(task)
        task.add_done_callback(self._hook_tasks.discard)

    def _owner(self) -> object:
        return self._writer

    def _asker(self) -> object:
        return owner()

    async def answer_to(self, request: Request) -> None:
        """Wait for the answer to a request."""
        try:
            await self._stream.wait(request)
        except asyncio.CancelledError:
            self._stream.cancel(owner(), request)
            raise

    async def _answers(self) -> None:
        if (last := self._stream.last_due) is not None:
            await self.answer_to(last)

    async def _unary(self, path: str, request: Message, response: type[M], timeout: float) -> M:
        return await unary(
            self._channel, path, request, response, timeout, self._metadata, self.address
        )

    def upload(self, sent: Upload) -> None:
        """Wait in a thread; on an event loop send it in the background, from a copy."""
        if not is_running(self._loop):
            self.finish(upload(self, sent))
            return
        if self.hook_here() is not None:
            raise SessionError(
                "a hook on an event loop cannot send a tensor that is too large for a message; "
                "make it before the backward, or register a function that is no coroutine"
            )
        sent.data = bytes(sent.data)
        sending = self._send_in_turn(sent, self._uploading, owner(), locate(mark()))
        self._uploading = self._loop.create_task(sending, name="gradwire-upload")
        self._uploads.add(self._uploading)
        self._uploading.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._uploads.discard(task)
        self._stream.pump()

    async def _send_in_turn(
        self,
        sent: Upload,
        before: asyncio.Task[None] | None,
        whose: object,
        location: Location | None,
    ) -> None:
        """Send data after what was to be sent before; a failure is its owner's."""
        if before is not None:
            await asyncio.wait((before,))
        try:
            await upload(self, sent)
        except GradwireError as error:
            self.failures.note(whose, error.at(location))
        finally:
            sent.data = b""

    def _needs(self) -> asyncio.Task[None] | None:
        return self._uploading

    async def send_pieces(self, pieces: Iterator[bytes], timeout: float) -> bytes:
        """Make an Upload call; its answer."""
        return await send_pieces(self._channel, pieces, timeout, self._metadata, self.address)

    async def receive_pieces(
        self, request: bytes, take: Callable[[bytes], None], timeout: float
    ) -> None:
        """Make a Download call, and hand over each piece."""
        await receive_pieces(self._channel, request, take, timeout, self._metadata, self.address)

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    async def _hang_up(self) -> None:
        for task in self._uploads:
            task.cancel()
        await self._stream.closed()
        await self._channel.close()
        if self._is_embedded:
            await asyncio.to_thread(embedded.release)
