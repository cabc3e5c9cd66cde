"""Steps that are operators: one, or a row of them.

Most steps are. So what an operator takes here is one call, with nothing in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.errors import EngineError
from gradwire_engine.tensor import Tensor
from gradwire_server import decode
from gradwire_server.errors import ServiceError, malformed
from gradwire_server.graph_steps import Origin, note_origin
from gradwire_server.limits import exceeded
from gradwire_server.workspace import STEP_FLOPS

if TYPE_CHECKING:
    from gradwire_server.execute import Execution

_CALLS_BETWEEN_LOOKS: Final = 15
"""So many calls, of one step, between two looks at the clock: a power of two less one."""


@dataclass(slots=True)
class OpStep:
    """What an Op says.

    Attributes:
        plan: of the call.
        handles: of its tensors.
        output: the first handle of its results; 0 for none.
        message: as it came, for what errors are to say.
    """

    plan: decode.Plan
    handles: Sequence[int]
    output: int
    message: pb.Op

    @classmethod
    def read(cls, message: pb.Op) -> OpStep:
        """Take the message apart.

        Raises:
            ServiceError: as `decode.call_of`.
        """
        plan, handles = decode.call_of(message)
        return cls(plan, handles, message.output, message)


def op_step(run: Execution, told: OpStep) -> None:
    """Run an operator."""
    if not run.anomalies:
        _call(run, told.plan, told.handles, told.output, told.message)
        return
    # Its nodes are to remember it, for an anomaly in their backward.
    before = run.workspace.context.next_id()
    _call(run, told.plan, told.handles, told.output, told.message)
    handle = told.output or told.handles[0]
    note_origin(run.workspace, Origin(run.number, run.position, None, handle), before)


def ops_step(run: Execution, message: pb.Ops) -> None:
    """Run the calls of a step, from where a run before this has left off."""
    calls = run.calls
    if calls is None:
        maximum = run.workspace.settings.max_steps
        run.step_count += len(message.calls)
        if run.step_count > maximum:
            raise exceeded(
                "max_steps",
                run.step_count,
                maximum,
                "a sequence of too many steps",
                field="ops.calls",
            )
        calls = run.calls = decode.Calls(message)
    forms, handles = calls.forms, calls.handles
    anomalies, profile = run.anomalies, run.profile
    context = run.workspace.context
    try:
        while calls.at < len(forms):
            if not calls.at & _CALLS_BETWEEN_LOOKS and (
                run.stop is not None or perf_counter() > run.until
            ):
                run.check()
                run.leave_loop()
            if profile is None and not anomalies and _run_plain(run, calls):
                continue
            at, place = calls.at, calls.place
            form = forms[at]
            plan = form.plan
            if plan is None:
                raise form.failure or malformed("a form is none")
            before = context.next_id() if anomalies else 0
            last = place + form.count
            if profile is None:
                _call(run, plan, handles[place:last], handles[last], form.message)
            else:
                first = handles[last]
                made = (
                    range(first, first + max(plan.results, 1))
                    if first
                    else handles[place : place + 1]
                )
                with profile.op(plan.op.name, made, run.position, at):
                    _call(run, plan, handles[place:last], handles[last], form.message)
            if anomalies:
                origin = Origin(run.number, run.position, at, handles[last] or handles[place])
                note_origin(run.workspace, origin, before)
            calls.at, calls.place = at + 1, last + 1
    except ServiceError as failure:
        if failure is not run.stop and failure.reason != "DEADLINE_EXCEEDED":
            failure.field = f"ops.calls[{calls.at}]{failure.field.removeprefix('op')}"
        raise
    run.calls = None


def _run_plain(run: Execution, calls: decode.Calls) -> bool:
    """Run calls of the commonest shape, up to the next look at the clock; whether it did all.

    It does what `_call` does for them, with the checks that can only fail together made once. What
    is special about a call, or wrong with it, is left to `_call`.
    """
    workspace = run.workspace
    tensors, blanks = workspace.tensors, workspace.blanks
    forms, handles, at, place = calls.forms, calls.handles, calls.at, calls.place
    start = at
    end = min((at | _CALLS_BETWEEN_LOOKS) + 1, len(forms))
    room = min(
        workspace.max_tensors - len(tensors) - len(blanks),
        workspace.max_nodes - workspace.nodes_bound,
    )
    heavy, max_flops, max_bytes = run.heavy, workspace.max_flops, workspace.max_bytes
    before = flops = run.flops
    held = workspace.bytes_bound
    try:
        while at < end and at - start < room:
            plan = forms[at].plan
            if plan is None or not plan.lead:
                break
            lead = plan.lead
            tensor = tensors.get(handles[place])
            output = handles[place + lead]
            if tensor is None or not output or output in tensors or output in blanks:
                break
            cost = 1 + tensor.data.size
            if lead == 2:
                other = tensors.get(handles[place + 1])
                if other is None:
                    break
                cost += other.data.size
            if cost > heavy or flops + cost > max_flops or held > max_bytes:
                break
            if lead == 1:
                result = plan.path(tensor, *plan.rest)
            else:
                result = plan.path(tensor, other, *plan.rest)
            tensors[output] = result
            held += result.data.nbytes
            flops += cost
            at += 1
            place += lead + 1
    except EngineError as error:
        raise decode.refused(error, forms[at].message) from None
    finally:
        run.flops = flops
        workspace.work += flops - before + (at - start) * STEP_FLOPS
        workspace.nodes_bound += at - start
        workspace.bytes_bound = held
        calls.at, calls.place = at, place
    return at == end


def _call(
    run: Execution, plan: decode.Plan, handles: Sequence[int], output: int, message: pb.Op
) -> None:
    """Run an operator; of the message only what errors are to say is read."""
    workspace = run.workspace
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
        if len(tensors) + len(workspace.blanks) >= workspace.max_tensors:
            workspace.require_room(1, "op.output")
    elif plan.results > 1:
        workspace.require_free(range(output, output + plan.results), "op.output")
    if not plan.counts_elements:
        try:
            flops = plan.op.flops([*args, *plan.template[len(args) :]])
        except EngineError:
            # The call itself will say what does not fit, by the first of its own checks.
            flops = 1
    run.flops += flops
    if flops > run.heavy or run.flops > workspace.max_flops:
        run.flops -= flops
        run.spend(flops, "op")
    if workspace.bytes_bound > workspace.max_bytes or workspace.nodes_bound >= workspace.max_nodes:
        workspace.require_capacity("op")
    if plan.mutates:
        run.settle()
    try:
        result = plan.path(*args)
    except EngineError as error:
        raise decode.refused(error, message) from None
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
