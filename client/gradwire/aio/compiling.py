"""`gw.aio.compile`: as `gradwire.compile`, for event loops."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, overload

from gradwire import compiling
from gradwire.compiling import Plan
from gradwire.progress import Listener, Told
from gradwire.repeating import repeat
from gradwire.signatures import split
from gradwire.traced import MISS, UNKNOWN

P = ParamSpec("P")
R = TypeVar("R")


class Compiled(Generic[P, R]):
    """A compiled function whose calls are awaited. Made by `gradwire.aio.compile`.

    A call of a signature that was met before does not wait for anything. Otherwise the function
    runs in a thread, where all of gradwire works as it does in a blocking program.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self._compiled = compiling.Compiled(function)
        self.__wrapped__ = function

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        tensors, rest = split(args, kwargs)
        result = self._compiled.replay(tensors, rest)
        if result is MISS or result is UNKNOWN:
            result = await asyncio.to_thread(self._compiled, *args, **kwargs)
        found: R = result
        return found

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else Method(self, instance)

    def __repr__(self) -> str:
        return repr(self._compiled)

    async def explain(self, *args: P.args, **kwargs: P.kwargs) -> Plan:
        """As `gradwire.compiling.Compiled.explain`."""
        return await asyncio.to_thread(self._compiled.explain, *args, **kwargs)

    async def repeat(self, count: int, *stacked: Any, on_progress: Told | None = None) -> Any:
        """As `gradwire.compiling.Compiled.repeat`, and waits for the end.

        `on_progress` is called on the event loop. Cancelling this ends the runs.
        """
        hearing: list[Listener] = []

        def listener(done: int) -> Listener:
            hearing.append(Listener(on_progress, done, count))
            return hearing[-1]

        try:
            return await asyncio.to_thread(repeat, self._compiled, count, stacked, listener)
        except asyncio.CancelledError:
            for each in hearing:
                each.stop()
            raise

    def clear(self) -> None:
        """Forget all signatures, and have the server drop their programs."""
        self._compiled.clear()


class Method:
    """A compiled function as a method of an object, which is its first argument."""

    __slots__ = ("__self__", "__wrapped__")

    def __init__(self, compiled: Compiled[..., Any], instance: object) -> None:
        self.__wrapped__ = compiled
        self.__self__ = instance

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        return await self.__wrapped__(self.__self__, *args, **kwargs)

    async def explain(self, *args: Any, **kwargs: Any) -> Plan:
        """As `Compiled.explain`."""
        return await self.__wrapped__.explain(self.__self__, *args, **kwargs)

    async def repeat(self, count: int, *stacked: Any, on_progress: Told | None = None) -> Any:
        """As `Compiled.repeat`."""
        found = self.__wrapped__.repeat(count, self.__self__, *stacked, on_progress=on_progress)
        return await found


@overload
def compile(function: Callable[P, R]) -> Compiled[P, R]: ...
@overload
def compile(function: None = None) -> Callable[[Callable[P, R]], Compiled[P, R]]: ...
def compile(function: Callable[P, R] | None = None) -> Any:
    """Compile a function of tensors, as `gradwire.compile`; its calls are awaited.

    The function itself is an ordinary one: recording never waits, so there is nothing to await.

    Raises:
        TypeError: it is a coroutine function.
    """
    if function is None:
        return compile
    if inspect.iscoroutinefunction(function):
        raise TypeError("compile an ordinary function: what it records needs no await")
    return Compiled(function)
