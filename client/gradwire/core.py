"""What every session is, however it waits: records, numbers what it sends, knows what failed.

What needs an answer is written once, as coroutines over the few methods in which sessions differ. A
session that blocks runs them to their end (`finish`); one of an event loop awaits them.
"""

import itertools
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, Self, TypeVar, cast

from google.protobuf.message import Message

from gradwire import (
    anomaly,
    creation,
    current,
    hooks,
    lease,
    profiling,
    saved_hooks,
    tracing,
    transfer,
    wire,
)
from gradwire.codec import Fetched, decode_fetched, encode_request
from gradwire.dtypes import DtypeLike
from gradwire.errors import (
    GradwireError,
    LimitError,
    SessionError,
    UnavailableError,
    from_wire_error,
)
from gradwire.failures import ANYONE, Failures
from gradwire.modes import grad_mode, stamped
from gradwire.pipeline import Aside, Pipeline, Request, Traffic
from gradwire.recorder import (
    FLUSH_BYTES,
    Attribute,
    Batch,
    OpEntry,
    Recorder,
)
from gradwire.transport import Metadata, Retry
from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import Array, M

if TYPE_CHECKING:
    import asyncio

    from gradwire.programs import Lines
    from gradwire.repeating import Listener
    from gradwire.tensors import Tensor

T = TypeVar("T")


class _Stream(Protocol):
    @property
    def last_due(self) -> Request | None: ...
    def send(self, request: Request) -> None: ...
    def close(self) -> None: ...
    def forget(self) -> None: ...
    @property
    def connection(self) -> object: ...


_ROOM_FOR_HEADER: Final = 4096
_CALL_TIMEOUT: Final = 30.0
_CLOSE_TIMEOUT: Final = 5.0

_ROOTS: Final = 16
"""So many roots of backwards are remembered, to fetch their values along with the gradients."""

_BROKEN_OFF: Final = frozenset({"HOOK_FAILED", "CANCELLED", "DEADLINE_EXCEEDED"})
"""Failures of a backward whose hook may have answered in vain."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a session is opened with.

    Attributes:
        address: Where the server is.
        metadata: Sent with each call.
        retry: How long and how often a lost connection is tried again.
        timeout: Seconds that a sequence may take; None for no such bound.
        is_embedded: Whether the server is the one inside this process.
    """

    address: str
    metadata: Metadata
    retry: Retry
    timeout: float | None
    is_embedded: bool


