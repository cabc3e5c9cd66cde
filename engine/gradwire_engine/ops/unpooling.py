"""The maxima of windows back at the places that they were taken from: max_unpool1d, 2d and 3d."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradwire_engine.declare import composite, linear
from gradwire_engine.dtypes import INT64
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.index_checks import require_in_range


def _unpooled(self: np.ndarray, indices: np.ndarray, output_size: Sequence[int]) -> np.ndarray:
    lead = self.shape[: self.ndim - len(output_size)]
    places = math.prod(output_size)
    require_in_range(indices, places, "max_unpool", "indices")
    out = np.zeros((math.prod(lead), places), self.dtype)
    rows = (len(out), -1) if len(out) else (0, math.prod(self.shape[len(lead) :]))
    np.put_along_axis(out, indices.reshape(rows), self.reshape(rows), 1)
    return out.reshape(*lead, *output_size)


def _taken(F: Any, g: Any, indices: Any, output_size: Sequence[int]) -> Any:
    lead = g.shape[: len(g.shape) - len(output_size)]
    rows = math.prod(lead)
    per_row = math.prod(indices.shape[len(lead) :])
    taken = F.gather(
        F.reshape(g, (rows, math.prod(output_size))), 1, F.reshape(indices, (rows, per_row))
    )
    return F.reshape(taken, indices.shape)


for _rank in (2, 3):
    linear(
        f"_unpool{_rank}d(Tensor self, Tensor indices, int[] output_size) -> Tensor",
        _unpooled,
        _taken,
        grad_fn=f"MaxUnpool{_rank}DBackward0",
        shape=lambda self, indices, output_size: (
            *self.shape[: self.ndim - len(output_size)],
            *output_size,
        ),
        places=(),
    )


def _each(op: str, name: str, values: Sequence[int] | int, rank: int) -> Sequence[int]:
    if isinstance(values, int):
        values = (values,)
    if len(values) not in (1, rank):
        raise EngineError(
            "BAD_VALUE",
            f"{op}: {name} must be one number or {rank}, not {list(values)}",
            argument=name,
        )
    return tuple(values) * (rank // len(values))


def _sizes(
    op: str, shape: Sequence[int], given: Sequence[int] | None, *windows: Sequence[int]
) -> list[int]:
    """The size to fill: what windows of these sizes came from, as far as it can be known."""
    kernel, stride, padding = windows
    rank = len(kernel)
    inner = shape[len(shape) - rank :]
    usual = [
        (n - 1) * step + width - 2 * pad
        for n, step, width, pad in zip(inner, stride, kernel, padding, strict=True)
    ]
    if given is None:
        wanted = usual
    else:
        wanted = list(given[len(given) - rank :])
        if len(given) not in (rank, rank + 2) or any(
            abs(size - expected) >= step
            for size, expected, step in zip(wanted, usual, stride, strict=False)
        ):
            raise EngineError(
                "BAD_VALUE",
                f"{op}: output_size {list(given)} must be within less than a stride of {usual}",
                argument="output_size",
            )
    if min(wanted, default=1) < 1:
        raise EngineError(
            "BAD_VALUE",
            f"{op}: the output would have no elements: {wanted}",
            argument="output_size",
        )
    return wanted


def _unpool(rank: int) -> Callable[..., Any]:
    op = f"max_unpool{rank}d"

    def formula(
        F: Any,
        self: Any,
        indices: Any,
        kernel_size: Sequence[int],
        stride: Sequence[int] | None,
        padding: Sequence[int] | int,
        output_size: Sequence[int] | None,
    ) -> Any:
        if indices.dtype != INT64:
            raise EngineError(
                "DTYPE_MISMATCH",
                f"{op}: indices must be int64, not {indices.dtype}",
                argument="indices",
            )
        if indices.shape != self.shape or len(self.shape) not in (rank + 1, rank + 2):
            raise EngineError(
                "SHAPE_MISMATCH",
                f"{op}: input of shape {self.shape} must have {rank + 1} or {rank + 2} dimensions, "
                f"and indices, of shape {indices.shape}, its shape",
                argument="indices",
                shapes=f"{self.shape} and {indices.shape}",
            )
        kernel = _each(op, "kernel_size", kernel_size, rank)
        step = _each(op, "stride", stride, rank) if stride else kernel
        sizes = _sizes(
            op, self.shape, output_size, kernel, step, _each(op, "padding", padding, rank)
        )
        if rank > 1:
            return getattr(F, f"_unpool{rank}d")(self, indices, tuple(sizes))
        made = F._unpool2d(F.unsqueeze(self, -1), F.unsqueeze(indices, -1), (*sizes, 1))
        return F.squeeze(made, (-1,))

    return formula


for _rank in (1, 2, 3):
    composite(
        f"max_unpool{_rank}d(Tensor self, Tensor indices, int[] kernel_size, int[]? stride=None, "
        "int[] padding=0, int[]? output_size=None) -> Tensor",
        _unpool(_rank),
        places=("nn.functional",),
    )
