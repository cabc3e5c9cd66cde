"""What is sent when: reading costs a round trip, and what was read is not asked for again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import gradwire as gw
from gradwire import transport
from gradwire.recorder import FLUSH_STEPS
from tests.service.sdk import session

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Counts how often an answer was waited for, since it was last asked."""
    count = 0
    wait = transport.Stream.wait

    def counted(stream: transport.Stream, request: transport.Request) -> None:
        nonlocal count
        count += 1
        wait(stream, request)

    def since_last() -> int:
        nonlocal count
        found, count = count, 0
        return found

    monkeypatch.setattr(transport.Stream, "wait", counted)
    return since_last


@contextmanager
def none(trips: Callable[[], int]) -> Iterator[None]:
    trips()
    yield
    assert trips() == 0


def test_recording_waits_for_nothing(trips: Callable[[], int]) -> None:
    with none(trips):
        x = gw.tensor([3.0], requires_grad=True)
        y = (x + 2) ** 2
        y.backward()
        gw.zeros(3).add_(1)


def test_the_tutorial_takes_one_round_trip(trips: Callable[[], int]) -> None:
    x = gw.tensor([3.0], requires_grad=True)
    y = (x + 2) ** 2
    y.backward()
    trips()
    assert y.item() == 25.0
    assert x.grad is not None
    assert (x.item(), x.grad.item()) == (3.0, 10.0)
    assert trips() == 1


def test_a_short_graph_its_backward_and_its_gradient_are_one_sequence(session: gw.Session) -> None:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    before = session.traffic
    (x * x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 4.0]
    assert (session.traffic - before).sequences == 1


def test_long_graphs_leave_while_they_are_recorded(
    session: gw.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_over: list[int] = []
    monkeypatch.setattr(
        session._stream, "hand_over", lambda: handed_over.append(session._last_number)
    )
    x = gw.tensor([1.0], requires_grad=True)
    session.synchronize()
    first = session._last_number + 1
    y = x
    for _ in range(2 * FLUSH_STEPS + 100):
        y = y + 1
    y.backward()
    assert handed_over == [first, first + 1, first + 2]
    assert x.grad is not None and x.grad.tolist() == [1.0]


def test_value_and_gradient_take_one_round_trip_whichever_is_read_first(
    trips: Callable[[], int],
) -> None:
    x = gw.tensor([3.0], requires_grad=True)
    y = (x + 2) ** 2
    y.backward()
    trips()
    assert x.grad is not None
    assert (x.grad.item(), y.item()) == (10.0, 25.0)
    assert trips() == 1
    y, x.grad = (x + 3) ** 2, None
    y.backward()
    assert gw.fetch(y, x.grad)[0] == 36.0
    assert trips() == 1


def test_what_is_known_here_is_not_asked_for(trips: Callable[[], int]) -> None:
    with none(trips):
        x = gw.tensor([[1.0, 2.0]], requires_grad=True)
        assert x.shape == (1, 2)
        assert x.dtype is gw.float32
        assert x.requires_grad and x.is_leaf and x.grad_fn is None
        assert x.grad is None
        assert x.tolist() == [[1.0, 2.0]]


def test_after_a_value_was_read_shape_and_dtype_are_known(trips: Callable[[], int]) -> None:
    x = gw.tensor([[1.0, 2.0]], requires_grad=True) * 2
    x.tolist()
    with none(trips):
        assert x.shape == (1, 2)
        assert x.dtype is gw.float32
        assert x.tolist() == [[2.0, 4.0]]


def test_after_a_tensor_was_shown_its_metadata_is_known(trips: Callable[[], int]) -> None:
    x = gw.tensor([[1.0, 2.0]], requires_grad=True) * 2
    repr(x)
    with none(trips):
        assert x.shape == (1, 2)
        assert x.requires_grad and not x.is_leaf
        assert x.grad_fn is not None and x.grad_fn.name() == "MulBackward0"
        assert x.tolist() == [[2.0, 4.0]]


def test_gradients_that_nobody_reads_are_told_of_once(session: gw.Session) -> None:
    w = gw.tensor([1.0, 2.0], requires_grad=True)

    def bytes_of_a_step() -> int:
        w.grad = None
        loss = (w * 2).sum()
        loss.backward()
        before = session.traffic
        loss.item()
        return (session.traffic - before).received

    first = bytes_of_a_step()
    second = bytes_of_a_step()
    assert second < first
    assert w.grad is not None and w.grad.tolist() == [2.0, 2.0]


def test_gradients_that_are_read_in_a_loop_come_with_the_loss(trips: Callable[[], int]) -> None:
    w = gw.tensor([1.0, 2.0], requires_grad=True)
    for _ in range(3):
        w.grad = None
        loss = (w * 2).sum()
        loss.backward()
        trips()
        loss.item()
        assert w.grad is not None and w.grad.tolist() == [2.0, 2.0]
        assert trips() == 1


def test_several_values_take_one_round_trip(trips: Callable[[], int]) -> None:
    x = gw.tensor([1.0])
    many = [x + number for number in range(10)]
    trips()
    assert [array.item() for array in gw.fetch(*many)] == [1.0 + number for number in range(10)]
    assert trips() == 1


def test_an_in_place_change_makes_memory_stale(trips: Callable[[], int]) -> None:
    x = gw.tensor([1.0, 2.0])
    view = x[:1]
    assert view.tolist() == [1.0]
    x.add_(1)
    assert view.tolist() == [2.0]
    assert x.tolist() == [2.0, 3.0]


def test_a_gradient_that_grew_is_read_again() -> None:
    x = gw.tensor([1.0], requires_grad=True)
    for count in range(1, 4):
        (x * 2).sum().backward()
        assert x.grad is not None
        assert x.grad.item() == 2.0 * count
        assert x.grad.tolist() == [2.0 * count]


def test_a_view_of_a_gradient_that_grew_is_read_again() -> None:
    x = gw.tensor([1.0], requires_grad=True)
    (x * 2).sum().backward()
    assert x.grad is not None
    view = x.grad.view(1, 1)
    assert view.item() == 2.0
    (x * 2).sum().backward()
    assert view.item() == 4.0


def test_grads_of_many_leaves_take_one_round_trip(trips: Callable[[], int]) -> None:
    leaves = [gw.tensor([float(number)], requires_grad=True) for number in range(50)]
    total = sum((leaf**2 for leaf in leaves), start=gw.zeros(1))
    total.backward()
    trips()
    grads = [leaf.grad for leaf in leaves]
    assert [grad is not None and grad.item() for grad in grads] == [2.0 * n for n in range(50)]
    assert trips() == 1


def test_large_values_come_with_the_round_trip_that_asks_for_them(
    trips: Callable[[], int],
) -> None:
    x = gw.tensor(np.ones(100_000, np.float32), requires_grad=True)
    (x * 2).sum().backward()
    trips()
    assert x.grad is not None
    assert trips() == 1
    assert x.grad.numpy().sum() == 200_000
    assert trips() == 1


def test_values_are_read_only_arrays() -> None:
    x = gw.arange(3)
    (value,) = (x.numpy(),)
    with pytest.raises(ValueError, match="read-only"):
        value[0] = 7
    copy = np.array(x)
    copy[0] = 7
    assert x.tolist() == [0, 1, 2]


def test_every_dtype_survives_both_ways() -> None:
    for dtype in ("?", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"):
        array = np.array([[0, 1, 2]], dtype=dtype)
        x = gw.tensor(array)
        y = x.clone()
        assert y.numpy().dtype == array.dtype
        np.testing.assert_array_equal(y.numpy(), array)
        np.testing.assert_array_equal(x.numpy(), array)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1, 1), (70, 80, 90)])
