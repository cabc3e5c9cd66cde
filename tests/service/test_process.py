"""The server as a process: starting, health, reflection, draining, and being embedded."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from gradwire_server.embedded import EmbeddedServer
from tests.service.harness import Client, Step, fetch, op, put, refusal_of_call, release
from tests.service.serving import GRADWIRE, Running

SERVICE = "gradwire.v1.AutogradService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

X, BIG = 1, 2


def status(channel: grpc.Channel, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(service=service)).status)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def slow_steps(count: int) -> list[Step]:
    steps: list[Step] = []
    for handle in range(1000, 1000 + count):
        steps += [op("mm", [BIG, BIG], handle), release(handle)]
    return steps


def test_sigterm_finishes_what_is_queued_and_leaves(serve: Callable[..., Running]) -> None:
    running = serve()
    with grpc.insecure_channel(running.address) as channel:
        stub = AutogradServiceStub(channel)
        client = Client.open(stub)
        with client.stream() as stream:
            stream.run(put(X, [1.0]), put(BIG, np.ones((500, 500))))
            stream.start(*slow_steps(150))
            stream.start(op("add_", [X], other=1), fetch(X))
            client.until_taken_in()
            running.process.send_signal(signal.SIGTERM)
            until(lambda: status(channel) == NOT_SERVING)
            assert status(channel, SERVICE) == NOT_SERVING
            with pytest.raises(grpc.RpcError) as caught:
                Client.open(stub)
            refusal = refusal_of_call(caught.value)
            assert (refusal.code_name, refusal.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")
            assert stream.receive().refusal is None
            assert stream.receive().fetched[0].value == [2.0]
            with pytest.raises(grpc.RpcError) as caught:
                stream.receive()
            assert refusal_of_call(caught.value).reason == "SHUTTING_DOWN"
    assert running.process.wait(30) == 0
    events = [event["event"] for event in running.events()]
    assert events[0] == "server started"
    assert events[-2:] == ["server draining", "server stopped"]


def test_what_does_not_end_in_time_is_stopped(serve: Callable[..., Running]) -> None:
    running = serve("--drain-seconds", "0.2")
    with grpc.insecure_channel(running.address) as channel:
        client = Client.open(AutogradServiceStub(channel))
        with client.stream() as stream:
            stream.run(put(BIG, np.ones((500, 500))))
            stream.start(*slow_steps(4000))
            stream.start(put(X, [1.0]))
            client.until_taken_in()
            running.process.send_signal(signal.SIGINT)
            refusals = [stream.receive().refusal for _ in range(2)]
            assert [each and each.reason for each in refusals] == ["SHUTTING_DOWN"] * 2
    assert running.process.wait(30) == 0


def test_an_idle_server_leaves_at_once_though_streams_are_open(
    serve: Callable[..., Running],
) -> None:
    running = serve()
    with (
        grpc.insecure_channel(running.address) as channel,
        Client.open(AutogradServiceStub(channel)).stream() as stream,
    ):
        stream.run(put(X, [1.0]))
        running.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            stream.receive()
        assert refusal_of_call(caught.value).reason == "SHUTTING_DOWN"
    assert running.process.wait(30) == 0


def test_log_lines_tell_of_sessions_failures_and_profiles(serve: Callable[..., Running]) -> None:
    running = serve("--profile")
    with grpc.insecure_channel(running.address) as channel:
        client = Client.open(AutogradServiceStub(channel), display_name="notebook")
        client.run(put(X, [1.0]), op("exp", [X], BIG))
        client.refused(op("exp", [99], 3))
        client.stub.DeleteSession(pb.DeleteSessionRequest(session_id=client.id))
    running.process.terminate()
    running.process.wait(30)
    opened, profiled, failed, _, closed = running.events()[1:6]
    assert (profiled["event"], profiled["sequence"]) == ("sequence profiled", 1)
    assert set(profiled["most"]) == {"put", "exp"}  # type: ignore[call-overload]
    assert (opened["event"], opened["name"]) == ("session opened", "notebook")
    assert (failed["event"], failed["reason"]) == ("sequence failed", "HANDLE_NOT_FOUND")
    assert (failed["sequence"], failed["step"], failed["level"]) == ("2", "0", "info")
    assert closed["event"] == "session closed"
    assert {each["session"] for each in (opened, failed, closed)} == {client.id}


def test_settings_come_from_variables_and_flags_outweigh_them(
    serve: Callable[..., Running],
) -> None:
    running = serve("--max-steps", "11", GRADWIRE_MAX_STEPS="7", GRADWIRE_MAX_RANK="5")
    with grpc.insecure_channel(running.address) as channel:
        limits = AutogradServiceStub(channel).CreateSession(pb.CreateSessionRequest()).limits
    assert (limits.max_steps, limits.max_rank) == (11, 5)


def test_health_tells_by_its_exit_code(serve: Callable[..., Running]) -> None:
    running = serve()
    ask = [*GRADWIRE, "health", "--address", running.address]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{running.address}: SERVING\n")
    running.process.terminate()
    running.process.wait(30)
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "UNAVAILABLE" in done.stderr


def test_a_port_that_is_taken_is_an_error_of_one_line(address: str) -> None:
    done = subprocess.run(
        [*GRADWIRE, "serve", "--address", address], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"cannot listen on {address}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_setting_that_is_not_admissible_is_named() -> None:
    done = subprocess.run(
        [*GRADWIRE, "serve", "--max-rank", "65"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "max_rank" in done.stderr
    assert "Traceback" not in done.stderr


def test_health_is_told_for_the_server_and_for_the_service(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        assert status(channel) == SERVING
        assert status(channel, SERVICE) == SERVING


def test_the_contract_can_be_read_from_the_server(address: str) -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    with grpc.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed, described = stub.ServerReflectionInfo(iter(requests))
    names = {each.name for each in listed.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names
    assert pb.DESCRIPTOR.serialized_pb in described.file_descriptor_response.file_descriptor_proto


def test_an_embedded_server_listens_on_a_private_socket_that_goes_with_it() -> None:
    server = EmbeddedServer.start()
    path = Path(server.address.removeprefix("unix:"))
    assert path.is_socket()
    assert path.parent.stat().st_mode & 0o077 == 0
    with grpc.insecure_channel(server.address) as channel:
        assert Client.open(AutogradServiceStub(channel)).still_works()
    server.stop()
    server.stop()
    assert not path.parent.exists()


def test_servers_may_be_embedded_side_by_side_and_one_after_the_other() -> None:
    for _ in range(2):
        with EmbeddedServer.start() as one, EmbeddedServer.start() as other:
            assert one.address != other.address
            for server in (one, other):
                with grpc.insecure_channel(server.address) as channel:
                    assert Client.open(AutogradServiceStub(channel)).still_works()


async def test_an_embedded_server_serves_an_asyncio_client_of_the_same_process() -> None:
    with EmbeddedServer.start() as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            call = channel.unary_unary(
                f"/{SERVICE}/ListOperators",
                request_serializer=pb.ListOperatorsRequest.SerializeToString,
                response_deserializer=pb.ListOperatorsResponse.FromString,
            )
            pages = await asyncio.gather(*[call(pb.ListOperatorsRequest()) for _ in range(20)])
    assert len({len(page.operators) for page in pages}) == 1


def test_an_address_that_cannot_be_listened_on_is_an_error(address: str) -> None:
    with pytest.raises(OSError, match="cannot listen"):
        EmbeddedServer.start(address=address)


GEVENT = """
from gevent import monkey
monkey.patch_all()
import grpc.experimental.gevent
grpc.experimental.gevent.init_gevent()
import gevent, grpc
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from gradwire_server.embedded import EmbeddedServer
from tests.service.harness import Client

with EmbeddedServer.start() as server:
    with grpc.insecure_channel(server.address) as channel:
        stub = AutogradServiceStub(channel)
        tasks = [gevent.spawn(lambda: Client.open(stub).still_works()) for _ in range(5)]
        gevent.joinall(tasks)
        print(all(task.value for task in tasks))
"""


def test_a_server_may_be_embedded_where_gevent_has_replaced_threads() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GEVENT], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
