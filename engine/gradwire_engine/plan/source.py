"""The text of a plan's functions, plain or with reports of what each unit takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gradwire_engine.plan.fuse import Group
from gradwire_engine.plan.loops import Loop
from gradwire_engine.plan.values import Kind, Step
from gradwire_engine.profile import Kind as EntryKind

MOST_NAMES: Final = 8
"""Operators that the name of a group tells."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a profile is told of a unit.

    Attributes:
        kind: an operator, or several in one loop.
        name: of the operator; of several, in the order of their first steps: "mul+add+tanh".
        nbytes: of what it leaves in memory.
    """

    kind: EntryKind
    name: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Span:
    """The lines of one unit.

    Attributes:
        first: index of the first line.
        end: index after the last one.
    """

    first: int
    end: int
    report: Report


@dataclass(frozen=True, slots=True)
class Source:
    """Functions in Python: one that makes the plan's, and one for each loop.

    Attributes:
        lines: of the plan's function.
        spans: lines that are reported together, in order.
        loops: what runs in blocks.
        inputs: how many arrays a run takes.
        constants: how many things are the same in each run.
        arrays: how many arrays lie in buffers.
    """

    lines: tuple[str, ...]
    spans: tuple[Span, ...]
    loops: tuple[Loop, ...]
    inputs: int
    constants: int
    arrays: int

    def text(self, *, reports: bool = False) -> str:
        """The source.

        `make(*constants, *loops, *arrays)` gives `run(check, *inputs)`; with `reports` it is
        `run(check, report, *inputs)`, and `report(nr)` is entered for the lines of each span.
        """
        constants = [f"k{at}" for at in range(self.constants)]
        cells = [*constants, *(f"l{at}" for at in range(len(self.loops)))]
        cells += [f"b{at}" for at in range(self.arrays)]
        arguments = ["check", *(["report"] if reports else [])]
        arguments += [f"x{at}" for at in range(self.inputs)]
        lines = self._reported() if reports else self.lines
        functions = [_function("make", cells, arguments, lines)]
        for at, loop in enumerate(self.loops):
            functions.append(
                _function(
                    f"loop{at}", constants, ["at", "low", "high", *loop.parameters], loop.lines
                )
            )
        return "\n".join(functions)

    def _reported(self) -> list[str]:
        lines: list[str] = []
        done = 0
        for nr, span in enumerate(self.spans):
            lines += self.lines[done : span.first]
            lines.append(f"with report({nr}):")
            lines += [f"    {line}" for line in self.lines[span.first : span.end]]
            done = span.end
        return [*lines, *self.lines[done:]]


def report_of(unit: Step | Group) -> Report | None:
    """What a profile is told of a unit; None of a view, which is no work."""
    if isinstance(unit, Group):
        nbytes = sum(each.nbytes for each in unit.gives)
        if len(unit.steps) == 1:
            return Report("op", unit.steps[0].name, nbytes)
        names = list(dict.fromkeys(step.name for step in unit.steps))
        name = "+".join([*names[:MOST_NAMES], *(["…"] if len(names) > MOST_NAMES else [])])
        return Report("group", name, nbytes)
    if unit.kind is Kind.VIEW:
        return None
    name = unit.name or unit.kind.value
    return Report("op", name, sum(each.nbytes for each in unit.results))


def _function(
    name: str, cells: Sequence[str], arguments: Sequence[str], lines: Sequence[str]
) -> str:
    """The text of a function, inside of one that fills its cells."""
    body = "\n".join(f"        {line}" for line in lines)
    return (
        f"def {name}({', '.join(cells)}):\n    def run({', '.join(arguments)}):\n{body}\n"
        "    return run\n"
    )
