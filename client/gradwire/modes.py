"""Whether steps are recorded in the graph: no_grad, enable_grad, set_grad_enabled."""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_enabled: Final[ContextVar[bool]] = ContextVar("gradwire_grad_enabled", default=True)


is_grad_enabled: Final = _enabled.get
"""Whether operators that run now are recorded in the graph."""


class _GradMode:
    """A context manager, and a decorator, that switches recording on or off.

    The mode belongs to the context: threads, tasks and greenlets each have their own.
    """

    def __init__(self, mode: bool) -> None:
        self._mode = mode
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(_enabled.get())
        _enabled.set(self._mode)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _enabled.set(self._before.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        mode = self._mode

        @functools.wraps(function)
        def within(*args: P.args, **kwargs: P.kwargs) -> R:
            with _GradMode(mode):
                return function(*args, **kwargs)

        return within


class no_grad(_GradMode):  # noqa: N801 (PyTorch's name)
    """Within it nothing is recorded: `with gw.no_grad():`, or `@gw.no_grad()` on a function."""

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(_GradMode):  # noqa: N801 (PyTorch's name)
    """Within it operators are recorded, also inside a `no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)


class set_grad_enabled(_GradMode):  # noqa: N801 (PyTorch's name)
    """Switches recording on or off at once; as a context manager, until its end."""

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)
        self._before.append(_enabled.get())
        _enabled.set(mode)

    def __enter__(self) -> None:
        _enabled.set(self._mode)
