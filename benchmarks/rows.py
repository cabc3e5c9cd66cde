"""What a row is: a workload, who does it, and how much of a peer's time it may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Unit = Literal["seconds", "requests/s", "bytes"]


@dataclass(frozen=True, slots=True)
class Contender:
    """One who does a workload, in a process of its own.

    Attributes:
        name: as the tables call it.
        module: what its process runs, with `-m`.
        environment: of the peers' environments, the one it runs in; "" for gradwire's.
        workload: the name that the module has for the row's workload, where it is another one.
        arguments: for the workload, besides the row's.
        drops: names among the row's arguments that this workload does not take.
        takes_traffic: it is told the bytes that the first contender sends and receives.
        variables: of its process's environment.
        fresh: its process is started for the row, and ended after it.
    """

    name: str
    module: str
    environment: str = ""
    workload: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    drops: tuple[str, ...] = ()
    takes_traffic: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """What a contender should reach beside others.

    Attributes:
        contender: of gradwire.
        beside: what its figure is divided by: the weighted sum of others' figures.
        at_most: the ratio to reach.
        at_least: the same, where more is better.
    """

    contender: str
    beside: Mapping[str, float]
    at_most: float | None = None
    at_least: float | None = None

    def is_met(self, ratio: float) -> bool:
        """Whether a measured ratio reaches it."""
        return (self.at_most is None or ratio <= self.at_most) and (
            self.at_least is None or ratio >= self.at_least
        )


@dataclass(frozen=True, slots=True)
class Row:
    """A workload and its contenders, of which the first is gradwire.

    Attributes:
        name: for the command line and the file of its result.
        title: for the tables.
        section: the table it belongs to.
        workload: as the modules of the contenders call it.
        arguments: for the workload.
        unit: of what a round gives.
        calls: calls of a round; 0: as many as fill its time.
        rounds: so many; 0: as many as fit into the row's time.
        family: the rows that it shares a table with; "": those of its section that have none.
        size: its place on the curve of its family.
        quick: also part of a quick run.
    """

    name: str
    title: str
    section: str
    workload: str
    contenders: tuple[Contender, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    unit: Unit = "seconds"
    calls: int = 0
    rounds: int = 0
    family: str = ""
    size: float = 0
    quick: bool = True
