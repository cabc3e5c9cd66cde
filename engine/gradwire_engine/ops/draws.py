"""Random numbers by distribution, from the session's generator: new tensors, and fillings in place.

What is drawn does not follow its parameters smoothly, so their gradients are zeros, as in PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.declare import filling, general, nondiff
from gradwire_engine.dtypes import INT64
from gradwire_engine.errors import EngineError

# NumPy draws Poisson numbers as int64, and refuses rates beyond about this.
_MAX_RATE: Final = 9.2e18


def _generator() -> np.random.Generator:
    return current.context.generator


def _require(fits: bool, op: str, argument: str, expected: str, value: Any) -> None:
    """Refuse a parameter that no distribution has."""
    if not fits:
        raise EngineError(
            "BAD_VALUE", f"{op}: {argument} must be {expected}, not {value}", argument=argument
        )


def _require_all(fits: np.ndarray, op: str, argument: str, expected: str) -> None:
    """Refuse a tensor of parameters if some of them no distribution has."""
    if not fits.all():
        wrong = fits.size - np.count_nonzero(fits)
        raise EngineError(
            "BAD_VALUE",
            f"{op}: {argument} must be {expected}, which {wrong} of {fits.size} elements are not",
            argument=argument,
        )


def _require_kind(dtype: np.dtype, kinds: str, op: str, argument: str) -> None:
    if dtype.kind not in kinds:
        allowed = "floating-point or complex" if "c" in kinds else "floating-point"
        if "i" in kinds:
            allowed = "real"
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: needs a tensor of {allowed} dtype, not {dtype}; convert it with to()",
            argument=argument,
            dtype=dtype,
        )


def _standard_normal(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Of mean 0 and variance 1; complex numbers have half of that in each part."""
    if dtype.kind == "c":
        parts = _generator().standard_normal((*shape, 2)) * math.sqrt(0.5)
        return np.asarray(parts[..., 0] + 1j * parts[..., 1])
    return _generator().standard_normal(tuple(shape))


def _normal(mean: Any, std: Any) -> np.ndarray:
    for name, each in (("mean", mean), ("std", std)):
        if isinstance(each, np.ndarray):
            _require_kind(each.dtype, "fc" if name == "mean" else "f", "normal", name)
    _require_all(np.asarray(std) >= 0, "normal", "std", "at least 0")
    dtype = (mean if isinstance(mean, np.ndarray) else std).dtype
    shape = np.broadcast_shapes(np.shape(mean), np.shape(std))
    return np.asarray(mean + std * _standard_normal(shape, dtype), dtype)


def _normal_name(mean: Any, std: Any) -> str:
    """A plain number leaves no place for a tensor: where there is a tensor, there is None."""
    if mean is None:
        return "NormalBackward3" if std is None else "NormalBackward1"
    return "NormalBackward2"


general(
    "normal(Tensor mean, Tensor std) -> Tensor",
    _normal,
    {
        "mean": lambda F, g, mean_shape: F.zeros(mean_shape, dtype=g.dtype),
        "std": lambda F, g, std_shape: F.zeros(std_shape, dtype=F.real(g).dtype),
    },
    shape=lambda mean, std: np.broadcast_shapes(np.shape(mean), np.shape(std)),
    grad_fn=_normal_name,
    numbers=("mean", "std"),
    edges_for_numbers=False,
    places=("torch",),
)


def _normal_of_size(
    mean: float, std: float, size: Sequence[int], dtype: np.dtype | None = None
) -> np.ndarray:
    dtype = current.context.default_dtype if dtype is None else dtype
    _require_kind(dtype, "fc", "normal", "dtype")
    _require(std >= 0, "normal", "std", "at least 0", std)
    return np.asarray(mean + std * _standard_normal(size, dtype), dtype)


def _size_shape(
    mean: float, std: float, size: Sequence[int], dtype: np.dtype | None = None
) -> Sequence[int]:
    _require(min(size, default=0) >= 0, "normal", "size", "of no negative numbers", list(size))
    return size


nondiff(
    "normal.float_float(float mean, float std, int[] size, *, ScalarType? dtype=None) -> Tensor",
    _normal_of_size,
    shape=_size_shape,
    places=(),
)


def _bernoulli(self: np.ndarray, p: float | None = None) -> np.ndarray:
    if p is None:
        _require_kind(self.dtype, "f", "bernoulli", "self")
        _require_all((self >= 0) & (self <= 1), "bernoulli", "self", "from 0 to 1")
    else:
        _require(0 <= p <= 1, "bernoulli", "p", "from 0 to 1", p)
    chance = self if p is None else p
    return np.asarray(_generator().random(self.shape) < chance, self.dtype)


