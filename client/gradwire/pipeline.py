"""Sequences under way: sent, and to be answered in order. Pure: no I/O, no waiting, no locks."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradwire import wire
from gradwire.codec import decode_response
from gradwire.errors import GradwireError, from_status, from_wire_error
from gradwire.profiling import Profile
from gradwire.recorder import Entry
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    import asyncio

_MAX_IN_FLIGHT: Final = 64
_MAX_BYTES_IN_FLIGHT: Final = 64 << 20
_EXHAUSTED: Final = 8
"""`google.rpc.Code.RESOURCE_EXHAUSTED`."""


@dataclass(slots=True, eq=False)
class Request:
    """A sequence that was sent, until it is answered and looked at.

    Attributes:
        number: Its number in the session.
        data: The bytes that were sent, to be sent again where the stream breaks.
        entries: Its steps, to find the user's line if one fails.
        released: Handles that its release steps drop, each with the step's index.
        owner: Who recorded it, where a session tells its users apart.
        result: The answer, once there.
        payloads: The answer's tensor data.
        error: The exception that the answer amounts to, if it is one.
        interrupted: The user gave up waiting for it.
        profile: What is to be told where its time went.
        hook_error: What a hook of its backward raised.
        hook_entries: The steps that a hook recorded last, to find the user's line if one fails.
        hook_handles: What the last answer of a hook was to make.
        hook_call: The call that it answered.
        unpack_hook: The hook that it was to make, if that was a call of PACK.
        needs: What must be done before it is sent; None where nothing must.
    """

    number: int
    data: bytes
    entries: list[Entry]
    released: list[tuple[int, tuple[int, ...]]]
    owner: object = None
    result: pb.SequenceResult | None = None
    payloads: Sequence[memoryview] = ()
    error: Exception | None = None
    interrupted: bool = False
    profile: Profile | None = None
    hook_error: Exception | None = None
    hook_entries: Sequence[Entry] = ()
    hook_handles: Sequence[int] = ()
    hook_call: int = 0
    unpack_hook: int = 0
    needs: "asyncio.Task[None] | None" = None

    @property
    def is_ready(self) -> bool:
        """Whether it may be sent."""
        return self.needs is None or self.needs.done()


@dataclass(slots=True)
class Traffic:
    """What went over a session's stream.

    Attributes:
        sequences: Sequences that were answered.
        sent: Bytes of the sequences that were sent, each counted once.
        received: Bytes of their answers.
    """

    sequences: int = 0
    sent: int = 0
    received: int = 0

    def __sub__(self, earlier: "Traffic") -> "Traffic":
        return Traffic(
            self.sequences - earlier.sequences,
            self.sent - earlier.sent,
            self.received - earlier.received,
        )


@dataclass(frozen=True, slots=True)
class Aside:
    """What comes before an answer: a hook's call, what steps in its midst came to, progress."""

    response: pb.RunStreamResponse
    payloads: list[memoryview]


class Pipeline:
    """What a session has sent and not been answered yet, oldest first.

    Attributes:
        unanswered: The requests under way.
        traffic: What went over so far.
    """

    def __init__(self, session_id: str, max_in_flight: int, max_bytes_in_flight: int) -> None:
        """Make one that stays below what the server queues; 0 stands for no limit of its own."""
        self._session_id = session_id
        self._max_in_flight = max(1, min(max_in_flight or _MAX_IN_FLIGHT, _MAX_IN_FLIGHT))
        self._max_bytes = max(
            1, min(max_bytes_in_flight or _MAX_BYTES_IN_FLIGHT, _MAX_BYTES_IN_FLIGHT)
        )
        self._bytes_in_flight = 0
        self.unanswered: deque[Request] = deque()
        self.traffic = Traffic()

    def is_crowded(self, more: int) -> bool:
        """Whether a request of `more` bytes has to wait for an answer to another one."""
        return bool(self.unanswered) and (
            len(self.unanswered) >= self._max_in_flight
            or self._bytes_in_flight + more > self._max_bytes
        )

    def add(self, request: Request) -> None:
        """Take in a request that is sent now."""
        self.unanswered.append(request)
        self._bytes_in_flight += len(request.data)
        self.traffic.sent += len(request.data)

    def match(self, data: bytes) -> Request | Aside:
        """The request that an answer belongs to, with its result and payloads filled in.

        Or a message on the way there: the call of a hook, or what steps in one came to.

        Raises:
            GradwireError: it is no answer, or not the one that was due.
        """
        try:
            response, payloads = decode_response(data)
        except wire.WireError as error:
            raise from_wire_error(error) from None
        if not response.HasField("result") and response.WhichOneof("kind") is not None:
            self.traffic.received += len(data)
            return Aside(response, payloads)
        result = response.result
        if not self.unanswered or result.number != self.unanswered[0].number:
            due = self.unanswered[0].number if self.unanswered else "none"
            raise GradwireError(
                f"the server answered sequence {result.number} where {due} was due",
                reason="MALFORMED_REQUEST",
            )
        request = self.unanswered[0]
        request.payloads = payloads
        request.result = result
        return request

    def refusal(self, request: Request) -> GradwireError | None:
        """The failure of a request that the server had no room for; None if it was taken in.

        Then it has taken no number, and neither have those behind it: all are still unanswered.
        """
        result = request.result
        if result is None or not result.HasField("error") or result.error.code != _EXHAUSTED:
            return None
        failure = from_status(result.error)
        if failure.reason != "QUEUE_FULL":
            return None
        request.result, request.payloads = None, []
        return failure

    def settle(self, request: Request, received: int) -> None:
        """Take out the oldest request, whose answer of so many bytes was looked at."""
        self.unanswered.popleft()
        self._bytes_in_flight -= len(request.data)
        self.traffic.sequences += 1
        self.traffic.received += received
        request.data = b""

    def find(self, number: int) -> Request | None:
        """The request of that number, if it is under way."""
        return next((each for each in self.unanswered if each.number == number), None)

    def again(self) -> Iterator[bytes]:
        """The messages that a new stream begins with: all that is unanswered."""
        for request in self.unanswered:
            yield from self.messages(request)

    def messages(self, request: Request) -> Iterator[bytes]:
        """What is sent for a request: itself, after its cancellation if it was given up."""
        if request.interrupted:
            yield self.cancellation(request)
        yield request.data

    def cancellation(self, request: Request) -> bytes:
        """The message that stops a request on the server."""
        return pb.RunStreamRequest(
            session_id=self._session_id, cancel=pb.Cancel(number=request.number)
        ).SerializeToString()
