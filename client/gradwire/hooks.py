"""Hooks: functions of the user that see, and may replace, gradients on their way.

A backward that meets a hook pauses on the server, and the stream brings a call. The function runs
here, on tensors of the very session; what it records goes to a recorder of its own, and is run by
the server in the midst of the backward: when the function reads something, or with its answer.
"""

import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from gradwire import codec, current, modes
from gradwire import tensors as _tensors
from gradwire.capture import Capture, is_of
from gradwire.codec import Fetched, decode_info, decode_value
from gradwire.encoding import entry_at
from gradwire.errors import GradwireError, SessionError, from_status, refused
from gradwire.location import locate
from gradwire.pipeline import Aside
from gradwire.pure import is_pure
from gradwire.reading import known
from gradwire.recorder import Batch, Entry, Recorder, mark_of, outputs_of
from gradwire.transfer import values_in
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.core import SessionCore
    from gradwire.tensors import Tensor

MOST_BYTES: Final = 1 << 20
"""Gradients up to this size come with the call; larger ones only if the function reads them."""

_FIRST_HANDLE: Final = 1 << 40
"""Handles of what hooks record begin here: they are given without asking who else records."""

_MOST_ERROR: Final = 1000


@dataclass(frozen=True, slots=True)
class Hook:
    """A function that was registered.

    Attributes:
        number: Its name on the wire.
        kind: When it runs.
        function: The user's.
        leaf: For a post-accumulate hook the tensor, while the program has it.
        unpack: Of a pack hook, the function that goes with it.
        packed: Of an unpack hook, what the other one returned.
    """

    number: int
    kind: int
    function: Callable[..., Any]
    leaf: "weakref.ref[Tensor] | None" = None
    unpack: Callable[[Any], Any] | None = None
    packed: object = None


class RemovableHandle:
    """What a registration returns: `remove()` takes the hook away.

    A context manager: leaving it removes the hook.

    Attributes:
        id: The hook's number in its session.
    """

    __slots__ = ("_session", "id")

    def __init__(self, session: "SessionCore", number: int) -> None:
        self._session = weakref.ref(session)
        self.id = number

    def remove(self) -> None:
        """Take the hook away; a second time does nothing."""
        session = self._session()
        if session is None or session.closed:
            return
        if session.hooks.pop(self.id, None) is None:
            if self.id not in session.hooks_there:
                return
            session.hooks_there.discard(self.id)
        session.step(pb.Step(remove_hook=pb.RemoveHook(hook=self.id)))

    def __enter__(self) -> "RemovableHandle":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


def register(
    session: "SessionCore",
    message: pb.RegisterHook,
    function: Callable[..., Any],
    leaf: "Tensor | None" = None,
) -> RemovableHandle:
    """Register a function; `message` says on what, and when it is to run.

    A function on one tensor that is nothing but operators goes to the server as a program.

    Raises:
        TypeError: it is no function.
    """
    if not callable(function):
        raise TypeError(f"a hook must be callable, not {type(function).__name__}")
    message.hook = next(session.hook_numbers)
    message.max_value_bytes = MOST_BYTES
    program = program_of(session, function) if message.kind == pb.HOOK_KIND_TENSOR else None
    if program is not None:
        message.program.CopyFrom(program)
        session.hooks_there.add(message.hook)
        session.step(pb.Step(register_hook=message))
        return RemovableHandle(session, message.hook)
    reference = None if leaf is None else weakref.ref(leaf)
    # Before the step, for a backward may call it as soon as that is sent.
    session.hooks[message.hook] = Hook(message.hook, message.kind, function, reference)
    session.step(pb.Step(register_hook=message))
    return RemovableHandle(session, message.hook)


def program_of(session: "SessionCore", function: Callable[..., Any]) -> pb.Program | None:
    """What the server can run in place of the function; None if the function must run here."""
    if not is_pure(function):
        return None
    capture = Capture(session, "a hook")
    gradient = capture.placeholder()
    try:
        with modes.set_grad_enabled(True):
            answer = function(gradient)
    except Exception:
        # Whatever is wrong with it, or too much for a capture, shows when it runs.
        return None
    if not isinstance(answer, _tensors.Tensor) or not is_of(answer, capture) or capture.lifted:
        return None
    return capture.program([gradient], [answer])


