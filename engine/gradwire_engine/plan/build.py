"""From a recorded program to the routines that run it and its gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradwire_engine.context import Context
from gradwire_engine.errors import EngineError
from gradwire_engine.plan.products import turn_products
from gradwire_engine.plan.record import Recorder
from gradwire_engine.plan.routine import Routine
from gradwire_engine.plan.tape import gradient
from gradwire_engine.plan.traced import CompileError, GraphFreedError, Traced
from gradwire_engine.plan.values import Kind, Savings, Step, Value
from gradwire_engine.program import Program
from gradwire_engine.tensor import ViewStep


@dataclass(frozen=True, slots=True)
class Output:
    """Where an output of a program comes from.

    Attributes:
        input: the input that it is, or is a view of; None for what the call computes.
        result: the result of the routine that it is, or is a view of.
        steps: the way there; empty for the tensor itself.
        is_recorded: the view was taken while gradients were recorded.
    """

    input: int | None
    result: int | None
    steps: tuple[ViewStep, ...] = ()
    is_recorded: bool = True


@dataclass(frozen=True, slots=True)
class Adjoint:
    """The gradients of a call.

    Attributes:
        roots: results of the forward routine that gradients come in for.
        positions: outputs of the program that these are.
        routine: from what is kept and the gradients of the roots to those of inputs; None where
            the program has released the graph itself.
        kept_inputs: inputs that the routine takes.
        kept_results: results that it takes, those for it alone included.
        targets: the inputs that it gives gradients for.
    """

    roots: tuple[int, ...]
    positions: tuple[int, ...]
    routine: Routine | None
    kept_inputs: tuple[int, ...]
    kept_results: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a program runs for one signature.

    Attributes:
        forward: from the inputs to results.
        outputs: of the program; None for one that is not there.
        results: how many results of the routine are for outputs; others are kept for gradients.
        changes: inputs that it changes in place, and how many times the program does.
        adjoint: None if no result requires grad.
        is_random: it draws random numbers.
        savings: what did not become a step.
    """

    forward: Routine
    outputs: tuple[Output | None, ...]
    results: int
    changes: tuple[tuple[int, int], ...]
    adjoint: Adjoint | None
    is_random: bool
    savings: Savings

    @property
    def nbytes(self) -> int:
        """Bytes of buffers and constants."""
        adjoint = self.adjoint
        backward = 0 if adjoint is None or adjoint.routine is None else adjoint.routine.nbytes
        return self.forward.nbytes + backward


def build(
    program: Program,
    arrays: Sequence[np.ndarray],
    same: Sequence[int],
    requires_grad: Sequence[bool],
    context: Context,
    is_strict: bool = False,
) -> Plan:
    """Make the plan for inputs of these shapes, dtypes and layouts.

    Args:
        same: for each input the first one that is the same tensor.
        is_strict: what may refuse its values runs, though nobody asks what it gives.

    Raises:
        CompileError: it has to run call by call.
        EngineError: a call refuses its arguments.
    """
    recorder = Recorder(arrays, requires_grad, context)
    before = [each.edge for each in recorder.inputs]
    tensors = [recorder.inputs[at] for at in same]
    outputs = recorder.run(program, tensors)
    for tensor, edge in zip(recorder.inputs, before, strict=True):
        if tensor.edge is not edge:
            raise CompileError("an input gets a place in the graph by a change in place")
    strict = [step for step in recorder.graph.steps if is_strict and step.may_refuse]
    found, roots = _outputs(recorder, outputs)
    changed = [(at, each) for at, each in enumerate(recorder.inputs) if each.storage.version]
    gradients = _Gradients(recorder, roots, requires_grad)
    values = [each.value for each in roots]
    writes = [(recorder.graph.inputs[at], each.storage.value) for at, each in changed]
    writes = [(target, value) for target, value in writes if target is not value]
    ends = [*values, *(value for _, value in writes)]
    turn_products(recorder.graph, [*ends, *gradients.ends])
    forward = _needed(recorder, ends, (), strict)
    kept_inputs, kept_results, extra, backward = gradients.split(forward, writes, values)
    positions = [_position(found, nr) for nr in range(len(roots))]
    adjoint = None
    if gradients.roots:
        adjoint = Adjoint(
            tuple(gradients.roots),
            tuple(positions[nr] for nr in gradients.roots),
            backward,
            tuple(kept_inputs),
            tuple(kept_results),
            tuple(gradients.targets),
        )
    steps = [step for step in recorder.graph.steps if step in forward]
    routine = Routine(recorder.graph.inputs[: len(arrays)], steps, [*values, *extra], writes=writes)
    savings = recorder.graph.savings
    used = len(steps) + (0 if backward is None else len(backward.steps))
    savings.dropped = max(len(recorder.graph.steps) - used, 0)
    return Plan(
        routine,
        tuple(found),
        len(values),
        tuple((at, each.storage.version) for at, each in changed),
        adjoint,
        recorder.is_random,
        savings,
    )


