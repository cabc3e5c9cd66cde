"""`gw.autograd.Function`: operators with a backward of the user's own, as in torch.autograd.

The forward runs as it is called, under no_grad. The backward is captured then, as a program of
operators, and runs on the server whenever gradients come by; so it sees placeholders, and must
consist of operators.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from gradwire import tensors as _tensors
from gradwire.capture import Capture
from gradwire.errors import AutogradError, refused
from gradwire.modes import is_grad_enabled, no_grad
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

P = ParamSpec("P")
R = TypeVar("R")

_ONCE = "_gradwire_once_differentiable"


class FunctionCtx:
    """What a forward hands to its backward; other attributes may be set on it as well."""

    def __init__(self, arguments: Sequence[object]) -> None:
        self._arguments = tuple(arguments)
        self._to_save: tuple[Tensor | None, ...] = ()
        self._non_differentiable: tuple[Tensor, ...] = ()
        self._saved: tuple[Tensor | None, ...] | None = None

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
        """Refused: a custom function does not change its inputs here.

        Raises:
            RuntimeError: always, if a tensor is given.
        """
        if tensors:
            raise AutogradError(
                "a custom function cannot change its inputs in place; change a clone() and return "
                "that"
            )

    def set_materialize_grads(self, value: bool) -> None:
        """True is what holds: gradients of unused outputs are zeros.

        Raises:
            RuntimeError: for False, since a backward is captured before it is known what is used.
        """
        if not value:
            raise AutogradError(
                "set_materialize_grads(False) is not possible: the backward is captured once, for "
                "every use of the outputs"
            )


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
        with no_grad():
            for at, each in enumerate(results):
                if any(each is given for given in inputs):
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
    capture = Capture(session, f"{name}.backward")
    kept = [each for each in ctx._to_save if each is not None]
    saved = [capture.placeholder() for _ in kept]
    stand_ins = iter(saved)
    ctx._saved = tuple(None if each is None else next(stand_ins) for each in ctx._to_save)
    outputs: list[Tensor] = []
    gradients: list[Tensor] = []
    directions: list[Any] = []
    for each in results:
        if not isinstance(each, _tensors.Tensor):
            directions.append(None)
        elif any(each is marked for marked in ctx._non_differentiable):
            with no_grad():
                directions.append(capture.lift(_zeros_like(each)))
        else:
            outputs.append(each)
            gradients.append(capture.placeholder())
            directions.append(gradients[-1])
    given = function.backward(ctx, *directions)
    given = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    pulled = _for_tensors(name, args, given)
    lifted = capture.lifted_placeholders
    program = capture.program([], pulled)
    program.inputs.extend(each._handle for each in (*saved, *lifted(), *gradients))
    step = pb.CustomFunction(
        name=f"{name}Backward",
        inputs=[each._handle for each in inputs],
        outputs=[each._handle for each in outputs],
        saved=[each._handle for each in (*kept, *capture.lifted)],
        backward=program,
        once_differentiable=getattr(function.backward, _ONCE, False),
    )
    session.step(pb.Step(custom_function=step))
    for each in outputs:
        each._known = None


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
