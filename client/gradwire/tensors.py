"""Tensor: a handle of a tensor that lives in a session, with PyTorch's names."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self, cast, overload

import numpy.typing as npt

from gradwire import autograd, grads, hooks, node, printing, reading, views
from gradwire.arguments import wrong_type
from gradwire.codec import Array, Info
from gradwire.dtypes import dtype as Dtype
from gradwire.errors import AutogradError, BadValueError, from_status, refused
from gradwire.location import locate, mark
from gradwire.operators import functions
from gradwire.tensor_operators import Operators
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.autograd.gradients import Place
    from gradwire.core import SessionCore
    from gradwire.node import Node
    from gradwire.reading import Known
    from gradwire.session import Session


class Size(tuple[int, ...]):
    """The shape of a tensor: a tuple of sizes."""

    __slots__ = ()

    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self)

    def __repr__(self) -> str:
        return f"gradwire.Size({list(self)})"


class Tensor(Operators):
    """A tensor of a session. Operators on it are recorded, and run on the server.

    What reads it (`item`, `numpy`, `tolist`, `shape`, printing, `bool`) sends what is recorded and
    waits; there too an operator that failed is reported, with the line that recorded it.

    Made by `gradwire.tensor` and the other creation functions, not by its constructor.
    """

    __slots__ = ("__weakref__", "_handle", "_known", "_session")

    # NumPy leaves operators between an array and a tensor to the tensor.
    __array_ufunc__ = None

    def __init__(self, handle: int, session: "SessionCore") -> None:
        self._handle = handle
        self._session = session
        self._known: Known | None = None

    def __del__(self) -> None:
        # In whatever thread, at whatever time: so this only notes the handle.
        self._session.release(self._handle)

    # Metadata

    @property
    def shape(self) -> Size:
        """Sizes of the dimensions."""
        return Size(reading.type_of(self).shape)

    @overload
    def size(self) -> Size: ...
    @overload
    def size(self, dim: int) -> int: ...
    def size(self, dim: int | None = None) -> Size | int:
        """The shape, or the size of one dimension; an IndexError if there is no such one."""
        shape = self.shape
        if dim is None:
            return shape
        if not -len(shape) <= dim < len(shape):
            raise _no_such_dim(dim, len(shape))
        return shape[dim]

    @property
    def dtype(self) -> Dtype:
        """The element type."""
        return reading.type_of(self).dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def dim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def numel(self) -> int:
        """The number of elements."""
        return self.shape.numel()

    nelement = numel

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.numel() * self.dtype.itemsize

    @overload
    def stride(self) -> tuple[int, ...]: ...
    @overload
    def stride(self, dim: int) -> int: ...
    def stride(self, dim: int | None = None) -> tuple[int, ...] | int:
        """Elements between neighbours along each dimension, or along one."""
        strides = reading.info_of(self).strides
        return strides if dim is None else strides[dim]

    def is_floating_point(self) -> bool:
        """Whether the elements are real floating-point numbers."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Whether the elements are complex numbers."""
        return self.dtype.is_complex

    @property
    def session(self) -> "Session":
        """The session that the tensor lives in."""
        return cast("Session", self._session)

    # Values

    def item(self) -> bool | int | float | complex:
        """The value of a tensor of one element, as a Python number.

        Raises:
            RuntimeError: it has another number of elements.
        """
        (value,) = reading.values_of([self])
        return item_of(value)

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers; of a 0-d tensor, a number."""
        (value,) = reading.values_of([self])
        return value.tolist()

    def numpy(self, *, force: bool = False) -> Array:
        """The values as an array: a copy of the server's, and read-only for that reason.

        Args:
            force: Also of a tensor that requires grad: `detach()` first.

        Raises:
            RuntimeError: the tensor requires grad, and `force` is not set.
        """
        return _detached_value(self, force)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        array = _detached_value(self)
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **kwargs: Any) -> Any:
        # NumPy exports no read-only arrays, so this is a copy that its taker may write to.
        array: npt.NDArray[Any] = _detached_value(self).copy()
        return array.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # kDLCPU, whatever the server runs on: values arrive in this memory

    def __bool__(self) -> bool:
        (value,) = reading.values_of([self])
        if value.size != 1:
            raise BadValueError(
                f"the truth value of a tensor of shape {value.shape} is ambiguous; use any() or "
                "all()"
            )
        return bool(value.item())

    def __float__(self) -> float:
        return float(cast(float, self._only()))

    def __int__(self) -> int:
        return int(cast(float, self._only()))

    def __complex__(self) -> complex:
        return complex(self._only())

    def __index__(self) -> int:
        number = self._only()
        if not isinstance(number, int):
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(number)

    def _only(self) -> bool | int | float | complex:
        (value,) = reading.values_of([self])
        if value.size != 1:
            raise ValueError(
                f"only tensors of one element can be converted to a number, not shape {value.shape}"
            )
        number: bool | int | float | complex = value.item()
        return number

    def __len__(self) -> int:
        shape = self.shape
        if not shape:
            raise TypeError("len() of a 0-d tensor")
        return shape[0]

    def __iter__(self) -> Iterator[Self]:
        if not self.shape:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __contains__(self, element: object) -> bool:
        return bool((self == element).any())

    def __repr__(self) -> str:
        return printing.show(self)

    def __format__(self, spec: str) -> str:
        if spec and not self.shape:
            return format(item_of(*reading.values_of([self])), spec)
        return format(repr(self), spec)

    def __hash__(self) -> int:
        return id(self)

    def __reduce__(self) -> Any:
        raise TypeError(
            "a tensor lives in a session and cannot be pickled or copied by copy(); use "
            "tensor.clone(), or pickle tensor.detach().numpy()"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tensor":
        if not self.is_leaf:
            raise AutogradError(
                "only leaf tensors can be deep-copied; use tensor.detach().clone(), or clone()"
            )
        made = self.detach().clone().requires_grad_(self.requires_grad)
        memo[id(self)] = made
        return made

    # Autograd

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are recorded through this tensor. Can be set on a leaf."""
        return reading.info_of(self).requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise AutogradError(f"requires_grad must be a bool, not {type(value).__name__}")
        self._set_requires_grad(value, leaf_only=True)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether gradients are recorded through this leaf.

        Raises:
            RuntimeError: (at the next reading, if not known before) it is not of floating-point or
                complex dtype; or it is no leaf and the value is False.
            TypeError: the value is no bool.
        """
        if not isinstance(requires_grad, bool):
            raise wrong_type("requires_grad_", "requires_grad", "a bool", requires_grad)
        self._set_requires_grad(requires_grad, leaf_only=False)
        return self

    def _set_requires_grad(self, requires_grad: bool, *, leaf_only: bool) -> None:
        known = self._known
        if requires_grad and known is not None and known.info is not None:
            _require_differentiable(known.info.dtype)
        step = pb.RequiresGrad(tensor=self._handle, value=requires_grad, leaf_only=leaf_only)
        self._session.step(pb.Step(requires_grad=step))
        self._session.flag_changes += 1
        if known is not None:
            if known.info is not None and known.info.is_leaf:
                known.info = known.info._replace(requires_grad=requires_grad)
            else:
                known.info_at = -1
        if requires_grad:
            self._session.watch_grad(self)

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operator made it, so that `backward` fills its `.grad`.

        Raises:
            RuntimeError: it is a view that cannot follow a change in place.
        """
        return _placed(reading.info_of(self)).is_leaf

    @property
    def retains_grad(self) -> bool:
        """Whether it is a non-leaf that `retain_grad` was called on."""
        return reading.info_of(self).retains_grad

    @property
    def _version(self) -> int:
        """In-place changes so far, those of its views included.

        Raises:
            RuntimeError: it was made in inference mode.
        """
        info = reading.info_of(self)
        if info.is_inference:
            raise refused(
                "INFERENCE_TENSOR",
                "a tensor made in inference mode has no version counter; use a clone() made "
                "outside of the mode, or no_grad in place of inference_mode",
            )
        return info.version

    def is_inference(self) -> bool:
        """Whether it was made in inference mode, or is a view of such a tensor."""
        return reading.info_of(self).is_inference

    def _is_view(self) -> bool:
        """Whether it shares the storage of another tensor and follows it in the graph."""
        return reading.info_of(self).is_view

    @property
    def _base(self) -> "Self | None":
        """The tensor that it is a view of; None if it is no view."""
        return views.base_of(self)

    @property
    def grad_fn(self) -> "Node | None":
        """The node of the graph that made it; None for a leaf.

        Raises:
            RuntimeError: it is a view that cannot follow a change in place.
        """
        ref = _placed(reading.info_of(self)).grad_fn
        return None if ref is None else node.Node(self, ref)

    @property
    def grad(self) -> "Tensor | None":
        """The gradient that backward passes accumulated here; None before the first. Can be set.

        The same object each time, whose value grows with each backward.
        """
        return grads.grad_of(self)

    @grad.setter
    def grad(self, value: "Tensor | None") -> None:
        grads.set_grad(self, value)

    @grad.deleter
    def grad(self) -> None:
        grads.set_grad(self, None)

    def register_hook(self, hook: "Callable[[Tensor], Tensor | None]") -> hooks.RemovableHandle:
        """Run `hook(gradient)` on this side whenever a backward computes the gradient of this.

        It may return a tensor of the same shape and dtype to put in its place. `backward()` waits
        for its end while there are hooks.

        Raises:
            RuntimeError: (at the next reading, if not known before) it does not require grad.
            TypeError: the hook is no function.
        """
        hooks.require_grad(self)
        message = pb.RegisterHook(kind=pb.HOOK_KIND_TENSOR, tensor=self._handle)
        return hooks.register(self._session, message, hook)

    def register_post_accumulate_grad_hook(
        self, hook: "Callable[[Tensor], None]"
    ) -> hooks.RemovableHandle:
        """Run `hook(tensor)` on this side after each time that a backward added to `.grad`.

        Raises:
            RuntimeError: (at the next reading, if not known before) it does not require grad, or it
                is no leaf.
            TypeError: the hook is no function.
        """
        hooks.require_grad(self)
        message = pb.RegisterHook(kind=pb.HOOK_KIND_POST_ACCUMULATE, tensor=self._handle)
        return hooks.register(self._session, message, hook, self)

    def retain_grad(self) -> None:
        """Keep the gradient of this non-leaf in its `.grad`.

        Raises:
            RuntimeError: (at the next reading) it does not require grad.
        """
        self._session.step(pb.Step(retain_grad=pb.RetainGrad(tensor=self._handle)))
        known = reading.known(self)
        known.info_at = -1
        self._session.watch_grad(self)

    def backward(
        self,
        gradient: "Tensor | None" = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: "Place | Iterable[Place] | None" = None,
    ) -> None:
        """Compute gradients of this tensor and accumulate them into the `.grad` of leaves.

        Args:
            gradient: The direction v of the vector-Jacobian product, of this tensor's shape. Not
                needed for a tensor of one element, whose direction is 1.
            retain_graph: Keep what the graph saved, for another pass. None: as `create_graph`.
            create_graph: Record the backward itself, for higher derivatives.
            inputs: Accumulate only into these.

        Raises:
            RuntimeError: (at the next reading, if not known before) no gradient for a tensor that
                is no scalar, a graph that was freed, a saved value that was changed since.
        """
        autograd.backward(
            self, gradient, retain_graph=retain_graph, create_graph=create_graph, inputs=inputs
        )

    @property
    def T(self) -> Self:
        """The tensor with its dimensions in reverse order."""
        dims = tuple(range(len(self.shape)))[::-1]
        return self.permute(dims)

    @property
    def mT(self) -> Self:
        """Each matrix in the last two dimensions transposed."""
        return self.transpose(-2, -1)

    @property
    def H(self) -> Self:
        """A matrix transposed and conjugated."""
        return self.adjoint()

    @property
    def mH(self) -> Self:
        """Each matrix in the last two dimensions transposed and conjugated."""
        return self.adjoint()

    @property
    def real(self) -> Self:
        """The real part; of a real tensor, itself."""
        return functions.real(self)

    @property
    def imag(self) -> Self:
        """The imaginary part.

        Raises:
            RuntimeError: (at the next reading) the tensor is real.
        """
        return functions.imag(self)

    @property
    def data(self) -> Self:
        """The values outside of the graph. Changing them is not counted. Can be set."""
        return views.data_of(self)

    @data.setter
    def data(self, value: "Tensor") -> None:
        views.set_data(self, value)


