"""Runs the steps of one sequence, in order, resumably.

A run on the event loop stops before a step that is too much for it, or when its time is up; a
thread then runs the rest. Each step is atomic: it checks all it needs before it changes
anything, so that a failed step has not happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Final

import numpy as np

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.context import grad_mode, use
from gradwire_engine.errors import EngineError
from gradwire_engine.program import Program
from gradwire_engine.tensor import Tensor
from gradwire_server import decode
from gradwire_server.calls import call_program_step
from gradwire_server.derivatives import (
    backward_step,
    checkpoint_step,
    custom_function_step,
    grad_step,
    jvp_step,
)
from gradwire_server.encode import Answer, AnswerBuilder
from gradwire_server.errors import ServiceError, failure_of, internal, malformed
from gradwire_server.gradchecks import gradcheck_step
from gradwire_server.graph_steps import (
    Origin,
    add_origin,
    get_saved,
    note_origin,
    register_hook,
    tensors_or_edges,
)
from gradwire_server.hooks import Call, Line
from gradwire_server.leaves import (
    get_grad_step,
    requires_grad_step,
    retain_grad_step,
    set_grad_step,
)
from gradwire_server.limits import exceeded
from gradwire_server.profiles import SequenceProfile
from gradwire_server.saved_hooks import PackHook
from gradwire_server.values import fetch_step, put_step, release_step
from gradwire_server.workspace import ABSENT, STEP_FLOPS, Workspace

Steps = Sequence[pb.Step]

_POISONED_INLINE: Final = 500
"""Steps after a failed one of which the event loop collects the results to poison."""


_CALLS_BETWEEN_LOOKS: Final = 15
"""So many calls, of one step, between two looks at the clock: a power of two less one."""


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
    """

    __slots__ = (
        "_anomalies",
        "_calls",
        "_count",
        "_detects",
        "_end",
        "_flops",
        "_heavy",
        "_inline",
        "_max_bytes",
        "_max_flops",
        "_max_nodes",
        "_max_tensors",
        "_position",
        "_profile",
        "_sleeps",
        "_steps",
        "_workspace",
        "answer",
        "builder",
        "deadline",
        "failure",
        "line",
        "must_sleep",
        "number",
        "pause",
        "payloads",
        "stop",
        "told",
        "workspace",
    )

    def __init__(
        self,
        workspace: Workspace,
        sequence: pb.Sequence,
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
        self.workspace = self._workspace = workspace
        self._detects = sequence.detect_anomaly
        self._anomalies = sequence.detect_anomaly or sequence.note_origins
        self._profile: SequenceProfile | None = None
        if sequence.profile or workspace.settings.profile:
            self._profile = SequenceProfile(workspace)
        self._sleeps = False
        self._steps: Steps = sequence.steps
        self.payloads = payloads
        self.deadline = deadline
        self._position = 0
        self._calls: decode.Calls | None = None
        self._flops = 0
        self._end = math.inf
        self._count = len(sequence.steps)
        self._inline = False
        self._max_bytes = workspace.settings.max_session_bytes
        self._max_nodes = workspace.settings.max_session_nodes
        self._max_tensors = workspace.settings.max_session_tensors
        self._max_flops = workspace.settings.max_sequence_flops
        self._heavy: float = math.inf
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
        self._heavy = self._workspace.settings.inline_flops if self._inline else math.inf
        try:
            if self.failure is None and not self._run_steps(until):
                return False
            if self.failure is not None and not self._poison_rest(self.failure):
                return False
            hooks = self._workspace.hooks
            if hooks.ended:
                self.builder.end_hooks(hooks.ended)
                hooks.ended = []
            if self._profile is not None:
                left = self._workspace.settings.max_message_bytes - self.builder.size
                self.told = self._profile.message(left)
                self.builder.set_profile(self.told)
            self.answer = self.builder.finish(self.failure)
        except Exception as error:
            self.failure = internal(error)
            self.answer = Answer.refusal(self.number, self.failure)
        # The request is not to outlive its run: tensors hold what they need of it.
        del self._steps, self.payloads, self.builder
        self._workspace.context.profile = self._profile = None
        return True

    def _run_steps(self, until: float | None) -> bool:
        context = self._workspace.context
        # On the loop nothing can ask for a stop meanwhile, and what runs there is short.
        context.check = None if self._inline else self.check
        context.detect_anomaly = self._detects
        context.profile = None if self._profile is None else self._profile.ran
        hooks = self._workspace.hooks
        hooks.running = self
        packs = hooks.packs
        run_op = self._op_with_origin if self._anomalies else self._op
        profiled = self._profile is not None
        end = self._end = min(self.deadline, math.inf if until is None else until)
        steps = self._steps
        try:
            with use(context), np.errstate(all="ignore"):
                while self._position < len(steps):
                    if self.stop is not None or perf_counter() > end:
                        self.check()
                        return False
                    step = steps[self._position]
                    kind = step.WhichOneof("kind")
                    mode = step.grad_mode
                    # Looked up each time, for the sequence itself may register such hooks.
                    if packs or profiled:
                        self._run_special(kind, step)
                    elif mode:
                        self._run_in_mode(mode, kind, step)
                    elif kind == "op":
                        run_op(step.op)
                    else:
                        self._run_kind(kind, step)
                    self._position += 1
        except _MaySleepError:
            self.must_sleep = True
            return False
        except _TooHeavyError:
            return False
        except Exception as error:
            failure = failure_of(error)
            # What was worked on is not to live as long as the failure, which handles may hold.
            failure.__traceback__ = failure.__context__ = None
            if self._anomalies:
                add_origin(self._workspace, failure)
            self.failure = self._placed(failure)
        finally:
            context.check = None
            hooks.running = None
        return True

    def _run_special(self, kind: str | None, step: pb.Step) -> None:
        """Run a step of a sequence that is profiled, or whose steps may have hooks of their own."""
        if self._profile is None or kind == "ops":
            self._run_any(kind, step)
            return
        with self._profile.step(kind or "", step, self._position):
            self._run_any(kind, step)

    def _run_any(self, kind: str | None, step: pb.Step) -> None:
        packs = self._workspace.hooks.packs
        if packs and step.saved_hooks in packs:
            self._run_under(packs[step.saved_hooks], kind, step)
        elif step.grad_mode:
            self._run_in_mode(step.grad_mode, kind, step)
        elif kind == "op" and self._anomalies:
            self._op_with_origin(step.op)
        else:
            self._run_kind(kind, step)

    def _run_kind(self, kind: str | None, step: pb.Step) -> None:
        if kind is None:
            raise malformed("the step says nothing: none of its kinds is set", "kind")
        run = _KINDS.get(kind)
        if run is None:
            raise malformed(f"this server does not run steps of kind {kind}", kind)
        run(self, getattr(step, kind))

    def _run_in_mode(self, mode: int, kind: str | None, step: pb.Step) -> None:
        if mode not in (pb.GRAD_MODE_NO_GRAD, pb.GRAD_MODE_INFERENCE):
            raise ServiceError(
                "BAD_VALUE",
                f"there is no grad mode {mode}",
                field="grad_mode",
                metadata={"grad_mode": mode},
            )
        context = self._workspace.context
        context.grad_enabled = False
        context.inference = mode == pb.GRAD_MODE_INFERENCE
        try:
            self._run_kind(kind, step)
        finally:
            context.grad_enabled = True
            context.inference = False

    def _run_under(self, hook: PackHook, kind: str | None, step: pb.Step) -> None:
        """Run a step whose saved tensors go through a hook."""
        self.may_call_client()
        if hook.program is None:
            # The client may run steps in the midst of this one.
            self.settle()
        context = self._workspace.context
        context.saved_hooks = hook.pair
        try:
            if step.grad_mode:
                self._run_in_mode(step.grad_mode, kind, step)
            elif kind == "op" and self._anomalies:
                self._op_with_origin(step.op)
            else:
                self._run_kind(kind, step)
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
        if self._calls is not None:
            failure.metadata["call"] = str(self._calls.at)
        if failure is not self.stop and failure.reason != "DEADLINE_EXCEEDED":
            return failure.at(self._position, self.number)
        failure.metadata |= {"step": str(self._position), "sequence": str(self.number)}
        return failure

    def _poison_rest(self, failure: ServiceError) -> bool:
        """Poison what the failed step and those after it were to make; whether all of them are."""
        steps = self._steps
        left = len(steps) - self._position if self._calls is None else len(self._calls.forms)
        if self._inline and left > _POISONED_INLINE:
            return False
        calls, self._calls = self._calls, None
        for at in range(self._position, len(steps)):
            for handles, open_ended in decode.makes(steps[at]) if calls is None else calls.unmade():
                self._workspace.poison(handles, failure)
                if open_ended:
                    self._workspace.poison_from(handles[0], failure)
            calls = None
        return True

    def spend(self, flops: int, field: str) -> None:
        """Count a step's estimated work.

        Raises:
            ServiceError: LIMIT_EXCEEDED.
            _TooHeavyError: on the event loop, if the step must leave it.
        """
        if flops > self._heavy:
            raise _TooHeavyError
        self._flops += flops
        if self._flops > self._max_flops:
            raise exceeded(
                "max_sequence_flops",
                self._flops,
                self._max_flops,
                "the sequence would take too many floating-point operations",
                field=field,
            )

    def run_aside(
        self, steps: Steps, payloads: Sequence[memoryview]
    ) -> tuple[AnswerBuilder, ServiceError | None]:
        """Run steps in the midst of a step: what they fetched, and why one failed.

        Raises:
            ServiceError: why the sequence must end, or LIMIT_EXCEEDED.
        """
        maximum = self._workspace.settings.max_steps
        if len(steps) > maximum:
            raise exceeded(
                "max_steps", len(steps), maximum, "too many steps in one answer of a hook"
            )
        context, hooks = self._workspace.context, self._workspace.hooks
        around = (self._steps, self.payloads, self._position, self._calls, self.builder)
        # Recording is on between steps, whatever the mode of the step that is run around this.
        enabled, context.grad_enabled = context.grad_enabled, True
        saved_hooks, context.saved_hooks = context.saved_hooks, None
        builder = AnswerBuilder(self.number)
        self._steps, self.payloads, self._position = steps, payloads, 0
        self._calls, self.builder = None, builder
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
            self._steps, self.payloads, self._position, self._calls, self.builder = around
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
                number=self.number, step=self._position, done=done, count=count, values=values
            )
            self.line.send(pb.RunStreamResponse(progress=progress).SerializeToString())

    def may_call_client(self) -> None:
        """Leave the place where a hook of the step would hold up others.

        Before the step does anything: in its midst it is too late for that.
        """
        hooks = self._workspace.hooks
        if hooks.waiting and self.line is not None and not self._sleeps:
            raise _MaySleepError
        if hooks.longest * STEP_FLOPS > self._heavy:
            raise _TooHeavyError

    def _op_with_origin(self, message: pb.Op) -> None:
        """Run an operator and let its nodes remember it, for an anomaly in their backward."""
        before = self._workspace.context.next_id()
        self._op(message)
        handle = message.output or message.inputs[0]
        note_origin(self._workspace, Origin(self.number, self._position, None, handle), before)

    def _op(self, message: pb.Op) -> None:
        plan, handles = decode.call_of(message)
        self._call(plan, handles, message.output, message)

    def _ops(self, message: pb.Ops) -> None:
        """Run the calls of a step, from where a run before this has left off."""
        calls = self._calls
        if calls is None:
            maximum = self._workspace.settings.max_steps
            self._count += len(message.calls)
            if self._count > maximum:
                raise exceeded(
                    "max_steps",
                    self._count,
                    maximum,
                    "a sequence of too many steps",
                    field="ops.calls",
                )
            calls = self._calls = decode.Calls(message)
        forms, handles, place = calls.forms, calls.handles, calls.place
        anomalies, profile = self._anomalies, self._profile
        context = self._workspace.context
        try:
            for at in range(calls.at, len(forms)):
                calls.at, calls.place = at, place
                if not at & _CALLS_BETWEEN_LOOKS and (
                    self.stop is not None or perf_counter() > self._end
                ):
                    self.check()
                    raise _TooHeavyError
                form = forms[at]
                plan = form.plan
                if plan is None:
                    raise form.failure or malformed("a form is none")
                before = context.next_id() if anomalies else 0
                last = place + form.count
                if profile is None:
                    self._call(plan, handles[place:last], handles[last], form.message)
                else:
                    first = handles[last]
                    made = (
                        range(first, first + max(plan.results, 1))
                        if first
                        else handles[place : place + 1]
                    )
                    with profile.op(plan.op.name, made, self._position, at):
                        self._call(plan, handles[place:last], handles[last], form.message)
                if anomalies:
                    origin = Origin(
                        self.number, self._position, at, handles[last] or handles[place]
                    )
                    note_origin(self._workspace, origin, before)
                place = last + 1
        except ServiceError as failure:
            if failure is not self.stop and failure.reason != "DEADLINE_EXCEEDED":
                failure.field = f"ops.calls[{calls.at}]{failure.field.removeprefix('op')}"
            raise
        self._calls = None

    def _call(self, plan: decode.Plan, handles: Sequence[int], output: int, message: pb.Op) -> None:
        """Run an operator; of the message only what errors are to say is read."""
        workspace = self._workspace
        tensors = workspace.tensors
        args = [*plan.given]
        index = 0
        flops = 1
        try:
            for position, index in plan.slots:
                args[position] = tensor = tensors[handles[index]]
                flops += tensor.data.size
            if plan.lists:
                for position, indices in plan.lists:
                    items: list[Tensor | None] = []
                    for index in indices:
                        items.append(None if index < 0 else tensors[handles[index]])
                    args[position] = items
        except KeyError:
            path = decode.path_of_handle(message, index)
            raise workspace.why_not(handles[index], path) from None
        if plan.results == 1:
            if output in tensors or output in workspace.blanks or not (output or plan.mutates):
                raise workspace.not_free(output, "op.output")
            if len(tensors) + len(workspace.blanks) >= self._max_tensors:
                workspace.require_room(1, "op.output")
        elif plan.results > 1:
            workspace.require_free(range(output, output + plan.results), "op.output")
        if not plan.counts_elements:
            flops = plan.op.flops([*args, *plan.template[len(args) :]])
        self._flops += flops
        if flops > self._heavy or self._flops > self._max_flops:
            self._flops -= flops
            self.spend(flops, "op")
        if workspace.bytes_bound > self._max_bytes or workspace.nodes_bound >= self._max_nodes:
            workspace.require_capacity("op")
        if plan.mutates:
            self.settle()
        try:
            result = plan.path(*args)
        except EngineError as error:
            failure = failure_of(error)
            failure.field = decode.path_of_argument(message, error.argument)
            raise failure from None
        workspace.work += flops + STEP_FLOPS
        workspace.nodes_bound += 1
        if result.__class__ is Tensor:
            workspace.bytes_bound += result.data.nbytes
            if output:
                tensors[output] = result
            return
        if plan.results == decode.VARIADIC:
            workspace.require_free(range(output, output + len(result)), "op.output")
        for nr, each in enumerate(result):
            workspace.bytes_bound += each.data.nbytes
            tensors[output + nr] = each

    def spend_on_backward(self, field: str, passes: int = 1) -> None:
        """Count the estimated work of passes through the whole graph."""
        workspace = self._workspace
        flops = 2 * passes * workspace.work
        if self._max_flops < self._flops + flops <= self._heavy:
            workspace.audit()
            flops = 2 * passes * workspace.work
        self.spend(flops, field)

    def count_backward(self, create_graph: bool, keep: bool | None) -> None:
        """Count what a pass left behind."""
        self._workspace.count_backward(create_graph, create_graph if keep is None else keep)

    def _get_saved(self, message: pb.GetSaved) -> None:
        # What a client packed, the client must unpack.
        self.may_call_client()
        get_saved(self._workspace, message)

    def tell_gradcheck(self, result: pb.GradcheckResult) -> None:
        """Answer with what a gradcheck came to."""
        self.builder.add_gradcheck(result)

    def settle(self) -> None:
        """Take the values that were fetched as they are now: the next step may change them."""
        self.builder.settle()
        if self._workspace.transfers.downloads:
            self._workspace.settle_downloads()

    def leave_loop(self) -> None:
        """Go on in a thread, if this is the event loop."""
        if self._inline:
            raise _TooHeavyError

    def named(self, handles: Sequence[int], field: str) -> list[Tensor]:
        """The tensors that handles name; `field` is where they are named."""
        tensor = self._workspace.tensor
        return [tensor(handle, f"{field}[{at}]") for at, handle in enumerate(handles)]

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
        return tensors_or_edges(self._workspace, handles, field, edges, edge_field)

    def named_or_none(self, handles: Sequence[int], field: str) -> list[Tensor | None]:
        """The same, where 0 stands for none."""
        tensor = self._workspace.tensor
        return [
            tensor(handle, f"{field}[{at}]") if handle else None
            for at, handle in enumerate(handles)
        ]

    def make(self, handle: int, tensor: Tensor | None) -> None:
        """Let a handle name a result, or hold none."""
        if tensor is None:
            self._workspace.blanks[handle] = ABSENT
        else:
            self._workspace.tensors[handle] = tensor
            self._workspace.bytes_bound += tensor.data.nbytes


_KINDS: Final[dict[str, Callable[[Execution, Any], None]]] = {
    "op": Execution._op,
    "ops": Execution._ops,
    "put": put_step,
    "backward": backward_step,
    "grad": grad_step,
    "jvp": jvp_step,
    "fetch": fetch_step,
    "release": release_step,
    "requires_grad": requires_grad_step,
    "retain_grad": retain_grad_step,
    "get_grad": get_grad_step,
    "set_grad": set_grad_step,
    "register_hook": lambda run, message: register_hook(run.workspace, message),
    "remove_hook": lambda run, message: run.workspace.hooks.remove(message.hook),
    "get_saved": Execution._get_saved,
    "custom_function": custom_function_step,
    "checkpoint": checkpoint_step,
    "call_program": call_program_step,
    "gradcheck": gradcheck_step,
}
