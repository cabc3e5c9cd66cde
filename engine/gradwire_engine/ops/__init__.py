"""The operators, declared by subject. Importing this package fills the registry."""

from gradwire_engine.ops import (
    activations,
    comparison,
    creation,
    indexing,
    losses,
    matrix,
    normalization,
    pointwise,
    reductions,
    shape,
    storage,
)

__all__ = [
    "activations",
    "comparison",
    "creation",
    "indexing",
    "losses",
    "matrix",
    "normalization",
    "pointwise",
    "reductions",
    "shape",
    "storage",
]
