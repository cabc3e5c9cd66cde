"""The machinery of the benchmarks, on rows of gradwire against itself."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import environments, machine, measure, plots, report, results
from benchmarks.contenders import ENGINE, TORCH
from benchmarks.measure import Effort, Series, Spread
from benchmarks.results import Result
from benchmarks.rows import Row, Target
from benchmarks.run import run
from benchmarks.workers import Workers

ROOT = Path(__file__).resolve().parents[2]

BRIEF = Effort(seconds=0.01, round_seconds=0.001, warm_seconds=0.0, least=3, most=3)

ITSELF = replace(ENGINE, name="itself")
TINY = Row("tiny", "a tiny row", "engine", "tiny", (ENGINE, ITSELF))

MEASURED = Result(
    "tiny",
    {"gradwire": Series([1e-3, 2e-3, 3e-3], 5), "itself": Series([2e-3, 4e-3, 12e-3], 5)},
    {"torch eager": "not installed"},
    {"gradwire": {"sent": 8.0}},
)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with Workers(tmp_path_factory.mktemp("logs")) as running:
        yield running


def test_a_row_is_prepared_agreed_on_and_measured_in_turn(workers: Workers) -> None:
    found = run(TINY, workers, BRIEF)
    assert found.absent == {}
    assert {name: len(series.rounds) for name, series in found.taken.items()} == {
        "gradwire": 3,
        "itself": 3,
    }
    assert all(value > 0 for series in found.taken.values() for value in series.rounds)


def test_who_computes_something_else_is_left_out(workers: Workers) -> None:
    other = replace(ITSELF, workload="chain", arguments={"ops": 10})
    found = run(replace(TINY, contenders=(ENGINE, other)), workers, BRIEF)
    assert list(found.taken) == ["gradwire"]
    assert found.absent["itself"].startswith("it computes [12.04")


def test_who_has_no_such_workload_is_left_out(workers: Workers) -> None:
    other = replace(ITSELF, workload="tea")
    found = run(replace(TINY, contenders=(ENGINE, other)), workers, BRIEF)
    assert found.absent == {"itself": "has no such workload"}


def test_who_cannot_do_a_workload_says_why(workers: Workers) -> None:
    other = replace(ITSELF, arguments={"sugar": 2})
    found = run(replace(TINY, contenders=(ENGINE, other)), workers, BRIEF)
    assert "unexpected keyword argument 'sugar'" in found.absent["itself"]


def test_a_process_that_ends_does_not_end_the_run(workers: Workers) -> None:
    absent = replace(ITSELF, name="gone", module="benchmarks.nothing")
    found = run(replace(TINY, contenders=(ENGINE, absent)), workers, BRIEF)
    assert list(found.taken) == ["gradwire"]
    assert "its process ended" in found.absent["gone"]


def test_a_peer_that_is_not_installed_is_left_out_with_the_reason(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environments, "PLACE", tmp_path)
    peer = replace(TORCH, name="a peer")
    row = replace(TINY, contenders=(ENGINE, peer))
    assert run(row, workers, BRIEF).absent == {"a peer": "not installed: run `make bench`"}

    def refuse(command: list[str]) -> None:
        raise environments.NotInstalledError("no such distribution")

    monkeypatch.setattr(environments, "_run", refuse)
    monkeypatch.setattr(environments.shutil, "which", lambda name: name)
    environments.main()
    assert run(row, workers, BRIEF).absent == {"a peer": "not installed: no such distribution"}


class _Counting:
    """A contender that writes down whose round it was."""

    def __init__(self, name: str, turns: list[str], seconds: float) -> None:
        self.name, self.turns, self.seconds = name, turns, seconds

    def round(self, calls: int) -> float:
        self.turns.append(self.name)
        return self.seconds


def test_contenders_take_turns() -> None:
    turns: list[str] = []
    pair = {name: _Counting(name, turns, 1e-4) for name in "AB"}
    taken = measure.alternate(pair, BRIEF)
    assert "".join(turns[-6:]) == "ABABAB"
    assert taken["A"].calls == 10  # of 0.1 ms, in a round of 1 ms


def test_rounds_are_as_many_as_fit() -> None:
    effort = Effort(seconds=1.0, round_seconds=0.01, warm_seconds=0.0, least=2, most=20)
    for seconds, expected in ((1e-3, 20), (0.1, 5), (10.0, 2)):
        taken = measure.alternate({"A": _Counting("A", [], seconds)}, effort)
        assert len(taken["A"].rounds) == expected


def test_a_ratio_pairs_the_rounds_of_a_turn() -> None:
    assert MEASURED.ratio("gradwire", {"itself": 1.0}) == Spread(0.5, 0.375, 0.5)
    weighted = MEASURED.ratio("gradwire", {"itself": 0.5, "gradwire": 1.0})
    assert weighted is not None and weighted.median == 0.5
    assert MEASURED.ratio("gradwire", {"torch eager": 1.0}) is None


def test_a_target_is_a_bound_from_above_or_below() -> None:
    assert Target("gradwire", {}, at_most=0.5).is_met(0.5)
    assert not Target("gradwire", {}, at_most=0.5).is_met(0.51)
    assert Target("gradwire", {}, at_least=0.7).is_met(0.8)
    assert not Target("gradwire", {}, at_least=0.7).is_met(0.6)


def test_results_come_back_as_they_were_saved(tmp_path: Path) -> None:
    results.save(MEASURED, TINY, tmp_path)
    assert results.load("tiny", tmp_path) == MEASURED
    assert results.load("chain", tmp_path) is None


def test_tables() -> None:
    row = replace(TINY, targets=(Target("gradwire", {"itself": 1.0, "torch": 2.0}, 0.5),))
    bound = replace(TINY, targets=(Target("gradwire", {"itself": 1.0}, 0.5),))
    found = {"tiny": MEASURED}
    assert report.times([TINY], found).splitlines()[2] == "| a tiny row | 2.00 ms | 4.00 ms |"
    assert report.ratios([TINY], found).splitlines()[2] == (
        "| a tiny row | gradwire | 0.50 (0.38–0.50) |"
    )
    assert report.targets([bound], found).splitlines()[2] == (
        "| a tiny row | gradwire ÷ itself | ≤ 0.5 | 0.50 (0.38–0.50) | met |"
    )
    assert report.targets([row], found).splitlines()[2] == (
        "| a tiny row | gradwire ÷ (itself + 2 × torch) | ≤ 0.5 | not measured |  |"
    )
    assert report.absences([TINY], found) == "Not run:\n\n- torch eager, in tiny: not installed"
    assert report.absences([TINY], {}) == "Not run:\n\n- all, in tiny: not measured"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.5, "seconds", "2.50 s"),
        (0.0125, "seconds", "12.5 ms"),
        (150e-6, "seconds", "150 µs"),
        (3e-9, "seconds", "3.00 ns"),
        (12345.6, "requests/s", "12,346/s"),
        (2.5e9, "bytes", "2,500 MB"),
    ],
)
def test_quantities_have_three_digits(value: float, unit: report.Unit, text: str) -> None:
    assert report.quantity(value, unit) == text


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    text = "before <!-- benchmarks: a --> old <!-- /benchmarks: a --> after"
    made = report.replace_between(text, "a", "new")
    assert made == "before <!-- benchmarks: a -->\n\nnew\n\n<!-- /benchmarks: a --> after"
    assert report.replace_between(made, "a", "new") == made
    with pytest.raises(ValueError, match="benchmarks: b"):
        report.replace_between(text, "b", "new")


def test_pictures_are_the_same_for_the_same_results(tmp_path: Path) -> None:
    points = [replace(TINY, name=str(size), size=size) for size in (1, 10)]
    found = {str(size): MEASURED for size in (1, 10)}
    row = replace(TINY, targets=(Target("gradwire", {"itself": 1.0}, 0.5),))
    for name in ("once", "again"):
        plots.growth(points, found, "size", "time", tmp_path / f"growth-{name}.svg")
        plots.ratios([row], {"tiny": MEASURED}, tmp_path / f"targets-{name}.svg")
        plots.rounds(TINY, MEASURED, "steps", tmp_path / f"rounds-{name}.svg")
    for kind in ("growth", "targets", "rounds"):
        once, again = (tmp_path / f"{kind}-{name}.svg" for name in ("once", "again"))
        assert once.read_bytes() == again.read_bytes()
        assert ElementTree.parse(once).getroot().tag.endswith("svg")


def test_the_whole_report_is_written_from_kept_results(tmp_path: Path) -> None:
    places = command.Places(
        tmp_path, tmp_path / "performance.md", tmp_path / "README.md", tmp_path / "images"
    )
    for path in (places.performance, places.readme):
        original = command.PUBLIC.performance if "perf" in path.name else command.PUBLIC.readme
        path.write_text(original.read_text())
    results.save(MEASURED, TINY, tmp_path)
    command.write_report(places)
    assert "0.50 (0.38–0.50)" not in places.readme.read_text()
    assert "not measured" in places.performance.read_text()
    assert (tmp_path / "images" / "targets.svg").exists()


def test_rows_can_be_chosen_by_name_pattern_or_section() -> None:
    def names(only: str, quick: bool = False) -> list[str]:
        return [row.name for row in command.chosen(only, quick)]

    assert names("chain") == ["chain"]
    assert names("value_vjp_1,tiny") == ["tiny", "value_vjp_1"]
    assert set(names("clients_*")) >= {"clients_1", "clients_64"}
    assert {row.section for row in command.chosen("memory", False)} == {"memory"}
    assert len(names("")) == len(command.ROWS)
    assert "value_vjp_10000000" not in names("", quick=True)
    with pytest.raises(SystemExit, match="no row is called tea"):
        names("tea")


@pytest.mark.parametrize("row", command.ROWS, ids=lambda row: row.name)
def test_every_row_is_declared_soundly(row: Row) -> None:
    names = [each.name for each in row.contenders]
    assert [each.name for each in command.ROWS].count(row.name) == 1
    assert len(set(names)) == len(names)
    assert names[0].startswith(report.OURS)
    for target in row.targets:
        assert {target.contender, *target.beside} <= set(names)
        assert (target.at_most is None) != (target.at_least is None)
    for each in row.contenders:
        assert importlib.util.find_spec(each.module) is not None
        if each.environment:
            assert (environments.REQUIREMENTS / f"{each.environment}.txt").exists()


def test_peers_are_pinned_without_addresses() -> None:
    for path in environments.REQUIREMENTS.glob("*.txt"):
        for line in path.read_text().splitlines():
            name, pinned, version = line.partition("==")
            assert name and pinned and version and "/" not in line, f"{path.name}: {line}"


def test_versions_of_who_did_not_run_stay(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    machine.save(machine.describe(), {"engine": {"numpy": "1"}, "echo": {"grpcio": "1"}}, path)
    machine.save(machine.describe(), {"engine": {"numpy": "2"}}, path)
    assert machine.load(path)["versions"] == {"echo": {"grpcio": "1"}, "engine": {"numpy": "2"}}
    assert "grpcio 1, numpy 2" in report.machine(machine.load(path))


def test_a_run_that_was_cut_off_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []

    def stop_at_second(row: Row, workers: Workers, effort: Effort) -> Result:
        if len(ran) == 1:
            ran.append("cut off")
            raise KeyboardInterrupt
        ran.append(row.name)
        return MEASURED

    monkeypatch.setattr(command, "SCRATCH", tmp_path)
    monkeypatch.setattr(command, "ROWS", [replace(TINY, name=name) for name in ("a", "b", "c")])
    monkeypatch.setattr(command, "run", stop_at_second)
    monkeypatch.setattr(command.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr("sys.argv", ["benchmarks", "--quick"])
    with pytest.raises(SystemExit, match="RESUME=1"):
        command.main()
    monkeypatch.setattr("sys.argv", ["benchmarks", "--quick", "--resume"])
    command.main()
    assert ran == ["a", "cut off", "b", "c"]
    assert {path.stem for path in (tmp_path / "quick").glob("*.json")} == {"a", "b", "c", "machine"}
