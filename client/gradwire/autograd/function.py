"""`gw.autograd.Function`: operators with a backward of the user's own, as in torch.autograd.

The forward runs as it is called, under no_grad. The backward is captured then, as a program of
operators, and runs on the server whenever gradients come by; so it sees placeholders, and must
consist of operators.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from gradwire import tensors as _tensors
from gradwire.capture import Capture
from gradwire.errors import AutogradError, refused
from gradwire.modes import is_grad_enabled, no_grad
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.core import SessionCore
    from gradwire.tensors import Tensor

P = ParamSpec("P")
R = TypeVar("R")

_ONCE = "_gradwire_once_differentiable"

_MOST_OPTIONAL = 4
"""So many outputs may be without gradient in any combination; for each a backward is captured."""


class FunctionCtx:
    """What a forward hands to its backward; other attributes may be set on it as well."""

    def __init__(self, arguments: Sequence[object]) -> None:
        self._arguments = tuple(arguments)
        self._to_save: tuple[Tensor | None, ...] = ()
        self._non_differentiable: tuple[Tensor, ...] = ()
        self._saved: tuple[Tensor | None, ...] | None = None
        self._dirty: tuple[Tensor, ...] = ()
        self._materializes = True

    def save_for_backward(self, *tensors: "Tensor | None") -> None:
        """Keep tensors for the backward: inputs, outputs, or others."""
        for each in tensors:
            if each is not None and not isinstance(each, _tensors.Tensor):
                raise TypeError(
                    "save_for_backward() takes tensors, not "
                    f"{type(each).__name__}; set other values as attributes of ctx"
                )
        self._to_save = tensors

    @property
    def saved_tensors(self) -> "tuple[Tensor | None, ...]":
        """What was saved; in the backward."""
        return self._to_save if self._saved is None else self._saved

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        """For each argument of forward whether it is a tensor that requires grad."""
        return tuple(
            isinstance(each, _tensors.Tensor) and each.requires_grad for each in self._arguments
        )

    def mark_non_differentiable(self, *tensors: "Tensor") -> None:
        """Outputs that have no gradient."""
        self._non_differentiable = tensors

    def mark_dirty(self, *tensors: "Tensor") -> None:
        """Inputs that the forward has changed in place, all of which it returns.

        Raises:
            RuntimeError: something given is no tensor; and from `apply`, one is not returned, or
                (at the next reading) it is a leaf that requires grad.
        """
        for each in tensors:
            if not isinstance(each, _tensors.Tensor):
                raise AutogradError(f"mark_dirty() takes tensors, not {type(each).__name__}")
        self._dirty = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether the backward gets zeros for outputs without gradient; with False, None.

        The backward is captured for each case that there is, so this is for few outputs: with
        False `apply` raises a RuntimeError for more than four.
        """
        self._materializes = value


def once_differentiable(backward: Callable[P, R]) -> Callable[P, R]:
    """Mark a backward that must not be differentiated itself."""
    setattr(backward, _ONCE, True)
    return backward


class Function:
    """Base of custom functions: define `forward` and `backward` as static methods, call `apply`.

    `forward(ctx, *args)` gives a tensor or a tuple; or `forward(*args)` with
    `setup_context(ctx, inputs, output)`. `backward(ctx, *grads)` gives a gradient, or None, for
    each argument of forward.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """The outputs; to be overridden."""
        raise NotImplementedError("a custom function defines forward(ctx, *args)")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """Save what the backward needs, where `forward` takes no ctx."""
        raise NotImplementedError("setup_context(ctx, inputs, output) is not defined")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Gradients of the arguments; to be overridden."""
        raise NotImplementedError("a custom function defines backward(ctx, *grad_outputs)")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run the function on tensors and other arguments.

        Raises:
            RuntimeError: the backward gives another number of gradients than forward has arguments,
                or reads a value.
        """
        inputs = [each for each in args if isinstance(each, _tensors.Tensor)]
        ctx = FunctionCtx(args)
        with no_grad():
            if cls.setup_context is not Function.setup_context:
                output = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, output)
            else:
                output = cls.forward(ctx, *args, **kwargs)
        if not inputs or not is_grad_enabled():
            return output
        several = isinstance(output, (tuple, list))
        results = list(output) if several else [output]
        if not all(any(each is one for one in results) for each in ctx._dirty):
            raise AutogradError(
                f"{cls.__name__}: a tensor that is marked dirty was not returned; what a function "
                "changes in place must be among its outputs"
            )
        with no_grad():
            for at, each in enumerate(results):
                is_dirty = any(each is marked for marked in ctx._dirty)
                if any(each is given for given in inputs) and not is_dirty:
                    results[at] = each.clone()
                    ctx._to_save = tuple(results[at] if s is each else s for s in ctx._to_save)
        _record(cls, ctx, args, inputs, results)
        return tuple(results) if several else results[0]


def _record(
    function: type[Function],
    ctx: FunctionCtx,
    args: tuple[Any, ...],
    inputs: "list[Tensor]",
    results: list[Any],
) -> None:
    """Capture the backward, and record the function's node."""
    session = inputs[0]._session
    name = function.__name__
    kept = [each for each in ctx._to_save if each is not None]
    outputs = [each for each in results if _is_differentiable(each, ctx)]
    cases = [tuple(range(len(outputs)))]
    if not ctx._materializes:
        cases = _cases(name, len(outputs))
    captured = [_Backward(function, ctx, args, results, present) for present in cases]
    # What one of them uses from outside is saved for all, so that they are called alike.
    outside = {each._handle: each for one in captured for each in one.capture.lifted}
    programs = [each.program(list(outside.values())) for each in captured]
    step = pb.CustomFunction(
        name=f"{name}Backward",
        inputs=[each._handle for each in inputs],
        outputs=[each._handle for each in outputs],
        saved=[*(each._handle for each in kept), *outside],
        backward=programs[0],
        once_differentiable=getattr(function.backward, _ONCE, False),
        partial=[
            pb.PartialBackward(present=present, backward=program)
            for present, program in zip(cases[1:], programs[1:], strict=True)
        ],
        dirty=[each._handle for each in ctx._dirty],
    )
    session.step(pb.Step(custom_function=step))
    for each in outputs:
        each._known = None


