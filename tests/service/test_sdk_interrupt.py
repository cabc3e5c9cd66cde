"""A KeyboardInterrupt while waiting: the server stops, and the session goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import gradwire as gw
from gradwire import core, wire
from gradwire.v1 import autograd_pb2 as pb
from gradwire_server.embedded import EmbeddedServer
from tests.service.sdk import session

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

STEPS = 2000
"""So many products take far longer than the time after which they are interrupted."""

SIZE = 700


@contextmanager
def interrupted(after: float = 0.2) -> Iterator[None]:
    """Interrupts what runs inside, as Ctrl-C does."""
    # Python leaves the signal ignored where its parent does, as shells do for background jobs.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(after, signal.raise_signal, [signal.SIGINT])
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


def products(x: gw.Tensor, count: int = STEPS) -> list[gw.Tensor]:
    """Each the product of the one before with itself."""
    found = [x]
    for _ in range(count):
        found.append(found[-1] @ found[-1])
    return found


def done(tensor: gw.Tensor) -> bool:
    """Whether a tensor was computed, or else cancelled."""
    try:
        return tensor[0, 0].item() == 0.0
    except gw.errors.CancelledError:
        return False


def test_what_ran_is_there_and_the_rest_is_cancelled(session: gw.Session) -> None:
    made = products(gw.zeros(SIZE, SIZE))
    with interrupted():
        made[-1].sum().item()
    assert gw.tensor([1.0]).add(1).item() == 2.0, "the next cell works"
    states = [done(each) for each in made[:: STEPS // 20]]
    assert states[0] and not states[-1]
    assert states == sorted(states, reverse=True), "a prefix ran"
    with pytest.raises(gw.errors.CancelledError, match=r"test_sdk_interrupt.py:\d+: found.append"):
        made[-1].sum().item()
    request = pb.GetSessionRequest(session_id=session.id)
    held = session.call(wire.GET_SESSION, request, pb.GetSessionResponse).session
    assert held.tensor_bytes < STEPS * SIZE * SIZE, "a quarter of all that was asked for"


def test_a_backward_is_interrupted_between_its_nodes() -> None:
    x = gw.zeros(SIZE, SIZE, requires_grad=True)
    y = products(x, 60)[-1].sum()
    y.item()
    with interrupted():
        for _ in range(50):
            y.backward(retain_graph=True)
        x.grad  # noqa: B018  (reading waits)
    other = gw.tensor([3.0], requires_grad=True)
    (other + 2).pow(2).backward()
    assert other.grad is not None and other.grad.item() == 10.0


def test_interrupted_while_recording_has_to_wait_for_room() -> None:
    with (
        EmbeddedServer.start(address="127.0.0.1:0", max_queued_sequences=2) as server,
        gw.connect(server.address),
    ):
        one = gw.tensor([1.0])
        with interrupted():
            products(gw.zeros(SIZE, SIZE), 100_000)
        assert (one + 1).item() == 2.0
        with interrupted():
            made = products(gw.zeros(SIZE, SIZE), 500)
            gw.fetch(*made[-10:])
        assert gw.fetch(one + 1, one + 2) == (2.0, 3.0)


def test_interrupted_while_it_is_sent_nothing_is_lost(
    session: gw.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = gw.tensor([1.0, 2.0])
    gw.tensor([3.0]).add(x)  # dropped at once: its release is recorded too
    encode = core.encode_request

    def interrupt(*args: Any, **flags: Any) -> bytes:
        monkeypatch.setattr(core, "encode_request", encode)
        raise KeyboardInterrupt

    monkeypatch.setattr(core, "encode_request", interrupt)
    with pytest.raises(KeyboardInterrupt):
        x.tolist()
    assert (x * 2).tolist() == [2.0, 4.0]
    assert x.tolist() == [1.0, 2.0]


def test_a_second_thread_goes_on(session: gw.Session) -> None:
    with gw.connect(session.address) as other, session.use():
        values: list[object] = []

        def count() -> None:
            values.extend((other.tensor([1.0]) + number).item() for number in range(20))

        thread = threading.Thread(target=count)
        made = products(gw.zeros(SIZE, SIZE))
        with interrupted():
            thread.start()
            made[-1].sum().item()
        thread.join()
        assert values == [1.0 + number for number in range(20)]


PROGRAM = """
    import signal
    import sys
    import gradwire as gw

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with gw.connect(sys.argv[1]) as session:
        print(session.id, flush=True)
        x = y = gw.zeros({size}, {size})
        for _ in range({steps}):
            y = y @ y
        session.flush()
        try:
            print("waiting", flush=True)
            y.sum().item()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        print((x.sum() + 1).item(), flush=True)
        try:
            y.sum().item()
        except gw.errors.CancelledError as error:
            print(error.reason, error.location.lineno, flush=True)
"""


def test_a_program_that_is_sent_the_signal_goes_on(address: str) -> None:
    program = textwrap.dedent(PROGRAM).format(size=SIZE, steps=STEPS)
    with subprocess.Popen(
        [sys.executable, "-c", program, address],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.stdout.readline() == "waiting\n"
        threading.Event().wait(0.2)
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().splitlines() == ["interrupted", "1.0", "CANCELLED 11"]
    assert process.returncode == 0
