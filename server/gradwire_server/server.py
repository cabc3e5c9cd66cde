"""The server process: gRPC, health, reflection, signals, and how it all ends."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import grpc
import threadpoolctl
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

import gradwire_engine.ops  # noqa: F401 - declares the operators
from gradwire.memory import retain_memory
from gradwire.wire import SERVICE
from gradwire_engine import threads
from gradwire_server import __version__
from gradwire_server.limits import Admission
from gradwire_server.logs import Logger, make_logger
from gradwire_server.peers import Peers
from gradwire_server.service import AutogradService
from gradwire_server.session import Host
from gradwire_server.sessions import Sessions
from gradwire_server.settings import Settings

_SWITCH_SECONDS = 0.0005
"""How long a thread may keep the event loop waiting for the interpreter; Python's own is 5 ms."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""The first lets the server drain, the second lets it stop what is left."""

_GC_THRESHOLDS = (20_000, 20, 20)
"""Allocations between collections of the youngest objects, and how many of those to the older."""

_GOODBYE_SECONDS = 1.0
"""Time for the last answers to reach their clients."""


class Server:
    """One server on one address, on the running event loop; alone, or a worker among others."""

    def __init__(
        self, settings: Settings, log: Logger | None = None, peers: Peers | None = None
    ) -> None:
        self.settings = settings
        self.log = make_logger(settings) if log is None else log
        self._peers = peers or Peers()
        is_worker = self._peers.count > 1
        self._name = "worker" if is_worker else "server"
        self._threads = ThreadPoolExecutor(settings.thread_count, "gradwire")
        admission = Admission(settings.max_pending_bytes)
        # One a session at most, and only while its client runs a hook: they mostly sleep.
        self._sleepers = ThreadPoolExecutor(settings.max_sessions, "gradwire-hooks")
        host = Host(settings, self.log, self._threads, self._sleepers, admission, self._peers)
        self._sessions = Sessions(host)
        self._service = AutogradService(host, self._sessions)
        self._health = health.aio.HealthServicer()
        self._grpc = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", settings.grpc_message_bytes),
                ("grpc.max_send_message_length", -1),
                # Two servers on one port would share it silently.
                ("grpc.so_reuseport", int(is_worker)),
            ]
        )
        self._grpc.add_generic_rpc_handlers((self._service.handler(),))
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        described = reflection.aio.ReflectionServicer(names)
        by_name = _ByName(self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, by_name)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(described, by_name)
        self.address = settings.address

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: if the address cannot be listened on.
        """
        started = perf_counter()
        try:
            port = self._grpc.add_insecure_port(self.settings.address)
            if self._peers.count > 1:
                self._grpc.add_insecure_port(self._peers.socket(self._peers.mine))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self.settings.address}: {error}") from None
        if not self.settings.address.startswith("unix:"):
            host = self.settings.address.rpartition(":")[0]
            self.address = f"{host}:{port}"
        await self._grpc.start()
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self.log.info(
            f"{self._name} started",
            address=self.address,
            version=__version__,
            threads=self.settings.thread_count,
            seconds=round(perf_counter() - started, 3),
        )

    def hurry(self) -> None:
        """Let a drain wait no longer: stop what is left."""
        self._sessions.stop_all()

    async def drain(self) -> None:
        """End: report NOT_SERVING, finish what was accepted, answer, and leave."""
        self.log.info(f"{self._name} draining", seconds=self.settings.drain_seconds)
        await self._health.enter_graceful_shutdown()
        await self._sessions.drain(self.settings.drain_seconds)
        await self._peers.drained(self.settings.drain_seconds)
        self._service.end_streams()
        await self._service.streams_ended(_GOODBYE_SECONDS)
        await self._grpc.stop(_GOODBYE_SECONDS)
        for pool in (self._threads, self._sleepers):
            pool.shutdown(wait=False, cancel_futures=True)
        await self._peers.close()
        self.log.info(f"{self._name} stopped")


class _ByName:
    """A server of which generated code sees only that it finds methods by name.

    Methods that are also registered one by one cost every call of any method, the more of them the
    more: those of health and reflection as much as a tenth of a call that does nothing.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Let the server look methods up there."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, object]) -> None:
        """Nothing: they are among the generic ones."""


async def _serve(settings: Settings, peers: Peers, started: Callable[[], None] | None) -> None:
    loop = asyncio.get_running_loop()
    leave = asyncio.Event()
    for number in _SIGNALS:
        loop.add_signal_handler(number, leave.set)
    log = make_logger(settings)
    server = Server(settings, log.bind(worker=peers.mine) if peers.count > 1 else log, peers)
    await server.start()
    if started is not None:
        started()
        # It ends with whoever started this process.
        loop.add_reader(sys.stdin.fileno(), leave.set)
    # What exists by now stays; the garbage collector need not look at it again and again. Graphs
    # are made of many small objects and have no cycles, so that it finds next to nothing; at its
    # usual rate it would go through every node often, at a third of the cost of recording.
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    await leave.wait()
    if started is not None:
        loop.remove_reader(sys.stdin.fileno())
    for number in _SIGNALS:
        loop.add_signal_handler(number, server.hurry)
    await server.drain()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A uvloop event loop, or asyncio's own where there is no uvloop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def serve(
    settings: Settings, peers: Peers | None = None, started: Callable[[], None] | None = None
) -> None:
    """Run a server in this process until SIGTERM or SIGINT.

    Args:
        peers: the workers of which this is one.
        started: called when it listens. Then the end of standard input ends the server too.

    Raises:
        OSError: if the address cannot be listened on.
    """
    if settings.retained_bytes:
        retain_memory(settings.retained_bytes, exclusive=True)
    if settings.kernel_threads:
        threadpoolctl.threadpool_limits(settings.kernel_threads)
        threads.set_count(settings.kernel_threads)
    sys.setswitchinterval(_SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(settings, peers or Peers(), started))
