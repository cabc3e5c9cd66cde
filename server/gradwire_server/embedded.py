"""A server inside this process, for notebooks and tests.

It runs on an event loop of its own in a daemon thread, so that it does not matter what the main
thread runs. Where gevent has replaced threads by greenlets there are no such threads; then the
server is a child process.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any, Final, Self

from gradwire_server.settings import Settings

_DRAIN_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 10.0

READY: Final = "gradwire is listening on "
"""What the child process writes, followed by its address, once it serves."""


class EmbeddedServer:
    """A running server.

    A context manager: leaving it stops the server.

    Attributes:
        address: where it listens, for a gRPC channel.
    """

    def __init__(self, address: str, stop: Callable[[], None]) -> None:
        self.address = address
        self._stop: Callable[[], None] | None = stop

    @classmethod
    def start(cls, **settings: Any) -> Self:
        """Start a server and wait until it serves.

        Args:
            settings: fields of `Settings`. By default it listens on a unix socket in a private
                directory, which is a tenth faster than TCP, and logs warnings and errors only.

        Raises:
            OSError: if the address cannot be listened on.
            pydantic.ValidationError: for a setting that is not admissible.
        """
        directory: str | None = None
        if "address" not in settings:
            directory = tempfile.mkdtemp(prefix="gradwire-")
            settings["address"] = f"unix:{directory}/server.sock"
        settings.setdefault("log_level", "warning")
        settings.setdefault("drain_seconds", _DRAIN_SECONDS)
        resolved = Settings(**settings)
        run = _run_in_process if _threads_are_greenlets() else _run_in_thread
        try:
            address, stop = run(resolved)
        except BaseException:
            _remove(directory)
            raise

        def stop_and_clean_up() -> None:
            try:
                stop()
            finally:
                _remove(directory)

        return cls(address, stop_and_clean_up)

    def stop(self) -> None:
        """Finish what was accepted, and end. Stopping twice is fine."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _remove(directory: str | None) -> None:
    if directory is not None:
        shutil.rmtree(directory, ignore_errors=True)


def _threads_are_greenlets() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _run_in_thread(settings: Settings) -> tuple[str, Callable[[], None]]:
    from gradwire_server.server import Server, new_event_loop

    started = threading.Event()
    result: list[str | BaseException] = []
    loop: asyncio.AbstractEventLoop | None = None
    leave: asyncio.Event | None = None

    async def serve() -> None:
        nonlocal loop, leave
        loop, leave = asyncio.get_running_loop(), asyncio.Event()
        server = Server(settings)
        await server.start()
        result.append(server.address)
        started.set()
        await leave.wait()
        await server.drain()

    def main() -> None:
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(serve())
        except BaseException as error:
            result.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=main, name="gradwire-server", daemon=True)
    thread.start()
    started.wait()
    address = result[0]
    if isinstance(address, BaseException):
        raise address

    def stop() -> None:
        if loop is not None and leave is not None and thread.is_alive():
            loop.call_soon_threadsafe(leave.set)
            thread.join(settings.drain_seconds + _STOP_SECONDS)

    return address, stop


def _run_in_process(settings: Settings) -> tuple[str, Callable[[], None]]:
    child = subprocess.Popen(
        [sys.executable, "-m", "gradwire_server.embedded", settings.model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line.startswith(READY):
        child.kill()
        child.wait()
        raise OSError(f"the server process did not start: it ended with code {child.returncode}")

    def stop() -> None:
        # Its standard input tells it to leave; so does the end of this process.
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(OSError):
            child.stdin.close()
        try:
            child.wait(settings.drain_seconds + _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()

    return line.removeprefix(READY).strip(), stop


def _child() -> None:
    """Serve, as the JSON of the first argument says, until standard input ends."""
    address, stop = _run_in_thread(Settings.model_validate_json(sys.argv[1]))
    print(READY + address, flush=True)
    sys.stdin.read()
    stop()


if __name__ == "__main__":
    _child()
