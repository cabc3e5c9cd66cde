"""`gw.utils.checkpoint`: compute a segment again in the backward instead of keeping it."""

from collections.abc import Callable
from typing import Any

from gradwire import tensors as _tensors
from gradwire import tracing
from gradwire.capture import Capture
from gradwire.errors import ArgumentError
from gradwire.v1 import autograd_pb2 as pb


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """Run a function so that only its inputs are kept for backward, as torch.utils.checkpoint.

    The function is captured as a program of operators, which runs at once without its results
    in between being kept, and again in the backward, with the same random numbers. Tensors that it
    uses from outside, such as parameters, are inputs as well.

    Args:
        function: From tensors to a tensor, or a tuple of tensors.
        args: Its arguments; at least one tensor, here or among the keywords.
        use_reentrant: Without effect; taken for PyTorch's sake.
        preserve_rng_state: True is what holds.
        kwargs: Further arguments.

    Raises:
        RuntimeError: the function reads a value.
        TypeError: no argument is a tensor, or a result is none.
    """
    if tracing.active() is not None:
        # What a program keeps for its backward, its plan decides.
        return function(*args, **kwargs)
    given = [each for each in (*args, *kwargs.values()) if isinstance(each, _tensors.Tensor)]
    if not given:
        raise ArgumentError("checkpoint() needs a tensor among the arguments")
    session = given[0]._session
    capture = Capture(session, getattr(function, "__name__", "the function"))

    def stand_in(value: Any) -> Any:
        return capture.lift(value) if isinstance(value, _tensors.Tensor) else value

    made = function(
        *[stand_in(each) for each in args], **{key: stand_in(v) for key, v in kwargs.items()}
    )
    several = isinstance(made, (tuple, list))
    results = list(made) if several else [made]
    program = capture.program([], results)
    program.inputs.extend(each._handle for each in capture.lifted_placeholders())
    first = session.new_handles(len(results))
    step = pb.Checkpoint(
        program=program, inputs=[each._handle for each in capture.lifted], output=first
    )
    session.step(pb.Step(checkpoint=step))
    tensors = [session.tensor_type(first + nr, session) for nr in range(len(results))]
    return tuple(tensors) if several else tensors[0]
