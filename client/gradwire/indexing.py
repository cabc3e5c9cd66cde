"""`x[...]` and `x[...] = value`, as chains of views and, for tensors of indices, gathers."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from gradwire import reading
from gradwire import tensors as _tensors
from gradwire.arguments import number_or_none, wrong_type
from gradwire.errors import OutOfRangeError
from gradwire.record import AnyTensor, TensorList, record, record_in_place
from gradwire.recorder import Attribute

if TYPE_CHECKING:
    from types import EllipsisType
    from typing import Any, SupportsIndex, TypeAlias

    from gradwire.codec import Array
    from gradwire.tensors import Tensor

    # What may stand in the brackets: an item, or a tuple of items.
    Index: TypeAlias = SupportsIndex | slice | EllipsisType | Tensor | Array | Sequence[Any] | None

_SELF = ("self",)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an index leads: a view, and in it, where there are indices, the elements they name."""

    view: "Tensor"
    indices: "tuple[Tensor | None, ...]"


def get(tensor: AnyTensor, index: object) -> AnyTensor:
    """The elements that an index names.

    Raises:
        IndexError: more indices than dimensions or (at the next reading) one out of range.
        ValueError: a slice with a step that is not positive.
        TypeError: what cannot be an index.
    """
    assert isinstance(tensor, _tensors.Tensor)
    if isinstance(index, slice):
        return cast("AnyTensor", _slice(tensor, 0, index))
    place = _find(tensor, index)
    if place.indices:
        return cast("AnyTensor", record("index", _SELF, (place.view,), (_indices("index", place),)))
    if place.view is tensor:
        # A new tensor of the same elements, so that `y = x[...]` is not `x`.
        shape = tuple(reading.type_of(tensor).shape)
        return cast("AnyTensor", record("view", _SELF, (tensor,), (("size", shape),)))
    return cast("AnyTensor", place.view)


def set_(tensor: object, index: object, value: object) -> None:
    """Write to the elements that an index names; errors as of `get` and of in-place changes."""
    assert isinstance(tensor, _tensors.Tensor)
    if isinstance(value, (np.ndarray, list)):
        value = tensor._session.tensor(value)
    is_number = not isinstance(value, _tensors.Tensor)
    if is_number and number_or_none(value) is None:
        raise wrong_type("__setitem__", "value", "a tensor, a number or an array", value)
    whole = isinstance(index, slice) and index == slice(None)
    place = _Place(tensor, ()) if whole else _find(tensor, index)
    if place.indices:
        attributes = (_indices("index_put_", place),)
        record_in_place("index_put_", ("self", "values"), (place.view, value), attributes)
    elif is_number and place.view is tensor:
        # Here the node is seen, and it is that of a fill with a tensor.
        number = tensor._session.tensor(np.asarray(value))
        record_in_place("fill_", ("self", "value"), (tensor, number))
    elif is_number:
        record_in_place("fill_", ("self", "value"), (place.view, value))
    else:
        record_in_place("_assign_", ("self", "src"), (place.view, value))


def _indices(op: str, place: _Place) -> Attribute:
    return ("indices", TensorList(op, "indices", place.indices))


def _find(tensor: "Tensor", index: object) -> _Place:
    items = list(index) if isinstance(index, tuple) else [index]
    dots = [nr for nr, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can have only one ellipsis ('...')")
    trailing: list[object] = []
    if dots:
        before, trailing = items[: dots[0]], items[dots[0] + 1 :]
        if any(_is_gathering(item) for item in trailing):
            taken = sum(_dims_taken(item) for item in (*before, *trailing))
            missing = reading.type_of(tensor).shape[taken:]
            items, trailing = [*before, *[slice(None)] * len(missing), *trailing], []
        else:
            items = before
    return _from_the_left(_from_the_right(tensor, trailing), items)


def _from_the_right(view: "Tensor", items: Sequence[object]) -> "Tensor":
    """Apply the items behind an ellipsis; counted from the end, so no one asks for the shape."""
    after = 0
    for item in reversed(items):
        dim = -1 - after
        if item is None:
            view = record("unsqueeze", _SELF, (view,), (("dim", dim),))
            after += 1
        elif isinstance(item, slice):
            view = view if item == slice(None) else _slice(view, dim, item)
            after += 1
        else:
            view = _select(view, dim, item)
    return view


def _from_the_left(view: "Tensor", items: Sequence[object]) -> _Place:
    dim = 0
    indices: list[Tensor | None] = []
    for nr, item in enumerate(items):
        if item is None:
            view = record("unsqueeze", _SELF, (view,), (("dim", dim),))
        elif isinstance(item, slice):
            view = view if item == slice(None) else _slice(view, dim, item)
        elif isinstance(item, (bool, np.bool_)):
            view = record("unsqueeze", _SELF, (view,), (("dim", dim),))
            indices.append(view._session.tensor([bool(item)]))
            dim += 1
            continue
        elif _is_gathering(item):
            found = _as_index(view, item)
            indices.append(found)
            if nr + 1 < len(items):
                dim += _dims_taken(found)
            continue
        else:
            view = _select(view, dim, item)
            continue
        indices.append(None)
        dim += 1
    gathers = any(each is not None for each in indices)
    return _Place(view, tuple(indices) if gathers else ())


def _is_gathering(item: object) -> bool:
    return isinstance(item, (_tensors.Tensor, np.ndarray, list, tuple, range, bool, np.bool_))


def _dims_taken(item: object) -> int:
    """Dimensions that an item stands for."""
    if item is None or isinstance(item, (bool, np.bool_)):
        return 0
    if isinstance(item, _tensors.Tensor):
        info = reading.type_of(item)
        return len(info.shape) if info.dtype.name == "bool" else 1
    if isinstance(item, (np.ndarray, list, tuple, range)):
        array = np.asarray(item)
        return array.ndim if array.dtype.kind == "b" else 1
    return 1


def _as_index(view: "Tensor", item: object) -> "Tensor":
    if isinstance(item, _tensors.Tensor):
        return item
    array = np.asarray(item)
    if not array.size:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub":
        raise wrong_type("__getitem__", "index", "integers or bools", item)
    return view._session.tensor(array)


def _select(view: "Tensor", dim: int, item: object) -> "Tensor":
    if isinstance(item, str):
        raise wrong_type("__getitem__", "index", "integers, slices or tensors", item)
    try:
        position = operator.index(item)  # type: ignore[arg-type]
    except TypeError:
        raise OutOfRangeError(
            "only integers, slices (`:`), ellipsis (`...`), None and int or bool tensors are valid "
            f"indices, not {type(item).__name__}"
        ) from None
    return record("select", _SELF, (view,), (("dim", dim), ("index", position)))


def _slice(view: "Tensor", dim: int, item: slice) -> "Tensor":
    attributes: list[Attribute] = []
    if dim != 0:
        attributes.append(("dim", dim))
    if item.start is not None:
        attributes.append(("start", operator.index(item.start)))
    if item.stop is not None:
        attributes.append(("end", operator.index(item.stop)))
    if item.step is not None:
        step = operator.index(item.step)
        if step <= 0:
            raise ValueError(f"the step of a slice must be positive, not {step}")
        attributes.append(("step", step))
    return record("slice", _SELF, (view,), attributes)
