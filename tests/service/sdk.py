"""What the tests of the SDK share."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

import gradwire as gw
from gradwire import wire
from gradwire.v1 import autograd_pb2 as pb


@pytest.fixture
def session(address: str) -> Iterator[gw.Session]:
    """A fresh session, the current one."""
    with gw.connect(address) as opened:
        yield opened


def programs(session: gw.Session) -> list[pb.StoredProgram]:
    """The programs that a session has on the server."""
    session.synchronize()
    request = pb.ListProgramsRequest(session_id=session.id)
    return list(session.call(wire.LIST_PROGRAMS, request, pb.ListProgramsResponse).programs)


def runs(session: gw.Session) -> list[int]:
    """How often each of them ran."""
    return [each.run_count for each in programs(session)]


def leaf(*values: float) -> gw.Tensor:
    """A vector of doubles that requires grad."""
    return gw.tensor(values, dtype=gw.float64, requires_grad=True)


class Proxy:
    """A TCP proxy whose connections can be cut, to stand for an unreliable network."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self.refusing = False
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self.forwarded = 0
        self._faults: list[int] = []
        self._counting = threading.Lock()
        self.flowing = threading.Event()
        """Cleared, it passes nothing on, and breaks nothing."""
        self.flowing.set()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def cut(self) -> None:
        """Break every connection; what is under way is lost."""
        held, self._held = self._held, []
        for each in held:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def cut_after(self, *sizes: int) -> None:
        """Break every connection when so many bytes have gone on, then after so many more, ..."""
        with self._counting:
            self.forwarded = 0
            self._faults = [sum(sizes[: at + 1]) for at in range(len(sizes))]

    @property
    def cuts_left(self) -> int:
        """How many of those breaks are still to come."""
        return len(self._faults)

    def _count(self, size: int) -> None:
        with self._counting:
            self.forwarded += size
            if not self._faults or self.forwarded < self._faults[0]:
                return
            self._faults.pop(0)
        self.cut()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Break every connection and accept no other for a while."""
        self.refusing = True
        self.cut()
        try:
            yield
        finally:
            self.refusing = False

    def close(self) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                client.close()
                continue
            self.connections += 1
            server = socket.create_connection(self._target)
            self._held += [client, server]
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
            back.start()
            self._pump(client, server)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._count(len(data))
                self.flowing.wait()
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
