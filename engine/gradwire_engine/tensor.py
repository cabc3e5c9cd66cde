"""Tensors: an array, its version counter, and where it stands in the graph."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from gradwire_engine.context import Context, current
from gradwire_engine.dtypes import can_cast, is_differentiable
from gradwire_engine.errors import EngineError
from gradwire_engine.hooks import Hooks, hooks_of
from gradwire_engine.node import AccumulateGrad, AnyNode, Edge
from gradwire_engine.registry import operators

if TYPE_CHECKING:
    from gradwire_engine.operator import Operator


class _NoVersion(list[int]):
    """The version counter of tensors made in inference mode: there is none to read."""

    def __getitem__(self, index: Any) -> Any:
        raise EngineError(
            "INFERENCE_TENSOR",
            "a tensor made in inference mode has no version counter, so outside of that mode it "
            "can neither be saved for backward nor changed in place; use a clone() made outside, "
            "or no_grad in place of inference_mode",
        )


NO_VERSION: Final = _NoVersion()


@dataclass(frozen=True, slots=True)
class ViewStep:
    """One view operator on the way from a base to its view; `nr` says which of several results."""

    op: Operator
    template: tuple[Any, ...]
    nr: int | None


@dataclass(slots=True)
class View:
    """What a view remembers.

    Attributes:
        base: the tensor, not a view itself, whose storage this is.
        storage: the array of the base when the view was made; another one means that the path
            does not lead from what the base is now.
        path: the view operators from the base.
        origin: why the view cannot follow changes in place, if it cannot.
        seen: version of the storage when the view's edge was last right.
    """

    base: Tensor
    storage: np.ndarray
    path: tuple[ViewStep, ...]
    origin: Literal["several", "no_grad"] | None
    seen: int


_UNVERSIONED: Final = -1


def _unary(name: str) -> Callable[[Tensor], Tensor]:
    def call(self: Tensor) -> Tensor:
        return operators[name].apply(self)  # type: ignore[no-any-return]

    return call


def _binary(name: str) -> Callable[[Tensor, Any], Tensor]:
    # By the type of the other operand, so that a call looks up one thing.
    paths: dict[type, Callable[[Tensor, Any], Tensor]] = {}

    def call(self: Tensor, other: Any) -> Tensor:
        path = paths.get(other.__class__)
        if path is None:
            kind = other.__class__
            path = paths[kind] = operators[name].path((Tensor, kind))
        return path(self, other)

    return call


class Tensor:
    """An array that autograd follows.

    Attributes:
        data: the values. May be read-only (data of a request); `own()` makes it writable.
        version: a one-element list that counts in-place changes, shared with views; NO_VERSION
            where they are not counted.
        edge: the node that made this tensor and which of its outputs it is; None for a leaf.
        view: for a view, whose storage it shares and how; `refresh()` then brings `edge` up to
            date.
        hooks: of a leaf.
        grad: the accumulated gradient of a leaf, or of a tensor that retains it.
    """

    __slots__ = (
        "__weakref__",
        "_accumulator",
        "data",
        "edge",
        "grad",
        "hooks",
        "leaf_requires_grad",
        "version",
        "view",
    )

    __hash__ = object.__hash__

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.version = [0]
        self.edge: Edge | None = None
        self.view: View | None = None
        self.grad: Tensor | None = None
        self.leaf_requires_grad = False
        self.hooks: Hooks | None = None
        self._accumulator: weakref.ref[AccumulateGrad] | None = None

    @classmethod
    def from_array(cls, data: np.ndarray, *, requires_grad: bool = False) -> Tensor:
        """A leaf over `data`, which it does not copy.

        Raises:
            EngineError: DTYPE_NO_GRAD.
        """
        tensor = cls(data)
        if current.context.inference:
            tensor.version = NO_VERSION
        if requires_grad:
            if is_differentiable(data.dtype):
                tensor.leaf_requires_grad = True
            else:
                tensor.set_requires_grad(True)
        return tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        """The element type."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.data.ndim

    @property
    def requires_grad(self) -> bool:
        """Whether a backward brings a gradient here (PyTorch: also for a view of such a tensor)."""
        if self.view is not None:
            self.refresh()
            if self.view.base.requires_grad:
                return True
        return self.edge is not None or self.leaf_requires_grad

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operator made this tensor."""
        return self.grad_fn is None

    @property
    def grad_fn(self) -> AnyNode | None:
        """The node that made this tensor; None for a leaf."""
        if self.view is not None:
            self.refresh()
        return None if self.edge is None else self.edge[0]

    @property
    def output_nr(self) -> int:
        """Which output of its `grad_fn` this tensor is."""
        return 0 if self.edge is None else self.edge[1]

    @property
    def retains_grad(self) -> bool:
        """Whether this non-leaf keeps its `.grad`."""
        if self.edge is None:
            return False
        node, nr = self.edge
        return node.hooks is not None and nr in node.hooks.retains

    @property
    def is_inference(self) -> bool:
        """Whether it was made in inference mode, or is a view of such a tensor."""
        return self.version is NO_VERSION

    @property
    def _version(self) -> int:
        return self.version[0]

    def gradient_edge(self) -> Edge | None:
        """Where gradients of this tensor go; None if it does not require grad."""
        if self.view is not None:
            self.refresh()
        if self.edge is not None or not self.leaf_requires_grad:
            return self.edge
        # The leaf holds its accumulator weakly: held strongly by both, a leaf would outlive its
        # last handle until the garbage collector came by.
        node = None if self._accumulator is None else self._accumulator()
        if node is None:
            node = AccumulateGrad(self, current.context.next_id())
            self._accumulator = weakref.ref(node)
        return (node, 0)

    def set_requires_grad(self, value: bool, *, leaf_only: bool = False) -> None:
        """Set whether this leaf requires grad; a non-leaf may be set to what it has.

        Args:
            leaf_only: a non-leaf may not.

        Raises:
            EngineError: DTYPE_NO_GRAD, NON_LEAF_FLAG, INFERENCE_TENSOR.
        """
        if self.edge is not None:
            if not value or leaf_only:
                name = self.edge[0].name
                remedy = (
                    "It requires grad as it is; call retain_grad() to keep its .grad"
                    if value
                    else "Use detach() to get a tensor outside of the graph"
                )
                raise EngineError(
                    "NON_LEAF_FLAG",
                    f"requires_grad can only be set on a leaf; this tensor was made by {name}. "
                    + remedy,
                    grad_fn=name,
                )
            return
        if value and not is_differentiable(self.data.dtype):
            raise EngineError(
                "DTYPE_NO_GRAD",
                "only floating-point and complex tensors can require grad; this one is "
                f"{self.data.dtype}. Convert it first, for example to float32",
                dtype=self.data.dtype,
            )
        if value and self.is_inference and not current.context.inference:
            raise EngineError(
                "INFERENCE_TENSOR",
                "a tensor made in inference mode cannot require grad outside of it; use a clone()",
            )
        self.leaf_requires_grad = value

    def retain_grad(self) -> None:
        """Keep the gradient of this non-leaf in `.grad`; nothing to do for a leaf.

        Raises:
            EngineError: NO_GRAD_TO_RETAIN.
        """
        if not self.requires_grad:
            raise EngineError(
                "NO_GRAD_TO_RETAIN",
                "retain_grad() needs a tensor that requires grad; this one does not, so no "
                "gradient will ever reach it",
            )
        if self.edge is None:
            return
        node, nr = self.edge
        hooks_of(node).retains[nr] = weakref.ref(self)

    def keep_retaining(self, before: Edge | None) -> None:
        """After a change in place, let the `.grad` retained at the edge before be that of now."""
        hooks = None if before is None else before[0].hooks
        if before is None or hooks is None or self.edge is None:
            return
        reference = hooks.retains.get(before[1])
        if reference is not None and reference() is self:
            del hooks.retains[before[1]]
            hooks_of(self.edge[0]).retains[self.edge[1]] = reference

    def set_grad(self, grad: Tensor | None) -> None:
        """Assign `.grad`.

        Raises:
            EngineError: BAD_GRAD_ASSIGNMENT.
        """
        if grad is not None:
            problem = None
            if grad is self:
                problem = "a tensor cannot be its own gradient"
            elif grad.shape != self.shape:
                problem = f"its shape is {grad.shape}, the tensor's is {self.shape}"
            elif grad.dtype != self.dtype:
                problem = f"its dtype is {grad.dtype}, the tensor's is {self.dtype}"
            if problem:
                raise EngineError(
                    "BAD_GRAD_ASSIGNMENT",
                    f"this tensor cannot be assigned to .grad: {problem}",
                    shape=self.shape,
                    dtype=self.dtype,
                    grad_shape=grad.shape,
                    grad_dtype=grad.dtype,
                )
        self.grad = grad

    def own(self, op: str | None = None) -> np.ndarray:
        """The values as an array that may be written and shared.

        Data that came with a request is read-only and belongs to the request; it has no views
        (making one calls this first), so a copy can take its place.

        Args:
            op: what writes to it, if something does.

        Raises:
            EngineError: BAD_VALUE for a write to a view whose elements share memory.
        """
        if not self.data.flags.writeable:
            if op is not None and self.view is not None:
                raise self._overlapping(op)
            self.data = self.data.copy()
        return self.data

    def as_view_of(self, other: Tensor, step: ViewStep, context: Context) -> None:
        """Make this tensor a view of `other`, taken by `step`: one storage, one version counter."""
        self.version = other.version
        held = other.view
        origin: Literal["several", "no_grad"] | None = None
        if step.nr is not None:
            origin = "several"
        elif not context.grad_enabled:
            origin = "no_grad"
        # Without versions there is no graph that a view could fall behind.
        seen = _UNVERSIONED if self.is_inference else other.version[0]
        if held is None:
            self.view = View(other, other.data, (step,), origin, seen)
        else:
            path = (*held.path, step)
            self.view = View(held.base, held.storage, path, held.origin or origin, seen)

    def refresh(self) -> None:
        """Bring the edge of a view up to date with changes in place of its storage.

        Raises:
            EngineError: MULTI_VIEW_IN_PLACE, NO_GRAD_VIEW_IN_PLACE.
        """
        view = self.view
        if view is not None and view.seen != _UNVERSIONED and view.seen != self.version[0]:
            from gradwire_engine.views import refresh

            refresh(self, view, current.context)

    def write(self, values: np.ndarray, op: str) -> None:
        """Change the values in place and count it.

        Raises:
            EngineError: IN_PLACE_SHAPE, IN_PLACE_DTYPE, BAD_VALUE where elements share memory.
        """
        if 0 in self.data.strides and self.data.size > 1:
            self._refuse_overlap(op)
        data = self.own(op)
        if values.shape != data.shape:
            raise EngineError(
                "IN_PLACE_SHAPE",
                f"{op}: the result has shape {values.shape} and cannot be written to the tensor "
                f"of shape {data.shape}; use the operator without underscore",
                op=op,
                result_shape=values.shape,
                shape=data.shape,
            )
        if not can_cast(values.dtype, data.dtype):
            raise EngineError(
                "IN_PLACE_DTYPE",
                f"{op}: the result is {values.dtype} and cannot be written to a tensor of dtype "
                f"{data.dtype}; use the operator without underscore",
                op=op,
                result_dtype=values.dtype,
                dtype=data.dtype,
            )
        np.copyto(data, values, casting="unsafe")
        if self.version is not NO_VERSION:
            self.version[0] += 1

    def _refuse_overlap(self, op: str) -> None:
        """Refuse a write where several elements share one place in memory."""
        for size, stride in zip(self.data.shape, self.data.strides, strict=True):
            if stride == 0 and size > 1:
                raise self._overlapping(op)

    def _overlapping(self, op: str) -> EngineError:
        return EngineError(
            "BAD_VALUE",
            f"{op}: elements of this expanded tensor, or view of windows (shape {self.shape}), "
            "share memory, so it cannot be written to; clone() it first",
            op=op,
            shape=self.shape,
        )

    def __repr__(self) -> str:
        text = np.array2string(self.data, separator=", ", prefix="Tensor(")
        if self.edge is not None:
            return f"Tensor({text}, grad_fn={self.edge[0]!r})"
        return f"Tensor({text}{', requires_grad=True' if self.leaf_requires_grad else ''})"

    __neg__ = _unary("neg")
    __add__ = __radd__ = _binary("add")
    __sub__ = _binary("sub")
    __rsub__ = _binary("rsub")
    __mul__ = __rmul__ = _binary("mul")
    __truediv__ = _binary("div")
    __pow__ = _binary("pow")
    __matmul__ = _binary("matmul")
    __eq__ = _binary("eq")  # type: ignore[assignment]
    __ne__ = _binary("ne")  # type: ignore[assignment]
    __lt__ = _binary("lt")
    __le__ = _binary("le")
    __gt__ = _binary("gt")
    __ge__ = _binary("ge")
    __invert__ = _unary("bitwise_not")
    __and__ = _binary("bitwise_and")
    __or__ = _binary("bitwise_or")

    def __rtruediv__(self, other: Any) -> Tensor:
        return operators["reciprocal"].apply(self) * other  # type: ignore[no-any-return]

    def __rpow__(self, other: Any) -> Tensor:
        return operators["pow"].apply(other, self)  # type: ignore[no-any-return]
