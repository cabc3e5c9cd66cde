"""The server inside this process, for `gradwire.connect()` with no address."""

import os
import threading
from typing import Protocol


class _Server(Protocol):
    address: str

    def stop(self) -> None: ...


_lock = threading.Lock()
_server: _Server | None = None
_users = 0


def acquire() -> str:
    """Start the process's embedded server, or share the one that runs; its address.

    Raises:
        ImportError: the server's dependencies are not installed.
    """
    global _server, _users
    with _lock:
        if _server is None:
            _server = _start()
        _users += 1
        return _server.address


def release() -> None:
    """Give up one use of the embedded server, and stop it with the last one."""
    global _server, _users
    with _lock:
        _users -= 1
        if _users > 0 or _server is None:
            return
        server, _server = _server, None
    server.stop()


def _start() -> _Server:
    try:
        from gradwire_server.embedded import EmbeddedServer
    except ImportError as error:
        raise ImportError(
            "connect() with no address starts a server in this process, which needs packages that "
            f"are not installed ({error}). Run: pip install 'gradwire[server]'. Or connect to a "
            "server that runs elsewhere: gradwire.connect('host:port')"
        ) from error
    server: _Server = EmbeddedServer.start()
    return server


def _forget_after_fork() -> None:
    global _lock, _server, _users
    _lock, _server, _users = threading.Lock(), None, 0


os.register_at_fork(after_in_child=_forget_after_fork)
