"""The pure core of a session: it records steps and makes sequences of them. No I/O here.

Recording an operator must cost about as much as calling one, so a step is a plain tuple until it
is sent, and the user's line a code object with an offset.
"""

import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Final

from gradwire.dtypes import dtype
from gradwire.location import PACKAGE, Mark, mark
from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import Payload

FLUSH_STEPS: Final = 256
"""So many steps are sent without waiting for more, so that the server works while one records."""

FLUSH_BYTES: Final = 1 << 20
"""So many bytes of tensor data are sent without waiting for more."""

_RELEASED_EARLY: Final = 2
"""So many dropped handles are worth a step of their own before a backward."""

_BACKWARDS: Final = frozenset({"backward", "grad"})


class Handles(tuple[int, ...]):
    """Tensors as the value of an attribute, for arguments of type `Tensor[]`; 0 is none."""

    __slots__ = ()


AttributeValue = (
    bool | int | float | complex | str | dtype | Handles | tuple[int, ...] | tuple[float, ...]
)
Attribute = tuple[str, AttributeValue]
OpEntry = tuple[str, tuple[int, ...], int, int, tuple[Attribute, ...], int, CodeType | None, int]
"""Name, inputs, first output, number of outputs, attributes, `GradMode`; and the
place that recorded it, as a `Mark` spelled out: one object less for each operator."""
StepEntry = tuple[pb.Step, Mark | None]
Entry = OpEntry | StepEntry


@dataclass(slots=True)
class Batch:
    """Steps that travel together.

    Attributes:
        entries: The steps in order, each with the place of the line that recorded it.
        payloads: Tensor data that the steps name by index.
        released: Handles dropped by the batch's release steps, each with its step's index.
    """

    entries: list[Entry]
    payloads: list[Payload]
    released: list[tuple[int, tuple[int, ...]]]


