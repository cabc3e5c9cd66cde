"""Runs the steps of one sequence, in order, resumably.

A run on the event loop stops before a step that is too much for it, or when its time is up; a
thread then runs the rest. Each step is atomic: it checks all it needs before it changes
anything, so that a failed step has not happened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from time import perf_counter
from typing import Final

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.context import current, grad_mode
from gradwire_engine.program import Program
from gradwire_engine.tensor import Tensor
from gradwire_server import decode
from gradwire_server.encode import Answer, AnswerBuilder
from gradwire_server.errors import ServiceError, failure_of, internal
from gradwire_server.graph_steps import add_origin, tensors_or_edges
from gradwire_server.hooks import Call, Line
from gradwire_server.limits import exceeded
from gradwire_server.profiles import SequenceProfile
from gradwire_server.saved_hooks import PackHook
from gradwire_server.sequences import Step, Steps, StepSequence
from gradwire_server.workspace import ABSENT, STEP_FLOPS, Workspace

_POISONED_INLINE: Final = 500
"""Steps after a failed one of which the event loop collects the results to poison."""


class _TooHeavyError(Exception):
    """The step must not run on the event loop."""


class _MaySleepError(_TooHeavyError):
    """The step may have to wait for the client, and must run where that holds up nobody."""


class Execution:
    """One sequence on its way through its steps.

    Attributes:
        number: of the sequence; 0 if it has none.
        failure: why a step failed, once one has.
        answer: once it has ended.
        builder: what of the answer is there.
        stop: set by others, through `halt`: why the sequence must end before its next step.
        must_sleep: the rest of it must run on a thread that may sleep.
        line: to the client, for calls of its hooks; None where it can be sent none.
        pause: the call of a hook that is waited for.
        payloads: of the message that the steps came in.
        told: the profile in the answer, if there is one.
        deadline: a time of `perf_counter`, or infinity.
        workspace: what it works on.
        position: of the step that runs, or is next.
        calls: of that step, where it is a row of operators that has begun.
        step_count: steps so far, the calls of rows among them.
        anomalies: nodes remember what recorded them.
        profile: what is told of what runs, if that was asked for.
        until: when this run of it stops, as `deadline`.
        flops: estimated work so far.
        heavy: the estimated work above which a step must not run here.
    """

    __slots__ = (
        "_detects",
        "_inline",
        "_sleeps",
        "_steps",
        "anomalies",
        "answer",
        "builder",
        "calls",
        "deadline",
        "failure",
        "flops",
        "heavy",
        "line",
        "must_sleep",
        "number",
        "pause",
        "payloads",
        "position",
        "profile",
        "step_count",
        "stop",
        "told",
        "until",
        "workspace",
    )

    def __init__(
        self,
        workspace: Workspace,
        sequence: StepSequence,
        payloads: Sequence[memoryview],
        deadline: float,
        line: Line | None = None,
    ) -> None:
        self.number = sequence.number
        self.failure: ServiceError | None = None
        self.answer: Answer | None = None
        self.stop: ServiceError | None = None
        self.must_sleep = False
        self.line = line
        self.pause: Call | None = None
        self.told: pb.Profile | None = None
        self.workspace = workspace
        self._detects = sequence.detect_anomaly
        self.anomalies = sequence.detect_anomaly or sequence.note_origins
        self.profile: SequenceProfile | None = None
        if sequence.profile or workspace.settings.profile:
            self.profile = SequenceProfile(workspace)
        self._sleeps = False
        self._steps = sequence.steps
        self.payloads = payloads
        self.deadline = deadline
        self.position = 0
        self.calls: decode.Calls | None = None
        self.flops = 0
        self.until = math.inf
        self.step_count = len(sequence.steps)
        self._inline = False
        self.heavy: float = math.inf
        self.builder = AnswerBuilder(self.number)

    def halt(self, error: ServiceError) -> None:
        """Let the sequence end before its next step, or now if it waits for its client."""
        self.stop = error
        pause = self.pause
        if pause is not None:
            pause.wake(None)

    def run(self, until: float | None = None, *, may_sleep: bool = False) -> bool:
        """Run steps: all of them, or with `until` those fit for the event loop up to that time.

        Without `may_sleep` it stops before a step that may have to wait for the client, and sets
        `must_sleep`.

        Returns:
            Whether the sequence has ended.
        """
        self._inline = until is not None
        self._sleeps = may_sleep
        self.heavy = self.workspace.settings.inline_flops if self._inline else math.inf
        try:
            if self.failure is None and not self.workspace.quiet.run(self._run_steps, until):
                return False
            if self.failure is not None and not self._poison_rest(self.failure):
                return False
            hooks = self.workspace.hooks
            if hooks.ended:
                self.builder.end_hooks(hooks.ended)
                hooks.ended = []
            if self.profile is not None:
                left = self.workspace.settings.max_message_bytes - self.builder.size
                self.told = self.profile.message(left)
                self.builder.set_profile(self.told)
            self.answer = self.builder.finish(self.failure)
        except Exception as error:
            self.failure = internal(error)
            self.answer = Answer.refusal(self.number, self.failure)
        # The request is not to outlive its run: tensors hold what they need of it.
        del self._steps, self.payloads, self.builder
        self.workspace.context.profile = self.profile = None
        return True

    def _run_steps(self, until: float | None) -> bool:
        context = self.workspace.context
        # On the loop nothing can ask for a stop meanwhile, and what runs there is short.
        context.check = None if self._inline else self.check
        context.detect_anomaly = self._detects
        context.profile = None if self.profile is None else self.profile.ran
        hooks = self.workspace.hooks
        hooks.running = self
        packs = hooks.packs
        profiled = self.profile is not None
        end = self.until = self.deadline if until is None else min(self.deadline, until)
        steps = self._steps
        read = steps.read
        count = len(read)
        around, current.context = current.context, context
        try:
            while self.position < count:
                if self.stop is not None or perf_counter() > end:
                    self.check()
                    return False
                step = read[self.position] or steps[self.position]
                # Looked up each time, for the sequence itself may register such hooks.
                if packs or profiled:
                    self._run_special(step)
                elif step.mode:
                    self._run_in_mode(step)
                else:
                    step.run(self, step.told)
                self.position += 1
        except _MaySleepError:
            self.must_sleep = True
            return False
        except _TooHeavyError:
            return False
        except Exception as error:
            failure = failure_of(error)
            # What was worked on is not to live as long as the failure, which handles may hold.
            failure.__traceback__ = failure.__context__ = None
            if self.anomalies:
                add_origin(self.workspace, failure)
            self.failure = self._placed(failure)
        finally:
            current.context = around
            context.check = None
            hooks.running = None
        return True

    def _run_special(self, step: Step) -> None:
        """Run a step of a sequence that is profiled, or whose steps may have hooks of their own."""
        if self.profile is None or step.kind == "ops":
            self._run_any(step)
            return
        with self.profile.step(step, self.position):
            self._run_any(step)

    def _run_any(self, step: Step) -> None:
        pack = self.workspace.hooks.packs.get(step.message.saved_hooks)
        if pack is None:
            self._run_alone(step)
        else:
            self._run_under(pack, step)

    def _run_alone(self, step: Step) -> None:
        """Run a step under no hook."""
        if step.mode:
            self._run_in_mode(step)
        else:
            step.run(self, step.told)

    def _run_in_mode(self, step: Step) -> None:
        context = self.workspace.context
        context.grad_enabled = False
        context.inference = step.mode == pb.GRAD_MODE_INFERENCE
        try:
            step.run(self, step.told)
        finally:
            context.grad_enabled = True
            context.inference = False

    def _run_under(self, hook: PackHook, step: Step) -> None:
        """Run a step whose saved tensors go through a hook."""
        self.may_call_client()
        if hook.program is None:
            # The client may run steps in the midst of this one.
            self.settle()
        context = self.workspace.context
        context.saved_hooks = hook.pair
        try:
            self._run_alone(step)
        finally:
            context.saved_hooks = None

    def check(self) -> None:
        """Raise if the sequence was stopped or its time is up."""
        if self.stop is not None:
            raise self.stop
        if perf_counter() > self.deadline:
            raise ServiceError(
                "DEADLINE_EXCEEDED",
                "the sequence took longer than its timeout or the call's deadline",
            )

    def _placed(self, failure: ServiceError) -> ServiceError:
        """The failure of the current step, with its place unless it came from outside."""
        if self.calls is not None:
            failure.metadata["call"] = str(self.calls.at)
        if failure is not self.stop and failure.reason != "DEADLINE_EXCEEDED":
            return failure.at(self.position, self.number)
        failure.metadata |= {"step": str(self.position), "sequence": str(self.number)}
        return failure

    def _poison_rest(self, failure: ServiceError) -> bool:
        """Poison what the failed step and those after it were to make; whether all of them are."""
        steps = self._steps
        left = len(steps) - self.position if self.calls is None else len(self.calls.forms)
        if self._inline and left > _POISONED_INLINE:
            return False
        calls, self.calls = self.calls, None
        for at in range(self.position, len(steps)):
            for handles, open_ended in (
                decode.makes(steps.messages[at]) if calls is None else calls.unmade()
            ):
                self.workspace.poison(handles, failure)
                if open_ended:
                    self.workspace.poison_from(handles[0], failure)
            calls = None
        return True

    def spend(self, flops: int, field: str) -> None:
        """Count a step's estimated work.

        Raises:
            ServiceError: LIMIT_EXCEEDED.
            _TooHeavyError: on the event loop, if the step must leave it.
        """
        if flops > self.heavy:
            raise _TooHeavyError
        self.flops += flops
        if self.flops > self.workspace.max_flops:
            raise exceeded(
                "max_sequence_flops",
                self.flops,
                self.workspace.max_flops,
                "the sequence would take too many floating-point operations",
                field=field,
            )

    def run_aside(
        self, messages: Sequence[pb.Step], payloads: Sequence[memoryview]
    ) -> tuple[AnswerBuilder, ServiceError | None]:
        """Run steps in the midst of a step: what they fetched, and why one failed.

        Raises:
            ServiceError: why the sequence must end, or LIMIT_EXCEEDED.
        """
        maximum = self.workspace.settings.max_steps
        if len(messages) > maximum:
            raise exceeded(
                "max_steps", len(messages), maximum, "too many steps in one answer of a hook"
            )
        context, hooks = self.workspace.context, self.workspace.hooks
        around = (self._steps, self.payloads, self.position, self.calls, self.builder)
        # Recording is on between steps, whatever the mode of the step that is run around this.
        enabled, context.grad_enabled = context.grad_enabled, True
        saved_hooks, context.saved_hooks = context.saved_hooks, None
        builder = AnswerBuilder(self.number)
        self._steps, self.payloads, self.position = Steps(messages), payloads, 0
        self.calls, self.builder = None, builder
        try:
            self._run_steps(None)
            failure, self.failure = self.failure, None
            if failure is not None:
                if failure is self.stop or failure.reason == "DEADLINE_EXCEEDED":
                    raise failure
                self._poison_rest(failure)
                failure.field = f"hook_answer.{failure.field}"
                for key in ("step", "call"):
                    if key in failure.metadata:
                        failure.metadata[f"hook_{key}"] = failure.metadata.pop(key)
            return builder, failure
        finally:
            self._steps, self.payloads, self.position, self.calls, self.builder = around
            context.grad_enabled, context.saved_hooks = enabled, saved_hooks
            context.check, hooks.running = self.check, self

    def run_program(
        self, program: Program, gradients: list[Tensor | None], creates_graph: bool
    ) -> list[Tensor | None]:
        """Run a hook that is a program, on gradients on their way."""
        self.spend(len(program.instructions) * STEP_FLOPS, "register_hook.program")
        given = [each for each in gradients if each is not None]
        if len(given) != program.inputs:
            raise ServiceError(
                "HOOK_FAILED",
                f"the program of a hook takes {program.inputs} gradients, and {len(given)} are "
                "there; leave the program out, so that the client runs the hook",
                metadata={"expected": program.inputs, "given": len(given)},
            )
        with grad_mode(creates_graph):
            return program.run(given)

    def tell_progress(self, done: int, count: int, values: Sequence[float]) -> None:
        """Tell the client how far the step that runs has got, if there is a stream for it."""
        if self.line is not None:
            progress = pb.Progress(
                number=self.number, step=self.position, done=done, count=count, values=values
            )
            self.line.send(pb.RunStreamResponse(progress=progress).SerializeToString())

    def may_call_client(self) -> None:
        """Leave the place where a hook of the step would hold up others.

        Before the step does anything: in its midst it is too late for that.
        """
        hooks = self.workspace.hooks
        if hooks.waiting and self.line is not None and not self._sleeps:
            raise _MaySleepError
        if hooks.longest * STEP_FLOPS > self.heavy:
            raise _TooHeavyError

    def spend_on_backward(self, field: str, passes: int = 1) -> None:
        """Count the estimated work of passes through the whole graph."""
        workspace = self.workspace
        flops = 2 * passes * workspace.work
        if workspace.max_flops < self.flops + flops <= self.heavy:
            workspace.audit()
            flops = 2 * passes * workspace.work
        self.spend(flops, field)

    def count_backward(self, create_graph: bool, keep: bool | None) -> None:
        """Count what a pass left behind."""
        self.workspace.count_backward(create_graph, create_graph if keep is None else keep)

    def tell_gradcheck(self, result: pb.GradcheckResult) -> None:
        """Answer with what a gradcheck came to."""
        self.builder.add_gradcheck(result)

    def settle(self) -> None:
        """Take the values that were fetched as they are now: the next step may change them."""
        self.builder.settle()
        if self.workspace.transfers.downloads:
            self.workspace.settle_downloads()

    def leave_loop(self) -> None:
        """Go on in a thread, if this is the event loop."""
        if self._inline:
            raise _TooHeavyError

    def named(self, handles: Sequence[int], field: str) -> list[Tensor]:
        """The tensors that handles name; `field` is where they are named."""
        tensors = self.workspace.tensors
        try:
            return [tensors[handle] for handle in handles]
        except KeyError:
            at = next(at for at, handle in enumerate(handles) if handle not in tensors)
            raise self.workspace.why_not(handles[at], f"{field}[{at}]") from None

    def tensors_at(
        self,
        handles: Sequence[int],
        field: str,
        edges: Sequence[pb.GradientEdge],
        edge_field: str,
    ) -> list[Tensor]:
        """Tensors by handle; 0 stands for the next of the edges."""
        if not edges:
            return self.named(handles, field)
        return tensors_or_edges(self.workspace, handles, field, edges, edge_field)

    def named_or_none(self, handles: Sequence[int], field: str) -> list[Tensor | None]:
        """The same, where 0 stands for none."""
        tensor = self.workspace.tensor
        return [
            tensor(handle, f"{field}[{at}]") if handle else None
            for at, handle in enumerate(handles)
        ]

    def make(self, handle: int, tensor: Tensor | None) -> None:
        """Let a handle name a result, or hold none."""
        if tensor is None:
            self.workspace.blanks[handle] = ABSENT
        else:
            self.workspace.tensors[handle] = tensor
            self.workspace.bytes_bound += tensor.data.nbytes
