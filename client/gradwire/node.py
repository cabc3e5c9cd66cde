"""`t.grad_fn`: nodes of the graph, walked from the client."""

from typing import TYPE_CHECKING, Final

from gradwire import wire
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.core import SessionCore
    from gradwire.tensors import Tensor

_LEVELS: Final = 8
"""So many levels of the graph are read at once, so that walking it takes few round trips."""

NextFunction = "tuple[Node | None, int]"


class Node:
    """A node of the graph: the operator that made a tensor, or the accumulation at a leaf.

    Equal to another of the same session and id. Holds the tensor that it was reached from, so that
    it stays alive on the server.
    """

    __slots__ = ("_found", "_ref", "_tensor")

    def __init__(
        self, tensor: "Tensor", ref: pb.NodeRef, found: "dict[int, pb.Node] | None" = None
    ) -> None:
        self._tensor = tensor
        self._ref = ref
        self._found: dict[int, pb.Node] = {} if found is None else found

    def name(self) -> str:
        """PyTorch's name: `"AddBackward0"`, `"AccumulateGrad"`."""
        return self._ref.name

    @property
    def id(self) -> int:
        """Its number in the session."""
        return self._ref.id

    @property
    def next_functions(self) -> "tuple[tuple[Node | None, int], ...]":
        """For each input: the node that its gradient goes to, and which input of that node.

        (None, 0) for an input that needs no gradient. Read from the server, some levels at a time.
        """
        return tuple(
            (Node(self._tensor, ref, self._found) if ref.id else None, ref.nr)
            for ref in self._read().next
        )

    @property
    def metadata(self) -> dict[str, object]:
        """What was noted about the node; empty."""
        return {}

    def _sequence_nr(self) -> int:
        """Order of recording: a later node has a larger one; the largest is AccumulateGrad's."""
        return self._read().sequence_number

    @property
    def variable(self) -> "Tensor":
        """The leaf that this AccumulateGrad fills.

        Raises:
            AttributeError: it is another node, or no tensor of this program is that leaf any more.
        """
        if self._ref.name != "AccumulateGrad":
            raise AttributeError(f"a {self._ref.name} node has no variable; AccumulateGrad has")
        handle = self._read().variable
        found = self._tensor._session.grad_holders.get(handle)
        if found is None:
            raise AttributeError("no tensor of this program is the leaf of this node any more")
        return found

    def _read(self) -> pb.Node:
        known = self._found.get(self._ref.id)
        if known is not None:
            return known
        request = pb.GetGraphRequest(nodes=[self._ref.id], max_depth=_LEVELS)
        session = self._tensor._session
        for page in session.finish(read_pages(session, request)):
            for node in page.nodes:
                self._found[node.id] = node
        return self._found[self._ref.id]

    def __repr__(self) -> str:
        return f"<{self._ref.name}, node {self._ref.id}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            return NotImplemented
        same_session = self._tensor._session is other._tensor._session
        return same_session and self._ref.id == other._ref.id

    def __hash__(self) -> int:
        return hash((id(self._tensor._session), self._ref.id))


async def read_pages(
    session: "SessionCore", request: pb.GetGraphRequest
) -> list[pb.GetGraphResponse]:
    """All pages of a graph of the session, after all that is recorded ran."""
    await session.settle()
    request.session_id = session.id
    pages: list[pb.GetGraphResponse] = []
    while not pages or pages[-1].next_page_token:
        request.page_token = pages[-1].next_page_token if pages else ""
        pages.append(await session.request(wire.GET_GRAPH, request, pb.GetGraphResponse))
    return pages
