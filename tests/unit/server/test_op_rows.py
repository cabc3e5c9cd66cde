"""A row of operators does what the same operators do one by one, however special they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradwire.v1 import autograd_pb2 as pb
from gradwire_server import op_steps
from gradwire_server.execute import Execution
from gradwire_server.settings import Settings
from gradwire_server.workspace import Workspace
from tests.service.harness import Step, op, put
from tests.service.test_ops import ops
from tests.unit.server.test_execute import execution

X, W, Y, Z = 1, 2, 3, 4
FIRST = 100
"""The first handle of the results of a row."""


def chain(length: int) -> list[pb.Step]:
    """(x + 1)·w, and so on: calls with one tensor and with two."""
    steps, last = [], X
    for at in range(length):
        made = FIRST + at
        steps.append(op("mul", [last, W], made) if at % 2 else op("add", [last], made, other=1))
        last = made
    return steps


def like_the_last(*steps: pb.Step) -> list[pb.Step]:
    """A chain that ends with these."""
    return [*chain(20), *steps]


ROWS: dict[str, tuple[list[pb.Step], dict[str, Any]]] = {
    "nothing special": (chain(50), {}),
    "the same tensor twice": (like_the_last(op("mul", [X, X], Y)), {}),
    "a number first": (like_the_last(op("sub", [0, X], Y, self=2.0)), {}),
    "three tensors": (like_the_last(op("where", [Z, X, W], Y)), {}),
    "several results": (like_the_last(op("max.dim", [X], 7, dim=0)), {}),
    "as many results as one likes": (like_the_last(op("unbind", [X], 7)), {}),
    "in place": (like_the_last(op("mul_", [Z], other=0), op("exp", [X], Y)), {}),
    "in place, one more handle": (like_the_last(op("logical_not_", [Z], Y)), {}),
    "estimated otherwise": (like_the_last(op("outer", [X, W], Y), op("sum", [Y], 7)), {}),
    "a handle that is not there": (like_the_last(op("mul", [X, 99], Y)), {}),
    "no first handle": (like_the_last(op("exp", [99], Y)), {}),
    "a handle in use": (like_the_last(op("exp", [X], W)), {}),
    "no handle for the result": (like_the_last(op("exp", [X])), {}),
    "an operator that is none": (like_the_last(op("expp", [X], Y)), {}),
    "shapes that do not fit": (like_the_last(op("mul", [X, 5], Y)), {}),
    "too many tensors": (chain(50), {"max_session_tensors": 30}),
    "too many nodes": (chain(50), {"max_session_nodes": 30}),
    "too many bytes": (chain(50), {"max_session_bytes": 400}),
    "too many operations": (chain(50), {"max_sequence_flops": 150}),
}


def run(steps: list[pb.Step], settings: dict[str, Any]) -> tuple[Execution, Workspace]:
    workspace = Workspace(Settings(**settings))
    start: list[Step] = [
        put(X, [1.0, 2.0, 3.0], requires_grad=True),
        put(W, [1.0, 0.5, 0.25], requires_grad=True),
        put(Z, np.array([True, False, True])),
        put(5, [1.0, 2.0]),
    ]
    made = execution(*start, ops(*steps), workspace=workspace)
    assert made.run()
    return made, workspace


def told(made: Execution, workspace: Workspace) -> dict[str, Any]:
    """What came of a run."""
    failure = made.failure
    return {
        "failure": failure and (failure.reason, failure.message, failure.field, failure.metadata),
        "values": {handle: each.data.tolist() for handle, each in workspace.tensors.items()},
        "poisoned": sorted(workspace.blanks),
        # What a refused call would have cost, nobody asks: its sequence is over.
        "flops": made.flops if failure is None else None,
        "work": workspace.work,
        "nodes": workspace.nodes_bound,
        "bytes": workspace.bytes_bound,
    }


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_run_as_its_calls_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, settings = ROWS[name]
    found = told(*run(steps, settings))
    monkeypatch.setattr(op_steps, "_run_plain", lambda run, calls: False)
    assert found == told(*run(steps, settings))
