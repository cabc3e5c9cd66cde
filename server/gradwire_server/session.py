"""A session: an actor with one queue, which runs one sequence at a time.

A sequence that comes while nothing waits runs at once, where it came, without a task of its
own. What is too much for the event loop goes on in a thread, and the queue is worked off behind
it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import TypeVar

from gradwire.v1 import autograd_pb2 as pb
from gradwire_server.encode import Answer
from gradwire_server.errors import ServiceError, cancelled
from gradwire_server.execute import Execution
from gradwire_server.hooks import Line
from gradwire_server.jobs import Call, Job, Outlet, Work
from gradwire_server.limits import Admission, exceeded, queue_full
from gradwire_server.logs import Logger
from gradwire_server.peers import Peers
from gradwire_server.profiles import most_time
from gradwire_server.replay import Entry, Replay
from gradwire_server.sequences import StepSequence
from gradwire_server.settings import Settings
from gradwire_server.transfers import Upload
from gradwire_server.workspace import Workspace

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Host:
    """What the sessions of one server share.

    Attributes:
        threads: for heavy sequences. Nothing that runs there waits for a client.
        sleepers: for sequences that may wait for their client, so that no client, however slow,
            takes a thread from others.
        peers: the other workers.
    """

    settings: Settings
    log: Logger
    threads: Executor
    sleepers: Executor
    admission: Admission
    peers: Peers


class Session:
    """One session.

    Attributes:
        ordinal: rises from session to session.
        workspace: its tensors. To be touched between sequences only.
        replay: what makes numbered sequences run exactly once.
        last_number: of the sequences that ran.
    """

    def __init__(
        self,
        host: Host,
        *,
        ordinal: int,
        ttl: float,
        display_name: str = "",
        seed: int | None = None,
        ephemeral: bool = False,
    ) -> None:
        settings = host.settings
        self.ordinal = ordinal
        self.display_name = display_name
        self.ttl = ttl
        self.create_time = time.time()
        self.workspace = Workspace(settings, seed)
        self.replay = Replay(settings.replay_sequences, settings.replay_bytes)
        self.last_number = 0
        self._host = host
        self._log = host.log
        self._ephemeral = ephemeral
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Job] = deque()
        self._queued_bytes = 0
        self._running: Job | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed: ServiceError | None = None
        self._renewed = time.monotonic()
        self._expiry: asyncio.TimerHandle | None = None
        self._held_up: asyncio.Future[None] | None = None
        self.workspace.transfers.opens_downloads = not ephemeral

    @cached_property
    def id(self) -> str:
        """Unguessable, and not reused. Made when it is asked for: of one call nobody may."""
        return self._host.peers.new_session_id()

    def renew(self) -> None:
        """Begin the lease anew."""
        self._renewed = time.monotonic()

    @property
    def expires_in(self) -> float:
        """Seconds until the lease runs out; the whole lease while something runs or waits."""
        if self._running is not None:
            return self.ttl
        return self._renewed + self.ttl - time.monotonic()

    @property
    def expire_time(self) -> float:
        """When the lease runs out, in seconds of the epoch."""
        return time.time() + self.expires_in

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self._closed is not None

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        return self._running is None

    def close(self, error: ServiceError) -> None:
        """End the session: what waits is answered with `error`, what runs ends early."""
        if self._closed is not None:
            return
        self._closed = error
        self.stop_all(error)
        if self.workspace.transfers.close() or self._expiry is not None:
            self._watch_transfers()
        if self._running is None:
            self._clear()

    def stop_all(self, error: ServiceError) -> None:
        """Let what runs end before its next step, and what waits not run, with `error`."""
        if isinstance(self._running, Work):
            self._running.execution.halt(error)
            self._let_go()
        waiting, self._queue = self._queue, deque()
        self._queued_bytes = 0
        for job in waiting:
            self._host.admission.release(job.size)
            job.refuse(error)

    async def settled(self) -> None:
        """Wait until nothing runs or waits."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def submit(
        self,
        sequence: StepSequence,
        payloads: list[memoryview],
        request: bytes,
        deadline: float = math.inf,
        line: Line | None = None,
        outlet: Outlet | None = None,
    ) -> Answer | Work | asyncio.Future[Answer]:
        """Take a sequence in; run it if nothing is before it.

        Args:
            sequence: its steps are not kept longer than they run.
            payloads: of the message.
            request: the message as it came.
            deadline: of the call, a time of `perf_counter`.
            line: to the client, for calls of its hooks.
            outlet: for the answer; a sequence that had to wait goes on waiting for room there.

        Returns:
            The answer if it is there, else the queued work, or, for a repetition, a future.

        Raises:
            ServiceError: if the sequence was not taken in, so that nothing changed.
        """
        if self._closed is not None:
            raise self._closed
        self.renew()
        number = 0 if self._ephemeral else sequence.number
        if number:
            entry = self.replay.find(number, request)
            self.replay.forget(sequence.acknowledged)
            if entry is not None:
                return self._repeat(entry)
        settings = self._host.settings
        repeats = sequence.repeats
        if repeats is not None and self._running is None and perf_counter() < deadline:
            answer = repeats.answer(self.workspace, payloads, settings)
            if answer is not None:
                return answer
        self._admit(len(sequence.steps), len(request))
        if sequence.timeout is not None:
            deadline = min(deadline, perf_counter() + sequence.timeout)
        entry = self.replay.accept(number, request) if number else None
        execution = Execution(self.workspace, sequence, payloads, deadline, line)
        work = Work(self, execution, len(request), entry, outlet)
        self._start(work)
        if work.answer is not None:
            if repeats is not None and work.answer.failure is None:
                repeats.learn(work.answer, payloads, settings, self._host.threads)
            return work.answer
        work.waiting = self._loop.create_future()
        return work

    def _repeat(self, entry: Entry) -> Answer | asyncio.Future[Answer]:
        if entry.answer is not None:
            return entry.answer
        if entry.waiting is None:
            entry.waiting = self._loop.create_future()
        return entry.waiting

    def _admit(self, steps: int, size: int) -> None:
        settings = self._host.settings
        if steps > settings.max_steps:
            raise exceeded(
                "max_steps",
                steps,
                settings.max_steps,
                "a sequence of too many steps; send it as several",
                field="sequence.steps",
            )
        if self._running is not None:
            if len(self._queue) >= settings.max_queued_sequences:
                raise queue_full(
                    "max_queued_sequences", len(self._queue) + 1, settings.max_queued_sequences
                )
            if self._queue and self._queued_bytes + size > settings.max_queued_bytes:
                raise queue_full(
                    "max_queued_bytes", self._queued_bytes + size, settings.max_queued_bytes
                )
        self._host.admission.admit(size)

    def cancel(self, number: int) -> None:
        """Stop the sequence of that number, if it waits or runs."""
        self.renew()
        for job in (self._running, *self._queue):
            if isinstance(job, Work) and job.number == number and number:
                job.execution.halt(cancelled(f"the client stopped sequence {number}"))
                self._let_go()

    async def call(self, function: Callable[[], T], light: Callable[[], bool]) -> T:
        """Call a function between sequences; on a thread unless `light` says it is short.

        Raises:
            ServiceError: if the session ends before.
        """
        if self._closed is not None:
            raise self._closed
        waiting: asyncio.Future[T] = self._loop.create_future()
        self._start(Call(function, light, waiting))
        return await waiting

    async def begin_upload(self, number: int, total: int) -> Upload:
        """The upload of that number, begun if it is not there; its memory is counted first.

        Raises:
            ServiceError: BAD_VALUE, LIMIT_EXCEEDED, QUEUE_FULL; or why the session has ended.
        """
        for name, value in (("upload", number), ("total_bytes", total)):
            if not value:
                raise ServiceError(
                    "BAD_VALUE",
                    f"the first piece of an upload must have its {name}, from 1 upwards",
                    field=name,
                    metadata={name: value},
                )
        self.renew()
        workspace, transfers = self.workspace, self.workspace.transfers
        if (found := transfers.find_upload(number, total)) is not None:
            return found
        while not workspace.has_bytes(total):
            # Only a count tells how much is held, and only while no sequence runs.
            def count() -> None:
                workspace.require_bytes(total, "total_bytes")

            if isinstance(self._running, Work) and self._running.execution.pause is not None:
                count()  # the sequence waits for its client, perhaps for this very upload
            else:
                await self.call(count, lambda: workspace.is_small)
            if (found := transfers.find_upload(number, total)) is not None:
                return found
        transfers.require_room()
        self._host.admission.admit(total)
        try:
            upload = transfers.begin_upload(number, total)
        except BaseException:
            self._host.admission.release(total)
            raise
        self._watch_transfers()
        return upload

    def _watch_transfers(self) -> None:
        """Give back what ended uploads took, and see to it that those which stall will end."""
        transfers = self.workspace.transfers
        transfers.changed = False
        left = transfers.expire()
        self._host.admission.release(transfers.take_freed())
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = None if left is None else self._loop.call_later(left, self._watch_transfers)

    def _start(self, job: Job) -> None:
        if self._running is not None:
            self._queue.append(job)
            self._queued_bytes += job.size
            return
        self._running = job
        if self._run_inline(job):
            self._end(job)
            self._running = None
        else:
            self._task = self._loop.create_task(self._work_off(job))

    def _run_inline(self, job: Job) -> bool:
        return job.run(perf_counter() + self._host.settings.inline_milliseconds / 1e3)

    async def _work_off(self, job: Job) -> None:
        """Run a job to its end in a thread, then what has queued up behind it."""
        await self._run_on_thread(job)
        self._end(job)
        while self._queue:
            job = self._queue.popleft()
            self._running = job
            self._queued_bytes -= job.size
            await asyncio.sleep(0)
            if job.outlet is not None:
                await self._until_read(job.outlet)
            if not self._run_inline(job):
                await self._run_on_thread(job)
            self._end(job)
        self._running = None
        self._task = None
        if self._closed is not None:
            self._clear()

    async def _until_read(self, outlet: Outlet) -> None:
        """Wait while too many answers are unread, or what runs next is stopped.

        A client that reads none of them for too long is one that has gone without a word.
        """
        self._held_up = self._loop.create_future()
        while not self._held_up.done() and (room := outlet.room()) is not None:
            done, _ = await asyncio.wait(
                [room, self._held_up],
                timeout=self._host.settings.transfer_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not done:
                outlet.hang_up()
                break
        self._held_up = None

    def _let_go(self) -> None:
        """Wait no longer for a client to read."""
        if self._held_up is not None and not self._held_up.done():
            self._held_up.set_result(None)

    async def _run_on_thread(self, job: Job) -> None:
        """Run a job to its end, where it does not hold up others."""
        run = self._loop.run_in_executor
        if job.must_sleep or not await run(self._host.threads, job.run, None):
            await run(self._host.sleepers, job.run, None, True)

    def _clear(self) -> None:
        """Free what the session holds; in a thread if that may take long."""
        if self.workspace.is_small:
            self.workspace.clear()
        else:
            self._host.threads.submit(self.workspace.clear)

    def _end(self, job: Job) -> None:
        """Hand over what came of a job."""
        self._host.admission.release(job.size)
        if isinstance(job, Work):
            self.last_number = job.number or self.last_number
        self._renewed = time.monotonic()
        if self.workspace.transfers.changed:
            self._watch_transfers()
        job.end()

    def log_failure(self, error: ServiceError) -> None:
        """Log a failed sequence; a fault of the server with its traceback."""
        facts = {key: error.metadata.get(key) for key in ("sequence", "step")}
        if error.reason == "INTERNAL" and error.__cause__ is not None:
            self._log.error(
                "internal error",
                session=self.id,
                error_id=error.metadata["error_id"],
                exc_info=error.__cause__,
                **facts,
            )
            error.__cause__ = None
            return
        self._log.info(
            "sequence failed", session=self.id, reason=error.reason, message=error.message, **facts
        )

    def log_profile(self, number: int, profile: pb.Profile) -> None:
        """Log where the time of a sequence went, if the server profiles them all."""
        if not self._host.settings.profile:
            return
        self._log.info(
            "sequence profiled",
            session=self.id,
            sequence=number,
            seconds=profile.duration_ns / 1e9,
            most=most_time(profile),
        )

    def describe(self) -> pb.Session:
        """The session as clients are told of it."""
        message = pb.Session(
            id=self.id,
            display_name=self.display_name,
            last_number=self.last_number,
            tensor_count=len(self.workspace),
            tensor_bytes=self.workspace.tensor_bytes(),
        )
        message.ttl.FromNanoseconds(int(self.ttl * 1e9))
        message.create_time.FromNanoseconds(int(self.create_time * 1e9))
        message.expire_time.FromNanoseconds(int(self.expire_time * 1e9))
        return message
