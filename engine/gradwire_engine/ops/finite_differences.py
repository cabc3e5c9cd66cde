"""Integrals and derivatives of sampled functions: trapezoid, cumulative_trapezoid, gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradwire_engine.declare import composite
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims


def _sides(F: Any, values: Any, dim: int) -> tuple[Any, Any]:
    """All but the last and all but the first along a dimension."""
    return F.slice(values, dim, 0, -1), F.slice(values, dim, 1)


def _require_line(op: str, y: Any, dim: int) -> int:
    axis = dims.one(dim, len(y.shape))
    if not y.shape or y.dtype.kind == "b":
        raise EngineError(
            "SHAPE_MISMATCH" if not y.shape else "DTYPE_MISMATCH",
            f"{op}: needs numbers along a dimension, not {y.dtype}{list(y.shape)}",
            argument="y",
        )
    return axis


def _widths(F: Any, op: str, y: Any, x: Any, axis: int) -> Any:
    """The distances of the sample points, so that they broadcast with y."""
    if not x.shape or (len(x.shape) == 1 and x.shape[0] != y.shape[axis]):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{op}: x of shape {x.shape} must have one sample point for each of the "
            f"{y.shape[axis]} values along dimension {axis}",
            argument="x",
            shapes=f"{y.shape} and {x.shape}",
        )
    rank = len(y.shape)
    if len(x.shape) == 1:
        x = F.view(x, tuple(x.shape[0] if each == axis else 1 for each in range(rank)))
    elif len(x.shape) < rank:
        x = F.view(x, (1,) * (rank - len(x.shape)) + tuple(x.shape))
    before, after = _sides(F, x, axis - rank)
    return after - before


def _trapezoid(op: str) -> Callable[..., Any]:
    def formula(F: Any, y: Any, x: Any, dx: Any, dim: int) -> Any:
        axis = _require_line(op, y, dim)
        if x is not None:
            widths = _widths(F, op, y, x, axis)
            before, after = _sides(F, y, axis)
            return F.div__Scalar(F.sum((before + after) * widths, (dim,)), 2)
        if not y.shape[axis]:
            return F.zeros((*y.shape[:axis], *y.shape[axis + 1 :]), dtype=y.dtype)
        ends = F.select(y, axis, 0) + F.select(y, axis, -1)
        return F.mul__Scalar(F.sum(y, (axis,)) - F.mul__Scalar(ends, 0.5), dx)

    return formula


for _name in ("trapezoid", "trapz"):
    composite(
        f"{_name}(Tensor y, Tensor? x=None, *, Scalar dx=1, int dim=-1) -> Tensor",
        _trapezoid(_name),
        places=("torch",),
    )


def _cumulative(F: Any, y: Any, x: Any, dx: Any, dim: int) -> Any:
    op = "cumulative_trapezoid"
    axis = _require_line(op, y, dim)
    before, after = _sides(F, y, axis)
    if x is None:
        return F.cumsum(F.mul__Scalar(before + after, dx / 2), axis)
    return F.div__Scalar(F.cumsum((before + after) * _widths(F, op, y, x, axis), dim), 2)


composite(
    "cumulative_trapezoid(Tensor y, Tensor? x=None, *, Scalar dx=1, int dim=-1) -> Tensor",
    _cumulative,
    places=("torch",),
)


def _gradient_dims(
    self: Any, dim: Sequence[int] | None, given: int | None, edge_order: int
) -> tuple[int, ...]:
    """The dimensions to differentiate along, of which a number of spacings is given for each."""
    if self.dtype.name in ("uint8", "bool"):
        raise EngineError(
            "DTYPE_MISMATCH",
            f"gradient: differences of {self.dtype} have no sign; convert with to()",
            argument="self",
            dtype=self.dtype,
        )
    if edge_order not in (1, 2):
        raise EngineError(
            "BAD_VALUE",
            f"gradient: edge_order must be 1 or 2, not {edge_order}",
            argument="edge_order",
        )
    axes = tuple(range(len(self.shape))) if dim is None else dims.many(dim, len(self.shape))
    if given is not None and given != len(axes):
        raise EngineError(
            "BAD_VALUE",
            f"gradient: {given} spacings for {len(axes)} dimensions; give one for each, or one "
            "number for all",
            argument="spacing",
        )
    for axis in axes:
        if not self.shape or self.shape[axis] <= edge_order:
            raise EngineError(
                "SHAPE_MISMATCH",
                f"gradient: with edge_order={edge_order} there must be at least {edge_order + 1} "
                f"elements along each dimension, not shape {self.shape}",
                argument="self",
                shape=self.shape,
            )
    return axes


def _gradient(
    F: Any, self: Any, spacing: Sequence[float] | None, dim: Any, edge_order: int
) -> tuple[Any, ...]:
    spacings = (1.0,) if spacing is None else tuple(spacing)
    axes = _gradient_dims(self, dim, len(spacings) if len(spacings) > 1 else None, edge_order)
    if len(spacings) == 1:
        spacings *= len(axes)
    return tuple(
        _evenly_spaced(F, self, axis, step, edge_order)
        for axis, step in zip(axes, spacings, strict=True)
    )


def _evenly_spaced(F: Any, self: Any, axis: int, step: float, edge_order: int) -> Any:
    part = _parts(F, self, axis)
    inner = F.div__Scalar(F.div__Scalar(part(2) - part(0, -2), step), 2)
    if edge_order == 1:
        first, last = part(1, 2) - part(0, 1), part(-1) - part(-2, -1)
    else:
        first = F.mul__Scalar(part(0, 1), -1.5) + F.mul__Scalar(part(1, 2), 2)
        first = first - F.mul__Scalar(part(2, 3), 0.5)
        last = F.mul__Scalar(part(-3, -2), 0.5) - F.mul__Scalar(part(-2, -1), 2)
        last = last + F.mul__Scalar(part(-1), 1.5)
    return F.cat([F.div__Scalar(first, step), inner, F.div__Scalar(last, step)], axis)


def _parts(F: Any, self: Any, axis: int) -> Callable[..., Any]:
    return lambda start, end=None: F.slice(self, axis, start, end)


def _gradient_at(
    F: Any, self: Any, spacing: Sequence[Any], dim: Any, edge_order: int
) -> tuple[Any, ...]:
    axes = _gradient_dims(self, dim, len(spacing), edge_order)
    for axis, points in zip(axes, spacing, strict=True):
        if tuple(points.shape) != (self.shape[axis],):
            raise EngineError(
                "SHAPE_MISMATCH",
                f"gradient: coordinates of shape {points.shape} must be a vector, of one element "
                f"for each of the {self.shape[axis]} along dimension {axis}",
                argument="spacing",
                shape=points.shape,
            )
    return tuple(
        _unevenly_spaced(F, self, axis, points, edge_order)
        for axis, points in zip(axes, spacing, strict=True)
    )


def _unevenly_spaced(F: Any, self: Any, axis: int, points: Any, edge_order: int) -> Any:
    """Differences of second order, with weights by how far the neighbours are apart."""
    part = _parts(F, self, axis)
    steps = F.diff(points, 1, 0)
    shape = tuple(-1 if each == axis else 1 for each in range(len(self.shape)))
    one, two = _sides(F, steps, 0)
    a = F.reshape(-two / (one * (one + two)), shape)
    b = F.reshape((two - one) / (one * two), shape)
    c = F.reshape(one / (two * (one + two)), shape)
    inner = a * part(0, -2) + b * part(1, -1) + c * part(2)
    if edge_order == 1:
        first = (part(1, 2) - part(0, 1)) / F.select(steps, 0, 0)
        last = (part(-1) - part(-2, -1)) / F.select(steps, 0, -1)
        return F.cat([first, inner, last], axis)
    one, two = F.select(steps, 0, 0), F.select(steps, 0, 1)
    first = (
        -(2 * one + two) / (one * (one + two)) * part(0, 1)
        + (one + two) / (one * two) * part(1, 2)
        + -one / (two * (one + two)) * part(2, 3)
    )
    one, two = F.select(steps, 0, -1), F.select(steps, 0, -2)
    last = (
        one / (two * (one + two)) * part(-3, -2)
        + -(one + two) / (one * two) * part(-2, -1)
        + (2 * one + two) / (one * (one + two)) * part(-1)
    )
    return F.cat([first, inner, last], axis)


composite(
    "gradient(Tensor self, float[]? spacing=None, int[]? dim=None, int edge_order=1) -> Tensor[]",
    _gradient,
    places=("torch",),
)
composite(
    "gradient.coordinates(Tensor self, Tensor[] spacing, int[]? dim=None, int edge_order=1) "
    "-> Tensor[]",
    _gradient_at,
    places=(),
)
