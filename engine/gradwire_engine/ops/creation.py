"""Tensors from nothing: constants, ranges, random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.declare import nondiff
from gradwire_engine.dtypes import INT64, number_dtype, wrapped
from gradwire_engine.errors import EngineError


def _float_or(dtype: np.dtype | None) -> np.dtype:
    return current.context.default_dtype if dtype is None else dtype


def _size(size: Sequence[int], *rest: Any, **options: Any) -> Sequence[int]:
    if any(each < 0 for each in size):
        raise EngineError(
            "BAD_VALUE", f"size {list(size)} has a negative size", argument="size", size=size
        )
    return size


nondiff(
    "zeros(int[] size, *, ScalarType? dtype=None) -> Tensor",
    lambda size, dtype=None: np.zeros(size, _float_or(dtype)),
    shape=_size,
    places=("torch",),
)
nondiff(
    "ones(int[] size, *, ScalarType? dtype=None) -> Tensor",
    lambda size, dtype=None: np.ones(size, _float_or(dtype)),
    shape=_size,
    places=("torch",),
)


def _full(size: Sequence[int], fill_value: Any, dtype: np.dtype | None = None) -> np.ndarray:
    inferred = number_dtype(fill_value, current.context.default_dtype)
    dtype = inferred if dtype is None else dtype
    return np.full(size, wrapped(fill_value, dtype, "full"), dtype)


nondiff(
    "full(int[] size, Scalar fill_value, *, ScalarType? dtype=None) -> Tensor",
    _full,
    shape=_size,
    places=("torch",),
)
nondiff(
    "zeros_like(Tensor self, *, ScalarType? dtype=None) -> Tensor",
    lambda self, dtype=None: np.zeros(self.shape, self.dtype if dtype is None else dtype),
    places=("torch",),
)
nondiff(
    "ones_like(Tensor self, *, ScalarType? dtype=None) -> Tensor",
    lambda self, dtype=None: np.ones(self.shape, self.dtype if dtype is None else dtype),
    places=("torch",),
)
nondiff(
    "full_like(Tensor self, Scalar fill_value, *, ScalarType? dtype=None) -> Tensor",
    lambda self, fill_value, dtype=None: _full(
        self.shape, fill_value, self.dtype if dtype is None else dtype
    ),
    places=("torch",),
)


for _name, _number in {"zeros": 0, "ones": 1}.items():
    nondiff(
        f"new_{_name}(Tensor self, int[] size, *, ScalarType? dtype=None) -> Tensor",
        lambda self, size, dtype=None, number=_number: np.full(
            size, number, self.dtype if dtype is None else dtype
        ),
        shape=lambda self, size, dtype=None: _size(size),
        places=("Tensor",),
    )
nondiff(
    "new_full(Tensor self, int[] size, Scalar fill_value, *, ScalarType? dtype=None) -> Tensor",
    lambda self, size, fill_value, dtype=None: _full(
        size, fill_value, self.dtype if dtype is None else dtype
    ),
    shape=lambda self, size, fill_value, dtype=None: _size(size),
    places=("Tensor",),
)


def _arange_shape(
    start: Any, end: Any = None, step: Any = 1, dtype: np.dtype | None = None
) -> Sequence[int]:
    if end is None:
        start, end = 0, start
    if any(isinstance(each, complex) for each in (start, end, step)):
        raise EngineError("BAD_VALUE", "arange: complex numbers have no order to count in")
    if dtype == INT64 and all(map(math.isfinite, (start, end, step))):
        start, end, step = int(start), int(end), int(step)
    if step == 0 or (end - start) * step < 0 or not all(map(math.isfinite, (start, end, step))):
        raise EngineError(
            "BAD_VALUE",
            f"arange: from {start} to {end} in steps of {step} does not end; the step must be "
            "nonzero and lead from start to end",
            argument="step",
        )
    return (math.ceil((end - start) / step),)


def _arange(
    start: Any, end: Any = None, step: Any = 1, dtype: np.dtype | None = None
) -> np.ndarray:
    (length,) = _arange_shape(start, end, step, dtype)
    if end is None:
        start, end = 0, start
    if dtype is None:
        whole = all(isinstance(each, int) for each in (start, end, step))
        dtype = INT64 if whole else current.context.default_dtype
    if dtype.kind in "iu":
        start, step = int(start), int(step)
    return np.asarray(start + step * np.arange(length)).astype(dtype)


nondiff(
    "arange(Scalar start, Scalar? end=None, Scalar step=1, *, ScalarType? dtype=None) -> Tensor",
    _arange,
    shape=_arange_shape,
    places=("torch",),
)


def _linspace_shape(
    start: Any, end: Any, steps: int, dtype: np.dtype | None = None
) -> Sequence[int]:
    if steps < 0:
        raise EngineError(
            "BAD_VALUE", f"linspace: steps must not be negative, not {steps}", argument="steps"
        )
    return (steps,)


def _linspace(start: Any, end: Any, steps: int, dtype: np.dtype | None = None) -> np.ndarray:
    dtype = _float_or(dtype)
    if dtype.kind in "iu":
        start, end = int(start), int(end)
    return np.linspace(start, end, steps).astype(dtype)


nondiff(
    "linspace(Scalar start, Scalar end, int steps, *, ScalarType? dtype=None) -> Tensor",
    _linspace,
    shape=_linspace_shape,
    places=("torch",),
)


def _eye_shape(n: int, m: int | None = None, dtype: np.dtype | None = None) -> Sequence[int]:
    return _size((n, n if m is None else m))


nondiff(
    "eye(int n, int? m=None, *, ScalarType? dtype=None) -> Tensor",
    lambda n, m=None, dtype=None: np.eye(n, m, dtype=_float_or(dtype)),
    shape=_eye_shape,
    places=("torch",),
)


Draw = Callable[[np.random.Generator, Sequence[int]], np.ndarray]


def _uniform(generator: np.random.Generator, size: Sequence[int]) -> np.ndarray:
    return generator.random(tuple(size))


def _normal(generator: np.random.Generator, size: Sequence[int]) -> np.ndarray:
    return generator.standard_normal(tuple(size))


def _draw(draw: Draw, size: Sequence[int], dtype: np.dtype) -> np.ndarray:
    if dtype.kind not in "fc":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"random numbers are floating-point, not {dtype}; use randint for integers",
            argument="dtype",
            dtype=dtype,
        )
    generator = current.context.generator
    if dtype.kind == "c":
        parts = draw(generator, (*size, 2)) * math.sqrt(0.5 if draw is _normal else 1)
        return (parts[..., 0] + 1j * parts[..., 1]).astype(dtype)
    return draw(generator, size).astype(dtype)


for _name, _source in {"rand": _uniform, "randn": _normal}.items():
    nondiff(
        f"{_name}(int[] size, *, ScalarType? dtype=None) -> Tensor",
        lambda size, dtype=None, draw=_source: _draw(draw, size, _float_or(dtype)),
        shape=_size,
        places=("torch",),
    )
    nondiff(
        f"{_name}_like(Tensor self, *, ScalarType? dtype=None) -> Tensor",
        lambda self, dtype=None, draw=_source: _draw(
            draw, self.shape, self.dtype if dtype is None else dtype
        ),
        places=("torch",),
    )


def _randint(low: int, high: int, size: Sequence[int], dtype: np.dtype | None = None) -> np.ndarray:
    if low >= high:
        raise EngineError(
            "BAD_VALUE", f"randint: low {low} must be less than high {high}", argument="high"
        )
    return current.context.generator.integers(low, high, tuple(size)).astype(
        INT64 if dtype is None else dtype
    )


nondiff(
    "randint(int low, int high, int[] size, *, ScalarType? dtype=None) -> Tensor",
    _randint,
    shape=lambda low, high, size, dtype=None: _size(size),
    places=("torch",),
)


def _manual_seed(seed: int) -> np.ndarray:
    current.context.generator = np.random.default_rng(seed % (1 << 64))
    return np.asarray(seed, INT64)


nondiff("manual_seed(int seed) -> Tensor", _manual_seed, places=())
