"""A sequence runs resumably: what the event loop may not run is left to a thread."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import numpy as np
import pytest

import gradwire_engine.ops  # noqa: F401 - declares the operators
from gradwire_server.errors import ServiceError
from gradwire_server.execute import Execution
from gradwire_server.sequences import StepSequence
from gradwire_server.settings import Settings
from gradwire_server.workspace import Workspace
from tests.service.harness import Step, backward, fetch, op, put, release, sequence

X, Y, Z = 1, 2, 3


def execution(
    *steps: Step, workspace: Workspace | None = None, deadline: float = math.inf, **settings: Any
) -> Execution:
    message, payloads = sequence(1, *steps)
    space = Workspace(Settings(**settings)) if workspace is None else workspace
    views = [memoryview(each) for each in payloads]
    return Execution(space, StepSequence.read(message), views, deadline)


def soon() -> float:
    return perf_counter() + 60


def test_light_steps_run_to_the_end_on_the_loop() -> None:
    run = execution(put(X, [1.0], requires_grad=True), op("exp", [X], Y), backward(Y), fetch(Y))
    assert run.run(soon())
    assert run.answer is not None
    assert run.failure is None


def test_a_heavy_step_is_left_and_nothing_of_it_happens_twice() -> None:
    workspace = Workspace(Settings(inline_flops=1000))
    run = execution(
        put(X, [1.0]),
        put(Z, np.ones((30, 30))),
        op("add_", [X], other=1),
        op("mm", [Z, Z], Y),
        op("add_", [X], other=1),
        workspace=workspace,
    )
    assert not run.run(soon())
    assert workspace.tensors[X].data == [2.0]
    assert Y not in workspace.tensors
    assert not run.run(soon())
    assert workspace.tensors[X].data == [2.0]
    assert run.run()
    assert workspace.tensors[X].data == [3.0]
    assert Y in workspace.tensors


def test_the_backward_of_a_heavy_graph_is_heavy() -> None:
    workspace = Workspace(Settings(inline_flops=100_000))
    forward = execution(
        put(X, np.ones((30, 30)), requires_grad=True),
        op("mm", [X, X], Y),
        op("sum", [Y], Z),
        workspace=workspace,
    )
    assert forward.run(soon())
    assert not execution(backward(Z), workspace=workspace).run(soon())


def test_time_on_the_loop_is_bounded() -> None:
    run = execution(*[put(handle, [1.0]) for handle in range(1, 100)])
    assert not run.run(perf_counter() - 1)
    assert run.run()


def test_a_long_rest_to_poison_is_left_to_a_thread() -> None:
    workspace = Workspace(Settings())
    steps = [op("nonsense", [X], Y), *[put(handle, [1.0]) for handle in range(10, 2000)]]
    run = execution(*steps, workspace=workspace)
    assert not run.run(soon())
    assert run.run()
    assert len(workspace.blanks) == 1991
    assert run.failure is not None
    assert run.failure.reason == "UNKNOWN_OP"


def test_it_stops_between_the_nodes_of_a_backward() -> None:
    workspace = Workspace(Settings())
    chain = [op("neg", [handle], handle + 1) for handle in range(1, 100)]
    assert execution(put(X, [1.0], requires_grad=True), *chain, workspace=workspace).run()
    calls = 0

    class StopsLate(Execution):
        __slots__ = ()

        def check(self) -> None:
            nonlocal calls
            calls += 1
            if calls == 50:
                self.stop = ServiceError("CANCELLED", "stopped")
            super().check()

    message, _ = sequence(1, backward(100))
    run = StopsLate(workspace, StepSequence.read(message), [], math.inf)
    assert run.run()
    assert run.failure is not None
    assert run.failure.reason == "CANCELLED"
    assert workspace.tensors[X].grad is None


@pytest.mark.parametrize("inline", [False, True])
def test_a_deadline_that_has_passed_ends_it_before_its_first_step(inline: bool) -> None:
    run = execution(put(X, [1.0]), deadline=perf_counter() - 1)
    assert run.run(soon() if inline else None)
    assert run.failure is not None
    assert run.failure.reason == "DEADLINE_EXCEEDED"
    assert run.failure.metadata["step"] == "0"


def test_a_fault_of_the_server_fails_one_step_and_is_kept_for_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Workspace, "release", broken)
    run = execution(put(X, [1.0]), release(X), put(Y, [1.0]))
    assert run.run()
    assert run.failure is not None
    assert run.failure.reason == "INTERNAL"
    assert isinstance(run.failure.__cause__, ZeroDivisionError)
