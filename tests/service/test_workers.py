"""Several workers behind one address: whichever a client reaches, it is served all the same."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest

import gradwire as gw
from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from tests.service.harness import (
    TIMEOUT,
    Client,
    Refusal,
    fetch,
    op,
    put,
    refusal_of_call,
)
from tests.service.serving import GRADWIRE, Running, serving
from tests.service.test_transfers import DATA, download, numbers, pieces, put_upload, upload

X, Y, Z = 1, 2, 3
WORKERS = 2


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of two workers, whose messages are small."""
    with serving(tmp_path_factory.mktemp("workers")) as start:
        yield start("--workers", str(WORKERS), "--max-message-bytes", str(16 << 10))


class Doors:
    """Connections to a server, by the worker that each has come to."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._held = ExitStack()

    def __enter__(self) -> Doors:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def to(self, worker: int) -> AutogradServiceStub:
        """The kernel chooses, so it may take some connections to come to the right one."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        for _ in range(200):
            channel = grpc.insecure_channel(self._address, options=options)
            stub = AutogradServiceStub(self._held.enter_context(channel))
            if owner(Client.open(stub)) == worker:
                return stub
        raise AssertionError(f"no connection came to worker {worker}")


def owner(client: Client) -> int:
    return int(client.id[:2], 16)


@pytest.fixture(scope="module")
def doors(running: Running) -> Iterator[Doors]:
    with Doors(running.address) as doors:
        yield doors


@pytest.fixture
def crossed(doors: Doors) -> Client:
    """A client whose session one worker owns, and which talks to the other."""
    client = Client.open(doors.to(0))
    assert owner(client) == 0
    client.stub = doors.to(1)
    return client


def refused(call: Callable[[], object]) -> Refusal:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return refusal_of_call(caught.value)


def test_a_unary_call_is_handed_on_to_the_owner(crossed: Client) -> None:
    assert crossed.still_works()
    assert crossed.stub.GetSession(pb.GetSessionRequest(session_id=crossed.id)).session.id
    crossed.stub.KeepAlive(pb.KeepAliveRequest(session_id=crossed.id))


def test_so_is_a_stream_with_everything_on_it(crossed: Client) -> None:
    with crossed.stream() as stream:
        first = stream.run(put(X, [1.0, 2.0]), op("exp", [X], Y), fetch(Y))
        np.testing.assert_allclose(first.fetched[0].value, np.exp([1, 2]), 1e-6)
        for _ in range(50):
            stream.start(op("add_", [X], other=1))
        last = stream.start(fetch(X))
        answers = [stream.receive() for _ in range(51)]
        assert answers[-1].number == last
        np.testing.assert_array_equal(answers[-1].fetched[0].value, [51, 52])
        refusal = stream.run(op("exp", [99], Z)).refusal
        assert refusal is not None
        assert refusal.reason == "HANDLE_NOT_FOUND"
        stream.cancel(1000)
        assert stream.run(fetch(X)).refusal is None
        stream.close()
        assert list(stream.call) == []
        assert stream.call.code() is grpc.StatusCode.OK


def test_so_are_large_tensors(crossed: Client) -> None:
    assert upload(crossed, *pieces(crossed)) == len(DATA)
    crossed.run(put_upload(X))
    (number,) = numbers(crossed, X)
    assert download(crossed, number) == DATA


def test_failures_come_back_as_they_were(crossed: Client) -> None:
    gone = pb.DownloadRequest(session_id=crossed.id, download=7)
    refusal = refused(lambda: list(crossed.stub.Download(gone, timeout=TIMEOUT)))
    assert (refusal.code_name, refusal.reason) == ("NOT_FOUND", "TRANSFER_NOT_FOUND")
    assert crossed.refused(op("exp", [99], Z)).field == "steps[0].op.inputs[0]"
    with crossed.stream() as stream:
        stream.write(pb.RunStreamRequest())
        assert refused(stream.receive).reason == "MALFORMED_REQUEST"


def test_a_session_is_deleted_from_anywhere(crossed: Client) -> None:
    crossed.stub.DeleteSession(pb.DeleteSessionRequest(session_id=crossed.id))
    for _ in range(2):
        assert crossed.refused(put(X, [1.0])).reason == "SESSION_NOT_FOUND"


