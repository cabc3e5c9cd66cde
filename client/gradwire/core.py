"""What every session is, however it waits: records, numbers what it sends, knows what failed.

What needs an answer is written once, as coroutines over the few methods in which sessions differ. A
session that blocks runs them to their end (`finish`); one of an event loop awaits them.
"""

import itertools
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final, Self, cast

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
from gradwire.codec import Fetched, encode_request
from gradwire.dtypes import DtypeLike
from gradwire.errors import GradwireError, SessionError, UnavailableError
from gradwire.failures import ANYONE, Failures
from gradwire.modes import grad_mode, stamped
from gradwire.opening import Terms
from gradwire.pipeline import Pipeline, Request, Traffic
from gradwire.progress import Listeners
from gradwire.recorder import Attribute, Batch, OpEntry
from gradwire.v1 import autograd_pb2 as pb
from gradwire.waiting import SessionStream, Waiting
from gradwire.wire import M

if TYPE_CHECKING:
    from gradwire.programs import Lines
    from gradwire.tensors import Tensor

_CALL_TIMEOUT: Final = 30.0
_CLOSE_TIMEOUT: Final = 5.0

_ROOTS: Final = 16
"""So many roots of backwards are remembered, to fetch their values along with the gradients."""


_WORTH_SENDING: Final = 32
"""A message costs as much as so many steps: fewer wait for whatever is recorded next."""


