"""`gw.compile`: a function is traced once for each signature; then a call is one step.

A signature is what tracing may have looked at: the structure of the arguments; shape, dtype and
flags of tensors; other arguments by value; the grad mode; which tensors are the same one; whether
there are `.grad`s that the function reads; and the variables around the function.
"""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

from gradwire import current, hooks, tracing
from gradwire.core import SessionCore
from gradwire.errors import TraceError
from gradwire.location import locate
from gradwire.modes import saved_hooks
from gradwire.progress import Listener, Told
from gradwire.recorder import mark_of, outputs_of
from gradwire.repeating import repeat
from gradwire.signatures import Surroundings, Tensors, split
from gradwire.traced import MISS, UNKNOWN, Traced
from gradwire.tracing import Trace

P = ParamSpec("P")
R = TypeVar("R")

_MOST_TRACES: Final = 16
"""So many signatures of a function are kept: the latest ones."""

_MANY_TRACES: Final = 12
"""After so many it is said that compiling the function does not pay."""

_MOST_ESCAPES: Final = 2
"""So many calls in a row may leave tensors behind, as the first of an optimizer may."""


def _keeps_programs(session: object) -> bool:
    """Whether functions can be compiled there and now.

    Not with an older server, in the midst of a backward, or on placeholders of another capture.
    """
    return (
        isinstance(session, SessionCore)
        and "programs" in session.features
        and hooks.running(session) is None
    )


