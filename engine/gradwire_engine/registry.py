"""All operators, by name."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from gradwire_engine.errors import EngineError

if TYPE_CHECKING:
    from gradwire_engine.operator import Operator

operators: dict[str, Operator] = {}
"""Filled by the declarations in `gradwire_engine.ops`, in-place forms included (`add_`)."""


def register(op: Operator) -> Operator:
    """Add a declared operator; a name declared twice is a ValueError."""
    if op.name in operators:
        raise ValueError(f"operator {op.name} is declared twice")
    operators[op.name] = op
    return op


def lookup(name: str) -> Operator:
    """The operator of this name.

    Raises:
        EngineError: UNKNOWN_OP, with the nearest names.
    """
    try:
        return operators[name]
    except KeyError:
        near = difflib.get_close_matches(name, operators, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise EngineError(
            "UNKNOWN_OP",
            f"there is no operator '{name}'{hint} ListOperators lists them all"
            if hint
            else f"there is no operator '{name}'; ListOperators lists them all",
            op=name,
            near=", ".join(near),
        ) from None
