"""What sessions do each in their own way: how they wait, on which transport, and for whom."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from google.protobuf.message import Message

from gradwire.pipeline import Aside, Request
from gradwire.recorder import Recorder
from gradwire.transfer import Upload
from gradwire.wire import M

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class SessionStream(Protocol):
    """The stream of a session's sequences, as far as all sessions use it alike."""

    @property
    def last_due(self) -> Request | None:
        """The last request whose answer is due."""
        ...

    @property
    def connection(self) -> object:
        """The connection that answers of hooks are to be sent on."""
        ...

    def send(self, request: Request) -> None:
        """Send a request, or let it wait for its turn."""
        ...

    def hand_over(self) -> None:
        """See to it that what was sent leaves, although nobody waits for its answer yet."""
        ...

    def close(self) -> None:
        """End the stream."""
        ...

    def forget(self) -> None:
        """Let go of a stream that belongs to a parent process."""
        ...


class Waiting(ABC):
    """What a session must be able to do; blocking ones and those of event loops each do it."""

    @abstractmethod
    def finish(self, doing: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of ours to its end, and wait for that here."""

    def _make_recorder(self, most_steps: int) -> Recorder:
        return Recorder(most_steps)

    def _owner(self) -> object:
        """Who recorded what is sent now; None where a session does not tell its users apart."""
        return None

    def _needs(self) -> "asyncio.Task[None] | None":
        """What must be done before the next request is sent."""
        return None

    def _asker(self) -> object:
        """Who waits now; None likewise."""
        return None

    @abstractmethod
    async def answer_to(self, request: Request) -> None:
        """Wait for the answer to a request."""

    @abstractmethod
    async def _answers(self) -> None:
        """Wait for all answers that are due."""

    @abstractmethod
    def answer_hook(self, data: bytes, connection: object) -> bool:
        """Send the answer to the call of a hook; whether its connection is still there."""

    @abstractmethod
    async def hook_result(self, number: int, connection: object) -> Aside:
        """Wait for what steps in the midst of a hook came to."""

    @abstractmethod
    async def call_hook(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Call the function of a hook."""

    @abstractmethod
    def wait_for_backward(self) -> None:
        """Send what was recorded, and wait for it where waiting is fine."""

    @abstractmethod
    async def _unary(self, path: str, request: Message, response: type[M], timeout: float) -> M:
        """Make a unary call."""

    @abstractmethod
    def upload(self, sent: Upload) -> None:
        """Send data, or see to it that it is there before what is recorded next is sent."""

    @abstractmethod
    async def send_pieces(self, pieces: Iterator[bytes], timeout: float) -> bytes:
        """Make an Upload call; its answer."""

    @abstractmethod
    async def receive_pieces(
        self, request: bytes, take: Callable[[bytes], None], timeout: float
    ) -> None:
        """Make a Download call, and hand over each piece."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Let time pass."""

    @abstractmethod
    async def _hang_up(self) -> None:
        """Close the connection for good."""

    @abstractmethod
    def keep_alive(self) -> None:
        """Renew the lease. Called from any thread."""

    @abstractmethod
    def leave(self) -> None:
        """Close at the end of the process."""

    @property
    def is_near(self) -> bool:
        """Whether code that has not chosen a session may get this one."""
        return True
