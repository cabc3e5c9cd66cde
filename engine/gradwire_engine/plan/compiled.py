"""Programs compiled on first use, once for each signature that they are called with."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.lib.array_utils import byte_bounds

from gradwire_engine.context import Context, current, grad_mode
from gradwire_engine.errors import EngineError
from gradwire_engine.functions import attach, attach_released, recomputed
from gradwire_engine.plan.build import Adjoint, Plan, build
from gradwire_engine.plan.emit import ShapeError
from gradwire_engine.plan.explain import Explanation, explain
from gradwire_engine.plan.traced import CompileError
from gradwire_engine.program import Gradient, Instruction, Program
from gradwire_engine.tensor import NO_VERSION, Tensor

MAX_PLANS: Final = 16
"""Signatures of one program that plans are kept for; the one used longest ago goes first."""

MAX_BYTES: Final = 1 << 28
"""Bytes of buffers and constants that the plans of one program may keep; one plan always may."""

Signature = tuple[Any, ...]


class CompiledProgram:
    """A program that runs by plan.

    A call gives what `Program.run` gives: the same values, changes in place and random numbers. If
    a result depends on an input that requires grad, the whole call is one node of the graph. What
    cannot be compiled runs call by call; `explain` says why.
    """

    def __init__(self, program: Program, name: str = "Compiled") -> None:
        """Take a program; it is compiled when it is called.

        Args:
            name: of the nodes that calls record: `<name>Backward`.
        """
        self.program = program
        self.name = name
        instructions = program.instructions
        self._differentiates = any(isinstance(each, Gradient) for each in instructions)
        self._mutates = any(isinstance(i, Instruction) and i.op.mutates for i in instructions)
        self._plans: OrderedDict[Signature, Plan | str] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def plans(self) -> int:
        """How many signatures there are plans for."""
        return len(self._plans)

    @property
    def nbytes(self) -> int:
        """Bytes of buffers and constants that the plans keep."""
        with self._lock:
            return self._size()

    def _size(self) -> int:
        return sum(plan.nbytes for plan in self._plans.values() if isinstance(plan, Plan))

    def call(self, inputs: Sequence[Tensor]) -> list[Tensor | None]:
        """Run under the current context; makes a plan where there is none for these inputs.

        Raises:
            EngineError: WRONG_ARITY; what a call of the program refuses; LIMIT_EXCEEDED; and what
                `Context.check` raises.
        """
        context = current.context
        plan = self._plan(inputs, context)
        if context.profile is None:
            return self._call(plan, inputs, context)
        with context.profile.entry("program", self.name) as entry:
            made = self._call(plan, inputs, context)
            entry.bytes = sum(each.data.nbytes for each in made if each is not None)
        return made

    def _call(
        self, plan: Plan | str, inputs: Sequence[Tensor], context: Context
    ) -> list[Tensor | None]:
        if isinstance(plan, str):
            return self.program.run(inputs)
        return self._run(plan, inputs, context)

    def explain(self, inputs: Sequence[Tensor]) -> Explanation:
        """How a call with such inputs runs. Nothing is run but what making a plan needs.

        Raises:
            EngineError: as `call`.
        """
        return explain(self._plan(inputs, current.context))

    def _plan(self, inputs: Sequence[Tensor], context: Context) -> Plan | str:
        if len(inputs) != self.program.inputs:
            raise EngineError(
                "WRONG_ARITY",
                f"the program takes {self.program.inputs} tensors, {len(inputs)} given",
                given=len(inputs),
            )
        reason = self._reason_against(inputs, context)
        if reason is not None:
            return reason
        signature = _signature(inputs, context)
        with self._lock:
            plan = self._plans.get(signature)
            if plan is not None:
                self._plans.move_to_end(signature)
                return plan
        plan = self._made(inputs, context)
        self._keep(signature, plan)
        return plan

    def _keep(self, signature: Signature, plan: Plan | str) -> None:
        with self._lock:
            self._plans[signature] = plan
            while len(self._plans) > MAX_PLANS or (
                len(self._plans) > 1 and self._size() > MAX_BYTES
            ):
                self._plans.popitem(last=False)

    def _reason_against(self, inputs: Sequence[Tensor], context: Context) -> str | None:
        """Why these inputs, whatever their shapes, make the program run call by call."""
        if context.detect_anomaly:
            return "anomaly mode looks at every gradient"
        if context.saved_hooks is not None:
            return "hooks see every tensor that is kept for a backward"
        if self._differentiates:
            for tensor in inputs:
                if tensor.hooks is not None:
                    return "an input has hooks, which a gradient within the program would run"
                if tensor.requires_grad and not tensor.is_leaf:
                    return "an input is no leaf, and the program asks for gradients itself"
        if self._mutates:
            if any(tensor.is_inference != context.inference for tensor in inputs):
                return "tensors of inference mode are changed in place"
            if _overlap(inputs):
                return "inputs share memory, and the program changes tensors in place"
        return None

    def _made(self, inputs: Sequence[Tensor], context: Context) -> Plan | str:
        first: dict[int, int] = {}
        same = [first.setdefault(id(tensor), at) for at, tensor in enumerate(inputs)]
        arrays = [tensor.data for tensor in inputs]
        generator = context.generator
        state = generator.bit_generator.state
        try:
            with np.errstate(all="ignore"):
                return build(
                    self.program,
                    arrays,
                    same,
                    [tensor.requires_grad for tensor in inputs],
                    context,
                )
        except CompileError as reason:
            return str(reason)
        finally:
            context.generator = generator
            generator.bit_generator.state = state

    def _run(self, plan: Plan, inputs: Sequence[Tensor], context: Context) -> list[Tensor | None]:
        state = context.generator.bit_generator.state if plan.is_random else None
        for at, _ in plan.changes:
            inputs[at].own()
        adjoint = plan.adjoint
        # For a gradient that is itself differentiated, the program runs again from its inputs.
        before: dict[int, np.ndarray] = {}
        if adjoint is not None and adjoint.routine is not None:
            before = {at: inputs[at].data.copy() for at, _ in plan.changes}
        check = None if context.check is None else _Check(context.check)
        try:
            arrays = plan.forward([tensor.data for tensor in inputs], check, context.profile)
        except ShapeError as reason:
            if state is not None:
                context.generator.bit_generator.state = state
            self._keep(_signature(inputs, context), str(reason))
            return self.program.run(inputs)
        except Exception:
            if check is not None and check.has_stopped:
                raise
            if state is not None:
                context.generator.bit_generator.state = state
            return self._refused(plan, inputs)
        for at, count in plan.changes:
            if inputs[at].version is not NO_VERSION:
                inputs[at].version[0] += count
        results = [Tensor(array) for array in arrays[: plan.results]]
        if context.inference:
            for result in results:
                result.version = NO_VERSION
        if adjoint is not None:
            self._attach(adjoint, inputs, results, arrays, state, before)
        outputs: list[Tensor | None] = []
        for each in plan.outputs:
            if each is None:
                outputs.append(None)
                continue
            tensor = results[each.result] if each.input is None else inputs[each.input]  # type: ignore[index]
            if not each.steps:
                outputs.append(tensor)
                continue
            with grad_mode(context.grad_enabled and each.is_recorded):
                for step in each.steps:
                    made = step.op.call([tensor, *step.template[1:]], step.template)
                    tensor = made if step.nr is None else made[step.nr]
            outputs.append(tensor)
        return outputs

    def _refused(self, plan: Plan, inputs: Sequence[Tensor]) -> list[Tensor | None]:
        """Run call by call what a plan could not: the error is then that of the call at fault.

        Inputs that the program would change are as they were if it fails.
        """
        generator = current.context.generator.bit_generator
        state = generator.state
        stand_ins: dict[int, Tensor] = {}
        for at, _ in plan.changes:
            copy = Tensor(inputs[at].data.copy())
            copy.leaf_requires_grad = inputs[at].requires_grad
            stand_ins[id(inputs[at])] = copy
        self.program.run([stand_ins.get(id(tensor), tensor) for tensor in inputs])
        generator.state = state
        return self.program.run(inputs)

    def _attach(
        self,
        adjoint: Adjoint,
        inputs: Sequence[Tensor],
        results: Sequence[Tensor],
        arrays: Sequence[np.ndarray],
        state: Any,
        before: dict[int, np.ndarray],
    ) -> None:
        """Make the results those of one node, whose backward is the adjoint.

        Args:
            before: what the program changed in place, by input, as it was.
        """
        program = self.program
        name = f"{self.name}Backward"
        routine = adjoint.routine
        outputs = [results[nr] for nr in adjoint.roots]
        if routine is None:
            attach_released(name, inputs, outputs)
            return
        given = list(inputs)
        # Arrays, not tensors: a node that held its own results would never be freed.
        kept = [arrays[nr] for nr in adjoint.kept_results]
        needs = [tensor.requires_grad for tensor in inputs]
        versions = [] if _is_inference(inputs) else [tensor.version[0] for tensor in inputs]

        def backward(saved: list[Tensor], gradients: list[Tensor], traced: bool) -> list[Any]:
            if traced:
                for tensor, version in zip(given, versions, strict=False):
                    if tensor.version[0] != version:
                        raise _changed(self.name)
                first = [Tensor(before[at]) if at in before else t for at, t in enumerate(saved)]
                return recomputed(
                    program, first, needs, gradients, traced, state, adjoint.positions
                )
            taken = [saved[at].data for at in adjoint.kept_inputs] + kept
            taken += [np.ascontiguousarray(g.data).reshape(g.shape) for g in gradients]
            context = current.context
            found = routine(taken, context.check, context.profile)
            pulled: list[Any] = [None] * len(given)
            for at, array in zip(adjoint.targets, found, strict=True):
                pulled[at] = Tensor(array)
            return pulled

        guarded = [inputs[at] for at in adjoint.kept_inputs]
        guarded += [results[nr] for nr in adjoint.kept_results if nr < len(results)]
        attach(name, backward, given, outputs, given, guarded=guarded)


class _Check:
    """A check that remembers having stopped what it was called by."""

    __slots__ = ("_check", "has_stopped")

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self.has_stopped = False

    def __call__(self) -> None:
        try:
            self._check()
        except BaseException:
            self.has_stopped = True
            raise


def _is_inference(inputs: Sequence[Tensor]) -> bool:
    return any(tensor.is_inference for tensor in inputs)


def _changed(name: str) -> EngineError:
    return EngineError(
        "SAVED_MODIFIED",
        f"an input of {name} was changed in place since the call, which has to run again for a "
        "gradient that is itself differentiated; change a clone() instead",
        grad_fn=f"{name}Backward",
    )


def _signature(inputs: Sequence[Tensor], context: Context) -> Signature:
    """What a plan depends on."""
    parts: list[Any] = [context.grad_enabled, context.default_dtype]
    for tensor in inputs:
        data = tensor.data
        parts.append(data.shape)
        parts.append(data.dtype)
        parts.append(tensor.requires_grad)
        parts.append(None if data.flags.c_contiguous else data.strides)
    if len(inputs) > 1 and len(set(map(id, inputs))) != len(inputs):
        first: dict[int, int] = {}
        parts += [first.setdefault(id(tensor), at) for at, tensor in enumerate(inputs)]
    return tuple(parts)


def _overlap(inputs: Sequence[Tensor]) -> bool:
    """Whether different inputs lie in the same memory."""
    unique = {id(tensor): tensor.data for tensor in inputs}
    bounds = sorted(byte_bounds(data) for data in unique.values() if data.size)
    return any(a[1] > b[0] for a, b in pairwise(bounds))
