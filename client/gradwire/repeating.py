"""A compiled function called many times in a row, by the server, over minibatches that it holds."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gradwire import reading
from gradwire import tensors as _tensors
from gradwire.errors import TraceError, refused
from gradwire.func.tree import flatten, unflatten
from gradwire.modes import no_grad
from gradwire.operators import functions
from gradwire.progress import Listener
from gradwire.signatures import split
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.compiling import Compiled
    from gradwire.tensors import Tensor
    from gradwire.traced import Traced

_ALONE = 3
"""So many runs at most go one by one, until what they leave behind is what they find."""


def repeat(
    compiled: "Compiled[..., Any]",
    count: int,
    stacked: tuple[Any, ...],
    listener: Callable[[int], Listener] | None,
) -> Any:
    """Call a function `count` times; as `Compiled.repeat` says.

    Args:
        listener: makes one, given how many runs went before; None: nobody waits.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    leaves, structure = flatten(stacked)
    tensors = [each for each in leaves if isinstance(each, _tensors.Tensor)]
    if not tensors:
        raise refused("BAD_VALUE", "repeat() needs a tensor of stacked minibatches")
    session = tensors[0]._session
    for each in tensors:
        if each._known is None or each._known.info is None:
            session.finish(reading.read_info(each))
        if not each.shape or not each.shape[0]:
            raise refused(
                "SHAPE_MISMATCH",
                f"a tensor of shape {tuple(each.shape)} holds no minibatches; its dimension 0 "
                "counts them",
            )

    def arguments(at: int) -> tuple[Any, ...]:
        parts = [_part(each, at) if isinstance(each, _tensors.Tensor) else each for each in leaves]
        return tuple(unflatten(parts, structure))

    alone: list[Any] = []
    traced: Traced | None = None
    while len(alone) < count and traced is None:
        if len(alone) == _ALONE:
            raise TraceError(
                f"each call of {compiled!r} leaves something else behind than it finds, so the "
                "server cannot repeat it"
            )
        alone.append(compiled(*arguments(len(alone))))
        parts, rest = split(arguments(len(alone)), {})
        traced = compiled.find(parts, rest)
    if traced is None or len(alone) == count:
        return _joined(alone, None)
    made = traced.repeat(
        compiled.inputs_of(traced, parts, rest),
        parts,
        tensors,
        pb.Repeat(count=count - len(alone), first=len(alone), progress=listener is not None),
        None if listener is None else listener(len(alone)),
    )
    return _joined(alone, made)


def _part(tensor: "Tensor", at: int) -> "Tensor":
    """One of the minibatches that a tensor holds."""
    with no_grad():
        made = tensor.select(0, at % tensor.shape[0])
    known = tensor._known
    assert known is not None
    assert known.info is not None
    reading.known(made).info = known.info._replace(
        shape=known.info.shape[1:], is_leaf=True, requires_grad=False, grad_fn=None
    )
    return made


def _joined(alone: Sequence[Any], together: Any) -> Any:
    """The results of all runs: scalars as one vector, of others the last."""
    trees = [flatten(each)[0] for each in alone]
    last, structure = flatten(alone[-1] if together is None else together)
    joined: list[Any] = []
    for at, leaf in enumerate(last):
        first = trees[0][at]
        if not isinstance(leaf, _tensors.Tensor) or reading.type_of(first).shape:
            joined.append(leaf)
            continue
        with no_grad():
            vector = functions.stack([tree[at].detach() for tree in trees])
            joined.append(vector if together is None else functions.cat([vector, leaf]))
    return unflatten(joined, structure)
