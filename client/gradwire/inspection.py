"""`gw.graph(...)` and `gw.fetch(...)`: looking at several tensors at once."""

import inspect
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, overload

from gradwire import node, reading
from gradwire import tensors as _tensors
from gradwire.arguments import wrong_type
from gradwire.codec import Array
from gradwire.errors import ArgumentError, refused
from gradwire.graph import Graph
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.tensors import Tensor


@overload
def fetch(tensor: "Tensor", /) -> Array: ...
@overload
def fetch(first: "Tensor", second: "Tensor", /, *more: "Tensor") -> tuple[Array, ...]: ...
def fetch(*tensors: "Tensor") -> Array | tuple[Array, ...]:
    """The values of tensors as arrays, read-only, in one round trip.

    Args:
        tensors: Of one session; also such that require grad.

    Returns:
        An array for a single tensor; for several, a tuple in their order.

    Raises:
        GradwireError: a step that was recorded before failed.
        TypeError: an argument is no tensor, such as the `.grad` that a backward did not reach.
    """
    check("fetch", tensors)
    values = reading.values_of(tensors)
    return values[0] if len(tensors) == 1 else tuple(values)


def graph(*tensors: "Tensor") -> Graph:
    """The graph behind tensors, to look at: prints as text, shows as a picture in notebooks.

    Tensors that the calling function has names for, bear them.

    Raises:
        GradwireError: a step that was recorded before failed.
        TypeError: an argument is no tensor.
    """
    check("graph", tensors)
    frame = inspect.currentframe()
    named = named_tensors(frame.f_back if frame is not None else None)
    return tensors[0]._session.finish(read_graph(tensors, named))


def check(function: str, tensors: "Sequence[Tensor]") -> None:
    """Refuse what are no tensors of one session, as `fetch` and `graph` say."""
    if not tensors:
        raise ArgumentError(f"{function}() needs a tensor")
    for each in tensors:
        if not isinstance(each, _tensors.Tensor):
            raise wrong_type(function, "tensors", "a tensor", each)
        if each._session is not tensors[0]._session:
            raise refused(
                "BAD_VALUE", f"{function}() of tensors of different sessions; call it for each"
            )


async def read_graph(tensors: "Sequence[Tensor]", named: "Mapping[str, Tensor]") -> Graph:
    """As `graph`, to be awaited; with the names that the caller has."""
    session = tensors[0]._session
    names: dict[int, str] = {}
    for name, each in named.items():
        if each._session is session:
            names.setdefault(each._handle, name)
    results = list(dict.fromkeys(each._handle for each in tensors))
    pages = await node.read_pages(session, pb.GetGraphRequest(tensors=results))
    # Named tensors on the way are shown too. Which are on the way, their nodes tell; asking for all
    # names at once would read the graphs of everything that the caller has ever computed.
    nodes = {each.id for page in pages for each in page.nodes}
    others = [each for each in named.values() if each._handle in names and each._session is session]
    between = [
        handle
        for handle, made_by in (await reading.read_makers(session, others)).items()
        if made_by in nodes and handle not in results
    ]
    if between:
        pages = await node.read_pages(session, pb.GetGraphRequest(tensors=[*results, *between]))
    return Graph.from_responses(pages, names, results)


def named_tensors(frame: FrameType | None) -> "dict[str, Tensor]":
    """The tensors that a function knows by name, local names first."""
    if frame is None:
        return {}
    found: dict[str, Tensor] = {}
    for scope in (frame.f_locals, frame.f_globals):
        for name, value in scope.items():
            if isinstance(value, _tensors.Tensor) and not name.startswith("_"):
                found.setdefault(name, value)
    return found
