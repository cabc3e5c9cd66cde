"""Which elements there are, and where: unique, unique_consecutive, nonzero.

Their results are as large as the values make them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.declare import composite, nondiff
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims

_Three = tuple[np.ndarray, np.ndarray, np.ndarray]
_NONE = np.empty(0, np.int64)


def _require_choice(op: str, self: np.ndarray, dim: int | None) -> int | None:
    """The axis that `dim` names; slices of no elements are all the same, which says nothing."""
    dims.require_order(self, op)
    if dim is None:
        return None
    axis = dims.one(dim, self.ndim)
    if not self.size and self.shape[axis : axis + 1] != (0,):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: slices of a tensor of shape {self.shape} have no elements to compare",
            argument="dim",
            shape=self.shape,
        )
    return axis if self.ndim else None


def _unique(
    self: np.ndarray,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> _Three:
    axis = _require_choice("unique", self, dim)
    if axis is not None and not self.size:
        return self.copy(), _NONE, _NONE
    # A NaN is no other's equal.
    values, inverse, counts = np.unique(
        self, return_inverse=True, return_counts=True, axis=axis, equal_nan=False
    )
    shape = self.shape if axis is None else (self.shape[axis],)
    return (
        values,
        inverse.reshape(shape).astype(np.int64, copy=False) if return_inverse else _NONE,
        counts.astype(np.int64, copy=False) if return_counts else _NONE,
    )


def _unique_consecutive(
    self: np.ndarray,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> _Three:
    axis = _require_choice("unique_consecutive", self, dim)
    rows = self.reshape(-1) if axis is None else np.moveaxis(self, axis, 0)
    starts = np.ones(len(rows), np.bool_)
    others = tuple(range(1, rows.ndim))
    starts[1:] = (rows[1:] != rows[:-1]).any(axis=others) if others else rows[1:] != rows[:-1]
    places = np.flatnonzero(starts)
    values = rows[places] if axis is None else np.moveaxis(rows[places], 0, axis)
    shape = self.shape if axis is None else (len(rows),)
    return (
        np.ascontiguousarray(values),
        (np.cumsum(starts) - 1).reshape(shape) if return_inverse else _NONE,
        np.diff(places, append=len(rows)) if return_counts else _NONE,
    )


nondiff(
    "unique(Tensor self, bool sorted=True, bool return_inverse=False, bool return_counts=False, "
    "int? dim=None) -> (Tensor output, Tensor inverse_indices, Tensor counts)",
    _unique,
)
nondiff(
    "unique_consecutive(Tensor self, bool return_inverse=False, bool return_counts=False, "
    "int? dim=None) -> (Tensor output, Tensor inverse_indices, Tensor counts)",
    _unique_consecutive,
)
nondiff(
    "nonzero(Tensor self) -> Tensor",
    lambda self: np.argwhere(self).astype(np.int64, copy=False),
    shape=lambda self: (self.size, self.ndim),
)
composite("argwhere(Tensor self) -> Tensor", lambda F, self: F.nonzero(self))


def _isin(
    elements: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False
) -> Any:
    for name, each in (("elements", elements), ("test_elements", test_elements)):
        kind = each.dtype.kind if isinstance(each, np.ndarray) else "f"
        if kind in "bc" or isinstance(each, complex):
            raise EngineError(
                "DTYPE_MISMATCH",
                f"isin: {name} must be real numbers, not {getattr(each, 'dtype', each)}",
                argument=name,
            )
    return np.isin(elements, test_elements, assume_unique=assume_unique, invert=invert)


nondiff(
    "isin(Tensor elements, Tensor test_elements, *, bool assume_unique=False, bool invert=False) "
    "-> Tensor",
    _isin,
    numbers=("elements", "test_elements"),
    places=("torch",),
)
