"""A copy of a tensor in which a part that a view would show is another: select_scatter, ..."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradwire_engine.declare import linear
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import RAW


def _scattered(name: str) -> Callable[..., Any]:
    """Writes `src` to the part of a copy that the view operator of this name shows."""
    op = f"{name}_scatter"

    def kernel(self: np.ndarray, src: np.ndarray, *where: Any) -> np.ndarray:
        out = np.array(self, order="C")
        part = getattr(RAW, name)(out, *where)
        if part.shape != src.shape:
            raise EngineError(
                "SHAPE_MISMATCH",
                f"{op}: src of shape {src.shape} must have the shape of the part, {part.shape}",
                argument="src",
                shape=src.shape,
                expected=part.shape,
            )
        # A diagonal is read-only to NumPy.
        part.flags.writeable = True
        part[...] = src
        return out

    return kernel


linear(
    "select_scatter(Tensor self, Tensor src, int dim, int index) -> Tensor",
    _scattered("select"),
    {
        "self": lambda F, g, src_shape, dim, index: F.select_scatter(
            g, F.zeros(src_shape, dtype=g.dtype), dim, index
        ),
        "src": lambda F, g, dim, index: F.select(g, dim, index),
    },
)
linear(
    "slice_scatter(Tensor self, Tensor src, int dim=0, int? start=None, int? end=None, "
    "int step=1) -> Tensor",
    _scattered("slice"),
    {
        "self": lambda F, g, src_shape, dim, start, end, step: F.slice_scatter(
            g, F.zeros(src_shape, dtype=g.dtype), dim, start, end, step
        ),
        "src": lambda F, g, dim, start, end, step: F.slice(g, dim, start, end, step),
    },
)
linear(
    "diagonal_scatter(Tensor self, Tensor src, int offset=0, int dim1=0, int dim2=1) -> Tensor",
    _scattered("diagonal"),
    {
        "self": lambda F, g, src_shape, offset, dim1, dim2: F.diagonal_scatter(
            g, F.zeros(src_shape, dtype=g.dtype), offset, dim1, dim2
        ),
        "src": lambda F, g, offset, dim1, dim2: F.diagonal(g, offset, dim1, dim2),
    },
)
