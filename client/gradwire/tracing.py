"""Tracing a function: it runs for real, and what it records is noted as the steps of a program.

So shapes, dtypes and flags of its tensors are known as ever while it is traced, and its first call
has the effects that any call has. What must not be known is values: a program takes the same way
whatever they are. A backward is noted as the gradients of the leaves that are used, and `.grad` is
followed here, from what it was at first to what is left of it.
"""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NoReturn

from gradwire import reading
from gradwire import tensors as _tensors
from gradwire.codec import Info
from gradwire.dtypes import float64
from gradwire.errors import TraceError, refused
from gradwire.location import locate, mark
from gradwire.modes import UnderHooks, grad_mode, no_grad
from gradwire.recorder import Entry, Handles, OpEntry
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.core import SessionCore
    from gradwire.tensors import Tensor

_UNLOGGED: Final = frozenset({"set_grad", "fetch", "get_grad", "release"})
"""Steps that a program does not need: `.grad` is followed here."""

_REMEDIES: Final = {
    "jvp": "take the derivative outside: gw.func.jvp(gw.compile(f), ...)",
    "requires_grad": "pass the tensor as an argument that requires grad",
    "retain_grad": "take the gradient with gw.autograd.grad()",
    "register_hook": "compute with the gradient where it is: gw.autograd.grad()",
    "custom_function": "call it outside of the compiled function",
    "get_saved": "read the graph outside of the compiled function",
}


