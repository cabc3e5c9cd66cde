"""Whether steps are recorded in the graph: no_grad, enable_grad, set_grad_enabled, inference_mode.

A mode is noted with each step that runs under it, so switching costs no message. So is the number
of the saved-tensor hooks that are in force.
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

_RECORDED: Final[int] = pb.GRAD_MODE_UNSPECIFIED
_NO_GRAD: Final[int] = pb.GRAD_MODE_NO_GRAD
_INFERENCE: Final[int] = pb.GRAD_MODE_INFERENCE


class _Int(int):
    """An int that can be told from its equals."""


# enable_grad within inference_mode: nothing is recorded all the same, but is_grad_enabled() says
# so, as in PyTorch.
_ENABLED_IN_INFERENCE: Final = _Int(_INFERENCE)


class UnderHooks(int):
    """The `GradMode` of operators whose saved tensors go through hooks; true, although it is 0.

    Attributes:
        hooks: their number.
    """

    hooks: int

    def __new__(cls, hooks: int) -> "UnderHooks":  # noqa: D102
        made = super().__new__(cls, _RECORDED)
        made.hooks = hooks
        return made

    def __bool__(self) -> bool:
        return True


_saved_hooks: Final[ContextVar[int]] = ContextVar("gradwire_saved_hooks", default=0)

saved_hooks: Final = _saved_hooks.get
"""The number of the saved-tensor hooks in force; 0 for none."""

_mode: Final[ContextVar[int]] = ContextVar("gradwire_grad_mode", default=_RECORDED)

grad_mode: Final = _mode.get
"""The `GradMode` of steps that are recorded now."""


def is_grad_enabled() -> bool:
    """Whether operators that run now are recorded in the graph."""
    mode = _mode.get()
    return mode == _RECORDED or mode is _ENABLED_IN_INFERENCE


def is_inference_mode_enabled() -> bool:
    """Whether tensors that are made now are inference tensors."""
    return _mode.get() == _INFERENCE


def stamped(step: pb.Step) -> pb.Step:
    """A step with the mode that it is recorded under."""
    mode = grad_mode()
    if mode:
        step.grad_mode = mode  # type: ignore[assignment]
    hooks = saved_hooks()
    if hooks:
        step.saved_hooks = hooks
    return step


def set_saved_hooks(number: int) -> int:
    """Put saved-tensor hooks in force, 0 for none; the number of those before."""
    before = _saved_hooks.get()
    _saved_hooks.set(number)
    if _mode.get() == _RECORDED:
        _mode.set(_recorded())
    return before


def _recorded() -> int:
    hooks = _saved_hooks.get()
    return UnderHooks(hooks) if hooks else _RECORDED


class _GradMode:
    """A context manager, and a decorator of functions and generators, that switches the mode.

    The mode belongs to the context: threads, tasks and greenlets each have their own.
    """

    def __init__(self, enabled: bool, inference: bool | None = None) -> None:
        """Switch recording, and inference mode unless that is None."""
        self._enabled = enabled
        self._inference = inference
        self._before: list[int] = []

    def __enter__(self) -> None:
        self._before.append(_mode.get())
        self._switch()

    def _switch(self) -> None:
        inference = self._inference
        if inference is None:
            inference = is_inference_mode_enabled()
        if inference:
            _mode.set(_ENABLED_IN_INFERENCE if self._enabled else _INFERENCE)
        else:
            _mode.set(_recorded() if self._enabled else _NO_GRAD)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _mode.set(self._before.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        modes = self._enabled, self._inference
        if inspect.isgeneratorfunction(function):
            return cast("Callable[P, R]", _within_generator(function, *modes))

        @functools.wraps(function)
        def within(*args: P.args, **kwargs: P.kwargs) -> R:
            with _GradMode(*modes):
                return function(*args, **kwargs)

        return within


def _within_generator(
    function: Callable[P, Generator[Any, Any, R]], enabled: bool, inference: bool | None
) -> Callable[P, Generator[Any, Any, R]]:
    """A generator function that runs in the mode, and between its steps leaves it."""

    @functools.wraps(function)
    def within(*args: P.args, **kwargs: P.kwargs) -> Generator[Any, Any, R]:
        with _GradMode(enabled, inference):
            running = function(*args, **kwargs)
        advance: Callable[[], Any] = functools.partial(next, running)
        while True:
            try:
                with _GradMode(enabled, inference):
                    item = advance()
            except StopIteration as stopped:
                return cast(R, stopped.value)
            try:
                sent = yield item
            except GeneratorExit:
                with _GradMode(enabled, inference):
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
        super().__init__(enabled=False)


class enable_grad(_Bare):  # noqa: N801 (PyTorch's name)
    """Within it operators are recorded, also inside a `no_grad`."""

    def __init__(self) -> None:
        super().__init__(enabled=True)


class inference_mode(_GradMode):  # noqa: N801 (PyTorch's name)
    """Within it nothing is recorded, and new tensors are inference tensors.

    These have no version, and outside of the mode they can neither be saved for backward nor be
    changed in place. `inference_mode(False)` makes a part within it an ordinary one again.
    """

    def __new__(cls, mode: bool | Callable[P, R] = True) -> Any:  # noqa: D102
        return super().__new__(cls) if isinstance(mode, bool) else cls()(mode)

    def __init__(self, mode: bool = True) -> None:
        super().__init__(enabled=not mode, inference=mode)


class set_grad_enabled(_GradMode):  # noqa: N801 (PyTorch's name)
    """Switches recording on or off at once; as a context manager, until its end."""

    def __init__(self, mode: bool) -> None:
        super().__init__(enabled=mode)
        super().__enter__()

    def __enter__(self) -> None:
        self._switch()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function: the mode is about it, and not about what follows."""
        self.__exit__(None, None, None)
        return super().__call__(function)