def item_of(value: Array) -> bool | int | float | complex:
    """The only element of a value, as `Tensor.item` says."""
    if value.size != 1:
        raise BadValueError(
            f"a tensor of {value.size} elements (shape {value.shape}) cannot be converted to a "
            "number; only one with a single element can, so index or reduce it first"
        )
    number: bool | int | float | complex = value.item()
    return number


def _detached_value(tensor: Tensor, force: bool = False) -> Array:
    (value,) = reading.values_of([tensor], info=not force)
    if not force:
        check_detached(reading.info_of(tensor))
    return value


def check_detached(info: Info) -> None:
    """Refuse to give out the value of a tensor that requires grad, as `Tensor.numpy` says."""
    if info.requires_grad:
        raise AutogradError(
            "numpy() of a tensor that requires grad would leave the graph unnoticed; "
            "use tensor.detach().numpy(), or gradwire.fetch(tensor)"
        )


def _require_differentiable(found: Dtype) -> None:
    if not (found.is_floating_point or found.is_complex):
        raise refused(
            "DTYPE_NO_GRAD",
            f"only tensors of floating-point or complex dtype can require grad, not {found}; "
            "convert with to(gradwire.float32) first",
            dtype=found.name,
        )


def _placed(info: Info) -> Info:
    """Metadata of a tensor that has its place in the graph."""
    if info.stale is not None:
        raise from_status(info.stale).at(locate(mark()))
    return info


def _no_such_dim(dim: int, ndim: int) -> Exception:
    return refused(
        "DIM_OUT_OF_RANGE",
        f"dimension {dim} of a tensor that has {ndim}; expected {-ndim} to {ndim - 1}",
        dim=dim,
        ndim=ndim,
    )