class Trace:
    """What a function records while it runs.

    Attributes:
        session: where it runs.
        name: of the function, for people.
        mode: the `GradMode` that it is called under.
        entries: its steps, in order.
        made: handles of what it makes.
        used: handles of what it uses and did not make, in order of their first use.
        constants: handles of tensors that it makes from data of its own.
        mutates: it changes something in place.
        copies: of these, from before anything could change them.
        grads: for each tensor whose `.grad` it read or set the tensor, and its `.grad` now.
        entry_grads: the same as it was found; only where it was read before it was set.
        guards: attributes of objects that must stay as they are, with their values.
        numbers: attributes of objects that may change, with the tensors that hold their values.
    """

    def __init__(self, session: "SessionCore", name: str) -> None:
        self.session = session
        self.name = name
        self.mode = grad_mode()
        self.entries: list[Entry] = []
        self.made: set[int] = set()
        self.used: dict[int, None] = {}
        self.constants: set[int] = set()
        self.mutates = False
        self.copies: dict[int, int] = {}
        self.grads: dict[int, tuple[Tensor, Tensor | None]] = {}
        self.entry_grads: dict[int, tuple[Tensor, Tensor | None]] = {}
        self.guards: list[tuple[object, str, object]] = []
        self.numbers: list[tuple[object, str, Tensor]] = []
        self._infos: dict[int, Info] = {}
        self._paused = False
        self._held_back: list[int] = []

    @contextmanager
    def running(self) -> "Iterator[Trace]":
        """Note what is recorded in this context."""
        session = self.session
        with session.trace_lock:
            token = _active.set(self)
            session.begin_trace(self._release)
            try:
                yield self
            finally:
                session.end_trace()
                _active.reset(token)

    def let_go(self) -> None:
        """Release the handles that were dropped while they were needed here."""
        for handle in (*self._held_back, *self.copies.values()):
            self.session.release(handle)
        self._held_back = []

    def _release(self, handle: int) -> None:
        # In finalizers, of whatever thread.
        if handle in self.used or handle in self.constants:
            self._held_back.append(handle)
        else:
            self.session.recorder.release(handle)

    # What the session tells of.

    def note_op(self, entry: OpEntry) -> None:
        """Note an operator."""
        if self._paused:
            return
        _, inputs, output, outputs, attributes, mode, *_ = entry
        self._require_mode(mode)
        self._use(inputs)
        for _, value in attributes:
            if isinstance(value, Handles):
                self._use(value)
        self.made.update(range(output, output + outputs))
        self.mutates |= not outputs
        self.entries.append(entry)

    def note_put(self, handle: int) -> None:
        """Note a tensor made from data."""
        if not self._paused:
            self.constants.add(handle)

    def keep_constants(self) -> None:
        """Copy what was made from data, before it may be changed."""
        with self.paused():
            for handle in self.constants - self.copies.keys():
                self.copies[handle] = self.session.op(
                    "clone", (handle,), (), 1, pb.GRAD_MODE_NO_GRAD
                )

    def note_step(self, step: pb.Step) -> None:
        """Note a step of another kind, before it is recorded.

        Raises:
            TraceError: no program can hold it.
        """
        kind = step.WhichOneof("kind") or ""
        if self._paused or kind in _UNLOGGED:
            return
        if kind != "grad":
            remedy = _REMEDIES.get(kind, "do this outside of the compiled function")
            self.refuse(f"a step of kind {kind} cannot be part of a program", remedy)
        message = step.grad
        if message.output_edges or message.input_edges:
            self.refuse("gradient edges cannot be part of a program", "name the tensors themselves")
        if message.is_jacobian or message.is_grads_batched or message.HasField("variables"):
            self.refuse(
                "a functional transform or a batch of directions cannot be part of a program",
                "transform the compiled function instead, as in gw.func.grad(gw.compile(f))",
            )
        for handles in (message.outputs, message.inputs, message.grad_outputs):
            self._use(handles)
        self.made.update(range(message.output, message.output + len(message.inputs)))
        self.entries.append((step, mark()))

    def _require_mode(self, mode: int) -> None:
        if isinstance(mode, UnderHooks):
            self.refuse(
                "saved-tensor hooks see each step, and a program is one",
                "call the function within them, where it runs step by step",
            )
        inference = pb.GRAD_MODE_INFERENCE
        if (mode == inference) != (self.mode == inference):
            self.refuse(
                "inference mode cannot begin or end within a compiled function",
                "call the function in it, or use no_grad",
            )

    def _use(self, handles: Iterable[int]) -> None:
        for handle in handles:
            if handle and handle not in self.made:
                self.used.setdefault(handle)

    def refuse(self, what: str, remedy: str) -> NoReturn:
        """Raise what names the user's line.

        Raises:
            TraceError: always.
        """
        raise TraceError(
            f"{what}, and '{self.name}' is being compiled; {remedy}", location=locate(mark())
        )

    # What a function does with gradients.

    def backward(
        self,
        message: pb.Backward,
        targets: Sequence[int] | None,
        create_graph: bool,
    ) -> None:
        """Accumulate gradients into the `.grad` of leaves, as a backward does.

        Raises:
            TraceError: it goes beyond what the function uses, to tensors behind these.
            RuntimeError: there is no leaf.
        """
        if message.edges or message.input_edges:
            self.refuse("gradient edges cannot be part of a program", "name the tensors themselves")
        if targets is None:
            handles, beyond = self._differentiable()
            if not handles:
                raise refused(
                    "NO_GRAPH",
                    "backward() reaches no tensor that requires grad; make an input with "
                    "requires_grad=True",
                )
        else:
            handles, beyond = list(targets), set()
        session = self.session
        first = session.new_handles(len(handles))
        step = pb.Grad(
            outputs=message.tensors,
            inputs=handles,
            grad_outputs=message.gradients,
            output=first,
            create_graph=create_graph,
            allow_unused=True,
        )
        if message.HasField("retain_graph"):
            step.retain_graph = message.retain_graph
        session.step(pb.Step(grad=step))
        made = range(first, first + len(handles))
        answers = session.exchange(pb.Step(fetch=pb.Fetch(tensors=made, info=True)))
        for handle, answer in zip(handles, answers, strict=True):
            if answer.absent:
                session.release(answer.tensor)
                continue
            gradient = session.tensor_type(answer.tensor, session)
            reading.known(gradient).info = answer.info
            if handle in beyond:
                self.refuse(
                    "backward() goes through a tensor that was computed outside, to what is behind "
                    "it",
                    "compute it inside, or detach() it",
                )
            self._accumulate(handle, gradient, create_graph)

    def _differentiable(self) -> tuple[list[int], set[int]]:
        """Handles of what is used and requires grad; and which of them are no leaves."""
        infos = self.infos([*self.used, *self.constants])
        wanted = [handle for handle, info in infos.items() if info.requires_grad]
        return wanted, {handle for handle in wanted if not infos[handle].is_leaf}

    def infos(self, handles: Sequence[int]) -> dict[int, Info]:
        """Metadata of what was not made here; a round trip for what is not known yet."""
        unknown = [each for each in handles if each not in self._infos]
        if unknown:
            fetch = pb.Step(fetch=pb.Fetch(tensors=unknown, info=True))
            for answer in self.session.exchange(fetch):
                if answer.info is not None:
                    self._infos[answer.tensor] = answer.info
        return {each: self._infos[each] for each in handles}

    def _accumulate(self, handle: int, gradient: "Tensor", create_graph: bool) -> None:
        leaf = self.session.grad_holders.get(handle)
        if leaf is None:
            leaf = alive(self.session, {handle}).get(handle)
        if leaf is None:
            return
        before = self.grad_of(leaf)
        if before is None:
            self.set_grad(leaf, gradient)
        elif create_graph:
            self.set_grad(leaf, before + gradient)
        else:
            with no_grad():
                before.add_(gradient)

    def grad_of(self, tensor: "Tensor") -> "Tensor | None":
        """The `.grad` of a tensor."""
        handle = tensor._handle
        found = self.grads.get(handle)
        if found is not None:
            return found[1]
        grad = None
        if handle not in self.made and handle not in self.constants:
            grad = self.session.finish(reading.learn_grad(tensor))
            self.entry_grads[handle] = (tensor, grad)
            if grad is not None:
                self._use((grad._handle,))
        self.grads[handle] = (tensor, grad)
        return grad

    def set_grad(self, tensor: "Tensor", value: "Tensor | None") -> None:
        """Replace the `.grad` of a tensor."""
        session = self.session
        if value is not None:
            self._use((value._handle,))
        self.grads[tensor._handle] = (tensor, value)
        grad = 0 if value is None else value._handle
        session.step(pb.Step(set_grad=pb.SetGrad(tensor=tensor._handle, grad=grad)))
        known = reading.known(tensor)
        known.grad, known.grad_at = value, session.backwards
        session.grads_seen = True

    # What optimizers ask for.

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is recorded meanwhile is not part of the program."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def number(self, owner: object, name: str) -> "Tensor":
        """A tensor that holds a number which an attribute has; calls take the attribute anew."""
        for held, attribute, tensor in self.numbers:
            if held is owner and attribute == name:
                return tensor
        with self.paused():
            tensor = self.session.tensor(float(getattr(owner, name)), dtype=float64)
        self.numbers.append((owner, name, tensor))
        return tensor

    def guard(self, owner: object, *names: str) -> None:
        """Trace anew when one of these attributes changes."""
        self.guards += [(owner, name, getattr(owner, name)) for name in names]


_active: Final[ContextVar[Trace | None]] = ContextVar("gradwire_trace", default=None)


def active() -> Trace | None:
    """The trace that runs in this context."""
    return _active.get()


def running(session: "SessionCore") -> Trace | None:
    """The trace of that session that runs in this context."""
    trace = _active.get()
    return trace if trace is not None and trace.session is session else None


def refuse_value(session: "SessionCore") -> None:
    """Refuse to read a value while a function is traced.

    Raises:
        TraceError: one is.
    """
    trace = running(session)
    if trace is not None:
        trace.refuse(
            "the value of a tensor is read here, so what the function does would depend on data",
            "choose with gw.where(), return the tensor and read it after the call, or make the "
            "number a plain argument, for each value of which a program is made",
        )


def alive(session: "SessionCore", handles: "set[int]") -> "dict[int, Tensor]":
    """The tensor objects of handles, as far as the program still has them.

    Keeping a table of all tensors for this would cost each of them more than it is worth.
    """
    return {
        each._handle: each
        for each in gc.get_referrers(session)
        if isinstance(each, _tensors.Tensor) and each._handle in handles
    }
