"""From a call in the user's program to a recorded step: what every operator goes through."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import numpy as np

# `gradwire.tensors` is imported first by the package and imports the generated methods, which
# import this; so the class is looked up when it is needed.
from gradwire import arguments, current
from gradwire import tensors as _tensors
from gradwire.capture import joined
from gradwire.dtypes import dtype
from gradwire.errors import refused
from gradwire.modes import grad_mode
from gradwire.recorder import Attribute, Handles

if TYPE_CHECKING:
    from gradwire.core import SessionCore
    from gradwire.operators.methods import Methods
    from gradwire.tensors import Tensor

AnyTensor = TypeVar("AnyTensor", bound="Methods")
"""A class of tensors. What an operator makes of a tensor lives in the same session, so it is of the
same class."""


@overload
def record(  # type: ignore[overload-overlap] # the first tells more of tensors
    name: str,
    names: tuple[str, ...],
    tensors: tuple[AnyTensor, *tuple[object, ...]],
    attributes: Sequence[Attribute] = (),
) -> AnyTensor: ...
@overload
def record(
    name: str,
    names: tuple[str, ...],
    tensors: tuple[object, ...],
    attributes: Sequence[Attribute] = (),
) -> "Tensor": ...


def record(
    name: str,
    names: tuple[str, ...],
    tensors: tuple[object, ...],
    attributes: Sequence[Attribute] = (),
) -> Any:
    """Record an operator with one result.

    Args:
        name: The operator.
        names: Names of its tensor arguments, in order of the schema.
        tensors: What was given for them: tensors, plain numbers, or None.
        attributes: Its other arguments, where they differ from the default.

    Raises:
        TypeError: a tensor argument is neither a tensor nor a number.
        SessionError: tensors of different sessions.
    """
    session, inputs, bound = _bind(name, names, tensors, attributes)
    handle = session.op(name, inputs, bound, 1, grad_mode())
    return session.tensor_type(handle, session)


@overload
def record_many(  # type: ignore[overload-overlap] # the first tells more of tensors
    name: str,
    names: tuple[str, ...],
    tensors: tuple[AnyTensor, *tuple[object, ...]],
    attributes: Sequence[Attribute],
    outputs: int,
) -> tuple[AnyTensor, ...]: ...
@overload
def record_many(
    name: str,
    names: tuple[str, ...],
    tensors: tuple[object, ...],
    attributes: Sequence[Attribute],
    outputs: int,
) -> "tuple[Tensor, ...]": ...
def record_many(
    name: str,
    names: tuple[str, ...],
    tensors: tuple[object, ...],
    attributes: Sequence[Attribute],
    outputs: int,
) -> Any:
    """Record an operator with several results; as `record`."""
    session, inputs, bound = _bind(name, names, tensors, attributes)
    first = session.op(name, inputs, bound, outputs, grad_mode())
    return tuple(session.tensor_type(first + nr, session) for nr in range(outputs))


@overload
def record_in_place(  # type: ignore[overload-overlap] # the first tells more of tensors
    name: str,
    names: tuple[str, ...],
    tensors: tuple[AnyTensor, *tuple[object, ...]],
    attributes: Sequence[Attribute] = (),
) -> AnyTensor: ...
@overload
def record_in_place(
    name: str,
    names: tuple[str, ...],
    tensors: tuple[object, ...],
    attributes: Sequence[Attribute] = (),
) -> "Tensor": ...
def record_in_place(
    name: str,
    names: tuple[str, ...],
    tensors: tuple[object, ...],
    attributes: Sequence[Attribute] = (),
) -> Any:
    """Record an operator that changes its first tensor, and give that back; as `record`."""
    session, inputs, bound = _bind(name, names, tensors, attributes)
    target = tensors[0]
    if not isinstance(target, _tensors.Tensor):
        raise arguments.wrong_type(name, names[0], "a tensor", target)
    session.op(name, inputs, bound, 0, grad_mode())
    if name in _RESHAPING:
        target._known = None
    return target


_RESHAPING = frozenset(
    {"as_strided_", "resize_", "set_", "squeeze_", "swapaxes_", "t_", "transpose_", "unsqueeze_"}
)
"""In-place operators after which a tensor may have another shape."""


def _bind(
    name: str,
    names: tuple[str, ...],
    tensors: tuple[object, ...],
    attributes: Sequence[Attribute],
) -> "tuple[SessionCore, tuple[int, ...], tuple[Attribute, ...]]":
    """The session that the tensors live in, their handles, and numbers given for tensors."""
    Tensor = _tensors.Tensor
    bound = tuple(attributes)
    if len(tensors) == 1 and not bound:
        only = tensors[0]
        if isinstance(only, Tensor):
            return only._session, (only._handle,), bound
    session: SessionCore | None = None
    inputs: list[int] = []
    for nr, each in enumerate(tensors):
        if isinstance(each, Tensor):
            inputs.append(each._handle)
            if session is None:
                session = each._session
            elif each._session is not session:
                together = joined(tensors)
                if together is None:
                    raise _two_sessions(name, session, each._session)
                return _bind(name, names, tuple(together), attributes)
        else:
            inputs.append(0)
            if each is not None:
                number = arguments.number_or_none(each)
                if number is None:
                    raise arguments.wrong_type(name, names[nr], "a tensor or a number", each)
                bound = (*bound, (names[nr], number))
    for _, value in bound:
        if isinstance(value, TensorList) and value.session is not None:
            if session is None:
                session = value.session
            elif value.session is not session:
                raise _two_sessions(name, session, value.session)
    return (current.current() if session is None else session), tuple(inputs), bound


class TensorList(Handles):
    """An argument of type `Tensor[]`, with the session that its tensors live in."""

    session: "SessionCore | None"

    def __new__(cls, name: str, argument: str, items: Iterable[object]) -> "TensorList":
        """Take the handles of tensors; of None, 0.

        Raises:
            TypeError: an item is no tensor.
            SessionError: tensors of different sessions.
        """
        items = list(items)
        items = joined(items) or items
        session: SessionCore | None = None
        handles: list[int] = []
        for item in items:
            if item is None:
                handles.append(0)
                continue
            if not isinstance(item, _tensors.Tensor):
                raise arguments.wrong_type(name, argument, "a sequence of tensors", item)
            if session is None:
                session = item._session
            elif item._session is not session:
                raise _two_sessions(name, session, item._session)
            handles.append(item._handle)
        made = super().__new__(cls, handles)
        made.session = session
        return made


def _two_sessions(name: str, one: "SessionCore", other: "SessionCore") -> Exception:
    return refused(
        "BAD_VALUE",
        f"{name}: its tensors live in different sessions ({one.id} and {other.id}); carry a value "
        "over with session.tensor(t.detach().numpy())",
    )


_OTHER = ("self", "other")


def binary(
    name: str,
    left: AnyTensor,
    right: object,
    *,
    swap: bool = False,
    numbers: bool = True,
    names: tuple[str, str] = _OTHER,
    attributes: tuple[Attribute, ...] = (),
) -> AnyTensor:
    """Record a Python operator; NotImplemented where `right` is no operand for it.

    Args:
        name: The operator.
        left: The tensor whose method was called.
        right: The other operand: a tensor, a number or an array.
        swap: `right` is the first argument, as in `2 ** x`.
        numbers: Whether `right` may be a number.
        names: Names of the two arguments.
        attributes: Other arguments.
    """
    assert isinstance(left, _tensors.Tensor)
    session = left._session
    inputs: tuple[int, ...]
    # Most are floats, which need not be looked at so closely.
    is_float = right.__class__ is float
    if not is_float and isinstance(right, np.ndarray):
        right = session.tensor(right)
    if not is_float and isinstance(right, _tensors.Tensor):
        if right._session is not session:
            together = joined((left, right))
            if together is None:
                raise _two_sessions(name, session, right._session)
            left, right = cast("tuple[AnyTensor, object]", tuple(together))
            return binary(
                name,
                left,
                right,
                swap=swap,
                numbers=numbers,
                names=names,
                attributes=attributes,
            )
        mine, other = left._handle, right._handle
        inputs = (other, mine) if swap else (mine, other)
    else:
        number = arguments.number_or_none(right) if numbers else None
        if number is None:
            return cast("AnyTensor", NotImplemented)
        inputs = (0, left._handle) if swap else (left._handle,)
        argument = (names[not swap], number)
        attributes = (*attributes, argument) if attributes else (argument,)
    handle = session.op(name, inputs, attributes, 1, grad_mode())
    return session.tensor_type(handle, session)  # type: ignore[return-value] # of left's session


def binary_in_place(
    name: str, target: AnyTensor, other: object, *, names: tuple[str, str] = _OTHER
) -> AnyTensor:
    """Record an augmented assignment; NotImplemented where `other` is no operand for it."""
    assert isinstance(target, _tensors.Tensor)
    if isinstance(other, np.ndarray):
        other = target._session.tensor(other)
    elif not isinstance(other, _tensors.Tensor) and arguments.number_or_none(other) is None:
        return cast("AnyTensor", NotImplemented)
    return record_in_place(name, names, (target, other))


def convert(tensor: AnyTensor, wanted: "dtype | None") -> AnyTensor:
    """Record a conversion to another dtype, unless the tensor is known to have it already."""
    assert isinstance(tensor, _tensors.Tensor)
    known = tensor._known
    if wanted is None or (
        known is not None and known.info is not None and known.info.dtype is wanted
    ):
        return tensor
    return record("to", ("self",), (tensor,), (("dtype", wanted),))
