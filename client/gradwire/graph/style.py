"""The colours of the pictures. Shapes differ as well, so that nothing hangs on colour alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gradwire.graph.labels import Sort


@dataclass(frozen=True, slots=True)
class Colours:
    """Of one sort of node. Dark text on a light fill reads the same on any ground."""

    fill: str
    line: str
    text: str


NODE: Final[Mapping[Sort, Colours]] = {
    "leaf": Colours("#dbeafe", "#2563eb", "#1e3a8a"),
    "op": Colours("#f8fafc", "#64748b", "#0f172a"),
    "intermediate": Colours("#f3e8ff", "#9333ea", "#581c87"),
    "result": Colours("#dcfce7", "#16a34a", "#14532d"),
}

EDGE: Final = "#7f8c9d"
"""A grey that stands out from white (3.4:1) and from black (6.1:1) alike."""
