"""A function as it was traced for one signature: what a call must look like, and its program."""

import gc
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gradwire import current, programs, reading, tracing, wire
from gradwire import tensors as _tensors
from gradwire.codec import Info
from gradwire.dtypes import dtype as Dtype
from gradwire.dtypes import get_default_dtype
from gradwire.func.tree import LEAF, flatten, unflatten
from gradwire.modes import grad_mode, no_grad
from gradwire.programs import Draft, Program
from gradwire.progress import Listener
from gradwire.reading import Known
from gradwire.signatures import Seen, Tensors, is_same, pattern, same_rest
from gradwire.tracing import Trace
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

MISS: Final = object()
"""The call is of another signature."""

UNKNOWN: Final = object()
"""Whether it is, the server must be asked first."""

Type = tuple[tuple[int, ...], Dtype, bool, bool]


class _Ending:
    """Whether something is gone that a program uses from outside."""

    __slots__ = ("__weakref__", "ended")

    def __init__(self) -> None:
        self.ended = False

    def end(self, _: object) -> None:
        """Note that it is. Called by weak references, which must not hold the program itself."""
        self.ended = True


class Traced:
    """A function for one signature: its program, and what a call must look like.

    Attributes:
        session: where it was traced.
    """

    def __init__(self, trace: Trace, tensors: Tensors, rest: object, surroundings: Seen) -> None:
        self.session = trace.session
        self._ending = _Ending()
        self._default_dtype = get_default_dtype()
        self._mode = trace.mode
        self._rest = rest
        self._surroundings = surroundings
        self._pattern = pattern(tensors)
        self._unique = [at for at, first in enumerate(self._pattern) if at == first]
        self._guards = trace.guards
        self._numbers = [(*each, [getattr(each[0], each[1])]) for each in trace.numbers]
        self._mutates = trace.mutates
        self._types: list[Type] = []
        self._bound: set[int] = set()
        self._watched: list[tuple[weakref.ref[Tensor], bool]] = []
        self._flags_at = trace.session.flag_changes
        self._grads: list[tuple[int, weakref.ref[Tensor], bool]] = []
        self._program: Program
        self._leaves_grads = False
        self._infos: list[Info] = []
        self._results: list[tuple[str, Any]] = []
        self._structure: Any = LEAF

    @property
    def is_over(self) -> bool:
        """Whether it can be called no more."""
        return self._ending.ended or self.session.closed

    def finish(self, trace: Trace, tensors: Tensors, given: Any) -> "tuple[int, str] | None":
        """Make the program of what was traced, whose results are `given`.

        Returns:
            None; or why there is none: a handle, and what is the matter with it.
        """
        session = self.session
        leaves, self._structure = flatten(given)
        outputs: dict[int, int] = {}
        for leaf in leaves:
            self._results.append(self._source(leaf, trace, tensors, outputs))
        left = _left_grads(trace)
        self._leaves_grads = bool(left)
        free = [tensors[at] for at in self._unique]
        places = {each._handle: at for at, each in enumerate(tensors)}
        for handle, (leaf, grad) in trace.entry_grads.items():
            self._grads.append((places.get(handle, -1), weakref.ref(leaf), grad is not None))
            if grad is not None:
                free.append(grad)
        named = {each._handle for each in free}
        inputs = list(dict.fromkeys([*named, *programs.inputs_of(trace, left)]))
        infos = trace.infos(inputs)
        if any(infos[each].requires_grad for each in trace.copies if each in infos):
            trace.refuse(
                "a tensor that requires grad is made from data, and something is changed in place",
                "pass the tensor as an argument",
            )
        found = session.exchange(pb.Step(fetch=pb.Fetch(tensors=outputs, info=True)))
        self._infos = [each.info for each in found if each.info is not None]
        self._bound = set(inputs) - named
        kept = {*outputs, *(grad for _, grad in left), *named}
        problem = self._settle_outside(trace, kept, infos)
        if problem is not None:
            return problem
        self._types = [_type_of(infos[each._handle]) for each in tensors]
        draft = Draft(trace, free, list(outputs), left, infos)
        self._program = session.finish(programs.create(draft))
        return None

    def _source(
        self, leaf: Any, trace: Trace, tensors: Tensors, outputs: dict[int, int]
    ) -> tuple[str, Any]:
        """Where a leaf of the results comes from."""
        if not isinstance(leaf, _tensors.Tensor):
            return "value", leaf
        for at, each in enumerate(tensors):
            if each is leaf:
                return "argument", at
        handle = leaf._handle
        if handle in trace.made or handle in trace.constants:
            if handle in trace.constants:
                trace.keep_constants()
            return "output", outputs.setdefault(handle, len(outputs))
        return "outside", weakref.ref(leaf, self._ending.end)

    def _settle_outside(
        self, trace: Trace, kept: set[int], infos: dict[int, Info]
    ) -> tuple[int, str] | None:
        """Watch what is used from outside; tell of what speaks against calling this again."""
        own = {tensor._handle for *_, tensor, _ in self._numbers}
        outside = self._bound - trace.constants - own
        for attempt in range(2):
            held = tracing.alive(self.session, trace.made | trace.constants | outside)
            escaped = [each for each in held if each not in outside and each not in kept]
            if not escaped:
                break
            if not attempt:
                del held
                gc.collect()
        if escaped:
            return escaped[0], "is made here and kept outside of the function"
        gone = [each for each in outside if each not in held]
        if gone:
            return gone[0], "is used up by the function"
        for handle in outside:
            requires_grad = infos[handle].requires_grad
            self._watched.append((weakref.ref(held[handle], self._ending.end), requires_grad))
        return None

    def call(self, tensors: Tensors, rest: object) -> Any:
        """Call the program; or `MISS` or `UNKNOWN`, and nothing has happened."""
        inputs = self.inputs(tensors, rest)
        if not isinstance(inputs, list):
            return inputs
        step = pb.Step()
        step.call_program.inputs.extend(inputs)
        return self._tree(self._tensors(self._record(step)), tensors)

    def _record(self, step: pb.Step) -> int:
        """Record a call; the handle of its first result."""
        if self._numbers:
            self._renew_numbers()
        step.call_program.program = self._program.id
        return self.session.call_program(
            step, len(self._infos), mutates=self._mutates, leaves_grads=self._leaves_grads
        )

    def repeat(
        self,
        inputs: Sequence[int],
        parts: Tensors,
        stacked: Tensors,
        times: pb.Repeat,
        listener: Listener | None,
    ) -> Any:
        """Let the server call it in a row, over tensors that hold what `parts` are parts of.

        With a listener, wait for the end.
        """
        session = self.session
        whole = {part._handle: each._handle for part, each in zip(parts, stacked, strict=True)}
        step = pb.Step(call_program=pb.CallProgram(repeat=times))
        message = step.call_program
        message.repeat.stacked.extend(at for at, each in enumerate(inputs) if each in whole)
        message.inputs.extend(whole.get(each, each) for each in inputs)
        first = self._record(step)
        made = self._tensors(first)
        for tensor, info in zip(made, self._infos, strict=True):
            shape = info.shape or (times.count,)
            tensor._known = Known(info._replace(shape=shape, requires_grad=False, is_leaf=True))
        if listener is not None:
            with session.listeners.added(first, listener):
                session.finish(session.settle())
        return self._tree(made, parts)

    def inputs(self, tensors: Tensors, rest: object) -> Any:
        """The handles that a call names, if it is of this signature."""
        session = self.session
        if (
            self._ending.ended
            or self._mode != grad_mode()
            or self._default_dtype is not get_default_dtype()
            or not same_rest(self._rest, rest)
        ):
            return MISS
        handles = []
        for tensor, (shape, dtype, requires_grad, is_leaf) in zip(
            tensors, self._types, strict=True
        ):
            if tensor._session is not session:
                return MISS
            known = tensor._known
            if known is None or known.info is None:
                return UNKNOWN
            info = known.info
            if (
                info.shape != shape
                or info.dtype is not dtype
                or info.requires_grad != requires_grad
                or info.is_leaf != is_leaf
            ):
                return MISS
            handles.append(tensor._handle)
        if not tensors and session is not current.current():
            return MISS
        if len(handles) > 1:
            if len(set(handles)) != len(self._unique) or (
                len(handles) != len(self._unique) and pattern(tensors) != self._pattern
            ):
                return MISS
            if len(handles) != len(self._unique):
                handles = [handles[at] for at in self._unique]
        if not self._bound.isdisjoint(handles) or not self._surroundings.holds():
            return MISS
        for owner, name, value in self._guards:
            if not is_same(getattr(owner, name), value):
                return MISS
        if self._flags_at != session.flag_changes and not self._flags_hold():
            return MISS
        for place, reference, there in self._grads:
            leaf = reference() if place < 0 else tensors[place]
            if leaf is None or not reading.is_resolved(leaf):
                return UNKNOWN
            known = leaf._known
            grad = None if known is None else known.grad
            if (grad is not None) != there:
                return MISS
            if grad is not None:
                handles.append(grad._handle)
        return handles

    def _flags_hold(self) -> bool:
        """Whether tensors from outside require grad as they did."""
        for reference, requires_grad in self._watched:
            tensor = reference()
            info = None if tensor is None or tensor._known is None else tensor._known.info
            if info is not None and info.requires_grad != requires_grad:
                return False
        self._flags_at = self.session.flag_changes
        return True

    def _renew_numbers(self) -> None:
        for owner, name, tensor, last in self._numbers:
            now = getattr(owner, name)
            if now != last[0]:
                with no_grad():
                    tensor.fill_(float(now))
                last[0] = now

    def _tensors(self, first: int) -> "list[Tensor]":
        session = self.session
        made = []
        for at, info in enumerate(self._infos):
            tensor = session.tensor_type(first + at, session)
            tensor._known = Known(info)
            made.append(tensor)
        return made

    def _tree(self, made: "list[Tensor]", tensors: Tensors) -> Any:
        if self._structure is LEAF and self._results[0][0] == "output":
            return made[0]
        leaves: list[Any] = []
        for kind, value in self._results:
            match kind:
                case "output":
                    leaves.append(made[value])
                case "argument":
                    leaves.append(tensors[value])
                case "outside":
                    leaves.append(value())
                case _:
                    leaves.append(value)
        return unflatten(leaves, self._structure)

    async def learn(self, tensors: Tensors) -> None:
        """Learn what `call` must know."""
        for each in tensors:
            if each._known is None or each._known.info is None:
                await reading.read_info(each)
        for place, reference, _ in self._grads:
            leaf = reference() if place < 0 else tensors[place]
            if leaf is not None and not reading.is_resolved(leaf):
                await reading.learn_grad(leaf)

    async def explain(self, inputs: Sequence[int]) -> str:
        """How the server runs it."""
        session = self.session
        await session.settle()
        request = pb.ExplainProgramRequest(
            session_id=session.id, program=self._program.id, inputs=inputs
        )
        answer = await session.request(wire.EXPLAIN_PROGRAM, request, pb.ExplainProgramResponse)
        return answer.text


def _type_of(info: Info) -> Type:
    return info.shape, info.dtype, info.requires_grad, info.is_leaf


def _left_grads(trace: Trace) -> list[tuple[int, int]]:
    """What the function leaves in `.grad` of tensors from outside."""
    left = []
    for handle, (_, grad) in trace.grads.items():
        if handle in trace.made or handle in trace.constants:
            continue
        entry = trace.entry_grads.get(handle)
        if entry is None or entry[1] is not grad:
            left.append((handle, 0 if grad is None else grad._handle))
    return left
