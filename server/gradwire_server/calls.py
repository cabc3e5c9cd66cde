"""Steps that call a program: once, or in a row over tensors that hold the minibatches."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Final

import numpy as np

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.context import current
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import TRACED
from gradwire_engine.plan.compiled import MAX_PLANS
from gradwire_engine.tensor import Tensor
from gradwire_server.errors import ServiceError, failure_of
from gradwire_server.stored import Shapes, StoredProgram, arguments_of
from gradwire_server.workspace import ABSENT, STEP_FLOPS, Workspace

if TYPE_CHECKING:
    from gradwire_server.execute import Execution

_PROGRESS_SECONDS: Final = 0.2
"""Between two messages about how far a call has got."""

_MAX_COUNT: Final = 1 << 31


def call_program_step(run: Execution, message: pb.CallProgram) -> None:
    """Run a program of the session."""
    workspace = run.workspace
    stored = workspace.programs.find(message.program, "call_program.program")
    if message.output_count not in (0, stored.outputs):
        raise ServiceError(
            "WRONG_ARITY",
            f"the call expects {message.output_count} outputs, and the program makes "
            f"{stored.outputs}",
            field="call_program.output_count",
            metadata={"given": message.output_count, "expected": stored.outputs},
        )
    made = range(message.output, message.output + stored.outputs)
    if stored.outputs:
        workspace.require_free(made, "call_program.output")
    inputs = message.inputs[:]
    blanks = workspace.blanks
    if message.skip_absent and any(blanks.get(each) == ABSENT for each in inputs):
        for handle in made:
            run.make(handle, None)
        return
    tensors = run.named(inputs, "call_program.inputs")
    workspace.require_capacity("call_program")
    # Its steps may change tensors in place.
    run.settle()
    if message.HasField("repeat"):
        results = _Loop(run, stored, message, tensors).run()
    else:
        arguments = arguments_of(stored, tensors, "call_program.inputs")
        _require_leaves(stored, arguments)
        work = _work(run, stored, arguments)
        run.spend(work, "call_program")
        results = _call(stored, arguments)
        workspace.nodes_bound += 1
        workspace.work += work
    for handle, result in zip(made, results, strict=False):
        run.make(handle, result)


def _call(stored: StoredProgram, arguments: Sequence[Tensor]) -> list[Tensor | None]:
    """Run once, and leave the gradients that it is to leave."""
    try:
        results = stored.program.call(arguments)
        for position, output in stored.grads:
            arguments[position].set_grad(None if output is None else results[output])
    except EngineError as error:
        raise _of_call(error) from None
    stored.runs += 1
    return results[: stored.outputs]


def _of_call(error: EngineError) -> ServiceError:
    """The failure of a call, with the field of the step that the engine's error is about."""
    failure = failure_of(error)
    failure.field = "call_program"
    return failure


def _work(run: Execution, stored: StoredProgram, arguments: Sequence[Tensor]) -> int:
    """The estimated work of a run; of the first, which makes a plan, not on the event loop."""
    shapes: Shapes = ()
    if stored.types is None:
        shapes = tuple([each.data.shape for each in arguments])
    found = stored.work.get(shapes)
    if found is None:
        run.leave_loop()
        before = stored.program.nbytes
        try:
            plan = stored.program.explain(arguments)
        except EngineError as error:
            raise _of_call(error) from None
        run.workspace.bytes_bound += stored.program.nbytes - before
        steps = len(stored.program.program.instructions)
        found = STEP_FLOPS * steps
        if plan.forward is not None:
            found = STEP_FLOPS * len(plan.forward.steps) + plan.forward.flops
        else:
            found += steps * sum(each.data.size for each in arguments)
        if len(stored.work) >= MAX_PLANS:
            stored.work.clear()
        stored.work[shapes] = found
    return found


def _require_leaves(stored: StoredProgram, arguments: Sequence[Tensor]) -> None:
    for position, _ in stored.grads:
        if not arguments[position].is_leaf:
            raise ServiceError(
                "PROGRAM_SIGNATURE",
                f"the program leaves a gradient in the .grad of input {position}, which is no "
                "leaf now; pass a leaf",
                field="call_program.inputs",
                metadata={"input": position},
            )


