"""Several workers behind one address: started, watched, and stopped together.

Each is a process with an interpreter of its own, so that they run side by side, and listens on the
same port: the kernel hands out connections. A worker that dies is started again; its sessions are
gone with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from time import monotonic, perf_counter
from typing import Any, Final

from gradwire_server import __version__
from gradwire_server.logs import Logger, make_logger
from gradwire_server.settings import Settings
from gradwire_server.worker import READY

_FIRST_WAIT: Final = 0.5
"""Seconds before a worker that died is started again; twice as long for each time in a row."""

_LONGEST_WAIT: Final = 30.0

_START_SECONDS: Final = 60.0
"""Time in which a worker must listen."""

_STOP_SECONDS: Final = 10.0
"""Time beyond that for a drain in which a worker must have ended."""


class _Worker:
    """One of the processes."""

    def __init__(self, settings: Settings, number: int, directory: str, log: Logger) -> None:
        self._command = (
            *(sys.executable, "-m", "gradwire_server.worker"),
            *(settings.model_dump_json(), str(number), str(settings.worker_count), directory),
        )
        self._number = number
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> bool:
        """Start it; whether it listens. One that does not in time is made to end."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Ctrl-C in a terminal is for all processes of a session; it comes from here alone.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_START_SECONDS):
                if await self._process.stdout.readline() == READY:
                    return True
        except TimeoutError:
            self._process.kill()
        self._log.error("worker did not start", worker=self._number)
        return False

    async def ended(self) -> int:
        """Wait until it ends; its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def keep(self) -> None:
        """Start it again whenever it ends. Never returns."""
        wait = _FIRST_WAIT
        while True:
            started = monotonic()
            code = await self.ended()
            if monotonic() - started > _LONGEST_WAIT:
                wait = _FIRST_WAIT
            self._log.error("worker died", worker=self._number, exit_code=code, restart=wait)
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
            await self.start()

    def leave(self) -> None:
        """Let it drain; called again, let it hurry."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    async def stopped(self, seconds: float) -> bool:
        """Wait until it has ended, which it is made to in the end; whether it ended well."""
        if self._process is None:
            return True
        try:
            return await asyncio.wait_for(self.ended(), seconds) == 0
        except TimeoutError:
            self._process.kill()
            await self.ended()
            return False


@contextlib.contextmanager
def _reserved(address: str) -> Iterator[str]:
    """The address with its port, which nobody else can take as long as this lasts.

    Raises:
        OSError: it cannot be listened on.
    """
    host, _, port = address.rpartition(":")
    if address.startswith("unix:") or not host or not _is_port(port):
        raise OSError(f"several workers cannot share {address}; they need a HOST:PORT")
    with contextlib.ExitStack() as held:
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            # Sharing a port asks only that all who do say so; no other server may be among them.
            with socket.socket(family, kind, protocol) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(where)
                alone.listen(1)
                taken = alone.getsockname()
            shared = held.enter_context(socket.socket(family, kind, protocol))
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind(taken)
        except OSError as error:
            raise OSError(f"cannot listen on {address}: {error}") from None
        yield f"{host}:{taken[1]}"


def _is_port(text: str) -> bool:
    return text.isdecimal() and int(text) < 1 << 16


def _shared_out(settings: Settings, address: str) -> Settings:
    """The settings of each worker: the processor's cores are for all of them."""
    cores = max((os.cpu_count() or 1) // settings.worker_count, 1)
    says_threads = any(name in os.environ for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"))
    return settings.model_copy(
        update={
            "address": address,
            "workers": settings.worker_count,
            "threads": settings.threads or cores,
            "kernel_threads": settings.kernel_threads or (0 if says_threads else cores),
        }
    )


async def _supervise(settings: Settings, address: str, directory: str) -> int:
    log = make_logger(settings)
    loop = asyncio.get_running_loop()
    leave = asyncio.Event()
    started = perf_counter()
    shared = _shared_out(settings, address)
    workers = [_Worker(shared, number, directory, log) for number in range(shared.workers)]
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, leave.set)
    starting = asyncio.gather(*[each.start() for each in workers])
    leaving = asyncio.create_task(leave.wait())
    both: set[asyncio.Future[Any]] = {starting, leaving}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    listening = starting.done() and all(starting.result())
    if not starting.done():
        starting.cancel()
        await asyncio.wait([starting])
    keeping = []
    if listening:
        log.info(
            "server started",
            address=address,
            version=__version__,
            workers=shared.workers,
            threads=shared.thread_count,
            seconds=round(perf_counter() - started, 3),
        )
        keeping = [asyncio.create_task(each.keep()) for each in workers]
        await leaving
        log.info("server draining", seconds=settings.drain_seconds)

    def let_all_leave() -> None:
        for each in workers:
            each.leave()

    for number in signals:
        loop.add_signal_handler(number, let_all_leave)
    for task in keeping:
        task.cancel()
    let_all_leave()
    seconds = settings.drain_seconds + _STOP_SECONDS
    ended = await asyncio.gather(*[each.stopped(seconds) for each in workers])
    log.info("server stopped")
    return 0 if listening and all(ended) else 1


def serve(settings: Settings) -> int:
    """Run the workers until SIGTERM or SIGINT.

    Returns:
        The exit code.

    Raises:
        OSError: if the address cannot be listened on.
    """
    with (
        _reserved(settings.address) as address,
        tempfile.TemporaryDirectory(prefix="gradwire-") as at,
    ):
        return asyncio.run(_supervise(settings, address, at))
