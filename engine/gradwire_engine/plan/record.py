"""The recorder: runs a program on values instead of tensors, and so learns what it computes.

It is the third interpreter of a rule. Like tensors, what it hands to formulas and rules has a
shape, a dtype, a place in a tape, and may be a view or be changed in place; unlike them, it has no
elements that a formula could look at. A change in place gives the storage a new value, so that the
graph of values has none.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradwire_engine.context import Context
from gradwire_engine.dtypes import can_cast, category
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import Interpreter, sum_to_shape
from gradwire_engine.operator import Operator
from gradwire_engine.plan.lower import lowered
from gradwire_engine.plan.values import Graph, Kind, Value, ViewPath, follow
from gradwire_engine.program import Gradient, Instruction, Program
from gradwire_engine.registry import operators
from gradwire_engine.rules import Param, Rule
from gradwire_engine.tensor import Tensor, ViewStep

TapeEdge = tuple["TapeNode", int]


class CompileError(Exception):
    """A program, with these inputs, has to be run call by call; the text says why."""


class GraphFreedError(CompileError):
    """A gradient was asked for through what an earlier one had released."""


@dataclass(slots=True, eq=False)
class Storage:
    """What a tensor and its views share.

    Attributes:
        value: what it holds now.
        sample: an array with what it holds now.
        version: counts changes in place.
        root: the one that is no view.
    """

    value: Value
    sample: np.ndarray
    version: int = 0
    root: Traced | None = None


@dataclass(slots=True, eq=False)
class TapeNode:
    """A recorded call, as `Node` is. An input that requires grad is one without rules."""

    number: int
    name: str
    outputs: tuple[tuple[tuple[int, ...], np.dtype], ...]
    edges: tuple[TapeEdge | None, ...] = ()
    rules: tuple[Rule, ...] = ()
    saved: tuple[tuple[Any, ...] | None, ...] = ()
    guards: tuple[tuple[Storage, int], ...] = ()
    is_freed: bool = False


class Layout:
    """What a formula may know of an array: all but its elements."""

    __slots__ = ("_array",)

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return self._array.shape

    @property
    def strides(self) -> tuple[int, ...]:
        """Steps in bytes."""
        return self._array.strides

    @property
    def dtype(self) -> np.dtype:
        """The element type."""
        return self._array.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._array.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._array.size

    @property
    def flags(self) -> Any:
        """How it lies in memory."""
        return self._array.flags

    def reshape(self, shape: Sequence[int], *, copy: bool | None = None) -> Layout:
        """As of an array."""
        return Layout(self._array.reshape(shape, copy=copy))

    def swapaxes(self, one: int, other: int) -> Layout:
        """As of an array."""
        return Layout(self._array.swapaxes(one, other))


def _refuse(self: Traced, *args: Any) -> Any:
    raise CompileError("a formula looks at the elements of a tensor")


class Traced:
    """Stands for a tensor while a program is recorded.

    Attributes:
        path: view operators from the root of the storage.
        base: for a view that gradients flow through, the tensor that it is a view of.
        steps: those of the path from the base.
        edge: where it stands on the tape.
        seen: the edge of the base that `edge` was made for.
        is_frozen: gradients cannot follow changes in place: one of several views, or made under
            no_grad.
    """

    __slots__ = ("base", "edge", "is_frozen", "path", "recorder", "seen", "steps", "storage")

    def __init__(self, recorder: Recorder, storage: Storage, edge: TapeEdge | None = None) -> None:
        self.recorder = recorder
        self.storage = storage
        self.edge = edge
        self.path: tuple[ViewStep, ...] = ()
        self.steps: tuple[ViewStep, ...] = ()
        self.base: Traced | None = None
        self.seen: TapeEdge | None = None
        self.is_frozen = False

    __hash__ = object.__hash__
    __bool__ = __len__ = __iter__ = __float__ = __int__ = __index__ = __array__ = _refuse

    @property
    def sample(self) -> np.ndarray:
        """An array with its elements."""
        if not self.path:
            return self.storage.sample
        return follow(self.storage.sample, view_path(self.path))

    @property
    def value(self) -> Value:
        """What it holds now."""
        if not self.path:
            return self.storage.value
        path = view_path(self.path)
        whole = self.storage.sample
        return self.recorder.graph.view(self.storage.value, path, whole, follow(whole, path))

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return self.sample.shape

    @property
    def dtype(self) -> np.dtype:
        """The element type."""
        return self.sample.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.sample.ndim

    @property
    def data(self) -> Layout:
        """How it lies in memory."""
        return Layout(self.sample)

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient would come here."""
        return self.gradient_edge() is not None

    def gradient_edge(self) -> TapeEdge | None:
        """Where gradients of it go; for a view of what was changed in place, made anew."""
        base = self.base
        if base is not None:
            edge = base.gradient_edge()
            if edge is not self.seen:
                self.seen = edge
                if edge is not None:
                    if self.is_frozen:
                        raise CompileError("a view that cannot follow was changed in place")
                    self.edge = self.recorder.edge_of_view(base, self.steps, edge)
        return self.edge

    def __neg__(self) -> Any:
        return self.recorder.apply("neg", self)

    def __add__(self, other: Any) -> Any:
        return self.recorder.apply("add", self, other)

    def __sub__(self, other: Any) -> Any:
        return self.recorder.apply("sub", self, other)

    def __mul__(self, other: Any) -> Any:
        return self.recorder.apply("mul", self, other)

    def __truediv__(self, other: Any) -> Any:
        return self.recorder.apply("div", self, other)

    def __pow__(self, other: Any) -> Any:
        return self.recorder.apply("pow", self, other)

    def __matmul__(self, other: Any) -> Any:
        return self.recorder.apply("matmul", self, other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> Any:
        return self.recorder.apply("rsub", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self.recorder.apply("reciprocal", self) * other

    def __rpow__(self, other: Any) -> Any:
        return self.recorder.apply("pow", other, self)

    def __eq__(self, other: object) -> Any:
        return self.recorder.apply("eq", self, other)

    def __ne__(self, other: object) -> Any:
        return self.recorder.apply("ne", self, other)

    def __lt__(self, other: Any) -> Any:
        return self.recorder.apply("lt", self, other)

    def __le__(self, other: Any) -> Any:
        return self.recorder.apply("le", self, other)

    def __gt__(self, other: Any) -> Any:
        return self.recorder.apply("gt", self, other)

    def __ge__(self, other: Any) -> Any:
        return self.recorder.apply("ge", self, other)

    def __invert__(self) -> Any:
        return self.recorder.apply("bitwise_not", self)

    def __and__(self, other: Any) -> Any:
        return self.recorder.apply("bitwise_and", self, other)

    def __or__(self, other: Any) -> Any:
        return self.recorder.apply("bitwise_or", self, other)


def view_path(steps: Sequence[ViewStep]) -> ViewPath:
    """Steps of views as kernels and their arguments."""
    return tuple((step.op.kernel, step.template[1:], step.nr) for step in steps)


class Watch:
    """A random generator that knows whether it was used."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.is_used = False
        self._generator = generator

    def __getattr__(self, name: str) -> Any:
        self.is_used = True
        return getattr(self._generator, name)


class Recorder:
    """Records one program with one set of inputs.

    Attributes:
        inputs: what stands for the inputs.
        is_random: it draws random numbers.
        writes: how often each input is changed in place.
    """

    def __init__(
        self, inputs: Sequence[np.ndarray], requires_grad: Sequence[bool], context: Context
    ) -> None:
        self.context = context
        self.watch: Any = Watch(context.generator)
        self.graph = Graph()
        self.F: Any = Interpreter("recorder", self._resolve)
        self.recording = context.grad_enabled
        self.is_random = False
        self._number = 0
        self.inputs: list[Traced] = []
        for array, wanted in zip(inputs, requires_grad, strict=True):
            made = self._new(self.graph.input(array), array)
            if wanted:
                made.edge = (self._node(f"input {len(self.inputs)}", [array]), 0)
            self.inputs.append(made)

    def _resolve(self, interpreter: Interpreter, name: str) -> Callable[..., Any]:
        op = operators[name.replace("__", ".")]

        def call(*args: Any, **kwargs: Any) -> Any:
            return self.call(op, op.schema.fill(args, kwargs))

        return call

    def _node(self, name: str, results: Sequence[np.ndarray], **parts: Any) -> TapeNode:
        self._number += 1
        types = tuple([(each.shape, each.dtype) for each in results])
        return TapeNode(self._number, name, types, **parts)

    def _new(self, value: Value, sample: np.ndarray) -> Traced:
        storage = Storage(value, sample)
        storage.root = Traced(self, storage)
        return storage.root

    def take(self, like: np.ndarray) -> Traced:
        """What stands for one more array that comes with each call."""
        return self._new(self.graph.input(like), like)

    def constant(self, array: np.ndarray) -> Traced:
        """What stands for an array that is always the same."""
        return self._new(self.graph.constant(array), array)

    def snapshot(self, tensor: Traced, edge: TapeEdge | None) -> Traced:
        """What a tensor holds now, whatever is written to it later."""
        made = self._new(tensor.value, tensor.sample)
        made.edge = edge
        return made

    def run(self, program: Program, inputs: Sequence[Traced]) -> list[Traced | None]:
        """Record a program.

        Returns:
            Its outputs.

        The context's generator is watched and draws; the caller puts it back as it was.

        Raises:
            CompileError: it cannot be recorded.
            EngineError: a call refuses its arguments; the metadata has the index of the
                instruction as `program_step`.
        """
        self.context.generator = self.watch
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
                self.recording = self.context.grad_enabled and instruction.records
                made = self.call(instruction.op, args)
                return made if isinstance(made, tuple) else (made,)
            case Gradient():
                return self.gradient(
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
            return self._in_place(op, args)
        if op.is_view:
            return self._view(op, args)
        results = self._compute(op, args)
        made = tuple([self._new(value, sample) for value, sample in results])
        self._record(op, args, made)
        return made[0] if _is_single(op) else made

    def _composite(self, op: Operator, args: list[Any]) -> Any:
        try:
            return op.formula(self.F, *args)
        except (AttributeError, TypeError) as error:
            raise CompileError(f"{op.name} handles the tensor itself ({error})") from None

    def _compute(self, op: Operator, args: Sequence[Any]) -> list[tuple[Value, np.ndarray]]:
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
        if draws:
            self.is_random = True
        else:
            alias = self._alias(op, values, raw, samples)
            if alias is not None:
                return [(alias, samples[0])]
            found = lowered(graph, op.kernel, values, samples)
            if found is not None:
                settled = zip(found, samples, strict=True)
                return [(self._settled(value, sample), sample) for value, sample in settled]
        flops = op.flops([_typed(each) for each in args])
        found = graph.kernel(op.kernel, values, samples, ordered=draws, flops=flops)
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

    def _settled(self, value: Value, sample: np.ndarray) -> Value:
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
            node = self._node(
                step.op.name, [part.sample], edges=(edge,), rules=(rule,), saved=(saved,)
            )
            base, edge = part, (node, 0)
        return edge

    def _in_place(self, op: Any, args: list[Any]) -> Traced:
        target: Traced = args[0]
        edge = target.gradient_edge()
        record = (
            self.recording
            and bool(op.rules)
            and target.dtype.kind in "fc"
            and any(each.requires_grad for each in _tensors(args))
        )
        owner = target if target.base is None else target.base
        if self.recording and owner.edge is not None and not owner.edge[0].rules:
            raise CompileError(f"{op.name} changes an input that requires grad")
        if record and target.is_frozen:
            raise CompileError(f"{op.name} changes a view that gradients cannot follow")
        if op.base.is_view:
            return self._reshape(op, args)
        for each in _tensors(args[1:]):
            if each.storage is target.storage and (each.path or target.path):
                raise CompileError(f"{op.name} reads part of what it writes")
        before = self.snapshot(target, edge)
        ((value, sample),) = self._compute(op, args)
        written = target.sample
        if sample.shape != written.shape or not can_cast(sample.dtype, written.dtype):
            raise CompileError(f"{op.name} does not fit the tensor that it changes")
        if 0 in written.strides and written.size > 1:
            raise CompileError(f"{op.name} writes to an expanded tensor")
        self._write(target, value, sample)
        if not record:
            return target
        held = [before, *args[1:]]
        node = self._made_node(op, held, (target,))
        if node is None:
            return target
        if any(each.storage is target.storage for each in _tensors(args[1:])):
            raise CompileError(f"{op.name} may keep what it overwrites")
        base = target.base
        if base is None:
            target.edge = (node, 0)
        else:
            # As CopySlices: the base's history goes on with a part replaced.
            part = self.snapshot(target, (node, 0))
            base.edge = self._edge_of_update(base, target.steps, part)
            target.seen = base.edge
            target.edge = self.edge_of_view(base, target.steps, base.edge)
        return target

    def _write(self, target: Traced, value: Value, sample: np.ndarray) -> None:
        storage = target.storage
        value = self.graph.cast(value, storage.value.dtype if not target.path else target.dtype)
        path = view_path(target.path)
        whole = storage.sample.copy(order="K")
        follow(whole, path)[...] = sample
        if target.path:
            storage.value = self.graph.update(storage.value, value, path)
        else:
            storage.value = self._settled(value, whole)
        storage.sample = whole
        storage.version += 1

    def _edge_of_update(self, base: Traced, steps: tuple[ViewStep, ...], part: Traced) -> TapeEdge:
        """The place of a base of which a part came to be what `part` is."""
        around, inside = base.edge, part.edge
        node = self._node(
            "copy_slices",
            [base.sample],
            edges=(around, inside),
            rules=(_AROUND, _INSIDE),
            saved=((self, steps), (self, steps)),
        )
        return (node, 0)

    def _reshape(self, op: Any, args: list[Any]) -> Traced:
        raise CompileError(f"{op.name} gives a tensor another shape in place")

    def _record(self, op: Operator, args: Sequence[Any], results: tuple[Traced, ...]) -> None:
        if (
            self.recording
            and op.rules
            and results
            and results[0].dtype.kind in "fc"
            and any(each.requires_grad for each in _tensors(args))
        ):
            node = self._made_node(op, args, results)
            for nr, each in enumerate(results):
                if node is not None and each.dtype.kind in "fc":
                    each.edge = (node, nr)

    def _made_node(
        self, op: Operator, args: Sequence[Any], results: tuple[Traced, ...]
    ) -> TapeNode | None:
        edges: list[TapeEdge | None] = []
        rules: list[Rule] = []
        saved: list[tuple[Any, ...] | None] = []
        guards: list[tuple[Storage, int]] = []
        node = self._node(op.name, [each.sample for each in results])
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

    def gradient(
        self,
        outputs: Sequence[Any],
        inputs: Sequence[Any],
        grad_outputs: Sequence[Any],
        *,
        keeps_graph: bool,
        creates_graph: bool,
        allow_unused: bool,
        materializes: bool = False,
    ) -> list[Traced | None]:
        """As `grad()`; anything that it would refuse is not compilable.

        Raises:
            CompileError: GraphFreedError if the graph was released.
        """
        roots = [
            self._root(tensor, given)
            for tensor, given in zip(outputs, grad_outputs or [None] * len(outputs), strict=True)
        ]
        ends: list[TapeEdge] = []
        for tensor in inputs:
            edge = tensor.gradient_edge() if isinstance(tensor, Traced) else None
            if edge is None:
                raise CompileError("a gradient is asked for by what does not require grad")
            ends.append(edge)
        before = self.recording
        self.recording = creates_graph
        try:
            found = self._pull_back(roots, ends, keeps_graph)
        finally:
            self.recording = before
        results: list[Traced | None] = []
        for tensor, each in zip(inputs, found, strict=True):
            if each is not None:
                results.append(each if creates_graph else self.snapshot(each, None))
            elif materializes:
                zero = np.broadcast_to(np.zeros((), tensor.dtype), tensor.shape)
                results.append(self.constant(zero))
            elif allow_unused:
                results.append(None)
            else:
                raise CompileError("a gradient is asked for by what the outputs do not depend on")
        return results

    def _root(self, tensor: Any, given: Any) -> tuple[TapeEdge, Traced]:
        edge = tensor.gradient_edge() if isinstance(tensor, Traced) else None
        if edge is None:
            raise CompileError("what is differentiated does not require grad")
        if given is None:
            if tensor.sample.size != 1 or tensor.dtype.kind == "c":
                raise CompileError("what is differentiated is no real scalar")
            return edge, self.constant(np.ones(tensor.shape, tensor.dtype))
        if given.shape != tensor.shape or category(given.dtype) > category(tensor.dtype):
            raise CompileError("a gradient does not fit what is differentiated")
        if tensor.dtype.kind == "c" and given.dtype.kind != "c":
            raise CompileError("a gradient does not fit what is differentiated")
        return edge, given if given.dtype == tensor.dtype else self.F.to(given, tensor.dtype)

    def _pull_back(
        self, roots: Sequence[tuple[TapeEdge, Traced]], ends: Sequence[TapeEdge], keeps_graph: bool
    ) -> list[Traced | None]:
        waiting = _count_dependencies([edge[0] for edge, _ in roots])
        wanted: dict[TapeNode, dict[int, Any]] = {}
        for node, nr in ends:
            wanted.setdefault(node, {})[nr] = None
        useful = set(wanted)
        for node in sorted(waiting, key=lambda each: each.number):
            if any(edge is not None and edge[0] in useful for edge in node.edges):
                useful.add(node)
        arrived: dict[TapeNode, list[Any]] = {}

        def arrive(edge: TapeEdge, gradient: Traced) -> None:
            node, nr = edge
            slots = arrived.setdefault(node, [None] * len(node.outputs))
            slots[nr] = gradient if slots[nr] is None else slots[nr] + gradient

        for edge, gradient in roots:
            arrive(edge, gradient)
        ready = [(-n.number, n) for n in {edge[0]: None for edge, _ in roots} if not waiting[n]]
        heapq.heapify(ready)
        while ready:
            _, node = heapq.heappop(ready)
            slots = arrived.pop(node, None)
            if slots is not None:
                for nr in wanted.get(node, ()):
                    wanted[node][nr] = slots[nr]
                if node.rules and node in useful:
                    self._pull(node, slots, useful, arrive, keeps_graph)
            for onward in node.edges:
                if onward is not None:
                    waiting[onward[0]] -= 1
                    if not waiting[onward[0]]:
                        heapq.heappush(ready, (-onward[0].number, onward[0]))
        return [wanted[node][nr] for node, nr in ends]

    def _pull(
        self,
        node: TapeNode,
        slots: list[Any],
        useful: set[TapeNode],
        arrive: Callable[[TapeEdge, Traced], None],
        keeps_graph: bool,
    ) -> None:
        if node.is_freed:
            raise GraphFreedError("a gradient goes through a graph that was released")
        if any(storage.version != version for storage, version in node.guards):
            raise CompileError("what was kept for a gradient was changed in place")
        saves = False
        for edge, rule, values in zip(node.edges, node.rules, node.saved, strict=True):
            if edge is None or values is None:
                continue
            saves = saves or rule.saves
            if edge[0] not in useful:
                continue
            if slots[0] is None and not rule.takes_all:
                continue
            try:
                pulled = rule.pull(self.F, tuple(slots) if rule.takes_all else slots[0], *values)
            except (AttributeError, TypeError) as error:
                raise CompileError(
                    f"the gradient of {node.name} handles the tensor itself ({error})"
                ) from None
            if pulled is not None:
                arrive(edge, self._fitted(pulled, *edge[0].outputs[edge[1]]))
        if saves and not keeps_graph:
            node.is_freed = True

    def _fitted(self, gradient: Any, shape: tuple[int, ...], dtype: np.dtype) -> Traced:
        """A gradient as its tensor wants it, as `interpret.fit` makes it."""
        g = gradient if isinstance(gradient, Traced) else self.constant(np.asarray(gradient))
        if g.shape != shape:
            g = sum_to_shape(self.F, g, shape)
        if g.dtype.kind == "c" and dtype.kind != "c":
            g = self.F.real(g)
        return g if g.dtype == dtype else self.F.to(g, dtype)


@dataclass(frozen=True, slots=True)
class _UpdateRule:
    """The gradient of a base of which a view was overwritten: around the part, or inside of it."""

    is_inside: bool

    saves = False
    takes_all = False

    def pull(self, F: Any, g: Traced, recorder: Recorder, steps: tuple[ViewStep, ...]) -> Traced:
        part = g
        for step in steps:
            made = recorder.call(step.op, [part, *step.template[1:]])
            part = made if step.nr is None else made[step.nr]
        if self.is_inside:
            return part
        whole = recorder.snapshot(g, None)
        graph, path = recorder.graph, view_path(steps)
        sample = whole.sample.copy(order="K")
        follow(sample, path)[...] = 0
        zero = graph.constant(np.broadcast_to(np.zeros((), part.dtype), part.shape))
        if recorder.recording and g.requires_grad:
            raise CompileError("the gradient of a view that was changed in place is recorded")
        return recorder._new(graph.update(whole.value, zero, path), sample)


_AROUND: Any = _UpdateRule(False)
_INSIDE: Any = _UpdateRule(True)


def _is_single(op: Operator) -> bool:
    return len(op.schema.results) == 1 and op.schema.results != ("[]",)


def _tensors(args: Sequence[Any]) -> list[Traced]:
    found: list[Traced] = []
    for each in args:
        if isinstance(each, Traced):
            found.append(each)
        elif isinstance(each, (list, tuple)):
            found += [item for item in each if isinstance(item, Traced)]
    return found


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
    copied = np.ascontiguousarray(array.transpose(order))
    if copied is array or copied.base is array:
        copied = copied.copy()
    return copied.transpose(np.argsort(order))


def _count_dependencies(roots: Sequence[TapeNode]) -> dict[TapeNode, int]:
    waiting: dict[TapeNode, int] = dict.fromkeys(roots, 0)
    stack = list(waiting)
    while stack:
        for edge in stack.pop().edges:
            if edge is not None:
                if edge[0] not in waiting:
                    waiting[edge[0]] = 0
                    stack.append(edge[0])
                waiting[edge[0]] += 1
    return waiting


__all__ = ["CompileError", "GraphFreedError", "Kind", "Recorder", "Storage", "Traced"]