def _is_differentiable(result: object, ctx: FunctionCtx) -> bool:
    return isinstance(result, _tensors.Tensor) and not any(
        result is marked for marked in ctx._non_differentiable
    )


def _cases(name: str, outputs: int) -> list[tuple[int, ...]]:
    """Which of so many outputs may have a gradient, some of them at least; first all of them."""
    if outputs > _MOST_OPTIONAL:
        raise AutogradError(
            f"{name}: set_materialize_grads(False) is for at most {_MOST_OPTIONAL} differentiable "
            f"outputs, not {outputs}, for the backward is captured for each case; leave it out, "
            "and unused outputs have gradients of zeros"
        )
    counts = range(outputs, 0, -1)
    return [case for count in counts for case in combinations(range(outputs), count)]


class _Backward:
    """A backward, captured for the case that these outputs have a gradient."""

    def __init__(
        self,
        function: type[Function],
        ctx: FunctionCtx,
        args: tuple[Any, ...],
        results: Sequence[Any],
        present: tuple[int, ...],
    ) -> None:
        name = function.__name__
        self.capture = Capture(_session_of(args), f"{name}.backward")
        self._saved = [self.capture.placeholder() for each in ctx._to_save if each is not None]
        stand_ins = iter(self._saved)
        ctx._saved = tuple(None if each is None else next(stand_ins) for each in ctx._to_save)
        self._gradients: list[Tensor] = []
        given = function.backward(ctx, *self._directions(ctx, results, present))
        given = tuple(given) if isinstance(given, (tuple, list)) else (given,)
        self._pulled = [
            None if each is None else self.capture.own(each)
            for each in _for_tensors(name, args, given)
        ]

    def _directions(
        self, ctx: FunctionCtx, results: Sequence[Any], present: tuple[int, ...]
    ) -> list[Any]:
        """What stands for the gradient of each result."""
        found: list[Any] = []
        at = -1
        for each in results:
            if _is_differentiable(each, ctx):
                at += 1
                if at in present:
                    self._gradients.append(self.capture.placeholder())
                    found.append(self._gradients[-1])
                    continue
                found.append(None)
            elif isinstance(each, _tensors.Tensor) and ctx._materializes:
                with no_grad():
                    found.append(self.capture.lift(_zeros_like(each)))
            else:
                found.append(None)
        return found

    def program(self, outside: "Sequence[Tensor]") -> pb.Program:
        """From the saved tensors, those from outside, and the gradients, to those of the inputs."""
        program = self.capture.program([], self._pulled)
        lifted = [self.capture.lift(each) for each in outside]
        inputs = (*self._saved, *lifted, *self._gradients)
        program.inputs.extend(each._handle for each in inputs)
        return program


def _session_of(args: Sequence[Any]) -> "SessionCore":
    return next(each._session for each in args if isinstance(each, _tensors.Tensor))


def _zeros_like(tensor: "Tensor") -> "Tensor":
    import gradwire

    return gradwire.zeros_like(tensor)


def _for_tensors(name: str, args: tuple[Any, ...], given: tuple[Any, ...]) -> "list[Tensor | None]":
    """The gradients of those arguments that are tensors.

    Raises:
        RuntimeError: too many or too few, or one for an argument that is no tensor.
    """
    given = given[: len(args)] if all(each is None for each in given[len(args) :]) else given
    if len(given) != len(args):
        raise refused(
            "GRADIENT_SHAPE",
            f"{name}.backward gave {len(given)} gradients, and forward has {len(args)} arguments; "
            "give one for each, None for those without",
        )
    pulled: list[Tensor | None] = []
    for at, (argument, gradient) in enumerate(zip(args, given, strict=True)):
        if isinstance(argument, _tensors.Tensor):
            pulled.append(gradient)
        elif gradient is not None:
            raise refused(
                "GRADIENT_SHAPE",
                f"{name}.backward gave a gradient for argument {at}, which is no tensor; give None",
            )
    return pulled