def require_grad(tensor: "Tensor") -> None:
    """Refuse at once what is known to be refused later: a tensor that does not require grad."""
    found = tensor._known
    if found is None or found.info is None or found.info_at != tensor._session.changes:
        return
    if not found.info.requires_grad:
        raise refused(
            "HOOK_NO_GRAD",
            "a hook needs a tensor that requires grad; this one does not, so no gradient will ever "
            "reach it",
        )


_running: Final[ContextVar["HookRun | None"]] = ContextVar("gradwire_hook", default=None)


def running(session: "SessionCore") -> "HookRun | None":
    """The hook of that session that runs in this context."""
    run = _running.get()
    return run if run is not None and run.session is session else None


class HookRun:
    """One call of a hook, from its arrival to its answer.

    Attributes:
        session: whose backward waits.
        recorder: for what the function records.
    """

    def __init__(self, session: "SessionCore", message: Aside, connection: object) -> None:
        self.session = session
        self.recorder = session.hook_recorder
        self._call = message.response.hook_call
        self._payloads = message.payloads
        self._connection = connection
        self._handles: list[int] = []
        self._named = False

    async def run(self) -> None:
        """Run the function and send its answer. What it raises is kept for the backward."""
        session, call = self.session, self._call
        hook = session.hooks.get(call.hook)
        if hook is None:
            # Removed while the backward was on its way.
            self._answer(pb.HookAnswer(call=call.call))
            return
        token = _running.set(self)
        # Hooks are not under those of whoever happens to wait.
        around = modes.set_saved_hooks(0)
        try:
            answer = pb.HookAnswer(call=call.call)
            with current.chosen(session), modes.set_grad_enabled(call.create_graph):
                if hook.kind == pb.HOOK_KIND_PACK:
                    answer.unpack_hook = await self._pack(hook)
                else:
                    answer.replacements.extend(await self._call_function(hook))
            if not self._answer(answer):
                session.hooks.pop(answer.unpack_hook, None)
        except Exception as error:
            request = session.request_of(call.number)
            if request is not None:
                request.hook_error = error
            self._discard()
            text = f"{type(error).__name__}: {error}"[:_MOST_ERROR]
            self._answer(pb.HookAnswer(call=call.call, error=text))
        except BaseException:
            # Ctrl-C and the like: the sequence is cancelled, and no answer is due.
            self._discard()
            self._abandon()
            raise
        finally:
            modes.set_saved_hooks(around)
            _running.reset(token)
            if hook.kind != pb.HOOK_KIND_PACK:
                # Gradients that were read meanwhile are not final.
                session.note_hook_ran(call.create_graph)

    async def ask(self, steps: Sequence[pb.Step]) -> list[Fetched]:
        """Run what the function has recorded, and these steps; what the fetches answer.

        Raises:
            GradwireError: one of them failed, or the connection is lost.
        """
        for step in steps:
            self.recorder.step(step)
        self.session.unsettled = False
        entries = self.recorder.entries
        if not entries:
            return []
        if not self._answer(pb.HookAnswer(call=self._call.call, open=True)):
            raise SessionError(
                "the connection was lost while a hook ran, and with it the backward that waited"
            )
        message = await self.session.hook_result(self._call.call, self._connection)
        result = message.response.hook_result
        if result.HasField("error"):
            raise _located(result.error, entries)
        return await values_in(self.session, result.fetched, message.payloads)

    async def _pack(self, hook: Hook) -> int:
        """Call the function of a pack hook, and keep what it returns; the number for that."""
        arguments = tuple(self._tensors(hook))
        packed = await self.session.call_hook(hook.function, arguments)
        number = next(self.session.hook_numbers)
        assert hook.unpack is not None, "pack hooks come with the other one"
        self.session.hooks[number] = Hook(number, pb.HOOK_KIND_UNPACK, hook.unpack, packed=packed)
        return number

    async def _call_function(self, hook: Hook) -> list[int]:
        """Call the function; the handles of what it puts in place of the gradients."""
        call = self._call
        count = call.replaceable
        tensors = self._tensors(hook)
        arguments: tuple[Any, ...]
        match hook.kind:
            case pb.HOOK_KIND_NODE_PRE:
                arguments = (tuple(tensors),)
            case pb.HOOK_KIND_NODE_POST:
                arguments = (tuple(tensors[:count]), tuple(tensors[count:]))
            case pb.HOOK_KIND_ALL:
                arguments = (tensors,)
            case pb.HOOK_KIND_UNPACK:
                arguments = (hook.packed,)
            case _:
                arguments = (tensors[0],)
        # The list must not keep alive what only the function is to hold.
        del tensors
        answer = await self.session.call_hook(hook.function, arguments)
        if hook.kind == pb.HOOK_KIND_UNPACK:
            return [self._handle_of(answer, "an unpack hook must return a tensor")]
        if answer is None or not count:
            return []
        given = answer if isinstance(answer, (tuple, list)) else (answer,)
        return [0 if each is None else self._handle_of(each) for each in given]

    def _tensors(self, hook: Hook) -> "list[Tensor | None]":
        """The gradients as tensors, whose values are known already."""
        session, call = self.session, self._call
        leaf = None if hook.leaf is None else hook.leaf()
        first = self.recorder.handles(len(call.gradients))
        made: list[Tensor | None] = []
        for at, fetched in enumerate(call.gradients):
            if fetched.absent:
                made.append(None)
                self._handles.append(0)
                continue
            if leaf is not None and at == 0:
                made.append(leaf)
                self._handles.append(0)
                continue
            grad = known(leaf).grad if leaf is not None else None
            if grad is None:
                tensor = session.tensor_type(first + at, session)
                self._handles.append(first + at)
            else:
                # A backward adds to the `.grad` that there is.
                tensor = grad
                self._handles.append(0)
            remembered = known(tensor)
            remembered.info = decode_info(fetched.info)
            remembered.info_at = session.changes
            if fetched.HasField("value"):
                remembered.value = decode_value(fetched.value, self._payloads)
                remembered.value_at = session.changes
            if leaf is not None:
                known(leaf).grad, known(leaf).grad_at = tensor, session.backwards
                session.grads_seen = True
            made.append(tensor)
        return made

    def _handle_of(
        self,
        answer: object,
        due: str = "a hook must return None, or a tensor in place of each gradient",
    ) -> int:
        if not isinstance(answer, _tensors.Tensor):
            raise TypeError(f"{due}, not {type(answer).__name__}")
        if answer._session is not self.session:
            raise refused(
                "BAD_VALUE",
                "a hook must return a tensor of the session whose backward it runs in; carry a "
                "value over with gradwire.tensor(t.detach().numpy())",
            )
        return answer._handle

    def _answer(self, answer: pb.HookAnswer) -> bool:
        """Send an answer with what was recorded; whether the connection was still there."""
        session = self.session
        if not self._named:
            answer.gradients.extend(self._handles)
            self._named = True
        batch = self.recorder.take()
        if batch is None:
            batch = Batch([], [], [])
        session.announce_hooks(batch)
        made = [*answer.gradients, *(each for entry in batch.entries for each in outputs_of(entry))]
        request = session.request_of(self._call.number)
        if request is not None:
            request.hook_entries = batch.entries
            request.hook_handles = made
            request.hook_call = answer.call
            request.unpack_hook = answer.unpack_hook
        sent = session.answer_hook(
            codec.encode_hook_answer(session.id, answer, batch), self._connection
        )
        if not sent:
            session.recorder.void.update(made)
        return sent

    def _discard(self) -> None:
        """Forget what was recorded and not sent."""
        batch = self.recorder.take()
        for entry in [] if batch is None else batch.entries:
            self.session.recorder.void.update(outputs_of(entry))

    def _abandon(self) -> None:
        if not self._named:
            self.session.recorder.void.update(self._handles)


def make_recorder() -> Recorder:
    """A recorder for what hooks of a session record."""
    return Recorder(first=_FIRST_HANDLE)


def _located(status: pb.Error, entries: Sequence[Entry]) -> GradwireError:
    error = from_status(status)
    at = entry_at(entries, error.metadata, "hook_step", "hook_step_call")
    return error if at is None else error.at(locate(mark_of(entries[at])))