class SessionCore(Waiting):
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
    _stream: SessionStream

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
        self.acknowledged = self._last_number
        self.upload_numbers = itertools.count(1)
        self.lock = threading.Lock()
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
        self.grads_read = True  # since all were learned last
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
        self.listeners = Listeners()
        self.program_lines: weakref.WeakValueDictionary[str, Lines] = weakref.WeakValueDictionary()
        self.node_metadata: dict[int, dict[str, object]] = {}
        self._lines = anomaly.Lines()
        self.failures = Failures(self._lines, self.program_lines)

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
    def last_due(self) -> Request | None:
        """The last request whose answer is due."""
        return self._stream.last_due

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
        with self.lock:
            self.unsettled = True
            if not outputs:
                self.changes += 1
            output = self._record_op(name, inputs, attributes, outputs, grad_mode)
            recorder = self.recorder
            if len(recorder.entries) >= recorder.most_steps:
                self.send_ahead()
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
        if (hook := self.hook_here()) is not None:
            self.unsettled = True
            if not outputs:
                self.changes += 1
            return hook.recorder.op(name, inputs, attributes, outputs, grad_mode)
        trace = self.trace_here()
        if trace is not None and not outputs:
            trace.keep_constants()
        with self.lock:
            self.unsettled = True
            if not outputs:
                self.changes += 1
            output = self._record_op(name, inputs, attributes, outputs, grad_mode)
            if trace is not None:
                trace.note_op(cast("OpEntry", self.recorder.entries[-1]))
            if self.recorder.is_full:
                self.send_ahead()
        return output

    def new_handles(self, count: int) -> int:
        """The first of `count` new handles."""
        if self._guarded and (hook := self.hook_here()) is not None:
            return hook.recorder.handles(count)
        with self.lock:
            return self.recorder.handles(count)

    def step(self, step: pb.Step) -> None:
        """Record a step of another kind."""
        if self._guarded:
            if (hook := self.hook_here()) is not None:
                self.unsettled = True
                hook.recorder.step(stamped(step))
                return
            if (trace := self.trace_here()) is not None:
                trace.note_step(step)
        with self.lock:
            self.unsettled = True
            self.recorder.step(stamped(step))
            if self.recorder.is_full:
                self.send_ahead()

    def backward(self, step: pb.Backward, roots: "Sequence[Tensor]", create_graph: bool) -> None:
        """Record a backward, and send it without waiting if it is the end of a longer graph.

        A short one goes with whoever reads what it made. Also note what it makes stale: it may
        fill, or change, any `.grad`.
        """
        if (hook := self.hook_here()) is not None:
            self.unsettled = True
            hook.recorder.step(stamped(pb.Step(backward=step)))
            self._note_backward(create_graph)
            return
        with self.lock:
            self.unsettled = True
            self.recorder.step(stamped(pb.Step(backward=step)))
            self._note_backward(create_graph)
            refs = (*self.last_roots, *(weakref.ref(root) for root in roots))
            self.last_roots = refs[-_ROOTS:]
            if len(self.recorder.entries) >= _WORTH_SENDING:
                self.send_ahead()

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

    async def ask(self, *steps: pb.Step) -> list[Fetched]:
        """Record steps, send all that is recorded, and wait: one round trip.

        Returns:
            What the fetches among the steps answer, in order.

        Raises:
            GradwireError: a step failed that was recorded since the last report.
        """
        if (hook := self.hook_here()) is not None:
            return await hook.ask(steps)
        request = await self._ask(steps)
        if request is None:
            await self.settle()
            return []
        assert request.result is not None
        return await transfer.values_in(self, request.result.fetched, request.payloads)

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
        with self.lock:
            for step in steps:
                self.recorder.step(step)
            self.unsettled = False
            request = self.send_recorded()
        if request is None:
            return None
        await self.answer_to(request)
        error, request.error = request.error, None
        # Variables are deleted before the frame becomes part of the traceback, lest exception and
        # frame keep each other, and the tensors of the frames between, alive.
        try:
            self.failures.report(self._asker())
            if error is not None and request.owner is self._asker():
                raise error from None
        finally:
            del error
        return request

    async def settle(self, whose: object = None) -> None:
        """Send all that is recorded, and wait until it ran.

        Args:
            whose: Whose failures to report; None: those of who asks.

        Raises:
            GradwireError: a step failed that was recorded since the last report.
        """
        if (hook := self.hook_here()) is not None:
            await hook.ask(())
            return
        with self.lock:
            self.unsettled = False
            self.send_recorded()
        await self._answers()
        self.failures.report(self._asker() if whose is None else whose)

    async def request(self, path: str, request: Message, response: type[M]) -> M:
        """Make a unary call that may be repeated safely.

        Raises:
            GradwireError: it failed.
        """
        if self.hook_here() is not None:
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
        """Note a tensor that a backward may give a `.grad`, or has given one."""
        self.watch_new_leaf(tensor)
        self.grads_known_at = -1

    def watch_new_leaf(self, tensor: "Tensor") -> None:
        """Note a leaf that is new, so that only a later backward may give it a `.grad`."""
        self.grad_holders[tensor._handle] = tensor

    def has_failed(self, handle: int) -> bool:
        """Whether the step that was to make this handle is known to have failed."""
        return handle in self.failures

    def hook_here(self) -> "hooks.HookRun | None":
        """The hook of this session that runs in this context.

        Raises:
            SessionError: the session is over.
        """
        if not self._guarded:
            return None
        self.check_open()
        return hooks.running(self)

    def trace_here(self) -> "tracing.Trace | None":
        """The trace of this session that runs in this context."""
        return tracing.running(self) if self._guarded else None

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

    def _on_progress(self, progress: pb.Progress) -> None:
        """Take note of how far a call has got."""
        request = self._pipeline.find(progress.number)
        if request is None or self.listeners.let_go_on(request, progress) or request.interrupted:
            return
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
        if self._guarded and (hook := self.hook_here()) is not None:
            first = hook.recorder.handles(outputs)
            if outputs:
                message.output, message.output_count = first, outputs
            hook.recorder.step(step)
        else:
            with self.lock:
                first = self.recorder.handles(outputs)
                if outputs:
                    message.output, message.output_count = first, outputs
                self.recorder.step(step)
                if self.recorder.is_full:
                    self.send_ahead()
        self.unsettled = True
        if mutates:
            self.changes += 1
        if leaves_grads:
            self._note_backward(create_graph=True)
        return first

    async def _close(self, report: bool) -> None:
        if self._closed:
            return
        if self.hook_here() is not None:
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

    def send_ahead(self) -> None:
        """Send what is recorded, so that the server works on it meanwhile. The lock is held."""
        self.send_recorded()
        self._stream.hand_over()

    def send_recorded(self) -> Request | None:
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
                self.acknowledged,
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
