"""The recorder: handles count up, steps keep their order and lines, nothing travels by itself."""

from __future__ import annotations

import inspect
import threading

import pytest

from gradwire.location import locate
from gradwire.recorder import FLUSH_BYTES, FLUSH_STEPS, Recorder, mark_of, outputs_of
from gradwire.v1 import autograd_pb2 as pb


def here() -> int:
    """The number of the line that calls."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def test_handles_count_upwards_from_one() -> None:
    recorder = Recorder()
    assert recorder.handles() == 1
    assert recorder.op("add", (1,), (), 1, False) == 2
    assert recorder.op("max.dim", (2,), (), 2, False) == 3
    assert recorder.handles(3) == 5
    assert recorder.op("add_", (2,), (), 0, False) == 0, "an in-place operator makes none"
    assert recorder.handles() == 8


def test_a_batch_has_the_steps_in_order_and_is_taken_once() -> None:
    recorder = Recorder()
    recorder.step(pb.Step(put=pb.Put(output=recorder.handles(), payload=recorder.payload(b"abcd"))))
    recorder.op("neg", (1,), (), 1, True)
    batch = recorder.take()
    assert batch is not None
    put, neg = batch.entries
    assert isinstance(put[0], pb.Step)
    assert neg[:6] == ("neg", (1,), 2, 1, (), True)
    assert batch.payloads == [b"abcd"]
    assert recorder.take() is None


def test_what_is_put_back_is_taken_again_without_its_fetches() -> None:
    recorder = Recorder()
    put = pb.Put(output=recorder.handles(), payload=recorder.payload(b"abcd"))
    recorder.step(pb.Step(put=put))
    recorder.step(pb.Step(fetch=pb.Fetch(tensors=[1])))
    recorder.release(1)
    first = recorder.take()
    assert first is not None and len(first.entries) == 3
    recorder.put_back(first)
    recorder.op("neg", (1,), (), 1, False)
    assert recorder.payload_bytes == 4
    again = recorder.take()
    assert again is not None
    assert again.entries[:2] == [first.entries[0], first.entries[2]]
    assert [each[0] for each in again.entries[2:]] == ["neg"]
    assert again.payloads == [b"abcd"]
    assert (first.released, again.released) == ([(2, (1,))], [(1, (1,))])
    assert recorder.take() is None


def test_it_is_full_by_steps() -> None:
    recorder = Recorder()
    for _ in range(FLUSH_STEPS - 1):
        recorder.op("neg", (1,), (), 1, False)
    assert not recorder.is_full
    recorder.op("neg", (1,), (), 1, False)
    assert recorder.is_full
    recorder.take()
    assert not recorder.is_full


def test_it_is_full_by_bytes() -> None:
    recorder = Recorder()
    recorder.payload(bytes(FLUSH_BYTES - 1))
    assert not recorder.is_full
    recorder.step(pb.Step(put=pb.Put(output=1, payload=recorder.payload(b"x"))))
    assert recorder.is_full
    recorder.take()
    assert recorder.payload_bytes == 0


def test_it_stays_below_the_steps_that_the_server_admits() -> None:
    recorder = Recorder(most_steps=20)
    count = 0
    while not recorder.is_full:
        recorder.op("neg", (1,), (), 1, False)
        count += 1
    assert count < 20


def test_dropped_handles_are_released_when_steps_are_taken() -> None:
    recorder = Recorder()
    recorder.op("neg", (1,), (), 1, False)
    recorder.release(7)
    recorder.release(8)
    batch = recorder.take()
    assert batch is not None
    assert batch.released == [(1, (7, 8))]
    step = batch.entries[1][0]
    assert isinstance(step, pb.Step)
    assert list(step.release.tensors) == [7, 8]


@pytest.mark.parametrize("kind", ["backward", "grad"])
def test_what_was_dropped_before_a_backward_is_released_before_it(kind: str) -> None:
    recorder = Recorder()
    recorder.op("neg", (1,), (), 1, False)
    recorder.release(7)
    recorder.release(8)
    backward = pb.Step(**{kind: {}})
    recorder.step(backward)
    recorder.release(9)
    recorder.step(backward)
    batch = recorder.take()
    assert batch is not None
    assert [entry[0] is backward for entry in batch.entries] == [False, False, True, True, False]
    assert batch.released == [(1, (7, 8)), (4, (9,))], "one alone is not worth a step of its own"


def test_handles_may_be_dropped_in_any_thread_at_any_time() -> None:
    recorder = Recorder()
    threads = [
        threading.Thread(target=lambda base=base: [recorder.release(base + n) for n in range(1000)])
        for base in (0, 1000, 2000)
    ]
    released: list[int] = []

    def taken() -> None:
        batch = recorder.take()
        if batch is not None:
            released.extend(handle for _, handles in batch.released for handle in handles)

    for each in threads:
        each.start()
    while any(each.is_alive() for each in threads):
        taken()
    taken()
    assert sorted(released) == list(range(3000))


def test_each_step_knows_its_line() -> None:
    recorder = Recorder()
    # Operators come to the recorder through at least two frames of the SDK.
    (lambda: (lambda: recorder.op("neg", (1,), (), 1, False))())()
    line = here() - 1
    recorder.step(pb.Step(release=pb.Release()))
    batch = recorder.take()
    assert batch is not None
    found = [locate(mark_of(entry)) for entry in batch.entries]
    assert [each and each.filename for each in found] == [__file__, __file__]
    assert [each and each.lineno for each in found] == [line, line + 2]
    assert found[0] is not None
    assert found[0].source.startswith("(lambda: (lambda: recorder.op(")
    assert f"test_recorder.py:{line}: (lambda" in str(found[0])


def test_the_handles_that_a_step_makes() -> None:
    recorder = Recorder()
    recorder.op("max.dim", (9,), (), 2, False)
    recorder.step(pb.Step(put=pb.Put(output=3)))
    recorder.step(pb.Step(grad=pb.Grad(inputs=[1, 2], output=4)))
    recorder.step(pb.Step(get_grad=pb.GetGrad(tensors=[1], outputs=[6])))
    recorder.step(pb.Step(backward=pb.Backward(tensors=[1])))
    recorder.op("add_", (1,), (), 0, False)
    batch = recorder.take()
    assert batch is not None
    assert [list(outputs_of(entry)) for entry in batch.entries] == [
        [1, 2], [3], [4, 5], [6], [], [],
    ]  # fmt: skip
