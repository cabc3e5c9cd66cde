"""The recorder: runs a program on values instead of tensors, and so learns what it computes.

It is the third interpreter of a rule. Like tensors, what it hands to formulas and rules has a
shape, a dtype, a place in a tape, and may be a view or be changed in place; unlike them, it has no
elements that a formula could look at. A change in place gives the storage a new value, so that the
graph of values has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradwire_engine.context import Context
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import Interpreter
from gradwire_engine.operator import Operator
from gradwire_engine.plan.in_place import change_in_place
from gradwire_engine.plan.lower import Operand, lowered
from gradwire_engine.plan.tape import TapeEdge, TapeNode, gradient
from gradwire_engine.plan.traced import CompileError, Storage, Traced, tensors_in
from gradwire_engine.plan.values import Graph, Value
from gradwire_engine.program import Gradient, Instruction, Program
from gradwire_engine.registry import operators
from gradwire_engine.rules import Param, Rule
from gradwire_engine.tensor import Tensor, ViewStep


@dataclass(frozen=True, slots=True)
class _Checked:
    """A kernel that first has its operator check the values, as a call of the operator has."""

    op: Operator
    context: Context

    def __call__(self, *args: Any) -> Any:
        op = self.op
        assert op.shape is not None
        self.context.admit(op.shape(*args), op.name)
        return op.kernel(*args)


def _looks_at_values(op: Operator, raw: Sequence[Any]) -> bool:
    """Whether the operator cannot tell the shape of its result from shapes and dtypes alone."""
    if op.shape is None:
        return False
    graph = Graph()

    def without_elements(each: Any) -> Any:
        if isinstance(each, np.ndarray):
            return Operand(graph, graph.input(each))
        return [without_elements(item) for item in each] if isinstance(each, list) else each

    try:
        op.shape(*map(without_elements, raw))
    except Exception:
        return True
    return False


class Recorder:
    """Records one program with one set of inputs.

    Attributes:
        inputs: what stands for the inputs.
        is_random: it draws random numbers.
    """

    def __init__(
        self, inputs: Sequence[np.ndarray], requires_grad: Sequence[bool], context: Context
    ) -> None:
        self.context = context
        self.graph = Graph()
        self.F: Any = Interpreter("recorder", self._resolve)
        self.records = context.grad_enabled
        self.is_random = False
        self._number = 0
        self.inputs: list[Traced] = []
        for array, wanted in zip(inputs, requires_grad, strict=True):
            made = self.new(self.graph.input(array), array)
            if wanted:
                made.edge = (self.node(f"input {len(self.inputs)}", [array]), 0)
            self.inputs.append(made)

    @property
    def recording(self) -> bool:
        """Whether calls are recorded; formulas may turn it off in their midst."""
        return self.records and self.context.grad_enabled

    def _resolve(self, interpreter: Interpreter, name: str) -> Callable[..., Any]:
        op = operators[name.replace("__", ".")]

        def call(*args: Any, **kwargs: Any) -> Any:
            return self.call(op, op.schema.fill(args, kwargs))

        return call

    def node(self, name: str, results: Sequence[np.ndarray], **parts: Any) -> TapeNode:
        """The next node of the tape."""
        self._number += 1
        types = tuple([(each.shape, each.dtype) for each in results])
        return TapeNode(self._number, name, types, **parts)

    def new(self, value: Value, sample: np.ndarray) -> Traced:
        """What stands for a tensor with storage of its own."""
        storage = Storage(value, sample)
        storage.root = Traced(self, storage)
        return storage.root

    def take(self, like: np.ndarray) -> Traced:
        """What stands for one more array that comes with each call."""
        return self.new(self.graph.input(like), like)

    def constant(self, array: np.ndarray) -> Traced:
        """What stands for an array that is always the same."""
        return self.new(self.graph.constant(array), array)

    def snapshot(self, tensor: Traced, edge: TapeEdge | None) -> Traced:
        """What a tensor holds now, whatever is written to it later."""
        made = self.new(tensor.value, tensor.sample)
        made.edge = edge
        return made

    def run(self, program: Program, inputs: Sequence[Traced]) -> list[Traced | None]:
        """Record a program.

        Returns:
            Its outputs.

        The context's generator draws; the caller puts it back as it was.

        Raises:
            CompileError: it cannot be recorded.
            EngineError: a call refuses its arguments; the metadata has the index of the
                instruction as `program_step`.
        """
        held: list[Any] = [*inputs, *([None] * (program.registers - program.inputs))]
        for at, each in enumerate(program.instructions):
            if self.context.check is not None:
                self.context.check()
            try:
                made = self._made(each, held)
            except EngineError as error:
                error.metadata.setdefault("program_step", str(at))
                raise
            except (CompileError, MemoryError):
                raise
            except Exception as error:
                raise CompileError(
                    f"step {at} asks for more than can be recorded ({error})"
                ) from None
            for register, result in zip(each.results, made, strict=False):
                held[register] = result
        return [None if register is None else held[register] for register in program.outputs]

    def _made(self, instruction: Instruction | Gradient, held: Sequence[Any]) -> Sequence[Any]:
        match instruction:
            case Instruction():
                args = list(instruction.template)
                for position, register in instruction.slots:
                    args[position] = held[register]
                for position, registers in instruction.lists:
                    args[position] = [None if r < 0 else held[r] for r in registers]
                self.records = self.context.grad_enabled and instruction.records
                made = self.call(instruction.op, args)
                return made if isinstance(made, tuple) else (made,)
            case Gradient():
                return gradient(
                    self,
                    [held[register] for register in instruction.outputs],
                    [held[register] for register in instruction.inputs],
                    [None if r < 0 else held[r] for r in instruction.grad_outputs],
                    keeps_graph=instruction.retain_graph or instruction.create_graph,
                    creates_graph=instruction.create_graph,
                    allow_unused=instruction.allow_unused or instruction.materialize_grads,
                    materializes=instruction.materialize_grads,
                )

    def apply(self, name: str, *args: Any) -> Any:
        """Call an operator by name, with its first arguments."""
        return self.call(operators[name], operators[name].schema.fill(args, {}))

    def call(self, op: Operator, args: list[Any]) -> Any:
        """Record a call, with all its arguments in schema order."""
        self.graph.name = op.name
        if any(isinstance(each, Tensor) for each in args):
            # Formulas make constants of their own.
            args = [self.constant(e.data) if isinstance(e, Tensor) else e for e in args]
        if op.kind == "composite":
            return self._composite(op, args)
        if op.mutates:
            return change_in_place(self, op, args)
        if op.is_view:
            return self._view(op, args)
        results = self.compute(op, args)
        made = tuple([self.new(value, sample) for value, sample in results])
        self._record(op, args, made)
        return made[0] if _is_single(op) else made

    def _composite(self, op: Operator, args: list[Any]) -> Any:
        try:
            return op.formula(self.F, *args)
        except (AttributeError, TypeError) as error:
            raise CompileError(f"{op.name} handles the tensor itself ({error})") from None

    def compute(self, op: Operator, args: Sequence[Any]) -> list[tuple[Value, np.ndarray]]:
        """Run a kernel and find the values of its results."""
        raw = [_sample(each) for each in args]
        given = list(raw)
        if op._prepare is not None:
            op._prepare(raw, self.context)
        generator = self.context.generator
        before = generator.bit_generator.state
        made = op.kernel(*raw)
        draws = self.context.generator is not generator or generator.bit_generator.state != before
        samples = [np.asarray(each) for each in ([made] if _is_single(op) else made)]
        values = tuple(
            [self._operand(arg, was, now) for arg, was, now in zip(args, given, raw, strict=True)]
        )
        graph = self.graph
        kernel = op.kernel
        if draws:
            self.is_random = True
        elif _looks_at_values(op, raw):
            kernel = _Checked(op, self.context)
        else:
            alias = self._alias(op, values, raw, samples)
            if alias is not None:
                return [(alias, samples[0])]
            found = lowered(graph, op.kernel, values, samples)
            if found is not None:
                settled = zip(found, samples, strict=True)
                return [(self.settled(value, sample), sample) for value, sample in settled]
        flops = op.flops([_typed(each) for each in args])
        found = graph.kernel(kernel, values, samples, ordered=draws, flops=flops)
        for value, sample in zip(found, samples, strict=True):
            for operand, array in zip(values, raw, strict=True):
                if isinstance(operand, Value) and np.may_share_memory(sample, array):
                    value.root = operand.root
        return list(zip(found, samples, strict=True))

    def _operand(self, given: Any, before: Any, now: Any) -> Any:
        if isinstance(given, Traced):
            return self.graph.cast(given.value, now.dtype)
        if isinstance(given, list):
            return tuple(
                [
                    each if each is None else self.graph.cast(each.value, array.dtype)
                    for each, array in zip(given, now, strict=True)
                ]
            )
        return now

    def _alias(
        self, op: Operator, values: Sequence[Any], raw: Sequence[Any], samples: Sequence[np.ndarray]
    ) -> Value | None:
        """The result as a view of the operator's one array, if it is that."""
        at = [position for position, each in enumerate(values) if isinstance(each, Value)]
        if len(at) != 1 or at[0] or len(samples) != 1:
            return None
        source, part = raw[0], samples[0]
        if not part.size or not np.may_share_memory(source, part):
            return None
        path = ((op.kernel, tuple(raw[1:]), None),)
        return self.graph.view(values[0], path, source, part)

    def settled(self, value: Value, sample: np.ndarray) -> Value:
        """The value, laid out as the sample is: views of it will rely on that."""
        if value.constant is not None:
            return value
        wanted = None if sample.flags.c_contiguous else sample.strides
        if value.strides == wanted:
            return value
        step = value.step
        if step is not None and step.is_elementwise and value.strides is None:
            value.strides = wanted
            return value
        (copied,) = self.graph.kernel(_laid_out, (value, sample.strides), [sample])
        return copied

    def _view(self, op: Operator, args: list[Any]) -> Any:
        source: Traced = args[0]
        raw = [source.sample, *args[1:]]
        if op._prepare is not None:
            op._prepare(raw, self.context)
        made = op.kernel(*raw)
        is_single = _is_single(op)
        results: list[Traced] = []
        for nr in range(1 if is_single else len(made)):
            step = ViewStep(op, (None, *args[1:]), None if is_single else nr)
            view = Traced(self, source.storage)
            view.path = (*source.path, step)
            if op.rules:
                view.base = source.base if source.base is not None else source
                view.steps = (*source.steps, step)
                view.is_frozen = source.is_frozen or not is_single or not self.recording
                view.seen = view.base.gradient_edge()
            results.append(view)
        self._record(op, args, tuple(results))
        return results[0] if is_single else tuple(results)

    def edge_of_view(self, base: Traced, steps: Sequence[ViewStep], edge: TapeEdge) -> TapeEdge:
        """The place on the tape of a view of a base that stands at `edge`."""
        for step in steps:
            part = Traced(self, base.storage)
            part.path = (*base.path, step)
            rule = step.op.rules[0]
            saved = self._captured(rule, [base, *step.template[1:]], (), [], 0)
            node = self.node(
                step.op.name, [part.sample], edges=(edge,), rules=(rule,), saved=(saved,)
            )
            base, edge = part, (node, 0)
        return edge

    def _record(self, op: Operator, args: Sequence[Any], results: tuple[Traced, ...]) -> None:
        if not (self.recording and op.rules and results and results[0].dtype.kind in "fc"):
            return
        given = tensors_in(args)
        if any(each.is_lost for each in given):
            raise CompileError(f"{op.name} takes a view made under no_grad of what requires grad")
        if any(each.requires_grad for each in given):
            node = self.made_node(op, args, results)
            for nr, each in enumerate(results):
                if node is not None and each.dtype.kind in "fc":
                    each.edge = (node, nr)

    def made_node(
        self, op: Operator, args: Sequence[Any], results: tuple[Traced, ...]
    ) -> TapeNode | None:
        """The node of a call; None if no gradient would come there."""
        edges: list[TapeEdge | None] = []
        rules: list[Rule] = []
        saved: list[tuple[Any, ...] | None] = []
        guards: list[tuple[Storage, int]] = []
        node = self.node(op.name, [each.sample for each in results])
        ends = [(node, nr) for nr in range(len(results))]
        for rule in op.rules:
            held = args[rule.position]
            for nr, each in enumerate(held if rule.is_list else [held]):
                edge = each.gradient_edge() if isinstance(each, Traced) else None
                rules.append(rule)
                edges.append(edge)
                captured = None
                if edge is not None:
                    captured = self._captured(rule, args, results, guards, nr, ends)
                saved.append(captured)
        node.edges, node.rules = tuple(edges), tuple(rules)
        node.saved, node.guards = tuple(saved), tuple(guards)
        return node if any(edges) else None

    def _captured(
        self,
        rule: Rule,
        args: Sequence[Any],
        results: Sequence[Traced],
        guards: list[tuple[Storage, int]],
        nr: int,
        ends: Sequence[TapeEdge] = (),
    ) -> tuple[Any, ...]:
        """The values that the parameters of a rule name."""

        def kept(tensor: Traced, edge: TapeEdge | None) -> Traced:
            guards.append((tensor.storage, tensor.storage.version))
            return self.snapshot(tensor, edge)

        values: list[Any] = []
        for (kind, at), _ in rule.params:
            held = (
                results[at] if kind is Param.RESULT else None if kind is Param.NUMBER else args[at]
            )
            match kind:
                case Param.NUMBER:
                    values.append(nr)
                case Param.SHAPE:
                    values.append(_shape(held))
                case Param.DTYPE:
                    values.append(held.dtype if isinstance(held, Traced) else None)
                case Param.RESULT:
                    values.append(kept(results[at], ends[at]))
                case Param.ARGUMENT if isinstance(held, Traced):
                    values.append(kept(held, held.gradient_edge()))
                case Param.ARGUMENT if isinstance(held, (list, tuple)):
                    values.append([each and kept(each, None) for each in held])
                case _:
                    values.append(held)
        return tuple(values)


def _is_single(op: Operator) -> bool:
    return len(op.schema.results) == 1 and op.schema.results != ("[]",)


def _sample(given: Any) -> Any:
    if isinstance(given, Traced):
        return given.sample
    if isinstance(given, list):
        return [_sample(each) for each in given]
    return given


class _Typed:
    """A tensor of which an operator reads shape and dtype only."""

    __slots__ = ("data",)

    def __init__(self, data: np.ndarray) -> None:
        self.data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)


def _typed(given: Any) -> Any:
    if isinstance(given, Traced):
        return _Typed(given.sample)
    if isinstance(given, list):
        return [_typed(each) for each in given]
    return given


def _shape(held: Any) -> Any:
    if isinstance(held, (list, tuple)):
        return tuple(each.shape for each in held)
    return held.shape if isinstance(held, Traced) else ()


def _laid_out(array: np.ndarray, strides: tuple[int, ...]) -> np.ndarray:
    """A copy with dimensions in the order of these strides."""
    order = sorted(range(array.ndim), key=lambda at: -strides[at])
    copied = np.array(array.transpose(order), order="C")
    return copied.transpose(np.argsort(order))
