"""`gw.autograd.graph`: places in the graph, hooks on several tensors and on saved ones."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gradwire import hooks
from gradwire import tensors as _tensors
from gradwire.arguments import wrong_type
from gradwire.errors import refused
from gradwire.node import Node, read_pages
from gradwire.saved_hooks import disable_saved_tensors_hooks, save_on_cpu, saved_tensors_hooks
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

__all__ = [
    "GradientEdge",
    "Node",
    "disable_saved_tensors_hooks",
    "get_gradient_edge",
    "register_multi_grad_hook",
    "save_on_cpu",
    "saved_tensors_hooks",
]


class GradientEdge(NamedTuple):
    """Where the gradient of a tensor goes. A root or an input of `backward` and `grad`.

    Attributes:
        node: The node that made the tensor; of a leaf, its AccumulateGrad.
        output_nr: Which output of the node the tensor is.
    """

    node: Node
    output_nr: int


def get_gradient_edge(tensor: "Tensor") -> GradientEdge:
    """Where the gradient of a tensor goes; one round trip.

    Raises:
        RuntimeError: it does not require grad.
        TypeError: it is no tensor.
    """
    if not isinstance(tensor, _tensors.Tensor):
        raise wrong_type("get_gradient_edge", "tensor", "a tensor", tensor)
    session = tensor._session
    request = pb.GetGraphRequest(tensors=[tensor._handle], page_size=1, max_depth=1)
    (page, *_) = session.finish(read_pages(session, request))
    (root,) = page.roots
    if not root.HasField("gradient_edge"):
        raise refused(
            "NO_GRAPH",
            "get_gradient_edge() needs a tensor that requires grad; this one has no place in the "
            "graph",
        )
    ref = root.gradient_edge
    return GradientEdge(Node(tensor, ref, of_leaf=ref.name == "AccumulateGrad"), ref.nr)


def register_multi_grad_hook(
    tensors: "Sequence[Tensor]",
    fn: Callable[[Any], None],
    *,
    mode: Literal["all", "any"] = "all",
) -> hooks.RemovableHandle:
    """Run a function on this side once in each backward that reaches some of these tensors.

    Args:
        tensors: Of one session; all must require grad.
        fn: With mode "all" it gets the list of all gradients when the last of them is there, None
            for tensors that the backward does not reach; with "any" the first gradient of any.
        mode: "all" or "any".

    Raises:
        RuntimeError: (at the next reading, if not known before) a tensor does not require grad; or
            the tensors are of different sessions.
        ValueError: there is no such mode, or no tensor.
    """
    kinds = {"all": pb.HOOK_KIND_ALL, "any": pb.HOOK_KIND_ANY}
    if mode not in kinds:
        raise ValueError(f"mode must be 'all' or 'any', not {mode!r}")
    if not tensors:
        raise ValueError("register_multi_grad_hook() needs at least one tensor")
    for each in tensors:
        if not isinstance(each, _tensors.Tensor):
            raise wrong_type("register_multi_grad_hook", "tensors", "tensors", each)
        if each._session is not tensors[0]._session:
            raise refused("BAD_VALUE", "a hook on several tensors takes those of one session")
        hooks.require_grad(each)
    message = pb.RegisterHook(kind=kinds[mode])
    message.tensors.tensors.extend(each._handle for each in tensors)
    return hooks.register(tensors[0]._session, message, fn)
