"""A real server on a real port, and clients to it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from gradwire_server.embedded import EmbeddedServer
from tests.service.harness import Client
from tests.service.serving import Running, serving

_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Ctrl-C interrupts, also where a shell started the run in the background and ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where the server of the whole run listens, with its default settings."""
    with EmbeddedServer.start(address="127.0.0.1:0") as server:
        yield server.address


@pytest.fixture(scope="session")
def stub(address: str) -> Iterator[AutogradServiceStub]:
    with grpc.insecure_channel(address, options=_UNLIMITED) as channel:
        yield AutogradServiceStub(channel)


@pytest.fixture
def client(stub: AutogradServiceStub) -> Client:
    """A fresh session of that server."""
    return Client.open(stub)


@pytest.fixture
def start_server() -> Iterator[Callable[..., AutogradServiceStub]]:
    """Starts servers with settings of a test's own; gives a stub for each."""
    with ExitStack() as stack:

        def start(**settings: Any) -> AutogradServiceStub:
            settings.setdefault("address", "127.0.0.1:0")
            server = stack.enter_context(EmbeddedServer.start(**settings))
            channel = grpc.insecure_channel(server.address, options=_UNLIMITED)
            return AutogradServiceStub(stack.enter_context(channel))

        yield start


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts `gradwire serve` on a free port; it is gone at the end of the test."""
    with serving(tmp_path) as start:
        yield start
