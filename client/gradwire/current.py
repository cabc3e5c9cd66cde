"""The open sessions of this process, and which of them is the current one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, TypeVar

from gradwire.errors import SessionError

if TYPE_CHECKING:
    from gradwire.core import SessionCore

S = TypeVar("S", bound="SessionCore")

_chosen: Final[ContextVar["SessionCore | None"]] = ContextVar("gradwire_session", default=None)
_open: Final[list["SessionCore"]] = []
_had_session = False


def current() -> "SessionCore":
    """The session that new tensors go to.

    The one that this context (thread, task, greenlet) opened or chose last, else the newest open
    one of the process, but for those of other event loops. A process that never opened one gets the
    embedded server's.

    Raises:
        SessionError: there were sessions, and all are closed.
    """
    session = peek()
    if session is not None:
        return session
    if _had_session:
        raise SessionError("no session is open any more; open one with gradwire.connect()")
    from gradwire.connecting import connect  # the one place where the arrow points back

    return connect()


def peek() -> "SessionCore | None":
    """The current session, as `current`; None where there is none yet, or none any more."""
    session = _chosen.get()
    if session is not None and not session.closed:
        return session
    return next((each for each in reversed(_open) if each.is_near), None)


@contextmanager
def chosen(session: S) -> Iterator[S]:
    """Make a session the current one of this context for a while."""
    token = _chosen.set(session)
    try:
        yield session
    finally:
        _chosen.reset(token)


def opened(session: "SessionCore") -> None:
    """Note a session that was opened, and make it this context's current one."""
    global _had_session
    _had_session = True
    _open.append(session)
    _chosen.set(session)


def closed(session: "SessionCore") -> None:
    """Note a session that was closed."""
    if session in _open:
        _open.remove(session)
    if _chosen.get() is session:
        _chosen.set(None)


def open_sessions() -> tuple["SessionCore", ...]:
    """All open sessions of this process, oldest first."""
    return tuple(_open)


def _forget_after_fork() -> None:
    # The parent's connections are not the child's to use, and closing them is not its business.
    global _had_session
    for session in _open:
        session.disown()
    _open.clear()
    _chosen.set(None)
    _had_session = False


os.register_at_fork(after_in_child=_forget_after_fork)