class Recorder:
    """Allocates handles, and collects steps until they are taken to be sent.

    Callers hold the session's lock, except for `release`, which any thread may call at any time.
    """

    __slots__ = (
        "_dropped",
        "_dropped_programs",
        "_next",
        "_payload_bytes",
        "_payloads",
        "_released",
        "_user",
        "entries",
        "most_steps",
        "release",
        "release_program",
        "void",
    )

    def __init__(self, most_steps: int = 0, first: int = 1) -> None:
        """Make a recorder whose sequences stay below `most_steps` steps, if that is not 0.

        Its handles begin at `first`.
        """
        self.most_steps = min(FLUSH_STEPS, max(1, most_steps - 8)) if most_steps else FLUSH_STEPS
        """So many entries are enough to be sent."""
        self.entries: list[Entry] = []
        self._payloads: list[Payload] = []
        self._payload_bytes = 0
        self._next = first
        self._released: list[tuple[int, tuple[int, ...]]] = []
        # What recorded last: most often it is what records next, and need not be looked at again.
        self._user: CodeType | None = None
        self._dropped: deque[int] = deque()
        self.release = self._dropped.append
        """Note that a handle is not needed any more. Safe in finalizers: takes no lock."""
        self._dropped_programs: deque[str] = deque()
        self.release_program = self._dropped_programs.append
        """The same for a program."""
        self.void: set[int] = set()
        """Handles that no step will ever make, so that nothing is to be released."""

    def handles(self, count: int = 1) -> int:
        """The first of `count` new handles."""
        first = self._next
        self._next = first + count
        return first

    def op(
        self,
        name: str,
        inputs: tuple[int, ...],
        attributes: tuple[Attribute, ...],
        outputs: int,
        grad_mode: int,
    ) -> int:
        """Record an operator; the handle of its first result (0 for no results)."""
        if outputs:
            output = self._next
            self._next = output + outputs
        else:
            output = 0
        # As `mark` does, but for the frames that are always between: this method, the session's,
        # the recording function and the method or function that the user called.
        caller = sys._getframe(3)
        frame: FrameType | None = caller
        code: CodeType | None = caller.f_code
        if code is not self._user:
            while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
                frame = frame.f_back
            code = self._user = None if frame is None else frame.f_code
        offset = 0 if frame is None else frame.f_lasti
        self.entries.append((name, inputs, output, outputs, attributes, grad_mode, code, offset))
        return output

    def step(self, step: pb.Step) -> None:
        """Record a step of another kind.

        What was dropped before a backward is released before it, so that its memory serves the
        backward; else dropped handles wait until what is recorded is taken.
        """
        if step.WhichOneof("kind") in _BACKWARDS:
            self._drain(_RELEASED_EARLY)
        self.entries.append((step, mark()))

    def payload(self, data: Payload) -> int:
        """Add tensor data; its index."""
        self._payloads.append(data)
        self._payload_bytes += len(data) if isinstance(data, bytes) else data.nbytes
        return len(self._payloads) - 1

    @property
    def is_full(self) -> bool:
        """Whether enough is recorded to be sent."""
        return len(self.entries) >= self.most_steps or self._payload_bytes >= FLUSH_BYTES

    @property
    def payload_bytes(self) -> int:
        """Bytes of tensor data that wait to be sent."""
        return self._payload_bytes

    def release_again(self, handles: Iterable[int]) -> None:
        """Note handles whose release did not happen, because a step before it failed."""
        self._dropped.extend(handles)

    def _drain(self, least: int) -> None:
        """Record the release of dropped handles, if there are at least so many."""
        count = len(self._dropped)
        if count < least:
            return
        # More may be dropped meanwhile; nobody else takes any away.
        take = self._dropped.popleft
        handles = [take() for _ in range(count)]
        if self.void:
            void = self.void.intersection(handles)
            self.void -= void
            handles = [handle for handle in handles if handle not in void]
            if not handles:
                return
        self._released.append((len(self.entries), tuple(handles)))
        self.entries.append((pb.Step(release=pb.Release(tensors=handles)), None))

    def _drain_programs(self) -> None:
        if self._dropped_programs:
            take = self._dropped_programs.popleft
            dropped = [take() for _ in range(len(self._dropped_programs))]
            self.entries.append((pb.Step(release=pb.Release(programs=dropped)), None))

    def take(self) -> Batch | None:
        """All that is recorded, dropped handles included; None if there is nothing."""
        self._drain(least=1)
        self._drain_programs()
        if not self.entries:
            return None
        batch = Batch(self.entries, self._payloads, self._released)
        self.entries, self._payloads, self._released = [], [], []
        self._payload_bytes = 0
        return batch

    def put_back(self, batch: Batch) -> None:
        """Undo `take`, but for fetches: whoever was to look at their answers has gone."""
        released = dict(batch.released)
        self._released = []
        for at, entry in enumerate(batch.entries):
            if len(entry) == 2 and entry[0].HasField("fetch"):
                continue
            if at in released:
                self._released.append((len(self.entries), released[at]))
            self.entries.append(entry)
        self._payloads = batch.payloads
        self._payload_bytes = sum(memoryview(each).nbytes for each in batch.payloads)


def outputs_of(entry: Entry) -> range | tuple[int, ...]:
    """Handles that a step makes."""
    if len(entry) > 2:
        return range(entry[2], entry[2] + entry[3])
    step = entry[0]
    match step.WhichOneof("kind"):
        case "put":
            return (step.put.output,)
        case "grad":
            return range(step.grad.output, step.grad.output + len(step.grad.inputs))
        case "call_program":
            call = step.call_program
            return range(call.output, call.output + call.output_count)
        case "jvp":
            return range(step.jvp.output, step.jvp.output + len(step.jvp.outputs))
        case "get_grad":
            return tuple(step.get_grad.outputs)
        case "get_saved":
            return tuple(step.get_saved.outputs)
        case _:
            return ()


def mark_of(entry: Entry) -> Mark | None:
    """The place in the user's program that recorded a step."""
    if len(entry) == 2:
        return entry[1]
    return None if entry[6] is None else (entry[6], entry[7])
