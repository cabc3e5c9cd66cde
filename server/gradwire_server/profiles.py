"""Profiles of sequences: which steps and nodes took how long, as clients are told it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.node import AnyNode
from gradwire_engine.profile import Entry, Kind, Profile, bytes_of
from gradwire_server import decode

if TYPE_CHECKING:
    from gradwire_server.sequences import Step
    from gradwire_server.workspace import Workspace

_KINDS: Final[dict[Kind, pb.ProfileKind]] = {
    "step": pb.PROFILE_KIND_STEP,
    "op": pb.PROFILE_KIND_OP,
    "node": pb.PROFILE_KIND_NODE,
    "program": pb.PROFILE_KIND_PROGRAM,
    "group": pb.PROFILE_KIND_GROUP,
}

ENTRY_BYTES: Final = 80
"""About what one entry takes in a message, at most."""


_LOGGED: Final = 5
"""So many names are logged."""


class SequenceProfile:
    """The profile of one sequence, while it runs.

    Attributes:
        ran: what has run.
    """

    __slots__ = ("_started", "_workspace", "ran")

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._started = time.time_ns()
        self.ran = Profile(workspace.node_times)

    @contextmanager
    def step(self, step: Step, position: int) -> Iterator[None]:
        """Report the step that runs within."""
        kind, message = step.kind, step.message
        if kind == "op":
            op = message.op
            made = next(iter(decode.makes(message)))[0]
            with self.op(op.name, made or op.inputs[:1], position):
                yield
            return
        with self.ran.entry("step", kind, (position, -1)) as entry:
            yield
            told = (
                message.fetch.tensors
                if message.fetch.values
                else [handle for made, _ in decode.makes(message) for handle in made]
            )
            entry.bytes = sum(self._bytes_of(each) for each in told)

    @contextmanager
    def op(self, name: str, made: Sequence[int], position: int, call: int = -1) -> Iterator[None]:
        """Report the operator that runs within.

        Args:
            name: of the operator.
            made: the handles of its results, or of what it changes.
            position: of the step.
            call: which call of the step it is, if that is an Ops.
        """
        before = self._workspace.context.next_id()
        with self.ran.entry("op", name, (position, call)) as entry:
            yield
            node = self._recorded(made, before)
            if node is None:
                entry.bytes = sum(self._bytes_of(each) for each in made)
            else:
                entry.node = node.id
                entry.bytes = bytes_of(node.outputs)
        if node is not None:
            self.ran.times_of(node).forward += entry.duration

    def _recorded(self, made: Sequence[int], before: int) -> AnyNode | None:
        """The node that an operator recorded, if it is numbered after `before`."""
        result = self._workspace.tensors.get(made[0]) if made else None
        if result is None or result.edge is None or result.edge[0].id <= before:
            return None
        return result.edge[0]

    def _bytes_of(self, handle: int) -> int:
        tensor = self._workspace.tensors.get(handle)
        return 0 if tensor is None else tensor.data.nbytes

    def message(self, most_bytes: int) -> pb.Profile:
        """The profile as clients are told it, in about so many bytes at most."""
        entries = self.ran.all_entries()
        if len(entries) * ENTRY_BYTES > most_bytes:
            entries = self.ran.summary()[: max(0, most_bytes // ENTRY_BYTES)]
        message = pb.Profile(duration_ns=round(self.ran.seconds * 1e9))
        message.start_time.FromNanoseconds(self._started)
        message.entries.extend(_messages(entries))
        return message


def most_time(profile: pb.Profile) -> dict[str, float]:
    """The names that most time went to themselves, with their seconds."""
    seconds: dict[str, float] = {}
    for each in profile.entries:
        own = (each.duration_ns - each.inner_ns) / 1e9
        seconds[each.name] = seconds.get(each.name, 0.0) + own
    most = sorted(seconds.items(), key=lambda item: -item[1])
    return {name: round(own, 6) for name, own in most[:_LOGGED]}


def _messages(entries: Iterable[Entry]) -> Iterator[pb.ProfileEntry]:
    for each in entries:
        step, call = (-1, -1) if each.place is None else each.place
        yield pb.ProfileEntry(
            kind=_KINDS[each.kind],
            name=each.name,
            start_ns=each.start,
            duration_ns=each.duration,
            inner_ns=each.inner,
            bytes=each.bytes,
            count=each.count,
            parent=each.parent + 1,
            step=step + 1,
            node=each.node,
            call=call + 1,
        )
