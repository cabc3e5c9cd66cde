"""Hooks of clients: a backward that meets one asks its client, and waits for the answer.

A `ClientHook` is what the engine calls. It hands its gradients to the execution that runs, which
sends a HookCall through the `Line` of its stream and sleeps until a HookAnswer wakes it. All of
that is on a thread that may sleep, never on the event loop.
"""

from __future__ import annotations

import itertools
import math
import queue
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine import hooks
from gradwire_engine.context import current
from gradwire_engine.hooks import RemovableHandle
from gradwire_engine.node import AnyNode
from gradwire_engine.program import Program
from gradwire_engine.tensor import Tensor
from gradwire_server.encode import AnswerBuilder
from gradwire_server.errors import ServiceError, malformed

if TYPE_CHECKING:
    from gradwire_server.execute import Execution
    from gradwire_server.saved_hooks import PackHook, UnpackHook

Gradients = Sequence[Any]
"""Arrays in a plain backward, tensors under create_graph; None where there is none."""

Answered = tuple[pb.HookAnswer, Sequence[memoryview]]


class Line:
    """Carries the hook calls of one stream, and the answers to them. Used by several threads."""

    def __init__(self, send: Callable[[bytes], object]) -> None:
        """`send` hands a message to the stream from any thread."""
        self._send = send
        self._numbers = itertools.count(1)
        self._calls: dict[int, Call] = {}
        self._down: ServiceError | None = None

    def open(self) -> Call:
        """Begin a call.

        Raises:
            ServiceError: HOOK_FAILED if the client is gone.
        """
        call = Call(self, next(self._numbers))
        self._calls[call.number] = call
        # After the call can be found, lest it miss the end of the line.
        if self._down is not None:
            raise self._down
        return call

    def close(self, call: Call) -> None:
        """End a call; an answer that is still to come goes nowhere."""
        self._calls.pop(call.number, None)

    def send(self, data: bytes) -> None:
        """Send a message to the client."""
        self._send(data)

    def answer(
        self,
        answer: pb.HookAnswer,
        payloads: Sequence[memoryview],
        refusal: ServiceError | None = None,
    ) -> None:
        """Hand an answer to its call; one to a call that has ended is dropped."""
        call = self._calls.get(answer.call)
        if call is not None:
            call.wake(refusal or (answer, payloads))

    def hang_up(self, why: str) -> None:
        """Fail all calls, and those to come: nobody can answer them."""
        self._down = ServiceError("HOOK_FAILED", f"a hook of the client could not be run: {why}")
        for call in list(self._calls.values()):
            call.wake(self._down)


class Call:
    """One call of a client's hook.

    Attributes:
        number: of the call, in its stream.
    """

    __slots__ = ("_inbox", "_line", "number")

    def __init__(self, line: Line, number: int) -> None:
        self._line = line
        self.number = number
        self._inbox: queue.SimpleQueue[Answered | ServiceError | None] = queue.SimpleQueue()

    def wake(self, message: Answered | ServiceError | None) -> None:
        """Give the waiting thread an answer, a reason to give up, or None to look around."""
        self._inbox.put(message)

    def send(self, data: bytes) -> None:
        """Send a message of this call to the client."""
        self._line.send(data)

    def receive(self, seconds: float) -> Answered | None:
        """The next answer; None after `seconds` or when woken without one.

        Raises:
            ServiceError: HOOK_FAILED if there will be none, or why it was not taken in.
        """
        try:
            message = self._inbox.get(timeout=None if seconds == math.inf else max(seconds, 0))
        except queue.Empty:
            return None
        if isinstance(message, ServiceError):
            raise message
        return message


class ClientHooks:
    """The hooks of a session.

    Attributes:
        running: the execution that a hook is to ask its client through.
        waiting: how many of the live hooks are run by the client.
        ended: numbers of hooks that are gone with their tensor or node, and of removed ones of kind
            PACK, to be told to the client.
        packs: those of kind PACK, which live until they are removed.
        longest: instructions of the longest program that is, or was, a hook.
    """

    __slots__ = ("_live", "ended", "longest", "packs", "running", "waiting")

    def __init__(self) -> None:
        self._live: dict[int, weakref.ref[ClientHook | UnpackHook]] = {}
        self.packs: dict[int, PackHook] = {}
        self.running: Execution | None = None
        self.waiting = 0
        self.ended: list[int] = []
        self.longest = 0

    def add(self, hook: ClientHook | UnpackHook) -> None:
        """Note a hook, which lives as long as what it is registered on."""
        waits = hook.program is None
        self.note_length(hook.program)
        self._live[hook.number] = weakref.ref(hook, partial(self._forget, hook.number, waits))
        self.waiting += waits

    def remove(self, number: int) -> None:
        """Remove a hook; fine if it is not there, or ends with its node alone (UNPACK)."""
        pack = self.packs.pop(number, None)
        if pack is not None:
            self.ended.append(number)
            self.waiting -= pack.program is None
            return
        reference = self._live.get(number)
        hook = None if reference is None else reference()
        if isinstance(hook, ClientHook):
            del self._live[number]
            self.waiting -= hook.program is None
            for handle in hook.handles:
                handle.remove()

    def note_length(self, program: Program | None) -> None:
        """Remember how long a program is that runs in the midst of steps."""
        if program is not None:
            self.longest = max(self.longest, len(program.instructions))

    def add_pack(self, hook: PackHook) -> None:
        """Note a hook of kind PACK."""
        self.packs[hook.number] = hook
        self.waiting += hook.program is None

    def __contains__(self, number: int) -> bool:
        return number in self._live or number in self.packs

    def clear(self) -> None:
        """Forget all hooks."""
        self._live.clear()
        self.packs.clear()
        self.waiting = 0

    def _forget(self, number: int, waits: bool, reference: weakref.ref[ClientHook]) -> None:
        if self._live.pop(number, None) is not None:
            self.ended.append(number)
            self.waiting -= waits


