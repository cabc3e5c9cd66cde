"""Sequences that come again and again, with other data each time.

One that leaves nothing behind is a function of its payloads. Once it has been answered often enough
it is compiled, as a program is, and then answered by plan, if that gives the same answers byte for
byte. Requests about which anything is special or wrong are run step by step as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from gradwire_engine.context import Context, use
from gradwire_engine.errors import EngineError
from gradwire_engine.plan.build import Plan, build
from gradwire_engine.plan.traced import CompileError
from gradwire_server.closed import ClosedSequence, OpenError, read_closed
from gradwire_server.encode import Answer, AnswerBuilder
from gradwire_server.errors import ServiceError
from gradwire_server.values import Form, PutStep
from gradwire_server.workspace import STEP_FLOPS, Workspace

if TYPE_CHECKING:
    from gradwire_server.sequences import Step
    from gradwire_server.settings import Settings

_TRIALS: Final = 4
"""Answers that a plan must give as the steps do, before it is relied upon."""

_MAX_BYTES: Final = 1 << 20
"""A plan that would keep more than this is not kept."""


@dataclass(slots=True)
class _Planned:
    """A sequence with its plan.

    Attributes:
        closed: the sequence.
        settings: of the server that compiled it: another in this process may have other limits.
        plan: of what it computes.
        results: the results of the plan that it answers with.
        form: of the answer.
        held: bytes of all that a run makes.
        trials: so many answers of the plan must still be seen to be right.
    """

    closed: ClosedSequence
    settings: Settings
    plan: Plan
    results: tuple[int, ...]
    form: Form
    held: int
    trials: int = _TRIALS

    def fits(self, workspace: Workspace) -> bool:
        """Whether the steps could run there, and would leave nothing."""
        closed = self.closed
        tensors, blanks = workspace.tensors, workspace.blanks
        made = closed.made
        return (
            not closed.left
            and tensors.keys().isdisjoint(made)
            and blanks.keys().isdisjoint(made)
            and len(tensors) + len(blanks) + len(made) <= workspace.max_tensors
            and workspace.nodes_bound + len(closed.program.instructions) <= workspace.max_nodes
            and workspace.has_bytes(self.held)
        )

    def answer(self, payloads: Sequence[memoryview]) -> Answer | None:
        """The answer; None where the steps have to say what is wrong."""
        arrays = _inputs(self.closed.puts, payloads)
        if arrays is None:
            return None
        try:
            with np.errstate(all="ignore"):
                found = self.plan.forward(arrays, None)
        except Exception:
            return None
        values = []
        form = self.form
        for nr, (dtype, shape) in zip(self.results, form.types, strict=True):
            array = found[nr]
            if array.dtype is not dtype or array.shape != shape:
                return None
            values.append(array.tobytes())
        builder = AnswerBuilder(0)
        builder.add_alike(form.fetched, values, form.size)
        return builder.finish(None)


class Repeats:
    """What is known of a sequence without a number, from the times that it came."""

    __slots__ = ("_answers", "_planned", "_read", "_settings")

    def __init__(self, read: Callable[[], Sequence[Step]]) -> None:
        """Begin; `read` gives its steps."""
        self._read = read
        self._answers = 0
        self._planned: _Planned | None = None
        self._settings: Settings | None = None

    def answer(
        self, workspace: Workspace | None, payloads: Sequence[memoryview], settings: Settings
    ) -> Answer | None:
        """The answer by plan, if there is one to rely upon.

        Args:
            workspace: of the session; None for one that ends with the call.
        """
        planned = self._planned
        if (
            planned is None
            or planned.settings is not settings
            or planned.trials
            or (workspace is not None and not planned.fits(workspace))
        ):
            return None
        return planned.answer(payloads)

    def learn(
        self,
        answer: Answer,
        payloads: Sequence[memoryview],
        settings: Settings,
        threads: Executor,
    ) -> None:
        """Take note of an answer that the steps gave, without failure, on the event loop."""
        if self._settings is not settings:
            self._settings, self._answers, self._planned = settings, 0, None
        planned = self._planned
        if planned is None:
            self._answers += 1
            if self._answers == settings.compile_after:
                threads.submit(self._compile, list(payloads), settings)
        elif planned.trials:
            found = planned.answer(payloads)
            if found is None or found.data != answer.data:
                self._planned = None
            else:
                planned.trials -= 1

    def _compile(self, payloads: Sequence[memoryview], settings: Settings) -> None:
        try:
            closed = read_closed(self._read())
            self._planned = _planned(closed, payloads, settings)
        except (OpenError, ServiceError, CompileError, EngineError):
            pass  # It goes on step by step.


def _inputs(puts: Sequence[PutStep], payloads: Sequence[memoryview]) -> list[np.ndarray] | None:
    """What the payloads make of the inputs; None where they do not fit."""
    arrays = []
    count = len(payloads)
    for told in puts:
        at = told.payload
        if at >= count or payloads[at].nbytes != told.size:
            return None
        # What lies in the message need not be aligned.
        arrays.append(np.ndarray(told.shape, told.dtype, payloads[at]).copy())
    return arrays


def _planned(
    closed: ClosedSequence, payloads: Sequence[memoryview], settings: Settings
) -> _Planned:
    """Compile a sequence.

    Raises:
        OpenError: what it answers with is no plain result of a plan, it is not short, or the
            server is to tell where the time of each step goes.
        CompileError: it has no plan.
        EngineError: as `build`.
    """
    form = closed.fetch.form
    arrays = _inputs(closed.puts, payloads)
    if form is None or form.first or arrays is None or settings.profile:
        raise OpenError
    context = Context(limits=settings.tensor_limits)
    with use(context), np.errstate(all="ignore"):
        plan = build(
            closed.program,
            arrays,
            range(len(arrays)),
            [each.requires_grad for each in closed.puts],
            context,
            is_strict=True,
        )
    results = []
    for each in plan.outputs:
        if each is None or each.result is None or each.steps:
            raise OpenError
        results.append(each.result)
    routine = plan.forward
    held = routine.nbytes + form.size + sum(each.nbytes for each in arrays)
    work = STEP_FLOPS * len(routine.steps) + sum(each.flops for each in routine.steps)
    if plan.is_random or plan.changes or held > _MAX_BYTES or work > settings.inline_flops:
        raise OpenError
    return _Planned(closed, settings, plan, tuple(results), form, held)