def test_every_shape_survives_both_ways(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_array_equal(gw.tensor(array).clone().numpy(), array)
    np.testing.assert_array_equal(gw.tensor(array.T).clone().numpy(), array.T)


def test_a_graph_bears_the_names_of_the_variables() -> None:
    x = gw.tensor([3.0], requires_grad=True)
    z = x + 2
    y = z**2
    unrelated = (gw.ones(1, requires_grad=True) * 5).exp()
    graph = gw.graph(y)
    assert [leaf.name for leaf in graph.leaves] == ["x"]
    assert [result.name for result in graph.results] == ["y"]
    assert [op.name for op in graph.ops] == ["AddBackward0", "PowBackward0"]
    assert {node.name for node in graph.nodes} >= {"x", "y", "z"}
    assert "unrelated" not in {node.name for node in graph.nodes}
    del unrelated


def test_a_graph_of_a_leaf_is_that_leaf() -> None:
    x = gw.tensor([3.0], requires_grad=True)
    graph = gw.graph(x)
    assert not graph.ops


def test_nodes_are_read_some_levels_at_a_time(session: gw.Session) -> None:
    x = gw.tensor([1.0], requires_grad=True)
    y = x
    for _ in range(100):
        y = y + 1
    node = y.grad_fn
    names: list[str] = []
    while node is not None:
        names.append(node.name())
        following = node.next_functions
        node = following[0][0] if following else None
    assert names == ["AddBackward0"] * 100 + ["AccumulateGrad"]
    sequences = [each._sequence_nr() for each in (y.grad_fn,) if each is not None]
    assert sequences[0] > 0
    assert y.grad_fn == y.grad_fn
    assert y.grad_fn != (y + 1).grad_fn
    assert len({y.grad_fn, y.grad_fn}) == 1
    assert repr(y.grad_fn).startswith("<AddBackward0")


def test_tensors_print_as_torchs_do() -> None:
    torch = pytest.importorskip("torch")
    for program in (
        "lib.tensor([3.0], requires_grad=True)",
        "lib.tensor([3.0], requires_grad=True) + 2",
        "lib.tensor([[1.5, 2.0], [-3.0, 4.0]]).requires_grad_() * 1e6",
        "lib.arange(3)",
        "lib.zeros(2, 0)",
        "lib.eye(3, dtype=lib.float64)",
        "lib.arange(2000).reshape(40, 50)",
    ):
        expected = repr(eval(program, {"lib": torch})).replace("torch.", "gradwire.")
        assert repr(eval(program, {"lib": gw})) == expected
