"""What operators on stacks of matrices share: checks, adjoints, and running LAPACK one by one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradwire_engine.errors import EngineError

_EXACT = ("float32", "float64", "complex64", "complex128")


def require_matrices(op: str, *given: Any, square: bool = False) -> None:
    """Refuse what is no stack of matrices of float32, float64, complex64 or complex128.

    Raises:
        EngineError: SHAPE_MISMATCH, DTYPE_MISMATCH.
    """
    for each in given:
        shape = tuple(each.shape)
        if len(shape) < 2:
            raise EngineError(
                "SHAPE_MISMATCH",
                f"{op}: needs matrices, of shape (..., m, n), not shape {shape}",
                argument="A",
                shape=shape,
            )
        if square and shape[-1] != shape[-2]:
            raise EngineError(
                "SHAPE_MISMATCH",
                f"{op}: needs square matrices, not shape {shape}",
                argument="A",
                shape=shape,
            )
    require_dtype(op, *given)


def require_dtype(op: str, *given: Any) -> None:
    """Refuse dtypes that LAPACK has not, and different ones.

    Raises:
        EngineError: DTYPE_MISMATCH.
    """
    names = [each.dtype.name for each in given]
    if names[0] not in _EXACT or any(name != names[0] for name in names):
        raise EngineError(
            "DTYPE_MISMATCH",
            f"{op}: needs tensors of one dtype, float32, float64, complex64 or complex128, not "
            f"{' and '.join(names)}; convert with to()",
            op=op,
            dtypes=", ".join(names),
        )


def require_finite(op: str, A: np.ndarray, argument: str = "self") -> None:
    """Refuse infinite values and NaN, over which the iterations of LAPACK may never end.

    Raises:
        EngineError: BAD_VALUE.
    """
    if not np.isfinite(A).all():
        raise EngineError(
            "BAD_VALUE", f"{op}: the matrix has infinite values or NaN", argument=argument, op=op
        )


def cubic(steps: int) -> Callable[..., int]:
    """The floating-point operations of LAPACK on matrices: `steps` times n squared times m."""

    def flops(A: Any, *rest: Any) -> int:
        shape = tuple(A.shape)
        inner: int = min(shape[-2:]) if len(shape) > 1 else 1
        return int(steps * math.prod(shape) * inner + 1)

    return flops


def singular(op: str, what: str = "is singular") -> EngineError:
    """The error for a matrix that has no inverse or no factors."""
    return EngineError(
        "BAD_VALUE",
        f"{op}: a matrix {what}; look at its values, or use the form of the operator with _ex, "
        "which says which matrix it is",
        op=op,
        argument="A",
    )


def adjoint(F: Any, x: Any) -> Any:
    """The matrices transposed and conjugated."""
    return F.conj(F.transpose(x, -2, -1))


def raw_adjoint(x: np.ndarray) -> np.ndarray:
    """The same of arrays."""
    return x.swapaxes(-2, -1).conj()


def batches(*given: np.ndarray) -> tuple[int, ...]:
    """The common batch shape.

    Raises:
        EngineError: SHAPE_MISMATCH.
    """
    try:
        return np.broadcast_shapes(*(each.shape[:-2] for each in given))
    except ValueError:
        text = " and ".join(str(each.shape) for each in given)
        raise EngineError(
            "SHAPE_MISMATCH",
            f"the batch dimensions of shapes {text} do not broadcast",
            shapes=text,
        ) from None


def each_matrix(
    function: Callable[..., np.ndarray], shape: tuple[int, ...], *given: np.ndarray
) -> np.ndarray:
    """`function` on one matrix of each after the other, over a common batch.

    Args:
        shape: of one result.
    """
    batch = batches(*given)
    out = np.empty((*batch, *shape), given[0].dtype)
    spread = [np.broadcast_to(each, (*batch, *each.shape[-2:])) for each in given]
    for place in np.ndindex(*batch):
        out[place] = function(*(each[place] for each in spread))
    return out
