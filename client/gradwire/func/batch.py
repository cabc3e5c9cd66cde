"""vmap: a function of one item as a function of a batch.

The function runs once for each item: on slices of the arguments, and its results are stacked. That
saves writing the batch dimension and costs a recorded operator for each item; it saves no time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradwire import reading
from gradwire import tensors as _tensors
from gradwire.errors import refused
from gradwire.func import steps
from gradwire.func.transform import Function
from gradwire.func.tree import LEAF, Structure, flatten, unflatten
from gradwire.operators import functions

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

InDims = Any
"""An int, None, or a tree of these that is built as the arguments are."""

OutDims = Any
"""An int, None, or a tree of these that is built as the result is."""


def vmap(
    func: Function,
    in_dims: InDims = 0,
    out_dims: OutDims = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Function:
    """A function that maps `func` over a dimension of its arguments.

    Args:
        func: Of tensors, or tuples, lists and dicts of tensors; gives the like.
        in_dims: Which dimension to map over: an int for all arguments, or a tuple with an item
            for each; of an argument that is a tree, an int or a tree. None: not mapped.
        out_dims: Where the mapped dimension comes in the results: an int for all, or a tree like
            the result. None: the result is the same for each item, and given once.
        randomness: Accepted, and of no effect: each item draws its own numbers.
        chunk_size: Accepted, and of no effect.

    Returns:
        A function of the same arguments; keyword arguments are mapped over dimension 0. It waits
        for an answer only where the shape of an argument is not known yet.

    Raises:
        ValueError: (when called) no argument is mapped, `in_dims` does not fit the arguments, or
            the sizes of mapped dimensions differ or are 0.
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = flatten((args, kwargs))
        dims = [
            *_dims_for(in_dims, args, "in_dims", "the arguments"),
            *_dims_for(0, tuple(kwargs.values()), "in_dims", "the arguments"),
        ]
        places = [
            None if dim is None else _place(leaf, dim)
            for leaf, dim in zip(leaves, dims, strict=True)
        ]
        size = _size(leaves, places)
        results = []
        for at in range(size):
            items = [
                leaf if place is None else _item(leaf, place, at)
                for leaf, place in zip(leaves, places, strict=True)
            ]
            some_args, some_kwargs = unflatten(items, structure)
            results.append(flatten(func(*some_args, **some_kwargs)))
        return _stacked([leaves for leaves, _ in results], results[0][1], out_dims)

    return wrapper


def _dims_for(dims: Any, trees: Any, name: str, what: str) -> list[int | None]:
    """A dimension for each leaf: `dims` is a tree like `trees`, or like the upper part of it."""
    found: list[int | None] = []
    _spread(dims, trees, found, name, what)
    return found


def _spread(dims: Any, value: Any, found: list[int | None], name: str, what: str) -> None:
    if dims is None or (isinstance(dims, int) and not isinstance(dims, bool)):
        found += [dims] * len(flatten(value)[0])
        return
    dims_leaves, _ = _children(dims)
    leaves, structure = _children(value)
    if dims_leaves is None or leaves is None or len(dims_leaves) != len(leaves):
        raise refused(
            "BAD_VALUE",
            f"vmap: {name} ({dims!r}) must be an int, None, or a tree of these that is built as "
            f"{what}, {structure}",
        )
    for one, other in zip(dims_leaves, leaves, strict=True):
        _spread(one, other, found, name, what)


def _children(value: Any) -> tuple[list[Any] | None, Structure]:
    _, structure = flatten(value)
    if structure is LEAF:
        return None, structure
    return list(value.values() if isinstance(value, dict) else value), structure


def _place(leaf: Any, dim: int) -> int:
    """The mapped dimension of an argument, counted from 0."""
    if not isinstance(leaf, _tensors.Tensor):
        raise refused(
            "BAD_VALUE",
            f"vmap: in_dims maps over {type(leaf).__name__} ({leaf!r}); give None for an argument "
            "that is no tensor",
        )
    ndim = len(reading.type_of(leaf).shape)
    if not -ndim <= dim < ndim:
        raise refused(
            "BAD_VALUE", f"vmap: in_dims names dimension {dim} of a tensor that has {ndim}"
        )
    return dim % ndim


def _size(leaves: Sequence[Any], places: Sequence[int | None]) -> int:
    sizes = [
        reading.type_of(leaf).shape[place]
        for leaf, place in zip(leaves, places, strict=True)
        if place is not None
    ]
    if not sizes:
        raise refused(
            "BAD_VALUE", "vmap: no argument is mapped; in_dims must name at least one dimension"
        )
    if len(set(sizes)) > 1:
        raise refused("BAD_VALUE", f"vmap: mapped dimensions must be of equal size, not {sizes}")
    if not sizes[0]:
        raise refused(
            "BAD_VALUE", "vmap: a mapped dimension of size 0 leaves nothing to run the function on"
        )
    return sizes[0]


def _item(tensor: Tensor, place: int, at: int) -> Tensor:
    shape = reading.type_of(tensor).shape
    item = functions.select(tensor, place, at)
    steps.remember_shape(item, tensor, (*shape[:place], *shape[place + 1 :]))
    return item


def _stacked(rows: Sequence[Sequence[Any]], structure: Structure, out_dims: OutDims) -> Any:
    dims = _dims_for(out_dims, unflatten(rows[0], structure), "out_dims", "the result")
    stacked = []
    for column, dim in zip(zip(*rows, strict=True), dims, strict=True):
        if dim is None:
            stacked.append(column[0])
            continue
        for each in column:
            if not isinstance(each, _tensors.Tensor):
                raise refused(
                    "BAD_VALUE",
                    f"vmap: the function gave {type(each).__name__} ({each!r}), which cannot be "
                    "stacked; give None for it in out_dims",
                )
        stacked.append(functions.stack(column, dim))
    return unflatten(stacked, structure)
