"""What a plan does, for people to read."""

from __future__ import annotations

from dataclasses import dataclass

from gradwire_engine.plan.build import Plan
from gradwire_engine.plan.fuse import Group
from gradwire_engine.plan.routine import Routine
from gradwire_engine.plan.values import Kind, Step


@dataclass(frozen=True, slots=True)
class Part:
    """The forward or the backward half of a plan.

    Attributes:
        steps: one line each, in the order in which they run.
        groups: positions of steps that run together, block by block.
        buffers: how many blocks of memory are kept for it.
        buffer_bytes: their size.
        flops: floating-point operations of a run, estimated.
    """

    steps: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    buffers: int
    buffer_bytes: int
    flops: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a call runs; `str()` prints it.

    Attributes:
        reason: why it runs call by call; None if there is a plan.
        forward: what a call runs.
        backward: what its node runs; None if it records none.
        folded: computations of constants, and such that change nothing, done once or left out.
        shared: computations that an equal one had done already.
        dropped: computations whose results nobody uses.
    """

    reason: str | None
    forward: Part | None = None
    backward: Part | None = None
    folded: int = 0
    shared: int = 0
    dropped: int = 0

    def __str__(self) -> str:
        if self.reason is not None:
            return f"runs call by call: {self.reason}"
        lines: list[str] = []
        for name, part in (("forward", self.forward), ("backward", self.backward)):
            if part is not None:
                lines.append(
                    f"{name}: {len(part.steps)} steps, {part.flops:,} FLOPs, "
                    f"{part.buffers} buffers of {part.buffer_bytes:,} bytes"
                )
                inside = {at for group in part.groups for at in group}
                starts = {group[0]: len(group) for group in part.groups}
                for at, step in enumerate(part.steps):
                    if at in starts:
                        lines.append(f"  in blocks, {starts[at]} steps:")
                    lines.append(f"    {step}" if at in inside else f"  {step}")
        lines.append(f"left out: {self.folded} folded, {self.shared} shared, {self.dropped} unused")
        return "\n".join(lines)


def explain(plan: Plan | str) -> Explanation:
    """Put a plan, or the reason why there is none, into words."""
    if isinstance(plan, str):
        return Explanation(plan)
    adjoint = plan.adjoint
    routine = None if adjoint is None else adjoint.routine
    savings = plan.savings
    return Explanation(
        None,
        _part(plan.forward),
        None if routine is None else _part(routine),
        savings.folded,
        savings.shared,
        savings.dropped,
    )


def _part(routine: Routine) -> Part:
    groups: list[tuple[int, ...]] = []
    at = 0
    for unit in routine.units:
        count = len(unit.steps) if isinstance(unit, Group) else 1
        if count > 1:
            groups.append(tuple(range(at, at + count)))
        at += count
    steps = routine.steps
    return Part(
        tuple(_line(step) for step in steps),
        tuple(groups),
        len(routine.buffers.sizes),
        sum(routine.buffers.sizes),
        sum(step.flops for step in steps),
    )


def _line(step: Step) -> str:
    function = getattr(step.function, "__name__", "kernel")
    what = function if step.kind in (Kind.UFUNC, Kind.REDUCE) else step.kind.value
    operands = ", ".join(map(repr, step.operands))
    results = ", ".join(map(repr, step.results))
    return f"{step.name}: {what}({operands}) -> {results}"
