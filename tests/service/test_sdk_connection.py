"""The SDK over a network that fails: what was recorded runs exactly once, and the session lives."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import gradwire as gw
from gradwire_server.embedded import EmbeddedServer
from tests.service.sdk import Proxy, session

__all__ = ["session"]


@pytest.fixture
def proxy(address: str) -> Iterator[Proxy]:
    made = Proxy(address)
    yield made
    made.close()


@pytest.fixture
def through(proxy: Proxy) -> Iterator[gw.Session]:
    """A session whose connection goes through the proxy."""
    opened = gw.connect(proxy.address)
    yield opened
    opened.close()


def test_a_cut_connection_is_opened_again_and_keeps_the_session(
    proxy: Proxy, through: gw.Session
) -> None:
    x = gw.tensor([1.0])
    assert (x + 1).item() == 2.0
    before = proxy.connections
    proxy.cut()
    assert (x + 2).item() == 3.0
    assert proxy.connections > before


def test_nothing_runs_twice_however_often_the_connection_is_cut(
    proxy: Proxy, through: gw.Session
) -> None:
    x = gw.tensor([0.0], requires_grad=True)
    counter = gw.zeros(1)
    stop = threading.Event()

    def cut_now_and_then() -> None:
        while not stop.wait(0.02):
            proxy.cut()

    saboteur = threading.Thread(target=cut_now_and_then)
    saboteur.start()
    try:
        for count in range(1, 31):
            counter += 1
            (x * 2).sum().backward()
            assert counter.item() == count
    finally:
        stop.set()
        saboteur.join()
    assert x.grad is not None
    assert x.grad.item() == 60.0


def test_a_server_that_is_away_for_a_moment_is_waited_for(
    proxy: Proxy, through: gw.Session
) -> None:
    x = gw.tensor([1.0])
    with proxy.down():
        y = x + 1
        through.flush()
        threading.Timer(0.3, setattr, (proxy, "refusing", False)).start()
        assert y.item() == 2.0


def test_a_server_that_stays_away_is_a_connection_error(proxy: Proxy) -> None:
    session = gw.connect(proxy.address, retry_timeout=0.3)
    x = gw.tensor([1.0])
    with proxy.down(), pytest.raises(ConnectionError) as caught:
        (x + 1).item()
    assert isinstance(caught.value, gw.errors.UnavailableError)
    assert (x + 2).item() == 3.0, "it is back, and the session with it"
    session.close()


def test_what_waits_for_room_when_the_server_is_away_is_sent_later(proxy: Proxy) -> None:
    with gw.connect(proxy.address, retry_timeout=0.3) as session:
        counter = gw.tensor([0.0])
        added = 0

        def add_until_it_fails() -> None:
            nonlocal added
            while True:
                counter.add_(1)
                added += 1
                session.flush()

        with proxy.down(), pytest.raises(ConnectionError):
            add_until_it_fails()
        assert added > 10, "as many as may be under way"
        assert (counter + 1).item() == added + 1


def test_no_server_is_a_connection_error_that_says_what_to_do() -> None:
    with pytest.raises(ConnectionError, match="gradwire serve"):
        gw.connect("127.0.0.1:1", connect_timeout=0.3)


def slow(session: gw.Session) -> gw.Tensor:
    """Work of seconds, in steps that can be stopped between."""
    x = gw.randn(400, 400)
    for _ in range(2000):
        x = x @ x * 1e-3
    return x


@pytest.mark.parametrize("times", [1, 2])
def test_interrupted_waiting_leaves_the_session_usable(session: gw.Session, times: int) -> None:
    x = gw.tensor([1.0])
    for _ in range(times):
        y = slow(session)
        timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            y.sum().item()
        timer.join()
    assert (x + 1).item() == 2.0


def test_what_was_interrupted_is_cancelled(session: gw.Session) -> None:
    y = slow(session)
    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        y.sum().item()
    timer.join()
    assert gw.tensor(1.0).item() == 1.0
    with pytest.raises(gw.errors.CancelledError):
        y.sum().item()


def test_a_timeout_is_a_timeout_error_and_the_session_lives(session: gw.Session) -> None:
    session.timeout = 0.05
    with pytest.raises(TimeoutError) as caught:
        slow(session).sum().item()
    assert isinstance(caught.value, gw.errors.DeadlineError)
    session.timeout = None
    assert gw.tensor(1.0).add(1).item() == 2.0


def test_recording_goes_on_while_the_server_works(session: gw.Session) -> None:
    before = session._last_number
    x = gw.zeros(1)
    for _ in range(1000):
        x = x + 1
    assert session._last_number >= before + 3, "sent every 256 steps, before anything is read"
    assert x.item() == 1000.0


def test_a_large_tensor_is_sent_at_once(session: gw.Session) -> None:
    before = session._last_number
    x = gw.tensor(np.zeros(1 << 18, np.float32))
    assert session._last_number == before + 1
    assert x.sum().item() == 0.0


def test_data_may_change_once_a_tensor_is_made(session: gw.Session) -> None:
    for size in (4, 5_000, 1 << 18):
        array = np.ones(size, np.float32)
        x = gw.tensor(array)
        array[:] = 7
        assert (x * 1).sum().item() == size


def test_more_answers_than_the_queue_admits_are_waited_for() -> None:
    with (
        EmbeddedServer.start(address="127.0.0.1:0", max_queued_sequences=2) as server,
        gw.connect(server.address),
    ):
        x = gw.zeros(1)
        for _ in range(20):
            x = x + 1
            x.session.flush()
        assert x.item() == 20.0


def test_tensors_that_fit_into_one_message_each_travel_apart() -> None:
    with (
        EmbeddedServer.start(address="127.0.0.1:0", max_message_bytes=1 << 20) as server,
        gw.connect(server.address),
    ):
        parts = [gw.tensor(np.ones(100_000, np.float32)) for _ in range(8)]
        assert gw.stack(parts).sum().item() == 800_000


def test_sessions_of_threads_do_not_meet(address: str) -> None:
    found: dict[int, float] = {}

    def work(number: int) -> None:
        with gw.connect(address):
            x = gw.tensor([float(number)], requires_grad=True)
            for _ in range(20):
                x.grad = None
                (x**2).sum().backward()
                grad = x.grad
                assert grad is not None
                found[number] = grad.item()
                time.sleep(0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == {number: 2.0 * number for number in range(8)}


def test_threads_may_share_a_session(session: gw.Session) -> None:
    x = gw.tensor([1.0])
    found: list[float] = []

    def work(number: int) -> None:
        found.extend((x * number + turn).item() - turn - number for turn in range(50))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [0.0] * 200
