"""Sessions: where tensors live. Opening, closing, sending what was recorded, reading it back."""

import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf.message import Message

from gradwire import creation, current, embedded, lease, wire
from gradwire.codec import Fetched, decode_fetched, encode_request, step_index
from gradwire.dtypes import DtypeLike
from gradwire.errors import (
    GradwireError,
    LimitError,
    SessionError,
    UnavailableError,
    from_status,
    from_wire_error,
)
from gradwire.location import Mark, locate
from gradwire.pipeline import Pipeline, Request, Traffic
from gradwire.recorder import FLUSH_BYTES, Attribute, Recorder, mark_of, outputs_of
from gradwire.transport import Metadata, Retry, Stream, unary
from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import Array, M

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

_ROOM_FOR_HEADER: Final = 4096
_CALL_TIMEOUT: Final = 30.0
_CLOSE_TIMEOUT: Final = 5.0


class Session:
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

    def __init__(
        self,
        channel: grpc.Channel,
        created: pb.CreateSessionResponse,
        *,
        address: str,
        metadata: Metadata,
        retry: Retry,
        timeout: float | None,
        is_embedded: bool,
    ) -> None:
        self.id = created.session.id
        self.name = created.session.display_name
        self.address = address
        self.limits = created.limits
        self.server_version = created.server_version
        self.features = frozenset(created.features)
        self.timeout = timeout
        self._channel = channel
        self._metadata = metadata
        self._retry = retry
        self._is_embedded = is_embedded
        self._closed = ""
        self._ttl = created.session.ttl.ToTimedelta().total_seconds()
        self._last_used = time.monotonic()
        self._last_number = created.session.last_number
        self._acknowledged = self._last_number
        self._lock = threading.Lock()
        self._errors: deque[GradwireError] = deque()
        self._failed: dict[int, Mark | None] = {}
        self.recorder = Recorder(most_steps=created.limits.max_steps)
        self.release = self.recorder.release
        self._record_op = self.recorder.op
        self._pipeline = Pipeline(
            self.id, created.limits.max_queued_sequences, created.limits.max_queued_bytes
        )
        self._stream = Stream(
            channel,
            self._pipeline,
            address=address,
            metadata=metadata,
            retry=retry,
            on_answer=self._on_answer,
        )
        # What tensors need to know to trust what they remember; see gradwire.reading.
        self.unsettled = False
        self.changes = 0
        self.backwards = 0
        self.rebuilt_grads = 0
        self.grads_seen = False
        self.grads_known_at = 0
        self.grad_holders: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()
        self.last_roots: tuple[weakref.ref[Tensor], ...] = ()

    def __repr__(self) -> str:
        name = f"{self.name!r} " if self.name else ""
        # An embedded server has an address too, but nobody else's business is there.
        place = "embedded" if self._is_embedded else f"at {self.address}"
        state = f", {self._closed}" if self._closed else ""
        return f"<gradwire.Session {name}{self.id} {place}{state}>"

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A failed step must not go unnoticed because nothing was read after it; but where an
        # exception is on its way already, that one is the news.
        self._close(report=error is None)

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return bool(self._closed)

    @property
    def ttl(self) -> float:
        """Seconds of idleness after which the server would end the session; renewed meanwhile."""
        return self._ttl

    @property
    def last_used(self) -> float:
        """`time.monotonic()` of the last request."""
        return self._last_used

    @property
    def traffic(self) -> Traffic:
        """What went over the wire for this session's sequences so far."""
        return replace(self._pipeline.traffic)

    def use(self) -> AbstractContextManager["Session"]:
        """Make this the current session of the context: `with session.use():`."""
        return current.chosen(self)

    def close(self) -> None:
        """End the session and free all that it holds on the server. Closing twice is fine.

        Raises:
            GradwireError: a step failed whose failure was not reported yet. The session is closed
                all the same.
        """
        self._close(report=True)

    def _close(self, report: bool) -> None:
        if self._closed:
            return
        try:
            if report:
                self.synchronize()
        finally:
            self._end("closed")
            try:
                self._call(
                    wire.DELETE_SESSION,
                    pb.DeleteSessionRequest(session_id=self.id),
                    pb.DeleteSessionResponse,
                    _CLOSE_TIMEOUT,
                )
            except GradwireError:
                pass  # then its lease runs out
            finally:
                self._hang_up()

    def leave(self) -> None:
        """Close at the end of the process, when an embedded server cannot work any more."""
        if self._is_embedded:
            self._end("closed")
            self._hang_up()
        else:
            self._close(report=False)

    def _hang_up(self) -> None:
        self._channel.close()
        if self._is_embedded:
            embedded.release()

    def _end(self, why: str) -> None:
        self._closed = why
        lease.keeper.discard(self)
        current.closed(self)
        self._stream.close()

    def disown(self) -> None:
        """Make the session unusable without a word to the server: it is a parent process's."""
        self._closed = "of the parent process"
        self._stream.forget()

    def check_open(self) -> None:
        """Refuse a session that is over with a SessionError."""
        if self._closed:
            raise SessionError(
                f"the session is {self._closed}, and its tensors with it; open another one with "
                "gradwire.connect()"
            )

    def tensor(
        self,
        data: object,
        *,
        dtype: DtypeLike | None = None,
        requires_grad: bool = False,
    ) -> "Tensor":
        """A new leaf tensor of this session, as `gradwire.tensor`."""
        return creation.put(self, data, dtype, requires_grad)

    # What follows is for this package: recording, sending, waiting.

    def op(
        self,
        name: str,
        inputs: tuple[int, ...],
        attributes: tuple[Attribute, ...],
        outputs: int,
        no_grad: bool,
    ) -> int:
        """Record an operator; the handle of its first result, 0 for an in-place one."""
        if self._closed:
            self.check_open()
        with self._lock:
            self.unsettled = True
            if not outputs:
                self.changes += 1
            output = self._record_op(name, inputs, attributes, outputs, no_grad)
            if self.recorder.is_full:
                self._flush()
        return output

    def put(self, array: Array, requires_grad: bool) -> int:
        """Record a tensor made from data of ours; its handle.

        Raises:
            LimitError: the data does not fit into a message.
        """
        self.check_open()
        largest = self.limits.max_message_bytes - _ROOM_FOR_HEADER
        if 0 < largest < array.nbytes:
            raise LimitError(
                f"a tensor of {array.nbytes} bytes does not fit into one message; the server takes "
                f"up to {self.limits.max_message_bytes} (max_message_bytes)",
                reason="MESSAGE_TOO_LARGE",
                code="RESOURCE_EXHAUSTED",
                metadata={
                    "limit": "max_message_bytes",
                    "value": str(array.nbytes),
                    "maximum": str(self.limits.max_message_bytes),
                },
            )
        payload = wire.payload_from_array(array)
        with self._lock:
            recorder = self.recorder
            if 0 < largest < array.nbytes + recorder.payload_bytes:
                self._flush()
            if isinstance(payload, memoryview) and array.nbytes < FLUSH_BYTES:
                # It waits until it is sent; the caller may change the array before that.
                payload = bytes(payload)
            output = recorder.handles()
            put = pb.Put(
                output=output,
                dtype=wire.dtype_to_wire(array.dtype),  # type: ignore[arg-type]
                shape=array.shape,
                payload=recorder.payload(payload),
                requires_grad=requires_grad,
            )
            recorder.step(pb.Step(put=put))
            if recorder.is_full:
                self._flush()
        return output

    def new_handles(self, count: int) -> int:
        """The first of `count` new handles."""
        with self._lock:
            return self.recorder.handles(count)

    def step(self, step: pb.Step) -> None:
        """Record a step of another kind."""
        self.check_open()
        with self._lock:
            self.unsettled = True
            self.recorder.step(step)
            if self.recorder.is_full:
                self._flush()

    def backward(self, step: pb.Backward, roots: "Sequence[Tensor]", create_graph: bool) -> None:
        """Record a backward, and send it without waiting.

        Also note what it makes stale: it may fill, or change, any `.grad`.
        """
        self.check_open()
        with self._lock:
            self.unsettled = True
            self.recorder.step(pb.Step(backward=step))
            self.backwards += 1
            if create_graph:
                self.rebuilt_grads = self.backwards
            if self.grads_seen:
                self.changes += 1
            self.last_roots = tuple(weakref.ref(root) for root in roots)
            self._flush()

    def exchange(self, *steps: pb.Step) -> list[Fetched]:
        """Record steps, send all that is recorded, and wait: one round trip.

        Returns:
            What the fetches among the steps answer, in order.

        Raises:
            GradwireError: a step failed that was recorded since the last report.
        """
        self.check_open()
        with self._lock:
            for step in steps:
                self.recorder.step(step)
            self.unsettled = False
            request = self._flush()
        if request is None:
            self.synchronize()
            return []
        self._wait(request)
        assert request.result is not None
        try:
            return decode_fetched(request.result.fetched, request.payloads)
        except wire.WireError as error:
            raise from_wire_error(error) from None

    def flush(self) -> None:
        """Send all that is recorded, without waiting for it to run."""
        self.check_open()
        with self._lock:
            self._flush()

    def synchronize(self) -> None:
        """Send all that is recorded, and wait until it ran.

        Raises:
            GradwireError: a step failed that was recorded since the last report.
        """
        self.check_open()
        with self._lock:
            self.unsettled = False
            self._flush()
        self._stream.wait_all()
        self._report()

    def watch_grad(self, tensor: "Tensor") -> None:
        """Note a tensor that a backward may give a `.grad`."""
        self.grad_holders[tensor._handle] = tensor
        self.grads_known_at = -1

    def has_failed(self, handle: int) -> bool:
        """Whether the step that was to make this handle is known to have failed."""
        return handle in self._failed

    def call(self, path: str, request: Message, response: type[M]) -> M:
        """Make a unary call that may be repeated safely.

        Raises:
            GradwireError: it failed.
        """
        self.check_open()
        for wait in self._retry.waits():
            try:
                return self._call(path, request, response, _CALL_TIMEOUT)
            except UnavailableError:
                time.sleep(wait)
        return self._call(path, request, response, _CALL_TIMEOUT)

    def keep_alive(self) -> None:
        """Renew the lease."""
        if self._closed:
            return
        try:
            self._call(
                wire.KEEP_ALIVE,
                pb.KeepAliveRequest(session_id=self.id),
                pb.KeepAliveResponse,
                _CLOSE_TIMEOUT,
            )
        except SessionError:
            self._end("expired")
        except GradwireError:
            # The server may be back before the lease is over. Not at once again, though.
            self._last_used = time.monotonic()

    def _call(self, path: str, request: Message, response: type[M], timeout: float) -> M:
        self._last_used = time.monotonic()
        return unary(self._channel, path, request, response, timeout, self._metadata, self.address)

    def _flush(self) -> Request | None:
        """Send what is recorded; the request, or None if there was nothing. The lock is held."""
        batch = self.recorder.take()
        if batch is None:
            return None
        number = self._last_number + 1
        data = encode_request(self.id, batch, number, self._acknowledged, self.timeout)
        request = Request(number, data, batch.entries, batch.released)
        self._last_used = time.monotonic()
        self._last_number = number
        self._stream.send(request)
        return request

    def _wait(self, request: Request) -> None:
        self._stream.wait(request)
        error, request.error = request.error, None
        # Variables are deleted before the frame becomes part of the traceback, lest exception and
        # frame keep each other, and the tensors of the frames between, alive.
        try:
            self._report()
            if error is not None:
                raise error from None
        finally:
            del error

    def _report(self) -> None:
        """Raise the first failure that was not reported; later ones follow from it."""
        if self._errors:
            first = self._errors.popleft()
            self._errors.clear()
            try:
                raise first from None
            finally:
                del first

    def _on_answer(self, request: Request) -> None:
        """Take note of an answer. Runs while it is read, in order, and takes no lock."""
        self._acknowledged = request.number
        assert request.result is not None
        if request.result.HasField("error"):
            self._note_failure(request, request.result.error)
        elif self._failed:
            for _, handles in request.released:
                for handle in handles:
                    self._failed.pop(handle, None)
        request.entries = []

    def _note_failure(self, request: Request, status: pb.Error) -> None:
        error = from_status(status)
        index = step_index(error.metadata)
        at = index if index is not None and index < len(request.entries) else 0
        # A sequence may fail as a whole, before its first step; then no line is to blame.
        found = mark_of(request.entries[at]) if index is not None else None
        poisoned = error.metadata.get("poisoned_handle", "")
        if poisoned.isdecimal():
            found = self._failed.get(int(poisoned), found)
        error = error.at(locate(found))
        for entry in request.entries[at:]:
            for handle in outputs_of(entry):
                self._failed[handle] = found
        for step_at, handles in request.released:
            if step_at >= at:
                self.recorder.release_again(handles)
        if request.interrupted and error.code == "CANCELLED":
            return
        request.error = error
        self._errors.append(error)
