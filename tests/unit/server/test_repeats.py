"""A sequence that comes again and again is answered by plan, and nobody can tell by the answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
import pytest

import gradwire_engine.ops  # noqa: F401 - declares the operators
from gradwire_engine.plan.routine import Routine
from gradwire_server.encode import Answer
from gradwire_server.execute import Execution
from gradwire_server.repeats import Repeats
from gradwire_server.sequences import StepSequence, repeated_sequence
from gradwire_server.settings import Settings
from gradwire_server.workspace import Workspace
from tests.service.harness import (
    Step,
    backward,
    fetch,
    get_grad,
    grad,
    no_grad,
    op,
    put,
    release,
    requires_grad,
    sequence,
)

X, W, Y, Z, G, H = 1, 2, 3, 4, 5, 6
SETTINGS = Settings(compile_after=3)
X0, W0 = [1.0, -2.0, 0.5], [[0.1, 0.2, 0.3], [1.0, -1.0, 2.0]]


class AtOnce(Executor):
    """Runs what it is given when it is given it."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(call(*args, **kwargs))
        return done


def leaf(values: Any = X0, handle: int = X) -> Step:
    return put(handle, values, requires_grad=True)


def square(values: Any = X0) -> list[Step]:
    """The sum of (x + 2)², and its gradient in `.grad`."""
    return [
        leaf(values),
        op("add", [X], Y, other=2),
        op("pow", [Y], Z, exponent=2),
        op("sum", [Z], H),
        backward(H),
        get_grad(X, G),
        fetch(H, G),
        release(X, Y, Z, G, H),
    ]


def found(steps: list[Step]) -> tuple[StepSequence, list[memoryview]]:
    """The sequence as the server finds it again, and the payloads of this request."""
    message, payloads = sequence(0, *steps)
    return repeated_sequence(message.SerializeToString()), [memoryview(p) for p in payloads]


def step_by_step(steps: list[Step], workspace: Workspace | None = None) -> Answer:
    kept, payloads = found(steps)
    space = Workspace(SETTINGS) if workspace is None else workspace
    run = Execution(space, kept, payloads, math.inf)
    assert run.run()
    assert run.answer is not None
    return run.answer


def repeats_of(steps: list[Step]) -> Repeats:
    repeats = found(steps)[0].repeats
    assert repeats is not None
    return repeats


def learnt(steps: list[Step], times: int = 12) -> Repeats:
    """What is known of a sequence after it was answered so often, in sessions of their own."""
    repeated_sequence.cache_clear()
    for _ in range(times):
        answer = step_by_step(steps)
        assert answer.failure is None
        repeats_of(steps).learn(answer, found(steps)[1], SETTINGS, AtOnce())
    return repeats_of(steps)


def by_plan(repeats: Repeats, steps: list[Step], workspace: Workspace | None = None) -> bytes:
    """The answer of the plan; nothing if it gives none."""
    answer = repeats.answer(workspace, found(steps)[1], SETTINGS)
    return b"" if answer is None else answer.data


