"""Tensors of event loops: what reads them is awaited."""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Self, cast

from gradwire import grads, printing, reading, tensors, views
from gradwire.codec import Array
from gradwire.tensors import Size

if TYPE_CHECKING:
    from gradwire.aio.session import Session

Number = bool | int | float | complex


class Tensor(tensors.Tensor):
    """A tensor of a session of an event loop.

    Operators on it are recorded, as on every tensor. What reads it is awaited: `await t.item()`.
    Attributes (`shape`, `grad`, `grad_fn`, printing) answer where they are known already, as they
    are after `await t.refresh()`, and else raise a SessionError that says so.
    """

    __slots__ = ()

    @property
    def session(self) -> "Session":  # type: ignore[override] # one whose methods are awaited
        """The session that the tensor lives in."""
        return cast("Session", self._session)

    def item(self) -> Coroutine[Any, Any, Number]:  # type: ignore[override] # awaited
        """The value of a tensor of one element, as a Python number.

        Raises:
            RuntimeError: it has another number of elements.
        """
        return self.session.own(self._item())

    async def _item(self) -> Number:
        (value,) = await reading.read_values([self])
        return tensors.item_of(value)

    def tolist(self) -> Coroutine[Any, Any, Any]:
        """The values as nested lists of Python numbers; of a 0-d tensor, a number."""
        return self.session.own(self._tolist())

    async def _tolist(self) -> Any:
        (value,) = await reading.read_values([self])
        return value.tolist()

    def numpy(self, *, force: bool = False) -> Coroutine[Any, Any, Array]:  # type: ignore[override] # awaited
        """The values as an array: a copy of the server's, and read-only for that reason.

        Args:
            force: Also of a tensor that requires grad: `detach()` first.

        Raises:
            RuntimeError: the tensor requires grad, and `force` is not set.
        """
        return self.session.own(self._numpy(force))

    async def _numpy(self, force: bool) -> Array:
        (value,) = await reading.read_values([self], info=not force)
        if not force:
            tensors.check_detached(await reading.read_info(self))
        return value

    def get_shape(self) -> Coroutine[Any, Any, Size]:
        """The sizes of the dimensions; from then on `shape` knows them."""
        return self.session.own(self._get_shape())

    async def _get_shape(self) -> Size:
        if self._known is None or self._known.info is None:
            await reading.read_info(self)
        return self.shape

    def get_grad(self) -> "Coroutine[Any, Any, Self | None]":
        """The gradient that backward passes accumulated here; None before the first.

        The same object each time, whose value grows with each backward.
        """
        return self.session.own(self._get_grad())

    async def _get_grad(self) -> "Self | None":
        grad = await grads.read_grad(self)
        if grad is None:
            grads.warn_unless_filled(self, stacklevel=4)
        return cast("Self | None", grad)

    def get_base(self) -> "Coroutine[Any, Any, Self | None]":
        """The tensor that this one is a view of; None if it is no view."""
        return self.session.own(views.read_base(self))

    def refresh(self) -> Coroutine[Any, Any, Self]:
        """Learn what is not known here, in one round trip at most; the tensor itself.

        Then all attributes answer without waiting, and printing if the value is small, until
        something is recorded that may change them: an in-place operator, a backward.
        """
        return self.session.own(self._refresh())

    async def _refresh(self) -> Self:
        await reading.refresh(self)
        return self

    def __repr__(self) -> str:
        # Never waits: event loops themselves print what tasks return, debuggers what they see.
        known, value = self._known, reading.remembered(self)
        if value is None or known is None or known.info is None:
            return "<gradwire.aio.Tensor, to be read: await its refresh()>"
        return printing.show_value(value, known.info)

    def __format__(self, spec: str) -> str:
        value = reading.remembered(self)
        if spec and value is not None and not value.ndim:
            return format(value.item(), spec)
        return format(repr(self), spec)