class ClientHook:
    """A hook of a client, as the engine knows it. Lives as long as what it is registered on.

    Attributes:
        number: the client's name for it.
        max_value_bytes: larger values are left out of the calls; 0 for no such bound.
        program: what the server is to run in place of asking the client.
        handles: to remove it.
    """

    __slots__ = ("__weakref__", "_hooks", "handles", "max_value_bytes", "number", "program")

    def __init__(
        self, hooks: ClientHooks, number: int, max_value_bytes: int, program: Program | None
    ) -> None:
        self.number = number
        self.max_value_bytes = max_value_bytes
        self.program = program
        self.handles: list[RemovableHandle] = []
        self._hooks = hooks

    def register(self, kind: int, target: Tensor | AnyNode | list[Tensor]) -> None:
        """Let the engine call it.

        Raises:
            EngineError: HOOK_NO_GRAD, HOOK_NON_LEAF.
        """
        match kind, target:
            case pb.HOOK_KIND_TENSOR, Tensor():
                self.handles = [hooks.register_hook(target, self._on_gradient)]
            case pb.HOOK_KIND_POST_ACCUMULATE, Tensor():
                self.handles = [
                    hooks.register_post_accumulate_grad_hook(target, self._on_accumulation)
                ]
            case ((pb.HOOK_KIND_ALL | pb.HOOK_KIND_ANY), list()):
                self.handles = hooks.register_multi_grad_hook(
                    target, self._on_several, is_any=kind == pb.HOOK_KIND_ANY
                )
            case pb.HOOK_KIND_NODE_PRE, node if not isinstance(node, (Tensor, list)):
                self.handles = [hooks.register_prehook(node, self._before_node)]
            case pb.HOOK_KIND_NODE_POST, node if not isinstance(node, (Tensor, list)):
                self.handles = [hooks.register_posthook(node, self._after_node)]
            case _:
                raise malformed("the hook's kind and its target do not fit", "register_hook.kind")
        self._hooks.add(self)

    def _on_gradient(self, gradient: Any) -> Any:
        return self._ask((gradient,), 1)[0]

    def _before_node(self, gradients: Gradients) -> Gradients:
        return self._ask(gradients, len(gradients))

    def _after_node(self, gradients: Gradients, results: Gradients) -> Gradients:
        return self._ask((*gradients, *results), len(gradients))

    def _on_accumulation(self, leaf: Tensor) -> None:
        self._ask((leaf, leaf.grad), 0, without_value=1)

    def _on_several(self, gradients: Gradients) -> None:
        self._ask(gradients, 0)

    def _ask(
        self, gradients: Gradients, replaceable: int, *, without_value: int = 0
    ) -> Sequence[Any]:
        """Replacements of the first `replaceable` gradients; None where one stays."""
        execution = self._hooks.running
        assert execution is not None, "hooks run within a sequence"
        traced = current.context.running.creates_graph
        tensors = [
            each if each is None or isinstance(each, Tensor) else Tensor(each) for each in gradients
        ]
        if self.program is not None:
            answers = execution.run_program(self.program, tensors, traced)
        else:
            question = Question(self, tensors, replaceable, without_value, traced)
            answers = question.put_to_client(execution).replacements
        return [each if each is None or traced else each.data for each in answers]


class Asker(Protocol):
    """A hook that asks its client."""

    number: int
    max_value_bytes: int


class Reply(NamedTuple):
    """What a client's hook made of a call.

    Attributes:
        replacements: None where a gradient stays.
        unpack_hook: of a call of PACK, the number to ask for the tensor by; or 0.
    """

    replacements: list[Tensor | None]
    unpack_hook: int


