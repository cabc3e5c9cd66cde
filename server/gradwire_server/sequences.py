"""Sequences as they are run: each step taken apart once, when it first runs.

A client that sends the same sequence again and again, with other payloads, has it taken apart once:
sequences without a number, whose bytes therefore repeat, are found again by these bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from gradwire.v1 import autograd_pb2 as pb
from gradwire_server.errors import ServiceError, malformed
from gradwire_server.kinds import KINDS
from gradwire_server.repeats import Repeats

if TYPE_CHECKING:
    from gradwire_server.execute import Execution

_MOST_KEPT: Final = 128
"""So many sequences are found again, those that ran last."""

MAX_KEPT_BYTES: Final = 4096
"""A sequence of more bytes is not kept: taken apart, it takes some thirty times as many."""

_MODES: Final = (pb.GRAD_MODE_UNSPECIFIED, pb.GRAD_MODE_NO_GRAD, pb.GRAD_MODE_INFERENCE)


@dataclass(slots=True)  # Not frozen: one is made a step, and that takes as long again.
class Step:
    """A step, taken apart. It depends on nothing but its message, so it may run again.

    Attributes:
        kind: the name of the field of its message that is set.
        run: runs it.
        told: what `run` is to be given.
        mode: the grad mode that it runs under.
        message: as it came.
    """

    kind: str
    run: Callable[[Execution, Any], None]
    told: Any
    mode: int
    message: pb.Step

    @classmethod
    def read(cls, message: pb.Step) -> Step:
        """Take a step apart.

        Raises:
            ServiceError: BAD_VALUE, MALFORMED_REQUEST, and what reading its kind raises.
        """
        mode = message.grad_mode
        if mode not in _MODES:
            raise ServiceError(
                "BAD_VALUE",
                f"there is no grad mode {mode}",
                field="grad_mode",
                metadata={"grad_mode": mode},
            )
        name = message.WhichOneof("kind")
        if name is None:
            raise malformed("the step says nothing: none of its kinds is set", "kind")
        kind = KINDS.get(name)
        if kind is None:
            raise malformed(f"this server does not run steps of kind {name}", name)
        told = getattr(message, name)
        if kind.read is not None:
            told = kind.read(told)
        return cls(name, kind.run, told, mode, message)


class Steps:
    """The steps of a sequence, or of the answer of a hook.

    Attributes:
        messages: the steps as they came.
        read: those of them that were taken apart, None in the place of others.
    """

    __slots__ = ("messages", "read")

    def __init__(self, messages: Sequence[pb.Step]) -> None:
        self.messages = messages
        self.read: list[Step | None] = [None] * len(messages)

    def __len__(self) -> int:
        return len(self.read)

    def __getitem__(self, position: int) -> Step:
        """A step, taken apart now if it was not before.

        Raises:
            ServiceError: as `Step.read`. What is wrong with a step is said when it is to run, for
                those before it happen.
        """
        step = self.read[position]
        if step is None:
            step = self.read[position] = Step.read(self.messages[position])
        return step


@dataclass(slots=True)
class StepSequence:
    """A sequence: its steps, and what holds for all of them.

    Attributes:
        number: 0 if it has none.
        acknowledged: the highest number whose answer the client has.
        timeout: seconds that it may take; None for no such bound.
        detect_anomaly: a backward whose gradients become NaN fails.
        note_origins: nodes remember what recorded them.
        profile: it is to be answered with a profile.
        steps: of it.
        repeats: of a sequence that may come again, what is known from the times it came.
    """

    number: int
    acknowledged: int
    timeout: float | None
    detect_anomaly: bool
    note_origins: bool
    profile: bool
    steps: Steps
    repeats: Repeats | None = None

    @classmethod
    def read(cls, message: pb.Sequence) -> StepSequence:
        """Take a message apart, but for its steps."""
        timeout = None
        if message.HasField("timeout"):
            timeout = message.timeout.seconds + message.timeout.nanos / 1e9
        return cls(
            message.number,
            message.acknowledged,
            timeout,
            message.detect_anomaly,
            message.note_origins,
            message.profile,
            Steps(message.steps),
        )


@lru_cache(_MOST_KEPT)
def repeated_sequence(data: bytes) -> StepSequence:
    """The sequence of these bytes, the same one as long as it is asked for often enough.

    Raises:
        DecodeError: where they make no sequence.
    """
    sequence = StepSequence.read(pb.Sequence.FromString(data))
    if not (
        sequence.number
        or sequence.timeout is not None
        or sequence.detect_anomaly
        or sequence.note_origins
        or sequence.profile
    ):
        steps = sequence.steps
        sequence.repeats = Repeats(lambda: [steps[at] for at in range(len(steps))])
    return sequence
