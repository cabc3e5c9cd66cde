"""The kinds of steps: how the message of each is read, and what runs what was read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gradwire_server.calls import call_program_step
from gradwire_server.derivatives import (
    BackwardStep,
    backward_step,
    checkpoint_step,
    custom_function_step,
    grad_step,
    jvp_step,
)
from gradwire_server.gradchecks import gradcheck_step
from gradwire_server.graph_steps import get_saved_step, register_hook_step, remove_hook_step
from gradwire_server.leaves import (
    GetGradStep,
    get_grad_step,
    requires_grad_step,
    retain_grad_step,
    set_grad_step,
)
from gradwire_server.op_steps import OpStep, op_step, ops_step
from gradwire_server.values import (
    FetchStep,
    PutStep,
    ReleaseStep,
    fetch_step,
    put_step,
    release_step,
)

if TYPE_CHECKING:
    from gradwire_server.execute import Execution


class Kind(NamedTuple):
    """A kind of steps.

    Attributes:
        run: runs what was read.
        read: takes the message apart, once however often it runs; None where the message itself is
            what runs.
    """

    run: Callable[[Execution, Any], None]
    read: Callable[[Any], Any] | None = None


KINDS: Final[dict[str, Kind]] = {
    "op": Kind(op_step, OpStep.read),
    "ops": Kind(ops_step),
    "put": Kind(put_step, PutStep.read),
    "backward": Kind(backward_step, BackwardStep.read),
    "grad": Kind(grad_step),
    "jvp": Kind(jvp_step),
    "fetch": Kind(fetch_step, FetchStep.read),
    "release": Kind(release_step, ReleaseStep.read),
    "requires_grad": Kind(requires_grad_step),
    "retain_grad": Kind(retain_grad_step),
    "get_grad": Kind(get_grad_step, GetGradStep.read),
    "set_grad": Kind(set_grad_step),
    "register_hook": Kind(register_hook_step),
    "remove_hook": Kind(remove_hook_step),
    "get_saved": Kind(get_saved_step),
    "custom_function": Kind(custom_function_step),
    "checkpoint": Kind(checkpoint_step),
    "call_program": Kind(call_program_step),
    "gradcheck": Kind(gradcheck_step),
}
"""By the name of its field in a Step."""
