"""Whether steps are recorded in the graph: no_grad, enable_grad, set_grad_enabled, inference_mode.

A mode is noted with each step that runs under it, so switching costs no message.
"""

import functools
import inspect
from collections.abc import Callable, Generator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar, cast

from gradwire.v1 import autograd_pb2 as pb

P = ParamSpec("P")
R = TypeVar("R")

_NO_GRAD: Final = 1
_INFERENCE: Final = 2

# Bits: enable_grad within inference_mode takes _NO_GRAD away, which changes nothing but the answer
# of is_grad_enabled(), as in PyTorch.
_mode: Final[ContextVar[int]] = ContextVar("gradwire_grad_mode", default=0)

_ON_THE_WIRE: Final = (
    pb.GRAD_MODE_UNSPECIFIED,
    pb.GRAD_MODE_NO_GRAD,
    pb.GRAD_MODE_INFERENCE,
    pb.GRAD_MODE_INFERENCE,
)


def grad_mode() -> int:
    """The `GradMode` of steps that are recorded now."""
    return _ON_THE_WIRE[_mode.get()]


def is_grad_enabled() -> bool:
    """Whether operators that run now are recorded in the graph."""
    return not _mode.get() & _NO_GRAD


def is_inference_mode_enabled() -> bool:
    """Whether tensors that are made now are inference tensors."""
    return _mode.get() & _INFERENCE != 0


def stamped(step: pb.Step) -> pb.Step:
    """A step with the mode that it is recorded under."""
    mode = grad_mode()
    if mode:
        step.grad_mode = mode  # type: ignore[assignment]
    return step


class _GradMode:
    """A context manager, and a decorator of functions and generators, that switches the mode.

    The mode belongs to the context: threads, tasks and greenlets each have their own.
    """

    def __init__(self, keep: int, add: int) -> None:
        """Keep these bits of the mode, add those."""
        self._keep = keep
        self._add = add
        self._before: list[int] = []

    def __enter__(self) -> None:
        before = _mode.get()
        self._before.append(before)
        _mode.set((before & self._keep) | self._add)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _mode.set(self._before.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        keep, add = self._keep, self._add
        if inspect.isgeneratorfunction(function):
            return cast("Callable[P, R]", _within_generator(function, keep, add))

        @functools.wraps(function)
        def within(*args: P.args, **kwargs: P.kwargs) -> R:
            with _GradMode(keep, add):
                return function(*args, **kwargs)

        return within


def _within_generator(
    function: Callable[P, Generator[Any, Any, R]], keep: int, add: int
) -> Callable[P, Generator[Any, Any, R]]:
    """A generator function that runs in the mode, and between its steps leaves it."""

    @functools.wraps(function)
    def within(*args: P.args, **kwargs: P.kwargs) -> Generator[Any, Any, R]:
        with _GradMode(keep, add):
            running = function(*args, **kwargs)
        advance: Callable[[], Any] = functools.partial(next, running)
        while True:
            try:
                with _GradMode(keep, add):
                    item = advance()
            except StopIteration as stopped:
                return cast(R, stopped.value)
            try:
                sent = yield item
            except GeneratorExit:
                with _GradMode(keep, add):
                    running.close()
                raise
            except BaseException as error:
                advance = functools.partial(running.throw, error)
            else:
                advance = functools.partial(running.send, sent)

    return within


class _Bare(_GradMode):
    """A mode without arguments: as a decorator it may go without its parentheses."""

    def __new__(cls, orig_func: Callable[P, R] | None = None) -> Any:
        return super().__new__(cls) if orig_func is None else cls()(orig_func)


class no_grad(_Bare):  # noqa: N801 (PyTorch's name)
    """Within it nothing is recorded: `with gw.no_grad():`, or `@gw.no_grad()` on a function."""

    def __init__(self) -> None:
        super().__init__(keep=_INFERENCE, add=_NO_GRAD)


class enable_grad(_Bare):  # noqa: N801 (PyTorch's name)
    """Within it operators are recorded, also inside a `no_grad`."""

    def __init__(self) -> None:
        super().__init__(keep=_INFERENCE, add=0)


class inference_mode(_GradMode):  # noqa: N801 (PyTorch's name)
    """Within it nothing is recorded, and new tensors are inference tensors.

    These have no version, and outside of the mode they can neither be saved for backward nor be
    changed in place. `inference_mode(False)` makes a part within it an ordinary one again.
    """

    def __new__(cls, mode: bool | Callable[P, R] = True) -> Any:  # noqa: D102
        return super().__new__(cls) if isinstance(mode, bool) else cls()(mode)

    def __init__(self, mode: bool = True) -> None:
        super().__init__(keep=0, add=_NO_GRAD | _INFERENCE if mode else 0)


class set_grad_enabled(_GradMode):  # noqa: N801 (PyTorch's name)
    """Switches recording on or off at once; as a context manager, until its end."""

    def __init__(self, mode: bool) -> None:
        super().__init__(keep=_INFERENCE, add=0 if mode else _NO_GRAD)
        super().__enter__()

    def __enter__(self) -> None:
        _mode.set((_mode.get() & self._keep) | self._add)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function: the mode is about it, and not about what follows."""
        self.__exit__(None, None, None)
        return super().__call__(function)
