"""The interpreters of a rule: what `F` is.

`RAW` runs kernels on arrays; `TRACED` runs operators on tensors, so that the run is recorded
and can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gradwire_engine.registry import operators
from gradwire_engine.tensor import Tensor


class Interpreter:
    """A namespace of operators, by name. Looks an operator up once."""

    def __init__(self, name: str, resolve: Callable[[Interpreter, str], Any]) -> None:
        self._name = name
        self._resolve = resolve

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        function = self._resolve(self, name)
        setattr(self, name, function)
        return function

    def __repr__(self) -> str:
        return f"<interpreter {self._name}>"


def _raw(interpreter: Interpreter, name: str) -> Any:
    op = operators[name.replace("__", ".")]
    return op.kernel if op.has_kernel else partial(op.formula, interpreter)


def _traced(interpreter: Interpreter, name: str) -> Any:
    return operators[name.replace("__", ".")]


RAW = Interpreter("raw", _raw)
TRACED = Interpreter("traced", _traced)


def sum_to_shape(F: Interpreter, g: Any, shape: tuple[int, ...]) -> Any:
    """Undo broadcasting: sum over the dimensions that were added or expanded."""
    added = len(g.shape) - len(shape)
    if added < 0:
        # Indexed assignment leaves out leading dimensions of size 1.
        return F.reshape(sum_to_shape(F, g, shape[-added:]), shape)
    if F is RAW and g.shape[added:] == shape:
        return F.sum(g, tuple(range(added)))
    dims = tuple(range(added)) + tuple(
        added + i for i, size in enumerate(shape) if size == 1 and g.shape[added + i] != 1
    )
    if dims:
        g = F.sum(g, dims, True)
    return F.reshape(g, shape) if added else g


def fit(F: Interpreter, g: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """A gradient as its tensor wants it: of its shape and dtype, real for a real tensor."""
    if not isinstance(g, (np.ndarray, Tensor)):
        g = np.asarray(g) if F is RAW else Tensor(np.asarray(g))
    if g.shape != shape:
        g = sum_to_shape(F, g, shape)
    if g.dtype != dtype:
        if g.dtype.kind == "c" and dtype.kind != "c":
            g = F.real(g)
        if g.dtype != dtype:
            g = F.to(g, dtype)
    return g