def _outputs(
    recorder: Recorder, outputs: Sequence[Traced | None]
) -> tuple[list[Output | None], list[Traced]]:
    """Where each output comes from, and the tensors that the call makes anew."""
    own = {id(each.storage): at for at, each in enumerate(recorder.inputs)}
    roots: dict[int, int] = {}
    tensors: list[Traced] = []
    for each in outputs:
        if each is None or each.path or id(each.storage) in own or id(each.storage) in roots:
            continue
        roots[id(each.storage)] = len(tensors)
        tensors.append(each)
    found: list[Output | None] = []
    fresh: dict[int, int] = {}
    for each in outputs:
        if each is None:
            found.append(None)
            continue
        if each.path and each.base is None and each.edge is not None:
            raise CompileError("a detached tensor got a place in the graph by a change in place")
        at = own.get(id(each.storage))
        nr = roots.get(id(each.storage))
        if at is None and nr is None:
            nr = fresh.get(id(each))
            if each.is_lost:
                raise CompileError("a view made under no_grad leaves without what it shows")
            if nr is None:
                nr = fresh[id(each)] = len(tensors)
                tensors.append(each)
            found.append(Output(None, nr))
            continue
        recorded = not each.is_frozen or any(step.nr is not None for step in each.path)
        found.append(Output(at, nr, each.path, recorded))
    return found, tensors


def _position(found: Sequence[Output | None], nr: int) -> int:
    """The output of the program that a result is."""
    return next(
        at
        for at, each in enumerate(found)
        if each is not None and each.result == nr and not each.steps
    )


class _Gradients:
    """The gradients of a program's results by its inputs, on the same tape."""

    def __init__(
        self, recorder: Recorder, tensors: Sequence[Traced], requires_grad: Sequence[bool]
    ) -> None:
        self.recorder = recorder
        self.roots = [nr for nr, each in enumerate(tensors) if each.gradient_edge() is not None]
        self.targets = [at for at, wanted in enumerate(requires_grad) if wanted]
        self.values: list[Value | None] | None = None
        self.ends: list[Value] = []
        self.cotangents: list[Value] = []
        if not self.roots:
            return
        given = [recorder.take(np.ones(tensors[nr].shape, tensors[nr].dtype)) for nr in self.roots]
        self.cotangents = [each.value for each in given]
        wanted = [recorder.inputs[at] for at in self.targets]
        try:
            found = self._pull([tensors[nr] for nr in self.roots], wanted, given)
        except GraphFreedError:
            for nr, each in zip(self.roots, given, strict=True):
                try:
                    self._pull([tensors[nr]], wanted, [each])
                except GraphFreedError:
                    continue
                raise CompileError("the graph of some results is released, not of all") from None
            return
        except EngineError as refusal:
            # Call by call it is refused when it is asked for, if it ever is.
            raise CompileError(f"its gradient is refused: {refusal.message}") from None
        self.values = [None if each is None else each.value for each in found]
        kept = [at for at, value in enumerate(self.values) if value is not None]
        self.targets = [self.targets[at] for at in kept]
        self.ends = [value for value in self.values if value is not None]

    def _pull(
        self, tensors: list[Traced], wanted: list[Traced], given: list[Traced]
    ) -> list[Traced | None]:
        return gradient(
            self.recorder,
            tensors,
            wanted,
            given,
            keeps_graph=True,
            creates_graph=False,
            allow_unused=True,
        )

    def split(
        self,
        forward: set[Step],
        writes: Sequence[tuple[Value, Value]],
        results: Sequence[Value],
    ) -> tuple[list[int], list[int], list[Value], Routine | None]:
        """What the forward run keeps, and the routine that takes it.

        Returns:
            Inputs that are kept, results that are, values that become results for this alone.
        """
        if self.values is None:
            return [], [], [], None
        graph = self.recorder.graph
        ends = self.ends
        views = {step for step in forward if step.kind is Kind.VIEW}
        steps = _needed(self.recorder, ends, forward - views)
        used = {operand for step in steps for operand in step.operands}
        used |= set(ends)
        made = {value for step in steps for value in step.results}
        kept = [
            value
            for value in used
            if value not in made and value.constant is None and value not in self.cotangents
        ]
        changed = {target for target, _ in writes}
        inputs = [
            (at, value)
            for at, value in enumerate(graph.inputs)
            if value in kept and value not in changed
        ]
        taken = {value for _, value in inputs}
        owned = {value: nr for nr, value in reversed(list(enumerate(results)))}
        extra = [value for value in kept if value not in taken and value not in owned]
        order = {step: at for at, step in enumerate(graph.steps)}
        extra.sort(key=lambda value: -1 if value.step is None else order[value.step])
        held = {**owned, **{value: len(results) + at for at, value in enumerate(extra)}}
        reused = [value for value in kept if value not in taken and value in owned]
        from_results = [*reused, *extra]
        routine = Routine(
            [*taken_in_order(inputs), *from_results, *self.cotangents],
            [step for step in graph.steps if step in steps],
            ends,
            are_distinct=False,
        )
        return [at for at, _ in inputs], [held[value] for value in from_results], extra, routine


def taken_in_order(inputs: Iterable[tuple[int, Value]]) -> list[Value]:
    """The values alone."""
    return [value for _, value in inputs]


def _needed(
    recorder: Recorder, ends: Iterable[Value], done: Any, strict: Iterable[Step] = ()
) -> set[Step]:
    """The steps that values depend on, `strict`, and what draws random numbers; without `done`."""
    found: set[Step] = set()
    stack = [*strict]
    stack += [value.step for value in ends if value.step is not None]
    if not done:
        stack += [step for step in recorder.graph.steps if step.ordered]
    while stack:
        step = stack.pop()
        if step in found or step in done:
            continue
        found.add(step)
        stack += [operand.step for operand in step.operands if operand.step is not None]
    return found