CLOSED: dict[str, list[Step]] = {
    "a gradient": square(),
    "gradients one by one": [
        leaf(),
        leaf(W0, W),
        op("matmul", [W, X], Y),
        op("sum", [Y], Z),
        backward(Z),
        get_grad(W, G),
        get_grad(X, H),
        fetch(H, G),
        release(X, W, Y, Z, G, H),
    ],
    "a value": [leaf(), op("exp", [X], Y), fetch(Y), release(X, Y)],
    "a gradient as a result": [
        leaf(),
        op("exp", [X], Y),
        op("sum", [Y], Z),
        grad([Z], [X], G),
        fetch(Z, G),
        release(X, Y, Z, G),
    ],
    "a gradient of a gradient": [
        leaf(),
        op("pow", [X], Y, exponent=3),
        op("sum", [Y], Z),
        grad([Z], [X], G, create_graph=True),
        op("sum", [G], H),
        backward(H),
        get_grad(X, 7),
        fetch(7, G),
        release(X, Y, Z, G, H, 7),
    ],
    "a product with a given direction": [
        leaf(W0, W),
        leaf(),
        op("matmul", [W, X], Y),
        put(Z, [1.0, 2.0]),
        backward(Y, gradients=[Z]),
        op("neg", [Y], H),
        get_grad(W, G),
        fetch(G, H, Y),
        release(X, W, Y, Z, G, H),
    ],
    "not recorded": [
        leaf(),
        no_grad(op("exp", [X], Y)),
        op("mul", [X, Y], Z),
        op("sum", [Z], H),
        backward(H),
        get_grad(X, G),
        fetch(G, Y),
        release(X, Y, Z, G, H),
    ],
    "several results": [
        put(X, W0),
        op("max.dim", [X], Y, dim=1),
        fetch(Y, Y + 1),
        release(X, Y, Y + 1),
    ],
    "whole numbers": [
        put(X, [3, 1, 2], dtype="i8"),
        op("mul", [X, X], Y),
        fetch(Y),
        release(X, Y),
    ],
    "nothing on the way": [leaf(), op("view_as", [X, X], Y), op("neg", [Y], Z), fetch(Z)],
    "numbers that are none": [leaf([np.nan, np.inf, 0.0]), op("log", [X], Y), fetch(Y)],
}
OPEN: dict[str, list[Step]] = {
    "metadata": [leaf(), op("exp", [X], Y), fetch(Y, info=True), release(X, Y)],
    "only short values": [leaf(), op("exp", [X], Y), fetch(Y, most=100), release(X, Y)],
    "nothing read": [leaf(), op("exp", [X], Y), release(X, Y)],
    "read twice": [leaf(), op("exp", [X], Y), fetch(Y), fetch(X), release(X, Y)],
    "random": [leaf(), op("rand_like", [X], Y), fetch(Y), release(X, Y)],
    "in place": [put(X, X0), op("add_", [X], other=1), fetch(X), release(X)],
    "two backwards": [
        leaf(),
        op("exp", [X], Y),
        op("sum", [Y], Z),
        backward(Z, retain_graph=True),
        backward(Z),
        get_grad(X, G),
        fetch(G),
        release(X, Y, Z, G),
    ],
    "a gradient that is none": [
        leaf(),
        leaf(W0, W),
        op("sum", [W], Y),
        backward(Y),
        get_grad(X, G),
        fetch(G),
        release(X, W, Y, G),
    ],
    "a flag": [put(X, X0), requires_grad(X, True), op("exp", [X], Y), fetch(Y), release(X, Y)],
    "released in between": [leaf(), op("exp", [X], Y), release(X), op("neg", [Y], Z), fetch(Z)],
    "truth values": [put(X, [True, False], dtype="?"), op("logical_not", [X], Y), fetch(Y)],
    "large": [put(X, np.zeros((200, 200))), op("sum", [X], Y), fetch(Y), release(X, Y)],
}


@pytest.mark.parametrize("steps", CLOSED.values(), ids=CLOSED)
def test_the_plan_answers_the_same_bytes(steps: list[Step]) -> None:
    assert by_plan(learnt(steps), steps) == step_by_step(steps).data != b""


@pytest.mark.parametrize("steps", OPEN.values(), ids=OPEN)
def test_what_does_more_than_a_function_of_short_tensors_has_no_plan(steps: list[Step]) -> None:
    assert by_plan(learnt(steps), steps) == b""


def test_other_data_is_other_data() -> None:
    repeats = learnt(square())
    rng = np.random.default_rng(0)
    for _ in range(20):
        steps = square(rng.standard_normal(3))
        assert repeats_of(steps) is repeats
        assert by_plan(repeats, steps) == step_by_step(steps).data


@pytest.mark.parametrize(("times", "planned"), [(2, False), (3, False), (6, False), (7, True)])
def test_a_plan_is_tried_before_it_is_relied_upon(times: int, planned: bool) -> None:
    assert bool(by_plan(learnt(square(), times), square())) == planned


def test_a_plan_that_gives_other_bytes_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Routine.__call__

    def wrong(self: Routine, *args: Any) -> tuple[np.ndarray, ...]:
        return tuple(np.nextafter(each, np.inf, dtype=each.dtype) for each in right(self, *args))

    with monkeypatch.context() as patched:
        patched.setattr(Routine, "__call__", wrong)
        repeats = learnt(square())
    assert by_plan(repeats, square()) == b""


@pytest.mark.parametrize(
    "settings",
    [{"compile_after": 0}, {"profile": True}, {"inline_flops": 1000}],
    ids=["never", "a server that profiles", "too much for the event loop"],
)
def test_what_the_settings_do_not_admit_is_not_compiled(settings: dict[str, int]) -> None:
    repeated_sequence.cache_clear()
    admitted = Settings(**{"compile_after": 3, **settings})
    repeats, payloads = repeats_of(square()), found(square())[1]
    for _ in range(20):
        repeats.learn(step_by_step(square()), payloads, admitted, AtOnce())
    assert repeats.answer(None, payloads, admitted) is None


@pytest.mark.parametrize(
    "fields", [{"profile": True}, {"detect_anomaly": True}, {"note_origins": True}]
)
def test_a_sequence_that_is_to_tell_more_is_not_watched(fields: dict[str, bool]) -> None:
    message, _ = sequence(0, *square(), **fields)
    assert repeated_sequence(message.SerializeToString()).repeats is None