class Plan(str):
    """How a program is run: a text that shows itself as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Compiled(Generic[P, R]):
    """A compiled function. Made by `gradwire.compile`."""

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._name = getattr(function, "__qualname__", type(function).__name__)
        self._surroundings = Surroundings(function)
        self._traces: list[Traced] = []
        self._count = 0
        self._escapes = 0

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        tensors, rest = split(args, kwargs)
        result = self.replay(tensors, rest)
        if result is MISS or result is UNKNOWN:
            result = self._call_anew(args, kwargs, tensors, rest)
        found: R = result
        return found

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else Method(self, instance)

    def __repr__(self) -> str:
        return f"<compiled function {self._name}, {len(self._traces)} signatures>"

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> Plan:
        """The plan by which the server runs a call with these arguments: print it.

        A signature that was not met yet is traced first, which calls the function.

        Raises:
            RuntimeError: the function cannot be compiled.
        """
        tensors, rest = split(args, kwargs)
        traced = self.find(tensors, rest)
        if traced is None:
            self(*args, **kwargs)
            traced = self.find(tensors, rest)
        if traced is None:
            raise TraceError(f"'{self._name}' was not compiled for these arguments")
        inputs = self.inputs_of(traced, tensors, rest)
        return Plan(traced.session.finish(traced.explain(inputs)))

    def repeat(self, count: int, *stacked: Any, on_progress: Told | None = None) -> Any:
        """Call the function `count` times on the server, over minibatches that it holds.

        What the function changes in place, as an optimizer does, each run finds as the run before
        left it. Runs take no messages, so this is how to train over data that is there.

        Args:
            stacked: The arguments. Of each tensor run i gets what stands at index i of dimension 0;
                after the last index it begins again.
            on_progress: Called some times a second as `on_progress(done, count, values)`, with the
                real results without dimensions of the last run as `values`. Then this waits for the
                end. What it raises ends the runs and is raised here; so does Ctrl-C.

        Returns:
            What the function gives: of a tensor without dimensions the values of all runs, as a
            vector, of others the last. They do not require grad.

        Raises:
            ValueError: `count` is less than 1.
            RuntimeError: a tensor has no dimension 0; and what calling the function raises.
        """
        if on_progress is None:
            return repeat(self, count, stacked, None)
        return repeat(self, count, stacked, lambda done: Listener(on_progress, done, count))

    def clear(self) -> None:
        """Forget all signatures, and have the server drop their programs."""
        self._traces.clear()

    def find(self, tensors: Tensors, rest: object) -> Traced | None:
        """What was traced for such a call. Waits where something must be asked."""
        for traced in self._traces:
            inputs = traced.inputs(tensors, rest)
            if inputs is UNKNOWN and not traced.session.closed:
                traced.session.finish(traced.learn(tensors))
                inputs = traced.inputs(tensors, rest)
            if isinstance(inputs, list):
                return traced
        return None

    def inputs_of(self, traced: Traced, tensors: Tensors, rest: object) -> list[int]:
        """The handles that a call which was found names."""
        inputs: list[int] = traced.inputs(tensors, rest)
        return inputs

    def replay(self, tensors: Tensors, rest: object) -> Any:
        """Call the program of a signature that was traced; or `MISS` or `UNKNOWN`."""
        outcome = MISS
        # What saved-tensor hooks see is each step's own.
        if tracing.active() is not None or saved_hooks():
            return outcome
        for at, traced in enumerate(self._traces):
            result = traced.call(tensors, rest)
            if result is UNKNOWN:
                outcome = UNKNOWN
            elif result is not MISS:
                if at:
                    self._traces.insert(0, self._traces.pop(at))
                return result
        return outcome

    def _call_anew(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: Tensors, rest: object
    ) -> Any:
        """Call the function where something must be asked, or traced. Waits."""
        if tracing.active() is not None or saved_hooks():
            return self._function(*args, **kwargs)
        self._traces = [each for each in self._traces if not each.is_over]
        traced = self.find(tensors, rest)
        if traced is not None:
            return traced.call(tensors, rest)
        session = tensors[0]._session if tensors else current.current()
        if not _keeps_programs(session):
            return self._function(*args, **kwargs)
        return self._trace(session, args, kwargs, tensors, rest)

    def _trace(
        self,
        session: "SessionCore",
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: Tensors,
        rest: object,
    ) -> Any:
        self._count += 1
        if self._count == _MANY_TRACES:
            warnings.warn(
                f"'{self._name}' was compiled for {_MANY_TRACES} signatures; each takes round "
                "trips. Keep shapes the same, and pass numbers that change as tensors",
                UserWarning,
                stacklevel=4,
            )
        trace = Trace(session, self._name)
        surroundings = self._surroundings.now()
        try:
            with trace.running():
                result = self._function(*args, **kwargs)
                with trace.paused():
                    traced = Traced(trace, tensors, rest, surroundings)
                    problem = traced.finish(trace, tensors, result)
        finally:
            trace.let_go()
        if problem is None:
            self._escapes = 0
            self._traces.insert(0, traced)
            del self._traces[_MOST_TRACES:]
        else:
            self._escapes += 1
            if self._escapes >= _MOST_ESCAPES:
                raise self._escape(trace, *problem)
        return result

    def _escape(self, trace: Trace, handle: int, what: str) -> TraceError:
        entry = next((each for each in trace.entries if handle in outputs_of(each)), None)
        return TraceError(
            f"a tensor {what}, in each call of '{self._name}' anew, so that no program can do the "
            "same; return it, or change a tensor from outside in place",
            location=None if entry is None else locate(mark_of(entry)),
        )


class Method:
    """A compiled function as a method of an object, which is its first argument."""

    __slots__ = ("__self__", "__wrapped__")

    def __init__(self, compiled: Compiled[..., Any], instance: object) -> None:
        self.__wrapped__ = compiled
        self.__self__ = instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        return self.__wrapped__(self.__self__, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self.__wrapped__!r} of {self.__self__!r}>"

    def explain(self, *args: Any, **kwargs: Any) -> Plan:
        """As `Compiled.explain`."""
        return self.__wrapped__.explain(self.__self__, *args, **kwargs)

    def repeat(self, count: int, *stacked: Any, on_progress: Told | None = None) -> Any:
        """As `Compiled.repeat`."""
        return self.__wrapped__.repeat(count, self.__self__, *stacked, on_progress=on_progress)


@overload
def compile(function: Callable[P, R]) -> Compiled[P, R]: ...
@overload
def compile(function: None = None) -> Callable[[Callable[P, R]], Compiled[P, R]]: ...
def compile(function: Callable[P, R] | None = None) -> Any:
    """Compile a function of tensors: the server keeps it as a program, and a call is one step.

    The first call with a signature runs the function as it is, and notes what it records. Later
    calls run what was noted; the function itself runs no more. A whole training step can be
    compiled, with `backward()`, an optimizer's `step()` and `zero_grad()` in it.

    Args:
        function: Of tensors, and of trees of tensors and other values. Tensors that it uses from
            outside, such as parameters, stay what they are; those that it changes in place are
            changed. Other values from outside are those of the first call, unless its code names
            them: then the function is traced anew when they change.

    Returns:
        A function of the same arguments; or a decorator.

    Raises:
        TypeError: it is a coroutine function; or (when called) an argument is an array.
        RuntimeError: (when called) the function reads a value of a tensor, or does something else
            that a program cannot.
    """
    if function is None:
        return compile
    if inspect.iscoroutinefunction(function):
        raise TypeError("compile an ordinary function: what it records needs no await")
    return Compiled(function)
