"""Softmax, its logarithm, and softmin."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.declare import composite, general
from gradwire_engine.errors import EngineError
from gradwire_engine.ops import dims
from gradwire_engine.ops.blocks import row_blocks


def _require_real(self: np.ndarray, op: str) -> None:
    if self.dtype.kind != "f":
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: needs a floating-point tensor, not {self.dtype}; "
            "pass dtype= or convert with to()",
            argument="self",
            dtype=self.dtype,
        )


def _as_rows(array: np.ndarray, axis: int) -> np.ndarray | None:
    """The array as rows along the axis, without a copy; None if they are no rows of memory."""
    if axis != array.ndim - 1 or not array.flags.c_contiguous:
        return None
    return array.reshape(-1, array.shape[-1])


def _exponentials(out: np.ndarray, x: np.ndarray, axis: int) -> np.ndarray:
    """exp(x - max x), written to `out`, and its sums."""
    np.subtract(x, np.maximum.reduce(x, axis=axis, keepdims=True), out=out)
    np.exp(out, out=out)
    sums: np.ndarray = np.add.reduce(out, axis=axis, keepdims=True)
    return sums


def _softmax(self: np.ndarray, dim: int) -> np.ndarray:
    _require_real(self, "softmax")
    axis = dims.one(dim, self.ndim)
    if not self.ndim or not self.size:
        return np.ones_like(self)
    if type(self) is not np.ndarray:
        # A plan has blocks of its own, which it shares with what comes before and after.
        whole = np.empty_like(self)
        whole /= _exponentials(whole, self, axis)
        return whole
    out = np.empty(self.shape, self.dtype)
    rows = _as_rows(self, axis)
    if rows is None:
        out /= _exponentials(out, self, axis)
        return out
    made = out.reshape(rows.shape)
    for block in row_blocks(rows):
        part = made[block]
        part /= _exponentials(part, rows[block], 1)
    return out


def _softmax_slope(F: Any, g: Any, result: Any, dim: int) -> Any:
    product = g * result
    return product - result * F.sum(product, (dim,), True)


def _softmax_gradient(grad_output: np.ndarray, result: np.ndarray, dim: int) -> np.ndarray:
    axis = dims.one(dim, result.ndim)
    rows = _as_rows(result, axis) if result.size and result.ndim else None
    if rows is None:
        product = grad_output * result
        return np.asarray(product - result * np.add.reduce(product, axis=axis, keepdims=True))
    g = np.ascontiguousarray(grad_output).reshape(rows.shape)
    out = np.empty(rows.shape, rows.dtype)
    for block in row_blocks(rows):
        part = out[block]
        weights = np.einsum("ij,ij->i", g[block], rows[block])
        np.subtract(g[block], weights[:, None], out=part)
        part *= rows[block]
    return out.reshape(result.shape)


composite(
    "_softmax_backward(Tensor grad_output, Tensor result, int dim) -> Tensor",
    _softmax_slope,
    kernel=_softmax_gradient,
    places=(),
)
general(
    "_softmax(Tensor self, int dim) -> Tensor",
    _softmax,
    lambda F, g, result, dim: F._softmax_backward(g, result, dim),
    places=(),
)


def _log_softmax(self: np.ndarray, dim: int) -> np.ndarray:
    _require_real(self, "log_softmax")
    axis = dims.one(dim, self.ndim)
    if not self.ndim or not self.size:
        return np.zeros_like(self)
    if type(self) is not np.ndarray:
        whole = np.empty_like(self)
        _logarithms(whole, self, axis)
        return whole
    out = np.empty(self.shape, self.dtype)
    rows = _as_rows(self, axis)
    if rows is None:
        _logarithms(out, self, axis)
        return out
    made = out.reshape(rows.shape)
    for block in row_blocks(rows):
        _logarithms(made[block], rows[block], 1)
    return out


def _logarithms(out: np.ndarray, x: np.ndarray, axis: int) -> None:
    np.subtract(x, np.maximum.reduce(x, axis=axis, keepdims=True), out=out)
    out -= np.log(np.add.reduce(np.exp(out), axis=axis, keepdims=True))


def _log_softmax_gradient(grad_output: np.ndarray, result: np.ndarray, dim: int) -> np.ndarray:
    axis = dims.one(dim, result.ndim)
    rows = _as_rows(result, axis) if result.size and result.ndim else None
    if rows is None:
        total = np.add.reduce(grad_output, axis=axis, keepdims=True)
        return np.asarray(grad_output - np.exp(result) * total)
    g = np.ascontiguousarray(grad_output).reshape(rows.shape)
    out = np.empty(rows.shape, rows.dtype)
    for block in row_blocks(rows):
        part = out[block]
        np.exp(rows[block], out=part)
        part *= -np.add.reduce(g[block], axis=1, keepdims=True)
        part += g[block]
    return out.reshape(result.shape)


composite(
    "_log_softmax_backward(Tensor grad_output, Tensor result, int dim) -> Tensor",
    lambda F, g, result, dim: g - F.exp(result) * F.sum(g, (dim,), True),
    kernel=_log_softmax_gradient,
    places=(),
)
general(
    "_log_softmax(Tensor self, int dim) -> Tensor",
    _log_softmax,
    lambda F, g, result, dim: F._log_softmax_backward(g, result, dim),
    places=(),
)


def _of_dtype(F: Any, self: Any, dtype: np.dtype | None) -> Any:
    return self if dtype is None else F.to(self, dtype)


composite(
    "softmax(Tensor self, int dim, ScalarType? dtype=None) -> Tensor",
    lambda F, self, dim, dtype: F._softmax(_of_dtype(F, self, dtype), dim),
    places=("torch", "Tensor", "nn.functional", "special"),
)
composite(
    "log_softmax(Tensor self, int dim, ScalarType? dtype=None) -> Tensor",
    lambda F, self, dim, dtype: F._log_softmax(_of_dtype(F, self, dtype), dim),
    places=("torch", "Tensor", "nn.functional", "special"),
)
composite(
    "softmin(Tensor self, int dim, ScalarType? dtype=None) -> Tensor",
    lambda F, self, dim, dtype: F._softmax(_of_dtype(F, F.neg(self), dtype), dim),
    places=("nn.functional",),
)
