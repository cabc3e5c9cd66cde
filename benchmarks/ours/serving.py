"""A gradwire server as a child of the process that measures it."""

from __future__ import annotations

import functools
import json
import sys

from benchmarks.processes import THREADS, start_command


@functools.cache
def start(*flags: str) -> tuple[str, int]:
    """Start a server on a free port, once; its address and process id.

    It ends with this process.

    Raises:
        ServerError: it did not start.
    """
    command = [
        *(sys.executable, "-m", "gradwire_server", "serve", "--address", "127.0.0.1:0"),
        *("--log-format", "json", "--threads", str(THREADS), *flags),
    ]
    return start_command(command, _address)


def _address(line: str) -> str | None:
    event = json.loads(line) if line.startswith("{") else {}
    return str(event["address"]) if event.get("event") == "server started" else None
