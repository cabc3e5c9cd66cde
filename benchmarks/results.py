"""Results as JSON, one file a row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Series, Spread, ratios, spread
from benchmarks.rows import Row, Target


@dataclass(frozen=True, slots=True)
class Result:
    """What a row came to.

    Attributes:
        row: its name.
        taken: the rounds of each contender that ran.
        absent: why the others did not.
        facts: what contenders told besides.
    """

    row: str
    taken: Mapping[str, Series]
    absent: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def spread(self, contender: str) -> Spread | None:
        """Median and quartiles of a contender; None if it did not run."""
        series = self.taken.get(contender)
        return None if series is None else spread(series.rounds)

    def ratio(self, contender: str, beside: Mapping[str, float]) -> Spread | None:
        """A contender beside the weighted sum of others; None where one of them did not run."""
        if contender not in self.taken or not beside.keys() <= self.taken.keys():
            return None
        rounds = {name: series.rounds for name, series in self.taken.items()}
        return ratios(rounds[contender], beside, rounds)

    def against(self, target: Target) -> Spread | None:
        """The ratio that a target is about."""
        return self.ratio(target.contender, target.beside)


def save(result: Result, row: Row, folder: Path) -> None:
    """Write a result, with all that is needed to read it without this code."""
    contenders: dict[str, Any] = {}
    for name, series in result.taken.items():
        middle = spread(series.rounds)
        contenders[name] = {
            "median": _short(middle.median),
            "quartiles": [_short(middle.low), _short(middle.high)],
            "calls_a_round": series.calls,
            "rounds": [_short(each) for each in series.rounds],
            "facts": result.facts.get(name, {}),
        }
    text = json.dumps(
        {
            "row": row.name,
            "title": row.title,
            "section": row.section,
            "unit": row.unit,
            "contenders": contenders,
            "absent": dict(result.absent),
        },
        indent=1,
        ensure_ascii=False,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{row.name}.json").write_text(text + "\n")


def load(name: str, folder: Path) -> Result | None:
    """The result of a row; None if there is none."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    held = json.loads(path.read_text())
    contenders = held["contenders"]
    return Result(
        name,
        {
            contender: Series(each["rounds"], each["calls_a_round"])
            for contender, each in contenders.items()
        },
        held["absent"],
        {name: each["facts"] for name, each in contenders.items() if each["facts"]},
    )


def _short(value: float) -> float:
    return float(f"{value:.5g}")