class SessionCore(ABC):
    """A namespace of tensors with one graph, on a server.

    Attributes:
        id: The server's name for it.
        name: Its name for people; may be empty.
        address: Where the server is.
        limits: What the server accepts.
        server_version: The server's version.
        features: Optional abilities of the server.
        timeout: Seconds that a sequence may take; None for no such bound. May be set.
        tensor_type: The class of its tensors.
    """

    tensor_type: "ClassVar[type[Tensor]]"
    _kind: ClassVar[str]
    _stream: _Stream

    def __init__(
        self,
        created: pb.CreateSessionResponse,
        terms: Terms,
    ) -> None:
        self.id = created.session.id
        self.name = created.session.display_name
        self.address = terms.address
        self.limits = created.limits
        self.server_version = created.server_version
        self.features = frozenset(created.features)
        self.timeout = terms.timeout
        self._metadata = terms.metadata
        self.retry = terms.retry
        self._is_embedded = terms.is_embedded
        self._closed = ""
        # Whether to look twice before recording: the session is over, or a hook runs.
        self._guarded = False
        self._ttl = created.session.ttl.ToTimedelta().total_seconds()
        self._last_used = time.monotonic()
        self._last_number = created.session.last_number
        self._acknowledged = self._last_number
        self._last_upload = 0
        self._lock = threading.Lock()
        self.recorder = self._make_recorder(created.limits.max_steps)
        self.release: Callable[[int], None] = self.recorder.release
        self._record_op = self.recorder.op
        self._pipeline = Pipeline(
            self.id, created.limits.max_queued_sequences, created.limits.max_queued_bytes
        )
        # What tensors need to know to trust what they remember; see gradwire.reading.
        self.unsettled = False
        self.changes = 0
        self.flag_changes = 0
        self.backwards = 0
        self.rebuilt_grads = 0
        self.grads_seen = False
        self.grads_known_at = 0
        self.grad_holders: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()
        self.last_roots: tuple[weakref.ref[Tensor], ...] = ()
        # Functions of the user that run in the midst of a backward; see gradwire.hooks.
        self.hooks: dict[int, hooks.Hook] = {}
        self.hooks_there: set[int] = set()
        self.hook_numbers = itertools.count(1)
        # Numbers of saved-tensor hooks that the server knows of.
        self.saved_hooks: set[int] = set()
        self.hook_recorder = hooks.make_recorder()
        self._hooks_running = 0
        # Functions being compiled, one at a time; see gradwire.tracing.
        self.trace_lock = threading.RLock()
        self._traces_running = 0
        self._listeners: dict[int, Listener] = {}
        self.program_lines: weakref.WeakValueDictionary[str, Lines] = weakref.WeakValueDictionary()
        self.node_metadata: dict[int, dict[str, object]] = {}
        self._lines = anomaly.Lines()
        self._failures = Failures(self._lines, self.program_lines)

    def __repr__(self) -> str:
        name = f"{self.name!r} " if self.name else ""
        # An embedded server has an address too, but nobody else's business is there.
        place = "embedded" if self._is_embedded else f"at {self.address}"
        state = f", {self._closed}" if self._closed else ""
        return f"<{self._kind} {name}{self.id} {place}{state}>"

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

    def use(self) -> AbstractContextManager[Self]:
        """Make this the current session of the context: `with session.use():`."""
        return current.chosen(self)

    def disown(self) -> None:
        """Make the session unusable without a word to the server: it is a parent process's."""
        self._closed = "of the parent process"
        self._guarded = True
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
        grad_mode: int,
    ) -> int:
        """Record an operator; the handle of its first result, 0 for an in-place one."""
        if self._guarded:
            return self._guarded_op(name, inputs, attributes, outputs, grad_mode)
        with self._lock:
            self.unsettled = True
            if not outputs:
                self.changes += 1
            output = self._record_op(name, inputs, attributes, outputs, grad_mode)
            recorder = self.recorder
            if len(recorder.entries) >= recorder.most_steps:
                self._flush()
        return output

    def _guarded_op(
        self,
        name: str,
        inputs: tuple[int, ...],
        attributes: tuple[Attribute, ...],
        outputs: int,
        grad_mode: int,
    ) -> int:
        """As `op`, where a hook or a trace may be what records."""
        if (hook := self._hook_here()) is not None:
            self.unsettled = True
            if not outputs:
                self.changes += 1
            return hook.recorder.op(name, inputs, attributes, outputs, grad_mode)
        trace = tracing.running(self)
        if trace is not None and not outputs:
            trace.keep_constants()
        with self._lock:
            self.unsettled = True
            if not outputs:
                self.changes += 1
            output = self._record_op(name, inputs, attributes, outputs, grad_mode)
            if trace is not None:
                trace.note_op(cast("OpEntry", self.recorder.entries[-1]))
            if self.recorder.is_full:
                self._flush()
        return output

    def put(self, array: Array, requires_grad: bool) -> int:
        """Record a tensor made from data of ours; its handle.

        Raises:
            LimitError: the data does not fit into a message.
        """
        hook = self._hook_here()
        largest = self.limits.max_message_bytes - _ROOM_FOR_HEADER
        if 0 < largest < array.nbytes:
            return self._put_in_pieces(array, requires_grad)
        payload = wire.payload_from_array(array)
        if hook is not None:
            return self._record_put(hook.recorder, array, bytes(payload), requires_grad)
        with self._lock:
            recorder = self.recorder
            if 0 < largest < array.nbytes + recorder.payload_bytes:
                self._flush()
            if isinstance(payload, memoryview) and array.nbytes < FLUSH_BYTES:
                # It waits until it is sent; the caller may change the array before that.
                payload = bytes(payload)
            output = self._record_put(recorder, array, payload, requires_grad)
            if recorder.is_full:
                self._flush()
        return output

    def _put_in_pieces(self, array: Array, requires_grad: bool) -> int:
        """Upload what does not fit into a message, and record that it becomes a tensor."""
        if "transfers" not in self.features:
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
        hook = self._hook_here()
        with self._lock:
            self._last_upload += 1
            sent = transfer.Upload(self, self._last_upload, wire.payload_from_array(array))
            if hook is None:
                sent.after = self._flush() or self._stream.last_due
        self._upload(sent)
        if hook is not None:
            return self._record_put(hook.recorder, array, None, requires_grad, sent.number)
        with self._lock:
            output = self._record_put(self.recorder, array, None, requires_grad, sent.number)
            self._flush()
        return output

    def _record_put(
        self,
        recorder: Recorder,
        array: Array,
        payload: wire.Payload | None,
        requires_grad: bool,
        upload: int = 0,
    ) -> int:
        output = recorder.handles()
        put = pb.Put(
            output=output,
            dtype=wire.dtype_to_wire(array.dtype),  # type: ignore[arg-type]
            shape=array.shape,
            payload=0 if payload is None else recorder.payload(payload),
            requires_grad=requires_grad,
            upload=upload,
        )
        recorder.step(stamped(pb.Step(put=put)))
        if self._guarded and (trace := tracing.running(self)) is not None:
            trace.note_put(output)
        return output

    def new_handles(self, count: int) -> int:
        """The first of `count` new handles."""
        if self._guarded and (hook := self._hook_here()) is not None:
            return hook.recorder.handles(count)
        with self._lock:
            return self.recorder.handles(count)

    def step(self, step: pb.Step) -> None:
        """Record a step of another kind."""
        if (hook := self._hook_here()) is not None:
            self.unsettled = True
            hook.recorder.step(stamped(step))
            return
        if self._guarded and (trace := tracing.running(self)) is not None:
            trace.note_step(step)
        with self._lock:
            self.unsettled = True
            self.recorder.step(stamped(step))
            if self.recorder.is_full:
                self._flush()

    def backward(self, step: pb.Backward, roots: "Sequence[Tensor]", create_graph: bool) -> None:
        """Record a backward, and send it without waiting.

        Also note what it makes stale: it may fill, or change, any `.grad`.
        """
        if (hook := self._hook_here()) is not None:
            self.unsettled = True
            hook.recorder.step(stamped(pb.Step(backward=step)))
            self._note_backward(create_graph)
            return
        with self._lock:
            self.unsettled = True
            self.recorder.step(stamped(pb.Step(backward=step)))
            self._note_backward(create_graph)
            refs = (*self.last_roots, *(weakref.ref(root) for root in roots))
            self.last_roots = refs[-_ROOTS:]
            self._flush()

    def _note_backward(self, create_graph: bool) -> None:
        self.backwards += 1
        if create_graph:
            self.rebuilt_grads = self.backwards
        if self.grads_seen:
            self.changes += 1

    def after_backward(self) -> None:
        """Let a backward that was just recorded run, where it should not run unseen.

        With hooks, which run meanwhile, and in anomaly mode, where it may be what raises.
        """
        if self.hooks or anomaly.is_anomaly_enabled():
            self.wait_for_backward()

    def announce_hooks(self, batch: Batch) -> None:
        """Let a batch begin with the saved-tensor hooks that it needs and the server lacks."""
        saved_hooks.announce(self, batch)

    def leave_saved_hooks(self, number: int, *, wait: bool) -> None:
        """End the saved-tensor hooks of that number, after what was recorded under them.

        Args:
            wait: Until that ran, where waiting is fine.
        """
        if self._closed:
            return
        if (hook := self._hook_here()) is not None:
            if number in self.saved_hooks or number in saved_hooks.scopes_of(hook.recorder.entries):
                self.wait_for_backward()
        else:
            with self._lock:
                if number in saved_hooks.scopes_of(self.recorder.entries):
                    self._flush()
        if number not in self.saved_hooks:
            return
        self.saved_hooks.discard(number)
        try:
            if wait:
                self.wait_for_backward()
        finally:
            # In a sequence of its own, for steps after one that failed do not run.
            self.step(pb.Step(remove_hook=pb.RemoveHook(hook=number)))

    async def ask(self, *steps: pb.Step) -> list[Fetched]:
        """Record steps, send all that is recorded, and wait: one round trip.

        Returns:
            What the fetches among the steps answer, in order.

        Raises:
            GradwireError: a step failed that was recorded since the last report.
        """
        if (hook := self._hook_here()) is not None:
            return await hook.ask(steps)
        request = await self._ask(steps)
        if request is None:
            await self.settle()
            return []
        assert request.result is not None
        return await self.values_in(request.result.fetched, request.payloads)

    async def check_gradients(self, message: pb.Gradcheck) -> pb.GradcheckResult:
        """Let the server compare derivatives; one round trip. Not in the midst of a hook.

        Raises:
            GradwireError: a step failed that was recorded since the last report.
        """
        request = await self._ask((stamped(pb.Step(gradcheck=message)),))
        assert request is not None and request.result is not None
        return request.result.gradchecks[0]

    async def _ask(self, steps: Sequence[pb.Step]) -> Request | None:
        """Record steps, send all that is recorded, and wait; None if there was nothing to send."""
        with self._lock:
            for step in steps:
                self.recorder.step(step)
            self.unsettled = False
            request = self._flush()
        if request is None:
            return None
        await self.answer_to(request)
        error, request.error = request.error, None
        # Variables are deleted before the frame becomes part of the traceback, lest exception and
        # frame keep each other, and the tensors of the frames between, alive.
        try:
            self._failures.report(self._asker())
            if error is not None and request.owner is self._asker():
                raise error from None
        finally:
            del error
        return request

    async def values_in(
        self, fetched: Sequence[pb.FetchedTensor], payloads: Sequence[wire.Payload]
    ) -> list[Fetched]:
        """What fetches answered; what did not fit into the answer is read now.

        Raises:
            GradwireError: a value does not fit its description, or cannot be read any more.
        """
        downloaded = {}
        for each in fetched:
            if number := each.value.download:
                downloaded[number] = await transfer.download(self, each.value)
        if downloaded:
            self._release_downloads(list(downloaded))
        try:
            return decode_fetched(fetched, payloads, downloaded)
        except wire.WireError as malformed:
            raise from_wire_error(malformed) from None

    def _release_downloads(self, numbers: list[int]) -> None:
        """Let the server forget values that were read."""
        step = pb.Step(release=pb.Release(downloads=numbers))
        if (hook := self._hook_here()) is not None:
            hook.recorder.step(step)
            return
        with self._lock:
            self.recorder.step(step)
            self._flush()

    async def settle(self, whose: object = None) -> None:
        """Send all that is recorded, and wait until it ran.

        Args:
            whose: Whose failures to report; None: those of who asks.

        Raises:
            GradwireError: a step failed that was recorded since the last report.
        """
        if (hook := self._hook_here()) is not None:
            await hook.ask(())
            return
        with self._lock:
            self.unsettled = False
            self._flush()
        await self._answers()
        self._failures.report(self._asker() if whose is None else whose)

    async def request(self, path: str, request: Message, response: type[M]) -> M:
        """Make a unary call that may be repeated safely.

        Raises:
            GradwireError: it failed.
        """
        if self._hook_here() is not None:
            raise SessionError(
                "the graph cannot be read while a hook runs, for the session is in the midst of a "
                "backward; read it before the backward, or after it"
            )
        for wait in self.retry.waits():
            try:
                return await self._call(path, request, response, _CALL_TIMEOUT)
            except UnavailableError:
                await self.pause(wait)
        return await self._call(path, request, response, _CALL_TIMEOUT)

    def exchange(self, *steps: pb.Step) -> list[Fetched]:
        """As `ask`, waiting here."""
        return self.finish(self.ask(*steps))

    def call(self, path: str, request: Message, response: type[M]) -> M:
        """As `request`, waiting here."""
        return self.finish(self.request(path, request, response))

    def watch_grad(self, tensor: "Tensor") -> None:
        """Note a tensor that a backward may give a `.grad`."""
        self.grad_holders[tensor._handle] = tensor
        self.grads_known_at = -1

    def has_failed(self, handle: int) -> bool:
        """Whether the step that was to make this handle is known to have failed."""
        return handle in self._failures

    def _hook_here(self) -> "hooks.HookRun | None":
        """The hook of this session that runs in this context.

        Raises:
            SessionError: the session is over.
        """
        if not self._guarded:
            return None
        self.check_open()
        return hooks.running(self)

    def request_of(self, number: int) -> Request | None:
        """The sequence of that number, if it is under way."""
        return self._pipeline.find(number)

    def note_hook_ran(self, create_graph: bool) -> None:
        """Note what a hook leaves stale: whatever the rest of its backward may change."""
        self._note_backward(create_graph)
        self.changes += 1

    async def _run_hook(self, run: "hooks.HookRun") -> None:
        self._hooks_running += 1
        self._guarded = True
        try:
            await run.run()
        finally:
            self._hooks_running -= 1
            self._look_twice()

    def _look_twice(self) -> None:
        self._guarded = bool(self._hooks_running or self._traces_running or self._closed)

    @contextmanager
    def listening(self, output: int, listener: "Listener") -> Iterator[None]:
        """Let a listener hear of the call whose first result has this handle.

        Raises:
            Exception: what the listener raised.
        """
        self._listeners[output] = listener
        try:
            yield
        finally:
            del self._listeners[output]
        if listener.error is not None:
            raise listener.error

    def _on_progress(self, progress: pb.Progress) -> None:
        """Take note of how far a call has got."""
        request = self._pipeline.find(progress.number)
        if request is None or progress.step >= len(request.entries):
            return
        entry = request.entries[progress.step]
        call = entry[0].call_program if len(entry) == 2 else pb.CallProgram()
        listener = self._listeners.get(call.output)
        if listener is None:
            return
        listener.hear(progress)
        if listener.error is not None and not request.interrupted:
            request.interrupted = True
            self.answer_hook(self._pipeline.cancellation(request), self._stream.connection)

    def begin_trace(self, release: Callable[[int], None]) -> None:
        """Let steps be noted by the trace of their context, and handles be released by it."""
        self._traces_running += 1
        self._look_twice()
        self.release = release

    def end_trace(self) -> None:
        """End what `begin_trace` began."""
        self._traces_running -= 1
        self._look_twice()
        self.release = self.recorder.release

    def call_program(
        self, step: pb.Step, outputs: int, *, mutates: bool, leaves_grads: bool
    ) -> int:
        """Record a call of a program; the handle of its first output.

        Also note what it makes stale: what it changes in place, and `.grad` that it leaves.
        """
        message = step.call_program
        if grad_mode() == pb.GRAD_MODE_INFERENCE:
            step.grad_mode = pb.GRAD_MODE_INFERENCE
        if self._guarded and (hook := self._hook_here()) is not None:
            first = hook.recorder.handles(outputs)
            if outputs:
                message.output, message.output_count = first, outputs
            hook.recorder.step(step)
        else:
            with self._lock:
                first = self.recorder.handles(outputs)
                if outputs:
                    message.output, message.output_count = first, outputs
                self.recorder.step(step)
                if self.recorder.is_full:
                    self._flush()
        self.unsettled = True
        if mutates:
            self.changes += 1
        if leaves_grads:
            self._note_backward(create_graph=True)
        return first

    async def _close(self, report: bool) -> None:
        if self._closed:
            return
        if self._hook_here() is not None:
            raise SessionError("a session cannot be closed by a hook of its own backward")
        try:
            if report:
                await self.settle(ANYONE)
        finally:
            self._end("closed")
            try:
                await self._call(
                    wire.DELETE_SESSION,
                    pb.DeleteSessionRequest(session_id=self.id),
                    pb.DeleteSessionResponse,
                    _CLOSE_TIMEOUT,
                )
            except GradwireError:
                pass  # then its lease runs out
            finally:
                await self._hang_up()

    def _end(self, why: str) -> None:
        self._closed = why
        self._guarded = True
        lease.keeper.discard(self)
        current.closed(self)
        self._stream.close()

    async def _renew(self) -> None:
        if self._closed:
            return
        try:
            await self._call(
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

    async def _call(self, path: str, request: Message, response: type[M], timeout: float) -> M:
        self._last_used = time.monotonic()
        return await self._unary(path, request, response, timeout)

    def _flush(self) -> Request | None:
        """Send what is recorded; the request, or None if there was nothing. The lock is held."""
        batch = self.recorder.take()
        if batch is None:
            return None
        self.announce_hooks(batch)
        number = self._last_number + 1
        try:
            notes = anomaly.is_anomaly_enabled()
            profile = profiling.active()
            data = encode_request(
                self.id,
                batch,
                number,
                self._acknowledged,
                self.timeout,
                detect_anomaly=anomaly.is_anomaly_check_nan_enabled(),
                note_origins=notes,
                profile=profile is not None,
            )
        except BaseException as error:
            if not isinstance(error, Exception):
                # Ctrl-C: what was recorded goes with the next sequence.
                self.recorder.put_back(batch)
            raise
        if notes:
            self._lines.keep(number, batch.entries)
        request = Request(number, data, batch.entries, batch.released, self._owner())
        request.needs = self._needs()
        if profile is not None:
            request.profile = profile
            profile.sessions[self.id] = self
        self._last_used = time.monotonic()
        self._last_number = number
        self._stream.send(request)
        return request

    def _on_answer(self, request: Request) -> None:
        """Take note of an answer. Runs while it is read, in order, and takes no lock."""
        self._acknowledged = request.number
        assert request.result is not None
        for number in request.result.ended_hooks:
            self.hooks.pop(number, None)
            self.hooks_there.discard(number)
        if request.result.HasField("error"):
            self._note_failure(request, request.result.error)
        else:
            self._failures.forget(request.released)
        if request.profile is not None and request.result.HasField("profile"):
            request.profile.add(self.id, request.number, request.result.profile, request.entries)
        request.entries = []

    def note_failure(self, whose: object, error: GradwireError) -> None:
        """Note what is to be reported to an owner who did not wait for it."""
        self._failures.note(whose, error)

    def _note_failure(self, request: Request, status: pb.Error) -> None:
        error, at = self._failures.placed(request, status)
        if error.metadata.get("hook_call") == str(request.hook_call):
            # What this answer was to make has not been made.
            self.hooks.pop(request.unpack_hook, None)
        for step_at, handles in request.released:
            if step_at >= at:
                self.recorder.release_again(handles)
        if error.reason in _BROKEN_OFF and "error" not in error.metadata:
            # Whether the last answer of a hook arrived, nobody can tell.
            self.recorder.void.update(request.hook_handles)
        if request.interrupted and error.reason in ("CANCELLED", "HOOK_FAILED"):
            return
        # The user's own exception, raised in a hook, is what the backward raises.
        raised = request.hook_error if error.reason == "HOOK_FAILED" else None
        request.error = raised or error
        self._failures.note(request.owner, request.error)

    # In what follows sessions differ.

    @abstractmethod
    def finish(self, doing: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of ours to its end, and wait for that here."""

    def _make_recorder(self, most_steps: int) -> Recorder:
        return Recorder(most_steps)

    def _owner(self) -> object:
        """Who recorded what is sent now; None where a session does not tell its users apart."""
        return None

    def _needs(self) -> "asyncio.Task[None] | None":
        """What must be done before the next request is sent."""
        return None

    def _asker(self) -> object:
        """Who waits now; None likewise."""
        return None

    @abstractmethod
    async def answer_to(self, request: Request) -> None:
        """Wait for the answer to a request."""

    @abstractmethod
    async def _answers(self) -> None:
        """Wait for all answers that are due."""

    @abstractmethod
    def answer_hook(self, data: bytes, connection: object) -> bool:
        """Send the answer to the call of a hook; whether its connection is still there."""

    @abstractmethod
    async def hook_result(self, number: int, connection: object) -> Aside:
        """Wait for what steps in the midst of a hook came to."""

    @abstractmethod
    async def call_hook(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Call the function of a hook."""

    @abstractmethod
    def wait_for_backward(self) -> None:
        """Send what was recorded, and wait for it where waiting is fine."""

    @abstractmethod
    async def _unary(self, path: str, request: Message, response: type[M], timeout: float) -> M:
        """Make a unary call."""

    @abstractmethod
    def _upload(self, sent: transfer.Upload) -> None:
        """Send data, or see to it that it is there before what is recorded next is sent."""

    @abstractmethod
    async def send_pieces(self, pieces: Iterator[bytes], timeout: float) -> bytes:
        """Make an Upload call; its answer."""

    @abstractmethod
    async def receive_pieces(
        self, request: bytes, take: Callable[[bytes], None], timeout: float
    ) -> None:
        """Make a Download call, and hand over each piece."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Let time pass."""

    @abstractmethod
    async def _hang_up(self) -> None:
        """Close the connection for good."""

    @abstractmethod
    def keep_alive(self) -> None:
        """Renew the lease. Called from any thread."""

    @abstractmethod
    def leave(self) -> None:
        """Close at the end of the process."""

    @property
    def is_near(self) -> bool:
        """Whether code that has not chosen a session may get this one."""
        return True