@dataclass(frozen=True, slots=True)
class Question:
    """What a client's hook is asked: gradients on their way.

    Attributes:
        gradients: of the call; None where there is none.
        replaceable: so many of the first may be replaced.
        without_value: so many of the first are sent without value.
        creates_graph: the backward is recorded.
    """

    hook: Asker
    gradients: Sequence[Tensor | None]
    replaceable: int
    without_value: int
    creates_graph: bool

    def put_to_client(self, execution: Execution) -> Reply:
        """Ask, run the steps that the client wants to see run, and return its reply.

        Raises:
            ServiceError: HOOK_FAILED, HOOK_SHAPE, or why the sequence must end.
        """
        line, hook = execution.line, self.hook
        if line is None:
            raise _no_line(hook)
        call = line.open()
        around, execution.pause = execution.pause, call
        try:
            call.send(self._message(call, execution))
            answer = self._next_answer(call, execution)
            self._require_fit(answer[0])
            self._name_gradients(answer[0], execution)
            while answer[0].open:
                builder, failure = execution.run_aside(answer[0].steps, answer[1])
                call.send(builder.hook_result(call.number, failure))
                answer = self._next_answer(call, execution)
            replacements = self._replacements(*answer, execution)
            return Reply(replacements, answer[0].unpack_hook)
        except ServiceError as failure:
            failure.metadata["hook_call"] = str(call.number)
            raise
        finally:
            execution.pause = around
            line.close(call)

    def _message(self, call: Call, execution: Execution) -> bytes:
        """The HookCall. Values that are not wanted, or would not fit, are left out."""
        builder = AnswerBuilder(execution.number)
        left = execution.workspace.settings.max_message_bytes // 2
        for at, tensor in enumerate(self.gradients):
            if tensor is None:
                builder.add_absent(b"")
                continue
            size = tensor.data.nbytes
            wanted = at >= self.without_value and size <= min(
                left, self.hook.max_value_bytes or size
            )
            left -= size if wanted else 0
            builder.add(b"", tensor, wanted, info=True)
        return builder.hook_call(
            pb.HookCall(
                number=execution.number,
                hook=self.hook.number,
                call=call.number,
                replaceable=self.replaceable,
                create_graph=self.creates_graph,
            )
        )

    def _next_answer(self, call: Call, execution: Execution) -> Answered:
        seconds = execution.workspace.settings.hook_seconds
        until = perf_counter() + seconds
        while True:
            execution.check()
            answered = call.receive(min(execution.deadline, until) - perf_counter())
            if answered is not None:
                return answered
            if perf_counter() >= until:
                number = self.hook.number
                raise ServiceError(
                    "HOOK_FAILED",
                    f"the client did not answer the call of its hook {number} within {seconds:g} "
                    "seconds (hook_seconds); the function took too long, or it hangs",
                    metadata={"hook": number, "hook_seconds": seconds},
                )

    def _require_fit(self, answer: pb.HookAnswer) -> None:
        expected = len(self.gradients)
        if answer.gradients and len(answer.gradients) != expected:
            raise ServiceError(
                "HOOK_SHAPE",
                f"the answer has handles for {len(answer.gradients)} gradients, the call has "
                f"{expected}; give one for each (0 for none), or leave them out",
                metadata={"given": len(answer.gradients), "expected": expected},
            )

    def _name_gradients(self, answer: pb.HookAnswer, execution: Execution) -> None:
        workspace = execution.workspace
        named = [
            (handle, tensor)
            for handle, tensor in zip(answer.gradients, self.gradients, strict=False)
            if handle and tensor is not None
        ]
        workspace.require_free([handle for handle, _ in named], "hook_answer.gradients")
        for handle, tensor in named:
            workspace.tensors[handle] = tensor
            workspace.bytes_bound += tensor.data.nbytes

    def _replacements(
        self, answer: pb.HookAnswer, payloads: Sequence[memoryview], execution: Execution
    ) -> list[Tensor | None]:
        """What the last answer puts in place of the gradients."""
        number = self.hook.number
        if answer.error:
            raise ServiceError(
                "HOOK_FAILED",
                f"hook {number} raised an exception: {answer.error}",
                metadata={"hook": number, "error": answer.error},
            )
        _, failure = execution.run_aside(answer.steps, payloads)
        if failure is not None:
            failure.metadata["hook"] = str(number)
            raise failure
        given = answer.replacements
        if given and len(given) != self.replaceable:
            raise ServiceError(
                "HOOK_SHAPE",
                f"hook {number} gave {len(given)} gradients in place of {self.replaceable}",
                metadata={"given": len(given), "expected": self.replaceable},
            )
        if not given:
            return [None] * self.replaceable
        return [
            execution.workspace.tensor(handle, f"hook_answer.replacements[{at}]")
            if handle
            else None
            for at, handle in enumerate(given)
        ]


def _no_line(hook: Asker) -> ServiceError:
    return ServiceError(
        "HOOK_FAILED",
        f"the sequence met hook {hook.number}, whose function is the client's, but Run cannot "
        "carry the call; send the sequence through RunStream, or remove the hook",
        metadata={"hook": hook.number},
    )
