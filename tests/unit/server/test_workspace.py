"""Handles, and the count of what they and the graph hold."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import gradwire_engine.ops  # noqa: F401 - declares the operators
from gradwire_engine import Tensor, operators, use
from gradwire_server.errors import ServiceError
from gradwire_server.settings import Settings
from gradwire_server.workspace import ABSENT, Workspace


@pytest.fixture
def workspace() -> Workspace:
    return Workspace(Settings(max_session_tensors=10))


def leaf(size: int) -> Tensor:
    return Tensor.from_array(np.ones(size, "f4"), requires_grad=True)


def test_an_audit_counts_each_storage_once(workspace: Workspace) -> None:
    base = leaf(100)
    with use(workspace.context):
        view = operators["reshape"](base, (10, 10))
    workspace.tensors |= {1: base, 2: view, 3: base}
    workspace.audit()
    assert workspace.bytes_bound == 400


def test_an_audit_counts_gradients_and_what_the_graph_saved(workspace: Workspace) -> None:
    x = leaf(100)
    with use(workspace.context):
        y = operators["exp"](operators["exp"](x))
    x.grad = Tensor(np.ones(100, "f4"))
    workspace.tensors[1] = y
    workspace.audit()
    # The result, the inner result that is saved, the leaf behind it, and the leaf's gradient.
    assert workspace.bytes_bound == 4 * 400
    assert workspace.nodes_bound == 3


def test_an_audit_of_a_long_chain_does_not_recurse(workspace: Workspace) -> None:
    x = leaf(1)
    with use(workspace.context):
        for _ in range(20_000):
            x = operators["neg"](x)
    workspace.tensors[1] = x
    workspace.audit()
    assert workspace.nodes_bound == 20_001


def test_a_handle_is_made_once(workspace: Workspace) -> None:
    workspace.tensors[1] = leaf(1)
    workspace.blanks[2] = ABSENT
    for handles in ([1], [2], [0], [5, 5], range(1, 2)):
        with pytest.raises(ServiceError) as caught:
            workspace.require_free(handles, "field")
        assert caught.value.reason == "HANDLE_IN_USE"
    workspace.require_free([3, 4], "field")


def test_blanks_count_as_handles(workspace: Workspace) -> None:
    workspace.poison(range(1, 11), ServiceError("CANCELLED", "m"))
    assert len(workspace) == 10
    with pytest.raises(ServiceError) as caught:
        workspace.require_room(1, "field")
    assert caught.value.metadata["limit"] == "max_session_tensors"


def test_open_ended_poison_reaches_up_to_the_next_handle_that_was_made(
    workspace: Workspace,
) -> None:
    failure = ServiceError("SHAPE_MISMATCH", "m")
    workspace.poison_from(10, failure)
    workspace.tensors[20] = leaf(1)
    assert workspace.why_not(15, "").reason == "SHAPE_MISMATCH"
    assert workspace.why_not(25, "").reason == "HANDLE_NOT_FOUND"
    workspace.release([11, 10])
    assert workspace.why_not(15, "").reason == "HANDLE_NOT_FOUND"


def test_a_session_that_has_ended_leaves_nothing_to_the_garbage_collector() -> None:
    space = Workspace(Settings())
    with use(space.context):
        space.tensors[1] = Tensor.from_array(np.ones(3, np.float32), requires_grad=True)
        space.context.admit((3,), "ones")
        assert len(space.programs) == 0
    gone = weakref.ref(space)
    gc.disable()
    try:
        del space
        assert gone() is None
    finally:
        gc.enable()
