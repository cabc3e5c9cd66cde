"""Runs the benchmarks, and writes what they came to.

python -m benchmarks                         # all rows; results, tables and pictures
python -m benchmarks --quick                 # fewer rows and rounds, shown and not kept
python -m benchmarks --only 'value_*,chain'  # these rows; the others keep their results
python -m benchmarks --resume                # what a run that was cut off did not get to
python -m benchmarks --report                # tables and pictures from kept results
"""

from __future__ import annotations

import argparse
import fnmatch
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import engine, growth, machine, memory, plots, report, results, service
from benchmarks.measure import FULL, QUICK, Effort
from benchmarks.results import Result
from benchmarks.rows import Row
from benchmarks.run import run
from benchmarks.workers import Workers

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "benchmarks" / "results"
SCRATCH = ROOT / "build" / "bench"
ROWS = (*engine.ROWS, *service.ROWS, *growth.ROWS, *memory.ROWS)

IN_SUMMARY = (
    "chain",
    "elementwise",
    "block",
    "value_vjp_1",
    "value_vjp_1000000",
    "training_step",
    "ops_1000",
)


@dataclass(frozen=True, slots=True)
class Places:
    """Where results, documentation and pictures are written."""

    results: Path
    performance: Path
    readme: Path
    images: Path


PUBLIC = Places(KEPT, ROOT / "docs" / "performance.md", ROOT / "README.md", ROOT / "docs/images")


def main() -> None:
    """Choose rows, run them, report."""
    # Told to end, it ends the contenders as well.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("ended"))
    arguments = _parse()
    if arguments.report:
        write_report(PUBLIC)
        return
    rows = chosen(arguments.only, arguments.quick)
    effort = QUICK if arguments.quick else FULL
    folder = SCRATCH / "quick" if arguments.quick else KEPT
    # Names the rows that a run got to, until it comes to its end.
    done = SCRATCH / f"done-{folder.name}.txt"
    if not arguments.resume:
        done.unlink(missing_ok=True)
    elif done.exists():
        rows = [row for row in rows if row.name not in done.read_text().split()]
    start = time.monotonic()
    try:
        found = _run_all(rows, effort, folder, done)
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; `make bench RESUME=1` goes on with the rest")
    done.unlink(missing_ok=True)
    print()
    print(report.targets(rows, found))
    print(f"\n{len(rows)} rows in {(time.monotonic() - start) / 60:.1f} minutes; {folder}")
    if not arguments.quick:
        write_report(PUBLIC)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--only", default="", help="names or patterns of rows, by commas or spaces")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--report", action="store_true")
    return parser.parse_args()


def chosen(only: str, quick: bool) -> list[Row]:
    """The rows of these names, patterns or sections; all, if none are given."""
    patterns = only.replace(",", " ").split()
    rows = [
        row
        for row in ROWS
        if (any(fnmatch.fnmatch(row.name, each) for each in patterns) or row.section in patterns)
        or (not patterns and (row.quick or not quick))
    ]
    if not rows:
        sections = ", ".join(dict.fromkeys(row.section for row in ROWS))
        names = ", ".join(row.name for row in ROWS)
        sys.exit(f"no row is called {only}; sections are {sections}; rows are {names}")
    return rows


def _run_all(rows: Sequence[Row], effort: Effort, folder: Path, done: Path) -> dict[str, Result]:
    found: dict[str, Result] = {}
    described = machine.describe()
    with Workers(SCRATCH / "logs") as workers:
        for nr, row in enumerate(rows, 1):
            print(f"[{nr}/{len(rows)}] {row.name}: {row.title}", flush=True)
            result = found[row.name] = run(row, workers, effort)
            _show(row, result)
            results.save(result, row, folder)
            machine.save(described, workers.versions(), folder / "machine.json")
            with done.open("a") as stream:
                stream.write(f"{row.name}\n")
    return found


def _show(row: Row, result: Result) -> None:
    for contender in row.contenders:
        found = result.spread(contender.name)
        if found is None:
            reason = result.absent.get(contender.name, "see below")
            print(f"      {contender.name:28} not run: {reason}", flush=True)
            continue
        middle = report.quantity(found.median, row.unit)
        low, high = (report.quantity(each, row.unit) for each in (found.low, found.high))
        rounds = len(result.taken[contender.name].rounds)
        print(f"      {contender.name:28} {middle:>10}   {low} – {high}, {rounds} rounds")
    if "all" in result.absent:
        print(f"      {result.absent['all']}", flush=True)


def write_report(places: Places) -> None:
    """Tables and pictures from all results that are kept."""
    kept = [(row, results.load(row.name, places.results)) for row in ROWS]
    found = {row.name: result for row, result in kept if result is not None}

    def of(section: str) -> list[Row]:
        return [row for row in ROWS if row.section == section]

    def family(name: str) -> list[Row]:
        return [row for row in ROWS if row.family == name]

    parts = {"machine": report.machine(machine.load(places.results / "machine.json"))}
    parts["targets"] = report.targets(ROWS, found)
    for section in ("engine", "service", "growth"):
        parts[section] = report.section(of(section), found)
    kept_in_memory = (report.memory(of("memory"), found), report.absences(of("memory"), found))
    parts["memory"] = "\n\n".join(filter(None, kept_in_memory))
    report.write(places.performance, parts)
    summarized = [row for row in ROWS if row.name in IN_SUMMARY]
    report.write(places.readme, {"summary": report.summary(summarized, found)})

    images = places.images
    plots.ratios(ROWS, found, images / "targets.svg")
    plots.growth(
        family("ops"),
        found,
        "operators of the graph",
        "time an operator",
        images / "growth-operators.svg",
        per_unit=True,
    )
    plots.growth(
        family("elements"), found, "elements, float64", "time", images / "growth-elements.svg"
    )
    plots.growth(
        family("sessions"),
        found,
        "open sessions",
        "time a request",
        images / "growth-sessions.svg",
        from_zero=True,
    )
    plots.growth(
        family("clients"),
        found,
        "clients",
        "requests a second",
        images / "growth-clients.svg",
        from_zero=True,
    )
    if memory.STEPS.name in found:
        plots.rounds(
            memory.STEPS, found[memory.STEPS.name], "training steps", images / "memory-steps.svg"
        )


if __name__ == "__main__":
    main()
