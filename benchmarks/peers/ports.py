"""Ports for servers that listen only where they are told to."""

from __future__ import annotations

import socket
import threading
import time


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def announce(port: int) -> None:
    """Print `ready ADDRESS`, as `start_server` waits for, once the port answers."""
    threading.Thread(target=_wait, args=(port,), daemon=True).start()


def _wait(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            print(f"ready 127.0.0.1:{port}", flush=True)
            return