@pytest.mark.parametrize("name", ["", "zz" * 16, "ff" + "0" * 30, "é", "0"])
def test_a_name_of_no_worker_is_that_of_no_session(doors: Doors, name: str) -> None:
    stub = doors.to(1)
    request = pb.GetSessionRequest(session_id=name)
    assert refused(lambda: stub.GetSession(request)).reason == "SESSION_NOT_FOUND"


@pytest.mark.parametrize("size", [1, 2, 3, 50])
@pytest.mark.parametrize("door", range(WORKERS))
def test_the_sessions_of_all_workers_are_listed_in_pages(
    doors: Doors, size: int, door: int
) -> None:
    opened = {Client.open(doors.to(worker)).id for worker in range(WORKERS) for _ in range(3)}
    stub = doors.to(door)
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListSessionsRequest(page_size=size, page_token=token)
        page = stub.ListSessions(request, timeout=TIMEOUT)
        assert len(page.sessions) == size or not page.next_page_token
        found += [each.id for each in page.sessions]
        token = page.next_page_token
        if not token:
            break
    assert len(set(found)) == len(found)
    assert opened <= set(found)


def test_the_sdk_neither_knows_nor_cares(running: Running) -> None:
    with gw.connect(running.address):
        x = gw.tensor(np.arange(10_000.0), requires_grad=True)
        (x * x).sum().backward()
        assert x.grad is not None
        np.testing.assert_array_equal(x.grad.numpy(), 2 * np.arange(10_000.0))


def pids(running: Running) -> dict[int, int]:
    """The processes of the workers."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == running.process.pid and "gradwire_server.worker" in words:
            found[int(words[4])] = int(path.parent.name)
    return found


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_worker_that_dies_is_started_again(serve: Callable[..., Running]) -> None:
    running = serve("--workers", "2")
    with Doors(running.address) as doors:
        lost, kept = Client.open(doors.to(0)), Client.open(doors.to(1))
        kept.run(put(X, [1.0]))
        lost.stub = kept.stub
        os.kill(pids(running)[0], signal.SIGKILL)
        reason = "WORKER_UNREACHABLE"
        seen = set()
        while reason == "WORKER_UNREACHABLE":
            reason = lost.refused(put(Y, [1.0])).reason
            seen.add(reason)
            time.sleep(0.02)
        assert seen == {"WORKER_UNREACHABLE", "SESSION_NOT_FOUND"}
        assert kept.values(X)[0] == [1.0]
        until(lambda: len(pids(running)) == 2)
        assert Client.open(doors.to(0)).still_works()
    died = [each for each in running.events() if each["event"] == "worker died"]
    assert [(each["worker"], each["exit_code"]) for each in died] == [(0, -signal.SIGKILL)]
    running.process.terminate()
    assert running.process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_drain_together(serve: Callable[..., Running], number: int) -> None:
    running = serve("--workers", "2")
    with Doors(running.address) as doors:
        stub = doors.to(1)
        crossed = Client.open(doors.to(0))
        crossed.stub = stub
        with crossed.stream() as stream:
            stream.run(put(X, np.ones((300, 300))))
            for at in range(100):
                stream.start(op("mm", [X, X], 10 + at))
            stream.start(fetch(X))
            crossed.until_taken_in()
            running.process.send_signal(number)
            answers = [stream.receive() for _ in range(101)]
            assert all(each.refusal is None for each in answers)
            assert refused(stream.receive).reason == "SHUTTING_DOWN"
    assert running.process.wait(60) == 0
    assert not pids(running)
    events = [each["event"] for each in running.events()]
    assert events.count("worker stopped") == 2
    assert events[-1] == "server stopped"


def test_workers_end_with_whoever_started_them(serve: Callable[..., Running]) -> None:
    running = serve("--workers", "2")
    workers = pids(running).values()
    assert len(workers) == 2
    running.process.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


@pytest.mark.parametrize("shares", [False, True])
def test_a_port_of_somebody_else_is_not_shared(shares: bool) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = ended("--workers", "2", "--address", address)
    assert done.returncode == 1
    assert f"cannot listen on {address}" in done.stderr


@pytest.mark.parametrize(
    "address", ["unix:/tmp/x", "nowhere", ":1", "127.0.0.1:", "127.0.0.1:99999999"]
)
def test_an_address_that_cannot_be_shared_is_an_error_of_one_line(address: str) -> None:
    done = ended("--workers", "2", "--address", address)
    assert done.returncode == 1
    assert address in done.stderr
    assert done.stderr.count("\n") == 1


def ended(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GRADWIRE, "serve", *flags], capture_output=True, text=True, check=False, timeout=60
    )
