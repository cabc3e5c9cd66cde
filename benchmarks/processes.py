"""Processes that are measured: starting them, their memory, their processor time.

For the environments of the peers too: the standard library only, and Linux's /proc.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

THREADS = 2
"""Threads of every contender, in each of its processes."""


class ServerError(Exception):
    """A server did not start."""


@functools.cache
def start_server(module: str, *arguments: str) -> tuple[str, int]:
    """Start a server of this environment as a child, once; its address and process id.

    It prints `ready ADDRESS` to standard output once it listens, and ends with this process.

    Raises:
        ServerError: it ended instead.
    """
    return start_command(
        [sys.executable, "-m", module, *arguments],
        lambda line: line.split()[1] if line.startswith("ready ") else None,
    )


def start_command(command: Sequence[str], ready: Callable[[str], str | None]) -> tuple[str, int]:
    """Start a server and wait for the line of its output in which `ready` finds an address.

    Raises:
        ServerError: it ended instead.
    """
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    atexit.register(_end, server)
    assert server.stdout is not None
    for line in server.stdout:
        found = ready(line)
        if found is not None:
            threading.Thread(target=_drain, args=(server.stdout,), daemon=True).start()
            return found, server.pid
        sys.stderr.write(line)
    raise ServerError(f"{' '.join(command)} ended with exit code {server.wait()}")


def _end(server: subprocess.Popen[str]) -> None:
    server.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(5)


def _drain(stream: IO[str]) -> None:
    """Read what a server has to say: it would stop at a full pipe."""
    for line in stream:
        sys.stderr.write(line)


def resident_bytes(pid: int) -> int:
    """Memory of a process now."""
    return _status(pid, "VmRSS")


def peak_bytes(pid: int, call: Callable[[], object]) -> int:
    """The most memory that a process has while `call` runs."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    call()
    return _status(pid, "VmHWM")


def processor_seconds(pid: int) -> float:
    """Processor time of a process so far, of user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(pid: int, field: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    values = [line.split()[1] for line in text.splitlines() if line.startswith(f"{field}:")]
    return int(values[0]) * 1024
