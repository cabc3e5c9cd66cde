"""Saved-tensor hooks: functions of the user that see each tensor kept for backward.

Steps that are recorded within a scope name it by its number, which is the number of a hook of kind
PACK. A session is told of the hook with the first sequence that needs it, so entering costs
nothing; and since numbers are the process's, it does not matter to which sessions tensors belong.
What `pack` returns stays here, under the number of a hook of kind UNPACK, until the server says
that its node is done with it.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ContextDecorator
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from gradwire import current, hooks, modes
from gradwire.errors import refused
from gradwire.location import Mark, mark
from gradwire.recorder import Batch, Entry
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.core import SessionCore

_numbers: Final = itertools.count(1 << 40)
"""Far above those that sessions give to other hooks."""

_scopes: Final[dict[int, "_Scope"]] = {}
"""Those that are entered now, by number."""

_disabled: Final[ContextVar[str | None]] = ContextVar("gradwire_no_saved_hooks", default=None)


class _Scope:
    """A `with` block under saved-tensor hooks, from its beginning to its end."""

    def __init__(self, pair: "saved_tensors_hooks") -> None:
        self.number = next(_numbers)
        self.pair = pair
        self.mark: Mark | None = mark()
        self.before = modes.set_saved_hooks(self.number)
        _scopes[self.number] = self

    def register(self, session: "SessionCore") -> Entry:
        """The step that tells a session of the hook."""
        message = pb.RegisterHook(
            hook=self.number, kind=pb.HOOK_KIND_PACK, max_value_bytes=hooks.MOST_BYTES
        )
        pair = self.pair
        if pair.programs is None:
            session.hooks[self.number] = hooks.Hook(
                self.number, pb.HOOK_KIND_PACK, pair.pack_hook, unpack=pair.unpack_hook
            )
        else:
            pack, unpack = pair.programs
            message.program.CopyFrom(pack)
            message.unpack.CopyFrom(unpack)
        session.saved_hooks.add(self.number)
        return pb.Step(register_hook=message), self.mark

    def leave(self, *, wait: bool) -> None:
        """Let what was recorded run, and end the hook in all sessions that know of it."""
        modes.set_saved_hooks(self.before)
        try:
            for session in current.open_sessions():
                _end(session, self.number, wait=wait and self.pair.programs is None)
        finally:
            del _scopes[self.number]


def announce(session: "SessionCore", batch: Batch) -> None:
    """Let a batch begin with the registration of the hooks that its steps name."""
    if not _scopes:
        return
    fresh = [
        _scopes[number].register(session)
        for number in dict.fromkeys(_scopes_of(batch.entries))
        if number in _scopes and number not in session.saved_hooks
    ]
    batch.entries[:0] = fresh
    batch.released[:] = [(at + len(fresh), handles) for at, handles in batch.released]


def _end(session: "SessionCore", number: int, *, wait: bool) -> None:
    """End the hook of that number in a session, after what was recorded under it.

    Args:
        wait: Until that ran, where waiting is fine.
    """
    if session.closed:
        return
    if (hook := session.hook_here()) is not None:
        if number in session.saved_hooks or number in _scopes_of(hook.recorder.entries):
            session.wait_for_backward()
    else:
        with session.lock:
            if number in _scopes_of(session.recorder.entries):
                session.send_recorded()
    if number not in session.saved_hooks:
        return
    session.saved_hooks.discard(number)
    try:
        if wait:
            session.wait_for_backward()
    finally:
        # In a sequence of its own, for steps after one that failed do not run.
        session.step(pb.Step(remove_hook=pb.RemoveHook(hook=number)))


def _scopes_of(entries: Iterable[Entry]) -> Iterator[int]:
    """The numbers of the hooks that steps name."""
    for entry in entries:
        if len(entry) > 2:
            if isinstance(entry[5], modes.UnderHooks):
                yield entry[5].hooks
        elif entry[0].saved_hooks:
            yield entry[0].saved_hooks


class saved_tensors_hooks:  # noqa: N801 (PyTorch's name)
    """Within it each tensor that is kept for backward goes through a pair of functions.

    `pack_hook(tensor)` is called once an operator kept a tensor, under `no_grad`, and returns
    whatever is to be kept in its place; it must not change the tensor in place.
    `unpack_hook(packed)` is called when a backward needs the tensor, and returns one of the same
    shape and dtype. Where scopes are nested the innermost counts. As in PyTorch, nobody looks any
    more whether the tensor was changed in place since.

    The functions run on this side, as other hooks do: `pack_hook` when the operators run, which is
    at the end of the scope at the latest. Functions of one tensor that are nothing but operators,
    such as `lambda t: t.half()` and `lambda t: t.float()`, run on the server, and what they pack
    stays there.

    Raises:
        TypeError: one of them is no function; from `unpack_hook`, it returned no tensor.
        RuntimeError: within `disable_saved_tensors_hooks`; and at the end of the scope, or when
            something is read before, for what `pack_hook` may not do.
    """

    def __init__(self, pack_hook: Callable[[Any], Any], unpack_hook: Callable[[Any], Any]) -> None:
        for name, each in (("pack_hook", pack_hook), ("unpack_hook", unpack_hook)):
            if not callable(each):
                raise TypeError(f"{name} must be callable, not {type(each).__name__}")
        self.pack_hook = pack_hook
        self.unpack_hook = unpack_hook
        self.programs: tuple[pb.Program, pb.Program] | None = None
        self._scopes: list[_Scope] = []

    def __enter__(self) -> None:
        message = _disabled.get()
        if message is not None:
            raise refused("HOOKS_DISABLED", message)
        if self.programs is None:
            self.programs = self._as_programs()
        self._scopes.append(_Scope(self))

    def _as_programs(self) -> tuple[pb.Program, pb.Program] | None:
        session = next(iter(current.open_sessions()), None)
        if session is None:
            return None
        pack = hooks.program_of(session, self.pack_hook)
        unpack = None if pack is None else hooks.program_of(session, self.unpack_hook)
        return None if pack is None or unpack is None else (pack, unpack)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scopes.pop().leave(wait=error is None)


class save_on_cpu(saved_tensors_hooks):  # noqa: N801 (PyTorch's name)
    """Within it a copy of each tensor is kept for backward, in the memory of the server.

    Tensors live there anyway, so nothing moves; what PyTorch's gives besides holds here as well:
    a tensor that is changed in place afterwards has the gradients of its value from before.
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        """Take PyTorch's arguments, which change nothing here."""
        super().__init__(lambda tensor: tensor.clone(), lambda packed: packed)


class disable_saved_tensors_hooks(ContextDecorator):  # noqa: N801 (PyTorch's name)
    """Within it saved-tensor hooks are refused with a RuntimeError of this text.

    Also a decorator of functions.

    Raises:
        RuntimeError: it is used within such hooks.
    """

    def __init__(self, error_message: str) -> None:
        self._message = error_message
        self._before: list[str | None] = []

    def __enter__(self) -> None:
        if modes.saved_hooks():
            raise refused("HOOKS_DISABLED", self._message)
        self._before.append(_disabled.get())
        _disabled.set(self._message)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _disabled.set(self._before.pop())
