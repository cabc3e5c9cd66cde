"""Views from the user's side: what a tensor is a view of, and its storage outside of the graph."""

import gc
from typing import TYPE_CHECKING, TypeVar, cast

from gradwire import reading
from gradwire import tensors as _tensors
from gradwire.arguments import wrong_type
from gradwire.record import AnyTensor, record, record_in_place
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

V = TypeVar("V", bound="Tensor")

_SELF = ("self",)


def base_of(tensor: V) -> V | None:
    """The tensor that this one is a view of; None if it is no view. A round trip at first."""
    return tensor._session.finish(read_base(tensor))


async def read_base(tensor: V) -> V | None:
    """As `base_of`, to be awaited."""
    session = tensor._session
    known = reading.known(tensor)
    if known.base is None and (await reading.read_info(tensor)).is_view:
        step = pb.Step(fetch=pb.Fetch(tensors=[tensor._handle], info=True, bases=True))
        (answer,) = await session.ask(step)
        handle = 0 if answer.info is None else answer.info.base
        base = _named(tensor, handle)
        known.base = record("_base", _SELF, (tensor,)) if base is None else base
    return cast("V | None", known.base)


def _named(tensor: "Tensor", handle: int) -> "Tensor | None":
    """The tensor object of a handle, if the program still has it.

    Keeping a table of all tensors for this would cost each of them more than it is worth.
    """
    for each in gc.get_referrers(tensor._session) if handle else ():
        if isinstance(each, _tensors.Tensor) and each._handle == handle:
            return each
    return None


def data_of(tensor: AnyTensor) -> AnyTensor:
    """The same storage outside of the graph, with a version counter of its own."""
    return record("data", _SELF, (tensor,))


def set_data(tensor: "Tensor", value: object) -> None:
    """Give a tensor the storage of another; it stays what it is in the graph.

    Raises:
        TypeError: the value is no tensor.
        RuntimeError: (at the next reading) the tensor requires grad, and the value is not of
            floating-point or complex dtype.
    """
    if not isinstance(value, _tensors.Tensor):
        raise wrong_type("data", "new_data", "a tensor", value)
    record_in_place("set_data_", ("self", "new_data"), (tensor, value))
    known = reading.known(tensor)
    known.info = known.value = known.base = None
