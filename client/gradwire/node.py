"""`t.grad_fn`: nodes of the graph, walked from the client."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gradwire import hooks, reading, wire
from gradwire.attributes import get_attribute
from gradwire.errors import BadValueError
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.core import SessionCore
    from gradwire.tensors import Tensor

_LEVELS: Final = 8
"""So many levels of the graph are read at once, so that walking it takes few round trips."""

_SAVED: Final = "_saved_"
_LAST: Final = (1 << 64) - 1

NextFunction = "tuple[Node | None, int]"


class Node:
    """A node of the graph: the operator that made a tensor, or the accumulation at a leaf.

    Equal to another of the same session and id. Holds the tensor that it was reached from, so that
    it stays alive on the server.
    """

    __slots__ = ("_found", "_of_leaf", "_ref", "_tensor")

    def __init__(
        self,
        tensor: "Tensor",
        ref: pb.NodeRef,
        found: "dict[int, pb.Node] | None" = None,
        *,
        of_leaf: bool = False,
    ) -> None:
        """Make one reached from a tensor; with `of_leaf` the accumulation at that very tensor."""
        self._of_leaf = of_leaf
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
        """A dict for notes on the node: the same one each time, kept as long as the session."""
        return self.session.node_metadata.setdefault(self._ref.id, {})

    def _sequence_nr(self) -> int:
        """Order of recording: a later node has a larger one; the largest is AccumulateGrad's."""
        return self._read().sequence_number

    @property
    def variable(self) -> "Tensor":
        """The leaf that this AccumulateGrad fills.

        Raises:
            AttributeError: it is another node.
        """
        if self._ref.name != "AccumulateGrad":
            raise AttributeError(f"a {self._ref.name} node has no variable; AccumulateGrad has")
        if self._of_leaf:
            return self._tensor
        found = self.session.grad_holders.get(self._read().variable)
        if found is None:
            # The program has let go of the leaf; the graph has not.
            found = self._held("variable")
            assert found is not None, "an AccumulateGrad has a variable"
            self.session.watch_grad(found)
        return found

    def __getattr__(self, name: str) -> Any:
        """`_saved_self` and the like: what the node keeps for its backward, by PyTorch's names.

        Tensors, numbers, shapes; None for what no gradient needs.

        Raises:
            RuntimeError: a tensor was released by a backward, or changed in place since.
            AttributeError: the node keeps nothing of that name.
        """
        if not name.startswith(_SAVED):
            raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")
        self._found.pop(self._ref.id, None)
        for each in self._read().saved_attributes:
            if each.name == name.removeprefix(_SAVED):
                return get_attribute(each)
        try:
            return self._held(name.removeprefix(_SAVED))
        except BadValueError as error:
            raise AttributeError(str(error), name=name, obj=self) from None

    def register_hook(self, hook: Callable[..., Any]) -> hooks.RemovableHandle:
        """Run `hook(grad_inputs, grad_outputs)` on this side after each run of this node.

        Both are tuples of tensors, None where there is no gradient. It may return a tuple to put
        in place of `grad_inputs`, the gradients that go on to `next_functions`.
        """
        return self._register(pb.HOOK_KIND_NODE_POST, hook)

    def register_prehook(self, hook: Callable[..., Any]) -> hooks.RemovableHandle:
        """Run `hook(grad_outputs)` on this side before each run of this node.

        It may return a tuple to put in the place of `grad_outputs`.
        """
        return self._register(pb.HOOK_KIND_NODE_PRE, hook)

    def _register(self, kind: int, hook: Callable[..., Any]) -> hooks.RemovableHandle:
        message = pb.RegisterHook(kind=kind)  # type: ignore[arg-type]
        if self._of_leaf:
            message.grad_fn_of = self._tensor._handle
        else:
            message.node = self._ref.id
        return hooks.register(self.session, message, hook)

    def _held(self, name: str) -> "Tensor | None":
        """A tensor that the node holds; one round trip."""
        session = self.session
        handle = session.new_handles(1)
        step = pb.Step(get_saved=pb.GetSaved(node=self._ref.id, names=[name], outputs=[handle]))
        made = session.tensor_type(handle, session)
        (found,) = session.finish(reading.read_without_absent(session, (made,), step))
        return found

    @property
    def leaf_handle(self) -> int:
        """Handle of the leaf that this is the accumulation of; 0 for a node known by its id."""
        return self._tensor._handle if self._of_leaf else 0

    @property
    def session(self) -> "SessionCore":
        """The session that the node lives in."""
        return self._tensor._session

    def _read(self) -> pb.Node:
        if self._of_leaf:
            # Nothing but a graph holds such a node, so there may be none to be read.
            return pb.Node(id=self._ref.id, name=self._ref.name, sequence_number=_LAST)
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
