"""Measuring contenders in turn: A B A B, so that what disturbs one disturbs all."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Prepared(Protocol):
    """A contender with its workload prepared."""

    def round(self, calls: int) -> float:
        """A round of so many calls, in the row's unit."""
        ...


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a row may take.

    Attributes:
        seconds: for the rounds of a row, all contenders together.
        round_seconds: that a round should fill with calls.
        warm_seconds: of each contender before the first round.
        least, most: bounds of the number of rounds.
    """

    seconds: float
    round_seconds: float
    warm_seconds: float
    least: int
    most: int


FULL = Effort(seconds=10, round_seconds=0.05, warm_seconds=0.5, least=7, most=41)
QUICK = Effort(seconds=1.5, round_seconds=0.02, warm_seconds=0.1, least=3, most=9)


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Series:
    """The rounds of one contender, and the calls of each."""

    rounds: list[float]
    calls: int


def alternate(
    contenders: Mapping[str, Prepared], effort: Effort, calls: int = 0, rounds: int = 0
) -> dict[str, Series]:
    """Warm everybody up, then take rounds in turn.

    Args:
        calls: of a round; 0: as many as fill `effort.round_seconds`.
        rounds: so many; 0: as many as fit into `effort.seconds`.
    """
    sizes: dict[str, int] = {}
    cost = 0.0
    for name, contender in contenders.items():
        sizes[name], seconds = (calls, 0.0) if calls else _warm_up(contender, effort)
        cost += seconds
    if not rounds:
        rounds = min(effort.most, max(effort.least, int(effort.seconds / max(cost, 1e-9))))
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            taken[name].append(contender.round(sizes[name]))
    return {name: Series(values, sizes[name]) for name, values in taken.items()}


def _warm_up(contender: Prepared, effort: Effort) -> tuple[int, float]:
    """Calls that fill a round, and the seconds that such a round takes."""
    end = time.monotonic() + effort.warm_seconds
    calls = 1
    while True:
        start = time.monotonic()
        each = max(contender.round(calls), 1e-9)
        seconds = time.monotonic() - start
        calls = max(1, min(round(effort.round_seconds / each), 1_000_000))
        if time.monotonic() >= end:
            # A round begins with one more call, whose time is not taken.
            return calls, max(seconds, (calls + 1) * each)


def spread(values: list[float]) -> Spread:
    """Median and quartiles of a sample."""
    low, median, high = np.percentile(values, (25, 50, 75)).tolist()
    return Spread(median, low, high)


def ratios(
    of: list[float], beside: Mapping[str, float], taken: Mapping[str, list[float]]
) -> Spread:
    """A contender's rounds by the weighted sum of others' rounds, each round by its like."""
    sums = [
        sum(weight * taken[name][at] for name, weight in beside.items()) for at in range(len(of))
    ]
    return spread([mine / theirs for mine, theirs in zip(of, sums, strict=True)])