@pytest.mark.parametrize(
    ("steps", "settings"),
    [
        ([leaf(handle=Z)], {}),
        ([leaf(handle=9)], {"max_session_tensors": 5}),
        ([leaf(np.ones(1000), handle=9)], {"max_session_bytes": 4001}),
        ([leaf(handle=9), op("exp", [9], 10)], {"max_session_nodes": 4}),
    ],
    ids=["a handle in use", "tensors", "bytes", "nodes"],
)
def test_a_session_without_room_runs_the_steps_which_say_so(
    steps: list[Step], settings: dict[str, int]
) -> None:
    repeats = learnt(square())
    assert by_plan(repeats, square(), Workspace(Settings(**settings)))
    workspace = Workspace(Settings(**settings))
    step_by_step(steps, workspace)
    assert by_plan(repeats, square(), workspace) == b""


def test_what_a_session_would_keep_it_keeps() -> None:
    kept = square()[:-1]
    repeats = learnt(kept)
    assert by_plan(repeats, kept, Workspace(SETTINGS)) == b""
    assert by_plan(repeats, kept) == step_by_step(kept).data


@pytest.mark.parametrize(
    ("message", "payloads"),
    [
        (square(), []),
        (square(), [bytes(8)]),
        (square(), [bytes(16)]),
    ],
    ids=["none", "short", "long"],
)
def test_payloads_that_do_not_fit_are_left_to_the_steps(
    message: list[Step], payloads: list[bytes]
) -> None:
    repeats = learnt(message)
    assert repeats.answer(None, [memoryview(each) for each in payloads], SETTINGS) is None


def test_what_fails_is_left_to_the_steps() -> None:
    def picked(index: int) -> list[Step]:
        return [
            leaf(),
            put(W, [index], dtype="i8"),
            op("index_select", [X, W], Y, dim=0),
            fetch(Y),
            release(X, W, Y),
        ]

    repeats = learnt(picked(1))
    assert by_plan(repeats, picked(2)) == step_by_step(picked(2)).data
    assert by_plan(repeats, picked(3)) == b""
    failure = step_by_step(picked(3)).failure
    assert failure is not None
    assert failure.reason == "INDEX_OUT_OF_RANGE"


@pytest.mark.parametrize(
    ("name", "right", "wrong", "flags"),
    [
        ("index_select", [0, 1], [0, -1], {"dim": 0}),
        ("one_hot", [0, 1], [0, -1], {}),
        ("nll_loss", [0, 1], [0, 2], {}),
    ],
)
@pytest.mark.parametrize("asked", ["nothing", "a gradient"])
def test_what_fails_is_left_to_the_steps_even_if_nobody_asks_for_it(
    name: str, right: list[int], wrong: list[int], flags: dict[str, int], asked: str
) -> None:
    def indexed(index: list[int]) -> list[Step]:
        inputs = [W] if name == "one_hot" else [X, W]
        first = [leaf([[1.0, 2.0], [3.0, 4.0]]), put(W, index, dtype="i8")]
        steps = [*first, op(name, inputs, Y, **flags), op("neg", [X], Z), fetch(Z)]
        if asked == "a gradient" and name != "one_hot":
            steps[-1:] = [op("sum", [Y], H), backward(H), get_grad(X, G), fetch(G)]
        return steps

    repeats = learnt(indexed(right))
    assert by_plan(repeats, indexed(right)) == step_by_step(indexed(right)).data
    assert by_plan(repeats, indexed(wrong)) == b""
    assert step_by_step(indexed(wrong)).failure is not None


def test_another_server_of_the_process_does_not_use_the_plan() -> None:
    repeats, payloads = learnt(square()), found(square())[1]
    assert repeats.answer(None, payloads, SETTINGS) is not None
    narrow = Settings(compile_after=3, max_session_tensors=4)
    assert repeats.answer(None, payloads, narrow) is None
    for _ in range(12):
        repeats.learn(step_by_step(square()), payloads, narrow, AtOnce())
    assert repeats.answer(None, payloads, narrow) is not None
    assert repeats.answer(None, payloads, SETTINGS) is None


def test_a_shape_that_follows_from_values_may_be_another_next_time() -> None:
    def positive(values: Any) -> list[Step]:
        return [
            leaf(values),
            op("gt", [X], Y, other=0),
            op("masked_select", [X, Y], Z),
            fetch(Z),
            release(X, Y, Z),
        ]

    repeats = learnt(positive([1.0, -2.0, 0.5]))
    for values in ([1.0, 2.0, 0.5], [-1.0, -2.0, -3.0], [5.0, -2.0, 7.0]):
        answer = by_plan(repeats, positive(values))
        assert answer in (b"", step_by_step(positive(values)).data)


@pytest.mark.parametrize("top", [(1 << 63) - 1, (1 << 64) - 2, (1 << 64) - 1])
def test_handles_may_be_as_large_as_there_are(top: int) -> None:
    steps = [leaf(), op("exp", [X], top), op("sum", [top], Y), backward(Y), get_grad(X, G)]
    steps += [fetch(G)]
    assert by_plan(learnt(steps), steps) in (b"", step_by_step(steps).data)