general(
    "bernoulli(Tensor self, float? p=None) -> Tensor",
    _bernoulli,
    lambda F, g: F.zeros_like(g),
)


def _poisson(self: np.ndarray) -> np.ndarray:
    _require_kind(self.dtype, "f", "poisson", "self")
    _require_all((self >= 0) & (self <= _MAX_RATE), "poisson", "self", f"from 0 to {_MAX_RATE:g}")
    return np.asarray(_generator().poisson(self), self.dtype)


general(
    "poisson(Tensor self) -> Tensor",
    _poisson,
    lambda F, g: F.zeros_like(g),
    places=("torch",),
)


def _binomial(count: np.ndarray, prob: np.ndarray) -> np.ndarray:
    _require_kind(count.dtype, "f", "binomial", "count")
    _require_all((count >= 0) & (count < 1 << 62), "binomial", "count", "at least 0 and finite")
    _require_all((prob >= 0) & (prob <= 1), "binomial", "prob", "from 0 to 1")
    return np.asarray(_generator().binomial(count.astype(np.int64), prob), count.dtype)


general(
    "binomial(Tensor count, Tensor prob) -> Tensor",
    _binomial,
    {
        "count": lambda F, g, count_shape: F.zeros(count_shape, dtype=g.dtype),
        "prob": lambda F, g, prob_shape: F.zeros(prob_shape, dtype=g.dtype),
    },
    shape=lambda count, prob: np.broadcast_shapes(count.shape, prob.shape),
    promotion="same",
    places=("torch",),
)


def _multinomial_shape(self: Any, num_samples: int, replacement: bool = False) -> Sequence[int]:
    if len(self.shape) not in (1, 2) or not self.shape[-1]:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"multinomial: needs a vector of weights or rows of them, not shape {self.shape}",
            argument="self",
            shape=self.shape,
        )
    _require(num_samples > 0, "multinomial", "num_samples", "at least 1", num_samples)
    if not replacement:
        fits = num_samples <= self.shape[-1]
        expected = f"at most the number of categories, {self.shape[-1]}, without replacement"
        _require(fits, "multinomial", "num_samples", expected, num_samples)
    return (*self.shape[:-1], num_samples)


def _multinomial(self: np.ndarray, num_samples: int, replacement: bool = False) -> np.ndarray:
    _require_kind(self.dtype, "f", "multinomial", "self")
    weights = self.astype(np.float64)
    finite = np.isfinite(weights) & (weights >= 0)
    _require_all(finite, "multinomial", "self", "finite and at least 0")
    _require_all(np.asarray(weights.any(axis=-1)), "multinomial", "self", "not 0 in a whole row")
    if not replacement:
        # Of clocks that ring at these rates the first ones to ring are such a sample.
        with np.errstate(divide="ignore"):
            times = _generator().standard_exponential(weights.shape) / weights
        return np.argsort(times, axis=-1)[..., :num_samples]
    sums = np.cumsum(weights, axis=-1)
    sums /= sums[..., -1:]
    at = _generator().random((*weights.shape[:-1], num_samples))
    if weights.ndim == 1:
        return np.searchsorted(sums, at, side="right")
    rows = zip(sums, at, strict=True)
    chosen = [np.searchsorted(row, places, side="right") for row, places in rows]
    return np.array(chosen, INT64).reshape(at.shape)


nondiff(
    "multinomial(Tensor self, int num_samples, bool replacement=False) -> Tensor",
    _multinomial,
    shape=_multinomial_shape,
)


def _randperm_shape(n: int, dtype: np.dtype | None = None) -> Sequence[int]:
    _require(n >= 0, "randperm", "n", "at least 0", n)
    _require(n <= _largest(dtype or INT64) + 1, "randperm", "n", f"what {dtype} can count to", n)
    return (n,)


nondiff(
    "randperm(int n, *, ScalarType? dtype=None) -> Tensor",
    lambda n, dtype=None: _generator().permutation(n).astype(dtype or INT64),
    shape=_randperm_shape,
    places=("torch",),
)


def _randint_like(
    self: np.ndarray, low: int, high: int, dtype: np.dtype | None = None
) -> np.ndarray:
    _require(low < high, "randint_like", "high", f"more than low, which is {low}", high)
    return _generator().integers(low, high, self.shape).astype(dtype or self.dtype)


nondiff(
    "randint_like(Tensor self, int low, int high, *, ScalarType? dtype=None) -> Tensor",
    _randint_like,
    places=("torch",),
)


def _fill_normal(self: np.ndarray, mean: float, std: float) -> np.ndarray:
    _require_kind(self.dtype, "fc", "normal_", "self")
    _require(std >= 0, "normal_", "std", "at least 0", std)
    return np.asarray(mean + std * _standard_normal(self.shape, self.dtype), self.dtype)


