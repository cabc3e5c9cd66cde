"""Results as Markdown, written between markers of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Spread
from benchmarks.results import Result
from benchmarks.rows import Row, Target, Unit

OURS = "gradwire"
"""What the names of gradwire's contenders begin with."""

Results = Mapping[str, Result]


def targets(rows: Sequence[Row], results: Results) -> str:
    """Every target beside what was measured."""
    lines = []
    for row in rows:
        for target in row.targets:
            result = results.get(row.name)
            measured = None if result is None else result.against(target)
            lines.append(
                [
                    row.title,
                    f"{target.contender} ÷ {_sum(target.beside)}",
                    _bound(target),
                    "not measured" if measured is None else ratio(measured),
                    "" if measured is None else _verdict(target, measured),
                ]
            )
    return table(["work", "ratio", "target", "measured (quartiles)", ""], lines)


def section(rows: Sequence[Row], results: Results) -> str:
    """Times, ratios and absences of rows, a pair of tables a family."""
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(row.family, []).append(row)
    parts = []
    for each in families.values():
        parts.append(times(each, results))
        if any(not name.startswith(OURS) for name in contender_names(each)):
            parts.append(ratios(each, results))
    return "\n\n".join(filter(None, [*parts, absences(rows, results)]))


def times(rows: Sequence[Row], results: Results) -> str:
    """The median of every contender; rows as lines."""
    names = contender_names(rows)
    lines = []
    for row in rows:
        result = results.get(row.name)
        line = [row.title]
        for name in names:
            found = None if result is None else result.spread(name)
            line.append("–" if found is None else quantity(found.median, row.unit))
        lines.append(line)
    return table(["", *names], lines)


def ratios(rows: Sequence[Row], results: Results) -> str:
    """Contenders of gradwire divided by each peer."""
    peers = [name for name in contender_names(rows) if not name.startswith(OURS)]
    lines = []
    for row in rows:
        result = results.get(row.name)
        for each in row.contenders:
            if result is None or each.name not in result.taken or not each.name.startswith(OURS):
                continue
            found = [result.ratio(each.name, {peer: 1.0}) for peer in peers]
            cells = ["–" if one is None else ratio(one) for one in found]
            lines.append([row.title, each.name, *cells])
    return table(["", "", *(f"÷ {peer}" for peer in peers)], lines)


def absences(rows: Sequence[Row], results: Results) -> str:
    """Who did not take part, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        result = results.get(row.name)
        if result is None:
            reasons.setdefault(("all", "not measured"), []).append(row.name)
            continue
        for name, reason in result.absent.items():
            reasons.setdefault((name, reason), []).append(row.name)
    lines = [
        f"- {name}, in {', '.join(where)}: {reason}" for (name, reason), where in reasons.items()
    ]
    return "\n".join(["Not run:", "", *lines]) if lines else ""


def memory(rows: Sequence[Row], results: Results) -> str:
    """Memory of the processes: at rest, at the most, and what it grew by."""
    lines = []
    for row in rows:
        result = results.get(row.name)
        for name, series in ({} if result is None else result.taken).items():
            assert result is not None
            at_rest = result.facts.get(name, {}).get("at rest", series.rounds[0])
            most = max(series.rounds)
            lines.append(
                [
                    row.title,
                    name,
                    quantity(at_rest, "bytes"),
                    quantity(most, "bytes"),
                    f"{(series.rounds[-1] / series.rounds[0] - 1) * 100:+.1f} %",
                ]
            )
    return table(["", "process", "at first", "at the most", "last round ÷ first"], lines)


def summary(rows: Sequence[Row], results: Results) -> str:
    """What the targets of a handful of rows are about, in short."""
    lines = []
    for row in rows:
        result = results.get(row.name)
        for target in row.targets:
            measured = None if result is None else result.against(target)
            mine = None if result is None else result.spread(target.contender)
            if mine is None or measured is None:
                continue
            beside = f"{_places(measured.median)} × {_sum(target.beside)}"
            lines.append([row.title, target.contender, quantity(mine.median, row.unit), beside])
    return table(["", "", "median", "beside"], lines)


def machine(description: Mapping[str, Any]) -> str:
    """The machine and the versions."""
    if not description:
        return "Nothing was measured yet."
    versions: dict[str, str] = {}
    for each in description["versions"].values():
        versions.update(each)
    listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return (
        f"{description['processor']}, {description['cores']} cores, "
        f"{description['memory'] / 2**30:.0f} GiB; {description['system']}; "
        f"Python {description['python']}; {description['threads']} threads a process. "
        f"Taken on {description['date']} at {description['commit']}. Versions: {listed}."
    )


def replace_between(text: str, name: str, content: str) -> str:
    """The text with other content between the markers of this name.

    Raises:
        ValueError: the text has no such markers.
    """
    start, end = f"<!-- benchmarks: {name} -->", f"<!-- /benchmarks: {name} -->"
    head, found, rest = text.partition(start)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the text has no {start} ... {end}")
    return f"{head}{start}\n\n{content}\n\n{end}{tail}"


def write(path: Path, parts: Mapping[str, str]) -> None:
    """Put parts between their markers in a file."""
    text = path.read_text()
    for name, content in parts.items():
        text = replace_between(text, name, content)
    path.write_text(text)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, figures to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *lines])


def contender_names(rows: Sequence[Row]) -> list[str]:
    """Every contender of the rows once, gradwire's first."""
    names = dict.fromkeys(each.name for row in rows for each in row.contenders)
    return sorted(names, key=lambda name: not name.startswith(OURS))


def quantity(value: float, unit: Unit) -> str:
    """A figure with three digits and a unit of a fitting size."""
    match unit:
        case "seconds":
            for size, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
                if value >= size:
                    return f"{_three_digits(value / size)} {name}"
            return f"{_three_digits(value / 1e-9)} ns"
        case "requests/s":
            return f"{value:,.0f}/s"
        case "bytes":
            return f"{value / 1e6:,.0f} MB"


def ratio(found: Spread) -> str:
    """A ratio with its quartiles."""
    return f"{_places(found.median)} ({_places(found.low)}–{_places(found.high)})"


def _places(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _sum(beside: Mapping[str, float]) -> str:
    terms = [name if weight == 1 else f"{weight:g} × {name}" for name, weight in beside.items()]
    return terms[0] if len(terms) == 1 else f"({' + '.join(terms)})"


def _bound(target: Target) -> str:
    return f"≤ {target.at_most:g}" if target.at_most is not None else f"≥ {target.at_least:g}"


def _verdict(target: Target, measured: Spread) -> str:
    return "met" if target.is_met(measured.median) else "missed"
