"""What stands for tensors while a program is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwire_engine.plan.values import Value, ViewPath, follow
from gradwire_engine.tensor import ViewStep

if TYPE_CHECKING:
    from gradwire_engine.plan.record import Recorder
    from gradwire_engine.plan.tape import TapeEdge


class CompileError(Exception):
    """A program, with these inputs, has to be run call by call; the text says why."""


class GraphFreedError(CompileError):
    """A gradient was asked for through what an earlier one had released."""


@dataclass(slots=True, eq=False)
class Storage:
    """What a tensor and its views share.

    Attributes:
        value: what it holds now.
        sample: an array with what it holds now.
        version: counts changes in place.
        root: the one that is no view.
    """

    value: Value
    sample: np.ndarray
    version: int = 0
    root: Traced | None = None


class Layout:
    """What a formula may know of an array: all but its elements."""

    __slots__ = ("_array",)

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return self._array.shape

    @property
    def strides(self) -> tuple[int, ...]:
        """Steps in bytes."""
        return self._array.strides

    @property
    def dtype(self) -> np.dtype:
        """The element type."""
        return self._array.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._array.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._array.size

    @property
    def flags(self) -> Any:
        """How it lies in memory."""
        return self._array.flags

    def reshape(self, shape: Sequence[int], *, copy: bool | None = None) -> Layout:
        """As of an array."""
        return Layout(self._array.reshape(shape, copy=copy))

    def swapaxes(self, one: int, other: int) -> Layout:
        """As of an array."""
        return Layout(self._array.swapaxes(one, other))


def _refuse(self: Traced, *args: Any) -> Any:
    raise CompileError("a formula looks at the elements of a tensor")


class Traced:
    """Stands for a tensor while a program is recorded.

    Attributes:
        path: view operators from the root of the storage.
        base: for a view that gradients flow through, the tensor that it is a view of.
        steps: those of the path from the base.
        edge: where it stands on the tape.
        seen: the edge of the base that `edge` was made for.
        is_frozen: gradients cannot follow changes in place: one of several views, or made under
            no_grad.
    """

    __slots__ = ("base", "edge", "is_frozen", "path", "recorder", "seen", "steps", "storage")

    def __init__(self, recorder: Recorder, storage: Storage, edge: TapeEdge | None = None) -> None:
        self.recorder = recorder
        self.storage = storage
        self.edge = edge
        self.path: tuple[ViewStep, ...] = ()
        self.steps: tuple[ViewStep, ...] = ()
        self.base: Traced | None = None
        self.seen: TapeEdge | None = None
        self.is_frozen = False

    __hash__ = object.__hash__
    __bool__ = __len__ = __iter__ = __float__ = __int__ = __index__ = __array__ = _refuse

    @property
    def sample(self) -> np.ndarray:
        """An array with its elements."""
        if not self.path:
            return self.storage.sample
        return follow(self.storage.sample, view_path(self.path))

    @property
    def value(self) -> Value:
        """What it holds now."""
        if not self.path:
            return self.storage.value
        path = view_path(self.path)
        whole = self.storage.sample
        return self.recorder.graph.view(self.storage.value, path, whole, follow(whole, path))

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return self.sample.shape

    @property
    def dtype(self) -> np.dtype:
        """The element type."""
        return self.sample.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.sample.ndim

    @property
    def data(self) -> Layout:
        """How it lies in memory."""
        return Layout(self.sample)

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient would come here."""
        return self.gradient_edge() is not None

    @property
    def is_lost(self) -> bool:
        """It requires grad as what it shows does, and no gradient comes here."""
        return self.base is not None and self.base.requires_grad and not self.requires_grad

    def gradient_edge(self) -> TapeEdge | None:
        """Where gradients of it go; for a view of what was changed in place, made anew."""
        base = self.base
        if base is not None:
            edge = base.gradient_edge()
            if edge is not self.seen:
                self.seen = edge
                if edge is not None:
                    if self.is_frozen:
                        raise CompileError("a view that cannot follow was changed in place")
                    self.edge = self.recorder.edge_of_view(base, self.steps, edge)
        return self.edge

    def __neg__(self) -> Any:
        return self.recorder.apply("neg", self)

    def __add__(self, other: Any) -> Any:
        return self.recorder.apply("add", self, other)

    def __sub__(self, other: Any) -> Any:
        return self.recorder.apply("sub", self, other)

    def __mul__(self, other: Any) -> Any:
        return self.recorder.apply("mul", self, other)

    def __truediv__(self, other: Any) -> Any:
        return self.recorder.apply("div", self, other)

    def __pow__(self, other: Any) -> Any:
        return self.recorder.apply("pow", self, other)

    def __matmul__(self, other: Any) -> Any:
        return self.recorder.apply("matmul", self, other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> Any:
        return self.recorder.apply("rsub", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self.recorder.apply("reciprocal", self) * other

    def __rpow__(self, other: Any) -> Any:
        return self.recorder.apply("pow", other, self)

    def __eq__(self, other: object) -> Any:
        return self.recorder.apply("eq", self, other)

    def __ne__(self, other: object) -> Any:
        return self.recorder.apply("ne", self, other)

    def __lt__(self, other: Any) -> Any:
        return self.recorder.apply("lt", self, other)

    def __le__(self, other: Any) -> Any:
        return self.recorder.apply("le", self, other)

    def __gt__(self, other: Any) -> Any:
        return self.recorder.apply("gt", self, other)

    def __ge__(self, other: Any) -> Any:
        return self.recorder.apply("ge", self, other)

    def __invert__(self) -> Any:
        return self.recorder.apply("bitwise_not", self)

    def __and__(self, other: Any) -> Any:
        return self.recorder.apply("bitwise_and", self, other)

    def __or__(self, other: Any) -> Any:
        return self.recorder.apply("bitwise_or", self, other)


def view_path(steps: Sequence[ViewStep]) -> ViewPath:
    """Steps of views as kernels and their arguments."""
    return tuple((step.op.kernel, step.template[1:], step.nr) for step in steps)


def tensors_in(args: Sequence[Any]) -> list[Traced]:
    """Those among arguments and in lists of them."""
    found: list[Traced] = []
    for each in args:
        if isinstance(each, Traced):
            found.append(each)
        elif isinstance(each, (list, tuple)):
            found += [item for item in each if isinstance(item, Traced)]
    return found