class _Loop:
    """The runs of one call."""

    def __init__(
        self,
        run: Execution,
        stored: StoredProgram,
        message: pb.CallProgram,
        tensors: list[Tensor],
    ) -> None:
        repeat = message.repeat
        self._run = run
        self._stored = stored
        self._tensors = tensors
        self._count = repeat.count
        self._first = repeat.first
        self._stacked = tuple(repeat.stacked)
        self._feedback = tuple([(each.output, each.input) for each in repeat.feedback])
        self._tells = repeat.progress and run.line is not None
        self._told = perf_counter()
        self._check_positions()

    def _check_positions(self) -> None:
        field = "call_program.repeat"
        if not 1 <= self._count < _MAX_COUNT:
            raise ServiceError(
                "BAD_VALUE",
                f"{self._count} runs; from 1 to {_MAX_COUNT - 1} are possible",
                field=f"{field}.count",
                metadata={"count": self._count},
            )
        inputs, outputs = len(self._tensors), self._stored.outputs
        places = [(f"stacked[{at}]", each, inputs) for at, each in enumerate(self._stacked)]
        for at, (output, position) in enumerate(self._feedback):
            places += [
                (f"feedback[{at}].output", output, outputs),
                (f"feedback[{at}].input", position, inputs),
            ]
        for path, given, count in places:
            if given >= count:
                raise ServiceError(
                    "BAD_VALUE",
                    f"there is no position {given}; there are {count}, counted from 0",
                    field=f"{field}.{path}",
                    metadata={"position": given, "count": count},
                )
        fed = [position for _, position in self._feedback]
        for path, positions in (("stacked", self._stacked), ("feedback", fed)):
            if len(set(positions)) != len(positions):
                raise ServiceError(
                    "BAD_VALUE",
                    f"{path} names an input twice; each can be given once a run",
                    field=f"{field}.{path}",
                )
        for at, position in enumerate(self._stacked):
            shape = self._tensors[position].shape
            if not shape or not shape[0]:
                raise ServiceError(
                    "SHAPE_MISMATCH",
                    f"input {position} is stacked and has shape {shape}; its dimension 0 counts "
                    "the minibatches, of which there must be at least one",
                    field=f"{field}.stacked[{at}]",
                    metadata={"input": position, "shape": shape},
                )

    def run(self) -> list[Tensor | None]:
        """All runs, one by one; what the outputs' handles are to hold."""
        run = self._run
        run.leave_loop()
        # Far too many are refused before the first.
        work = _work(run, self._stored, self._arguments(0, ()))
        run.spend(self._count * work, "call_program.repeat")
        stacks: dict[int, np.ndarray] = {}
        results: list[Tensor | None] = []
        for at in range(self._count):
            run.check()
            results = self._once(at, results)
            for nr, each in self._stackable(results):
                if nr not in stacks:
                    stacks[nr] = self._new_stack(each)
                stacks[nr][at] = each.data
            self._tell(at + 1, results)
        kept = [None if each is None else TRACED.detach(each) for each in results]
        for nr, values in stacks.items():
            kept[nr] = Tensor(values)
        return kept

    def _stackable(self, results: Sequence[Tensor | None]) -> list[tuple[int, Tensor]]:
        fed = {output for output, _ in self._feedback}
        return [
            (nr, each)
            for nr, each in enumerate(results)
            if each is not None and not each.ndim and nr not in fed
        ]

    def _new_stack(self, like: Tensor) -> np.ndarray:
        current.context.admit((self._count,), "the values of all runs")
        return np.zeros(self._count, like.dtype)

    def _once(self, at: int, before: Sequence[Tensor | None]) -> list[Tensor | None]:
        try:
            return _call(self._stored, self._arguments(at, before))
        except ServiceError as failure:
            failure.metadata["run"] = str(at)
            raise

    def _arguments(self, at: int, before: Sequence[Tensor | None]) -> list[Tensor]:
        inputs = self._inputs(at, before)
        arguments = arguments_of(self._stored, inputs, "call_program.inputs")
        if not at:
            _require_leaves(self._stored, arguments)
        return arguments

    def _inputs(self, at: int, before: Sequence[Tensor | None]) -> list[Tensor]:
        """What run `at` is called with, after one with these results."""
        tensors = list(self._tensors)
        for position in self._stacked:
            whole = tensors[position].data
            # Read-only, so that a change in place is one of a copy.
            index = (self._first + at) % len(whole)
            part = np.broadcast_to(whole[index], whole.shape[1:])
            tensors[position] = _leaf(part, tensors[position].requires_grad)
        for output, position in self._feedback if at else ():
            result = before[output]
            if result is None:
                raise ServiceError(
                    "HANDLE_ABSENT",
                    f"output {output} feeds back and is none",
                    field="call_program.repeat.feedback",
                    metadata={"output": output},
                )
            tensors[position] = _leaf(result.data, tensors[position].requires_grad)
        return tensors

    def _tell(self, done: int, results: Sequence[Tensor | None]) -> None:
        if not self._tells:
            return
        now = perf_counter()
        if now - self._told < _PROGRESS_SECONDS and done < self._count:
            return
        self._told = now
        values = [
            float(each.data)
            for each in results
            if each is not None and not each.ndim and each.dtype.kind != "c"
        ]
        self._run.tell_progress(done, self._count, values)


def _leaf(data: np.ndarray, requires_grad: bool) -> Tensor:
    tensor = Tensor(data)
    tensor.leaf_requires_grad = requires_grad
    return tensor


def explain(workspace: Workspace, request: pb.ExplainProgramRequest) -> str:
    """How a program is run on given tensors, for people.

    Raises:
        ServiceError: PROGRAM_NOT_FOUND, HANDLE_NOT_FOUND, WRONG_ARITY, PROGRAM_SIGNATURE.
    """
    stored = workspace.programs.find(request.program, "program")
    tensors = [workspace.tensor(each, f"inputs[{at}]") for at, each in enumerate(request.inputs)]
    arguments = arguments_of(stored, tensors, "inputs")
    try:
        return str(stored.program.explain(arguments))
    except EngineError as error:
        raise _of_call(error) from None
