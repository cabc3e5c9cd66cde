"""What the answer to a sequence means to its session. Runs while it is read, and takes no lock."""

from typing import TYPE_CHECKING, Final

from gradwire.pipeline import Request
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.core import SessionCore

_BROKEN_OFF: Final = frozenset({"HOOK_FAILED", "CANCELLED", "DEADLINE_EXCEEDED"})
"""Failures of a backward whose hook may have answered in vain."""


def note_answer(session: "SessionCore", request: Request) -> None:
    """Take note of the answer to a request. They come in order."""
    session.acknowledged = request.number
    assert request.result is not None
    for number in request.result.ended_hooks:
        session.hooks.pop(number, None)
        session.hooks_there.discard(number)
    if request.result.HasField("error"):
        _note_error(session, request, request.result.error)
    else:
        session.failures.forget(request.released)
    if request.profile is not None and request.result.HasField("profile"):
        request.profile.add(session.id, request.number, request.result.profile, request.entries)
    request.entries = []


def _note_error(session: "SessionCore", request: Request, status: pb.Error) -> None:
    error, at = session.failures.placed(request, status)
    if error.metadata.get("hook_call") == str(request.hook_call):
        # What this answer was to make has not been made.
        session.hooks.pop(request.unpack_hook, None)
    for step_at, handles in request.released:
        if step_at >= at:
            session.recorder.release_again(handles)
    if error.reason in _BROKEN_OFF and "error" not in error.metadata:
        # Whether the last answer of a hook arrived, nobody can tell.
        session.recorder.void.update(request.hook_handles)
    if request.interrupted and error.reason in ("CANCELLED", "HOOK_FAILED"):
        return
    # The user's own exception, raised in a hook, is what the backward raises.
    raised = request.hook_error if error.reason == "HOOK_FAILED" else None
    request.error = raised or error
    session.failures.note(request.owner, request.error)
