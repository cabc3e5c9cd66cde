"""The operators, declared by subject. Importing this package fills the registry."""

from gradwire_engine.ops import (
    activations,
    arithmetic,
    comparison,
    complex_parts,
    conversion,
    creation,
    elementary,
    indexing,
    losses,
    matrix,
    normalization,
    reductions,
    selection,
    shape,
    storage,
)

__all__ = [
    "activations",
    "arithmetic",
    "comparison",
    "complex_parts",
    "conversion",
    "creation",
    "elementary",
    "indexing",
    "losses",
    "matrix",
    "normalization",
    "reductions",
    "selection",
    "shape",
    "storage",
]
