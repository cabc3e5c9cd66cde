"""Profiles: where the time of sequences went, asked for by a request, or by the server's flag."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gradwire as gw
import gradwire_engine.profile
from gradwire.v1 import autograd_pb2 as pb
from tests.service.harness import (
    Client,
    Step,
    backward,
    fetch,
    get_grad,
    op,
    put,
    refusal_of_error,
    sequence,
)
from tests.service.sdk import session

__all__ = ["session"]

X, Y, Z, LOSS, G = 1, 2, 3, 4, 5

TRAINING: tuple[Callable[[], Step], ...] = (
    lambda: put(X, [1.0, 2.0, 3.0], requires_grad=True),
    lambda: op("exp", [X], Y),
    lambda: op("mul", [Y, X], Z),
    lambda: op("sum", [Z], LOSS),
    lambda: backward(LOSS, retain_graph=True),
    lambda: get_grad(X, G),
    lambda: fetch(G),
)


def training() -> list[Step]:
    return [step() for step in TRAINING]


def result_of(client: Client, *steps: Step, **fields: Any) -> pb.SequenceResult:
    client.number += 1
    message, payloads = sequence(client.number, *steps, **fields)
    request = pb.RunRequest(session_id=client.id, sequence=message, payloads=payloads)
    return client.stub.Run(request, timeout=60).result


def profile_of(client: Client, *steps: Step) -> pb.Profile:
    return result_of(client, *steps, profile=True).profile


def kinds_and_names(profile: pb.Profile) -> list[tuple[str, str]]:
    return [
        (pb.ProfileKind.Name(each.kind).removeprefix("PROFILE_KIND_").lower(), each.name)
        for each in profile.entries
    ]


def test_each_step_and_each_node_of_a_backward_is_told(client: Client) -> None:
    profile = profile_of(client, *training())
    assert kinds_and_names(profile) == [
        ("step", "put"),
        ("op", "exp"),
        ("op", "mul"),
        ("op", "sum"),
        ("step", "backward"),
        ("node", "SumBackward0"),
        ("node", "MulBackward0"),
        ("node", "ExpBackward0"),
        ("node", "AccumulateGrad"),
        ("step", "get_grad"),
        ("step", "fetch"),
    ]
    assert [each.step for each in profile.entries] == [1, 2, 3, 4, 5, 5, 5, 5, 5, 6, 7]
    assert [each.parent for each in profile.entries] == [0, 0, 0, 0, 0, 5, 5, 5, 5, 0, 0]
    assert [each.bytes for each in profile.entries] == [12, 12, 12, 4, 0, 12, 24, 12, 12, 12, 12]
    assert {each.count for each in profile.entries} == {1}


def test_times_add_up(client: Client) -> None:
    profile = profile_of(client, *training())
    entries = list(profile.entries)
    assert all(each.duration_ns > 0 for each in entries)
    outermost = [each for each in entries if not each.parent]
    assert sum(each.duration_ns for each in outermost) <= profile.duration_ns
    inside = [each for each in entries if each.parent == 5]
    assert entries[4].inner_ns == sum(each.duration_ns for each in inside) < entries[4].duration_ns
    for each in inside:
        assert entries[4].start_ns <= each.start_ns
        assert each.start_ns + each.duration_ns <= entries[4].start_ns + entries[4].duration_ns
    starts = [each.start_ns for each in entries]
    assert starts == sorted(starts)


def test_nodes_are_those_of_the_graph_which_remembers_their_times(client: Client) -> None:
    entries = list(profile_of(client, *training()).entries)
    recorded = {each.node for each in entries if each.kind == pb.PROFILE_KIND_OP}
    ran = {each.node: each.duration_ns for each in entries if each.kind == pb.PROFILE_KIND_NODE}
    nodes = client.stub.GetGraph(pb.GetGraphRequest(session_id=client.id, tensors=[LOSS])).nodes
    assert recorded == {node.id for node in nodes if node.op}
    assert ran == {node.id: node.backward_ns for node in nodes}
    assert all(bool(node.forward_ns) == bool(node.op) for node in nodes)
    profile_of(client, backward(LOSS, retain_graph=True))
    again = client.stub.GetGraph(pb.GetGraphRequest(session_id=client.id, tensors=[LOSS])).nodes
    assert all(new.backward_ns > old.backward_ns for old, new in zip(nodes, again, strict=True))


def test_nothing_is_told_that_was_not_asked_for(client: Client) -> None:
    assert not result_of(client, *training()).HasField("profile")
    (node, *_) = client.stub.GetGraph(
        pb.GetGraphRequest(session_id=client.id, tensors=[LOSS])
    ).nodes
    assert (node.forward_ns, node.backward_ns) == (0, 0)


def test_a_server_may_profile_all(start_server: Callable[..., Any]) -> None:
    client = Client.open(start_server(profile=True))
    assert result_of(client, *training()).profile.entries


def test_very_many_entries_are_put_together_by_name(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradwire_engine.profile, "MOST_ENTRIES", 10)
    end = 10 + 50
    profile = profile_of(
        client,
        put(10, 1.0, requires_grad=True),
        *[op("neg", [handle], handle + 1) for handle in range(10, end)],
        backward(end),
    )
    assert len(profile.entries) == 10 + 4
    counts: dict[str, int] = {}
    for each in profile.entries:
        counts[each.name] = counts.get(each.name, 0) + each.count
    assert counts == {
        "put": 1,
        "neg": 50,
        "backward": 1,
        "NegBackward0": 50,
        "AccumulateGrad": 1,
    }
    late = {each.name: each for each in profile.entries[10:]}
    assert (late["neg"].count, late["neg"].bytes, late["neg"].step) == (41, 41 * 4, 0)


def test_a_profile_fits_into_the_message(start_server: Callable[..., Any]) -> None:
    client = Client.open(start_server(max_message_bytes=4096))
    negations = [op("neg", [handle], handle + 1) for handle in range(10, 90)]
    profile = profile_of(client, put(10, 1.0), *negations)
    assert [(each.name, each.count) for each in profile.entries] == [("put", 1), ("neg", 80)]


def test_what_ran_before_a_failure_is_told(client: Client) -> None:
    with client.stream() as stream:
        stream.start(put(X, [1.0]), op("exp", [X], Y), op("mm", [X, X], Z), profile=True)
        result = next(stream.call).result
    assert refusal_of_error(result.error).reason == "SHAPE_MISMATCH"
    assert [each.name for each in result.profile.entries] == ["put", "exp"]


def test_operators_of_a_program_are_told_within_its_step(client: Client) -> None:
    doubled = pb.Program(inputs=[1], outputs=[3], steps=[op("exp", [1], 2), op("neg", [2], 3)])
    step = pb.Step(checkpoint=pb.Checkpoint(program=doubled, inputs=[X], output=Y))
    profile = profile_of(client, put(X, [1.0], requires_grad=True), step)
    assert kinds_and_names(profile) == [
        ("step", "put"),
        ("step", "checkpoint"),
        ("op", "exp"),
        ("op", "neg"),
    ]
    assert [each.parent for each in profile.entries] == [0, 0, 2, 2]


def test_a_repeated_request_gets_the_same_profile(client: Client) -> None:
    first = profile_of(client, *training())
    client.number -= 1
    assert profile_of(client, *training()) == first


def train() -> gw.Tensor:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).tanh()  # forward
    loss = y.sum()
    loss.backward(retain_graph=True)
    return loss


class TestSdk:
    def test_a_table_is_printed_that_shows_lines(
        self, session: gw.Session, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with gw.profile() as prof:
            train()
        printed = capsys.readouterr().out
        assert printed == prof.table() + "\n" == f"{prof}\n"
        head, _, *rows, last = printed.splitlines()
        assert head.split() == "name kind calls self self % total mean bytes line".split()
        assert last.endswith("on the server")
        lines = {row.split()[0]: row for row in rows}
        assert set(lines) >= {"mul", "tanh", "sum", "backward", "TanhBackward0", "AccumulateGrad"}
        assert lines["tanh"].endswith("y = (x * x).tanh()  # forward")
        assert lines["TanhBackward0"].endswith("y = (x * x).tanh()  # forward")

    def test_averages(self, session: gw.Session) -> None:
        with gw.profile(quiet=True) as prof:
            for _ in range(3):
                train()
        found = prof.key_averages()
        tanh = found.find("tanh")
        assert (tanh.kind, tanh.count, tanh.bytes) == ("op", 3, 3 * 8)
        assert tanh.time == tanh.self_time == 3 * tanh.mean_time
        assert [line.source for line in tanh.lines] == ["y = (x * x).tanh()  # forward"]
        passes = found.find("backward")
        assert passes.self_time < passes.time
        own = [each.self_time for each in found]
        assert own == sorted(own, reverse=True)
        assert found.find("TanhBackward0").kind == "backward"
        with pytest.raises(KeyError):
            found.find("cosh")
        assert "more" in found.table(row_limit=1).splitlines()[-1]
        by_count = found.table(sort_by="name").splitlines()[2]
        assert by_count.startswith("AccumulateGrad")
        with pytest.raises(ValueError, match="sort_by is 'colour'"):
            found.table(sort_by="colour")  # type: ignore[arg-type]
        assert len(prof.key_averages(group_by_line=True)) >= len(found)

    def test_a_chrome_trace(self, session: gw.Session, tmp_path: Path) -> None:
        path = tmp_path / "trace.json"
        with gw.profile(trace=path, quiet=True) as prof:
            train().item()
        trace = json.loads(path.read_text(encoding="utf-8"))
        assert trace["displayTimeUnit"] == "ms"
        events = trace["traceEvents"]
        names = [each for each in events if each["ph"] == "M"]
        assert {each["name"] for each in names} == {"process_name", "thread_name"}
        complete = [each for each in events if each["ph"] == "X"]
        assert len(names) + len(complete) == len(events)
        for each in complete:
            assert set(each) == {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"}
            assert each["ts"] > 0 and each["dur"] >= 0
            assert (each["pid"], each["tid"]) == (1, 1)
        assert len(complete) == len(prof.events) + prof.sequences
        sequences = [each for each in complete if each["cat"] == "sequence"]
        for each in complete:
            around = [
                other
                for other in sequences
                if other["ts"] <= each["ts"]
                and each["ts"] + each["dur"] <= other["ts"] + other["dur"] + 1e-3
            ]
            assert around
        (tanh,) = [each for each in complete if each["name"] == "tanh"]
        assert tanh["cat"] == "op"
        assert tanh["args"]["bytes"] == 8
        assert tanh["args"]["line"].endswith("# forward")

    def test_what_is_outside_is_not_profiled(self, session: gw.Session) -> None:
        before, more = gw.ones(2).exp(), gw.ones(2)
        with gw.profile(quiet=True) as prof:
            kept = gw.ones(2), more.sin()
        before.cos()
        assert len(kept) == 2
        session.flush()
        assert {each.name for each in prof.events} == {"ones", "sin"}

    def test_all_that_is_recorded_within_has_run_at_the_end(self, session: gw.Session) -> None:
        with gw.profile(quiet=True) as prof:
            gw.ones(2).sin()
        assert prof.sequences == 1
        assert prof.time >= sum(each.time for each in prof.events if each.parent is None) > 0

    def test_a_failure_within_is_raised_at_the_end(self, session: gw.Session) -> None:
        with (
            pytest.raises(RuntimeError, match="do not fit"),
            gw.profile(quiet=True),
        ):
            gw.ones(2).mm(gw.ones(2))
        assert gw.ones(1).item() == 1.0

    def test_an_exception_passes_through(self, session: gw.Session) -> None:
        with pytest.raises(ZeroDivisionError), gw.profile():
            _ = 1 / 0

    def test_a_compiled_function_is_one_program(self, session: gw.Session) -> None:
        @gw.compile
        def doubled(x: Any) -> Any:
            return (x * 2).exp().sum()

        x = gw.tensor([1.0, 2.0], requires_grad=True)
        doubled(x).item()
        with gw.profile(quiet=True) as prof:
            doubled(x).backward()
        kinds = [(each.kind, each.parent is None) for each in prof.events]
        at = next(nr for nr, each in enumerate(prof.events) if each.kind == "program")
        assert ("program", False) in kinds
        parent = prof.events[at].parent
        assert parent is not None
        assert prof.events[parent].name == "call_program"
        assert prof.events[at].bytes == 4
        assert ("backward", False) in kinds

    def test_operators_that_run_as_one_loop_are_a_group_of_their_program(
        self, session: gw.Session, tmp_path: Path
    ) -> None:
        @gw.compile
        def bell(x: Any) -> Any:
            return (-(x**2)).exp().sum()

        x = gw.ones(100_000, requires_grad=True)
        bell(x).item()
        with gw.profile(quiet=True, trace=tmp_path / "trace.json") as prof:
            bell(x).backward()
        groups = [each for each in prof.events if each.kind == "group"]
        assert [each.name for each in groups] == ["pow+neg+exp+sum", "mul+neg"]
        around = [prof.events[each.parent] for each in groups if each.parent is not None]
        assert [(each.kind, each.name) for each in around] == [
            ("program", "Bell"),
            ("backward", "BellBackward"),
        ]
        for each, outer in zip(groups, around, strict=True):
            assert 0 < each.time <= outer.time
        # The gradient, or what a gradient needs: exp(-x²).
        assert [each.bytes // 400_000 for each in groups] == [1, 1]
        assert "pow+neg+exp+sum  group" in prof.table()
        shown = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
        bars = [each["name"] for each in shown if each.get("cat") == "group"]
        assert bars == [each.name for each in groups]

    def test_pictures_of_graphs_show_times(self, session: gw.Session) -> None:
        with gw.profile(quiet=True):
            loss = train()
        text = gw.graph(loss).to_text()
        (line,) = [line for line in text.splitlines() if "TanhBackward0" in line]
        assert "  forward " in line and ", backward " in line
        assert "backward " in gw.graph(loss).to_svg()
        assert "forward" not in gw.graph(train()).to_text()


async def test_the_async_twin(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with gw.aio.connect(address):
        async with gw.aio.profile() as prof:
            y = gw.tensor([1.0, 2.0], requires_grad=True).exp().sum()
            y.backward()
        assert capsys.readouterr().out == prof.table() + "\n"
        assert prof.key_averages().find("ExpBackward0").count == 1
        await (y * 2).item()
        assert prof.sequences == 1