filling(
    "normal_(Tensor self, float mean=0.0, float std=1.0) -> Tensor",
    _fill_normal,
    "NormalBackward0",
)


def _fill_uniform(self: np.ndarray, low: float, high: float) -> np.ndarray:
    _require_kind(self.dtype, "f", "uniform_", "self")
    _require(math.isfinite(high - low), "uniform_", "to - from", "finite", f"from {low} to {high}")
    _require(low <= high, "uniform_", "from", f"at most to, which is {high}", low)
    values = np.asarray(low + (high - low) * _generator().random(self.shape), self.dtype)
    # Rounding may reach the end, which is not in the interval.
    return np.where(values < high, values, self.dtype.type(low))


filling(
    "uniform_(Tensor self, float from=0.0, float to=1.0) -> Tensor",
    _fill_uniform,
    "UniformBackward0",
)


def _fill_bernoulli(self: np.ndarray, p: Any) -> np.ndarray:
    _require_kind(self.dtype, "fiub", "bernoulli_", "self")
    _require_all((np.asarray(p) >= 0) & (np.asarray(p) <= 1), "bernoulli_", "p", "from 0 to 1")
    return np.asarray(_generator().random(self.shape) < p, self.dtype)


filling(
    "bernoulli_(Tensor self, Tensor p) -> Tensor",
    _fill_bernoulli,
    lambda self, p: "BernoulliBackward1" if p is None else "BernoulliBackward2",
    numbers=("p",),
)


def _fill_exponential(self: np.ndarray, lambd: float) -> np.ndarray:
    _require_kind(self.dtype, "f", "exponential_", "self")
    _require(lambd > 0, "exponential_", "lambd", "more than 0", lambd)
    return np.asarray(_generator().standard_exponential(self.shape) / lambd, self.dtype)


filling(
    "exponential_(Tensor self, float lambd=1.0) -> Tensor",
    _fill_exponential,
    "ExponentialBackward0",
)


def _fill_geometric(self: np.ndarray, p: float) -> np.ndarray:
    _require_kind(self.dtype, "fiu", "geometric_", "self")
    _require(0 < p < 1, "geometric_", "p", "between 0 and 1", p)
    return _generator().geometric(p, self.shape).astype(self.dtype)


filling("geometric_(Tensor self, float p) -> Tensor", _fill_geometric, "GeometricBackward0")


def _fill_cauchy(self: np.ndarray, median: float, sigma: float) -> np.ndarray:
    _require_kind(self.dtype, "f", "cauchy_", "self")
    _require(sigma > 0, "cauchy_", "sigma", "more than 0", sigma)
    return np.asarray(median + sigma * _generator().standard_cauchy(self.shape), self.dtype)


filling(
    "cauchy_(Tensor self, float median=0.0, float sigma=1.0) -> Tensor",
    _fill_cauchy,
    "CauchyBackward0",
)


def _fill_log_normal(self: np.ndarray, mean: float, std: float) -> np.ndarray:
    _require_kind(self.dtype, "f", "log_normal_", "self")
    _require(std > 0, "log_normal_", "std", "more than 0", std)
    return np.asarray(_generator().lognormal(mean, std, self.shape), self.dtype)


filling(
    "log_normal_(Tensor self, float mean=1.0, float std=2.0) -> Tensor",
    _fill_log_normal,
    "LogNormalBackward0",
)


def _largest(dtype: np.dtype) -> int:
    """The largest integer up to which a dtype has them all."""
    if dtype.kind == "f":
        return int(1 << (np.finfo(dtype).nmant + 1))
    return 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)


def _fill_random(self: np.ndarray, low: int | None, high: int | None) -> np.ndarray:
    _require_kind(self.dtype, "fiub", "random_", "self")
    most = _largest(self.dtype)
    least = int(np.iinfo(self.dtype).min) if self.dtype.kind == "i" else 0
    if self.dtype.kind == "f":
        least = -most
    first, last = low or 0, most if high is None else high - 1
    _require(first <= last, "random_", "from", f"less than to, which is {high}", first)
    for name, each in (("from", first), ("to - 1", last)):
        _require(least <= each <= most, "random_", name, f"a number that {self.dtype} has", each)
    return _generator().integers(first, last, self.shape, np.int64, True).astype(self.dtype)


def _random_name(self: Any, low: int | None, high: int | None) -> str:
    if low is not None:
        return "RandomBackward0"
    return "RandomBackward2" if high is None else "RandomBackward1"


filling("random_(Tensor self, int? from=None, int? to=None) -> Tensor", _fill_random, _random_name)
