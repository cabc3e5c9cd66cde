"""Sessions of the SDK: which is the current one, what keeps them alive, what ends them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np

import gradwire as gw
from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from gradwire_server.embedded import EmbeddedServer
from tests.service.sdk import session

__all__ = ["session"]


def test_connecting_makes_the_session_current(address: str) -> None:
    with gw.connect(address) as outer:
        assert gw.ones(1).session is outer
        with gw.connect(address) as inner:
            assert gw.ones(1).session is inner
            assert outer.tensor([1.0]).session is outer
            with outer.use():
                assert gw.ones(1).session is outer
            assert gw.ones(1).session is inner
        assert gw.ones(1).session is outer


def test_a_thread_that_opened_none_uses_the_newest(address: str) -> None:
    with gw.connect(address) as session:
        found: list[gw.Session] = []
        thread = threading.Thread(target=lambda: found.append(gw.ones(1).session))
        thread.start()
        thread.join()
        assert found == [session]


def test_each_context_has_its_own(address: str) -> None:
    async def task() -> bool:
        with gw.connect(address) as mine:
            await asyncio.sleep(0.01)
            return gw.ones(1).session is mine

    async def both() -> list[bool]:
        return await asyncio.gather(task(), task())

    assert asyncio.run(both()) == [True, True]


def test_a_session_tells_what_it_is(address: str) -> None:
    with gw.connect(address, name="mine", ttl=77) as session:
        assert session.address == address
        assert session.limits.max_steps > 0
        assert session.server_version
        assert session.id in repr(session)
        assert session.ttl == 77
        request = pb.GetSessionRequest(session_id=session.id)
        described = session.call(
            "/gradwire.v1.AutogradService/GetSession", request, pb.GetSessionResponse
        )
        assert described.session.display_name == "mine"


def test_the_seed_decides_the_random_numbers(address: str) -> None:
    def draw(**settings: int) -> list[float]:
        with gw.connect(address, **settings):  # type: ignore[arg-type]
            return gw.rand(3).tolist() + gw.randn(3).tolist()

    assert draw(seed=1) == draw(seed=1)
    assert draw(seed=1) != draw(seed=2)
    with gw.connect(address):
        gw.manual_seed(5)
        first = gw.randn(2).tolist()
        gw.manual_seed(5)
        assert gw.randn(2).tolist() == first


def test_closing_ends_it_on_the_server(address: str, stub: AutogradServiceStub) -> None:
    with gw.connect(address) as session:
        pass
    listed = {
        each.id for each in stub.ListSessions(pb.ListSessionsRequest(page_size=1000)).sessions
    }
    assert session.id not in listed


def test_the_lease_of_an_idle_session_is_kept() -> None:
    with (
        EmbeddedServer.start(address="127.0.0.1:0") as server,
        gw.connect(server.address, ttl=1.0) as session,
    ):
        x = gw.tensor([1.0])
        x.add(1).item()
        time.sleep(2.5)
        assert x.add(1).item() == 2.0
        assert session.ttl == 1.0


def test_handles_go_with_the_tensors(session: gw.Session) -> None:
    def live() -> int:
        session.synchronize()
        request = pb.GetSessionRequest(session_id=session.id)
        response = pb.GetSessionResponse
        path = "/gradwire.v1.AutogradService/GetSession"
        return session.call(path, request, response).session.tensor_count

    x = gw.ones(2, requires_grad=True)
    before = live()
    for _ in range(300):
        y = (x * 2 + 1).sum()
        y.backward()
    assert x.grad is not None
    assert live() <= before + 2, "y, and x's grad"
    del y
    x.grad = None
    assert live() == before


def run(program: str, *, quiet: bool = True) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not quiet or not done.stderr, done.stderr
    return done.stdout


def test_memory_of_what_was_dropped_serves_the_backward_and_what_follows() -> None:
    values = np.ones(10_000)
    with (
        EmbeddedServer.start(address="127.0.0.1:0", max_session_bytes=7 * values.nbytes) as server,
        gw.connect(server.address) as opened,
    ):
        x = gw.tensor(values, requires_grad=True)
        slopes = []
        before = opened.traffic.sequences
        for _ in range(3):
            y = ((x + 1) * 2 + 1).sum()
            slopes += gw.autograd.grad(y, x)
        found = gw.fetch(*slopes)
        assert opened.traffic.sequences == before + 1, "all in one sequence"
        np.testing.assert_array_equal(found, 2 * np.ones((3, 10_000)))


def test_the_embedded_server_needs_no_connecting_and_no_closing() -> None:
    program = """
        import gradwire as gw
        x = gw.tensor([3.0], requires_grad=True)
        y = (x + 2) ** 2
        y.backward()
        print(x.grad.item())
    """
    assert run(program) == "10.0\n"


def test_the_embedded_server_is_shared_and_ends_with_its_last_session() -> None:
    program = """
        import os, gradwire as gw
        one, two = gw.connect(), gw.connect()
        assert one.address == two.address and one.id != two.id
        path = one.address.removeprefix("unix:")
        assert os.path.exists(path)
        one.close()
        with two.use():
            print(gw.ones(2).tolist())
        two.close()
        assert not os.path.exists(path)
        with gw.connect():
            print(gw.ones(1).tolist())
    """
    assert run(program) == "[1.0, 1.0]\n[1.0]\n"


def test_after_the_last_session_there_is_none_unless_one_is_opened(address: str) -> None:
    program = f"""
        import gradwire as gw
        with gw.connect("{address}"):
            pass
        try:
            gw.ones(1)
        except gw.errors.SessionError as error:
            print("gradwire.connect" in str(error))
    """
    assert run(program) == "True\n"


def test_it_works_under_gevent(address: str) -> None:
    program = f"""
        from gevent import monkey
        monkey.patch_all()
        import gevent, grpc.experimental.gevent
        grpc.experimental.gevent.init_gevent()
        import gradwire as gw

        def user(number):
            with gw.connect("{address}") as session:
                x = gw.tensor([float(number)], requires_grad=True)
                for _ in range(5):
                    x.grad = None
                    (x ** 2).sum().backward()
                    assert gw.ones(1).session is session
                    gevent.sleep(0)
                return x.grad.item()

        jobs = [gevent.spawn(user, number) for number in range(10)]
        gevent.joinall(jobs, raise_error=True)
        print([job.value for job in jobs])
    """
    assert run(program) == f"{[2.0 * number for number in range(10)]}\n"


def test_a_forked_child_leaves_the_parents_session_alone(address: str) -> None:
    program = f"""
        import os, gradwire as gw
        session = gw.connect("{address}")
        x = gw.ones(2)
        print(x.tolist(), flush=True)
        child = os.fork()
        if child == 0:
            try:
                x + 1
            except gw.errors.SessionError as error:
                print("parent" in str(error), flush=True)
            del x
            os._exit(0)
        os.waitpid(child, 0)
        print((x + 1).tolist())
    """
    # gRPC writes a line of its own where a process with a channel forks.
    assert run(program, quiet=False) == "[1.0, 1.0]\nTrue\n[2.0, 2.0]\n"
