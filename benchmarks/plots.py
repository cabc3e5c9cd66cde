"""Results as pictures: SVG that is the same, byte for byte, for the same results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.results import Result
from benchmarks.rows import Row

STYLE: Any = {
    "svg.hashsalt": "gradwire",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
}

COLOURS: Mapping[str, str] = {
    "gradwire": "#c0392b",
    "gradwire, compiled": "#e67e22",
    "gradwire, no session": "#e67e22",
    "torch": "#2c3e50",
    "gRPC echo": "#7f8c8d",
    "gRPC echo, blocks reused": "#b4bcbd",
    "torch RPC": "#2980b9",
    "pytensor-federated": "#27ae60",
    "UM-Bridge": "#8e44ad",
    "Tesseract": "#16a085",
}

Results = Mapping[str, Result]


def growth(
    rows: Sequence[Row],
    results: Results,
    x: str,
    y: str,
    path: Path,
    *,
    per_unit: bool = False,
    from_zero: bool = False,
) -> None:
    """One line a contender over the sizes of a family, with quartiles as a band.

    Args:
        per_unit: divide by the size: the cost of one operator, for example.
        from_zero: a linear axis of figures instead of a logarithmic one.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _figure()
        for name in dict.fromkeys(each.name for row in rows for each in row.contenders):
            points = [
                (row.size, found.median, found.low, found.high)
                for row in rows
                if (result := results.get(row.name)) and (found := result.spread(name))
            ]
            if not points:
                continue
            sizes = [point[0] for point in points]
            scales = [size if per_unit else 1.0 for size in sizes]
            middle, low, high = (
                [point[at] / scale for point, scale in zip(points, scales, strict=True)]
                for at in (1, 2, 3)
            )
            colour = _colour(name)
            axes.plot(sizes, middle, "o-", color=colour, label=name, markersize=3.5, linewidth=1.4)
            axes.fill_between(sizes, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set(xscale="log", yscale="linear" if from_zero else "log", xlabel=x, ylabel=y)
        if from_zero:
            axes.set_ylim(bottom=0)
        axes.set_xticks([row.size for row in rows], [_size(row.size) for row in rows])
        axes.xaxis.set_minor_formatter(NullFormatter())
        is_time = all(row.unit == "seconds" for row in rows)
        axes.yaxis.set_major_formatter(FuncFormatter(_time if is_time else _count))
        _legend(axes)
        _save(figure, path)


def ratios(rows: Sequence[Row], results: Results, path: Path) -> None:
    """Each target as a tick, and beside it what was measured with its quartiles."""
    found = []
    for row in rows:
        for target in row.targets:
            result = results.get(row.name)
            measured = None if result is None else result.against(target)
            if measured is not None:
                bound = target.at_most if target.at_most is not None else target.at_least
                found.append((f"{row.name}: {target.contender}", target, measured, bound))
    found.reverse()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.8 + 0.3 * max(len(found), 1)), layout="constrained")
        axes = figure.subplots()
        for at, (_, target, measured, bound) in enumerate(found):
            assert bound is not None
            colour = "#27ae60" if target.is_met(measured.median) else "#c0392b"
            axes.plot([measured.low, measured.high], [at, at], color=colour, linewidth=3, alpha=0.4)
            axes.plot([measured.median], [at], "o", color=colour, markersize=5)
            axes.plot([bound], [at], "|", color="black", markersize=12, markeredgewidth=1.6)
        labels = [f"{name} ÷ {' + '.join(target.beside)}" for name, target, _, _ in found]
        axes.set_yticks(range(len(found)), labels)
        axes.set(xscale="log", xlabel="ratio (line: quartiles), and target (tick)")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        _save(figure, path)


def rounds(row: Row, result: Result, x: str, path: Path) -> None:
    """Every round of a row in turn: memory, after so many calls."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure()
        for name, series in result.taken.items():
            at = [(nr + 1) * series.calls for nr in range(len(series.rounds))]
            values = [each / 1e6 for each in series.rounds]
            axes.plot(at, values, "o-", color=_colour(name), label=name, markersize=3.5)
        axes.set(xlabel=x, ylabel="resident memory, MB")
        axes.set_ylim(bottom=0)
        _legend(axes)
        _save(figure, path)


def _figure() -> tuple[Figure, Any]:
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    return figure, figure.subplots()


def _legend(axes: Any) -> None:
    if axes.lines:
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _colour(name: str) -> str:
    """The colour of the contender whose name is the longest beginning of this one."""
    known = [key for key in COLOURS if name.startswith(key)]
    return COLOURS[max(known, key=len)] if known else "#555555"


def _size(value: float) -> str:
    for size, name in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{name}"
    return f"{value:g}"


def _count(value: float, _: object) -> str:
    return f"{value:,.0f}"


def _time(value: float, _: object) -> str:
    if value == 0:
        return "0"
    for size, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= size * 0.999:
            return f"{value / size:g} {name}"
    return f"{value / 1e-9:g} ns"


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
