"""All operators, by name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwire_engine.errors import EngineError

if TYPE_CHECKING:
    from gradwire_engine.operator import Operator

operators: dict[str, Operator] = {}
"""Filled by the declarations in `gradwire_engine.ops`, in-place forms included (`add_`)."""


@dataclass(frozen=True, slots=True)
class Alias:
    """Another name for an operator, and where an SDK exposes it, as `Operator.places`."""

    name: str
    op: str
    places: tuple[str, ...]


aliases: dict[str, Alias] = {}
"""By name, in-place forms included: filled by `gradwire_engine.ops.aliases`."""


def register(op: Operator) -> Operator:
    """Add a declared operator; a name declared twice is a ValueError."""
    if op.name in operators:
        raise ValueError(f"operator {op.name} is declared twice")
    operators[op.name] = op
    return op


def lookup(name: str) -> Operator:
    """The operator of this name, or of which it is an alias, that a client may call.

    Raises:
        EngineError: UNKNOWN_OP, with the nearest names.
    """
    found = operators.get(name)
    if found is None and name in aliases:
        found = operators[aliases[name].op]
    if found is not None and not found.inner:
        return found
    near = [
        each for each in difflib.get_close_matches(name, operators) if not operators[each].inner
    ]
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    what = "there is no operator" if found is None else "only other operators call"
    raise EngineError(
        "UNKNOWN_OP",
        f"{what} '{name}'{hint} ListOperators lists all that can be called",
        op=name,
        near=", ".join(near),
    )
