"""A bare gRPC service that answers bytes with bytes: what the transport alone costs.

As a contender it keeps one message of a bidirectional stream in flight.
"""

from __future__ import annotations

import queue
from typing import Any

import grpc

from benchmarks.processes import start_server
from benchmarks.worker import Work, Workloads

work = Workloads("grpcio")

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
STREAM = "/echo.Echo/Stream"


@work.add("echo")
def echo(sent: float, received: float) -> Work:
    """A round trip of a message of `sent` bytes, answered with `received` bytes.

    The first eight bytes of a message say how long its answer shall be.
    """
    address, _ = start_server("benchmarks.peers.echo_server")
    channel = grpc.insecure_channel(address, options=OPTIONS)
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    stream: Any = channel.stream_stream(STREAM)
    answers = stream(iter(requests.get, None))
    message = int(received).to_bytes(8, "little") + bytes(max(0, int(sent) - 8))

    def call() -> int:
        requests.put(message)
        return len(next(answers))

    def close() -> None:
        requests.put(None)
        channel.close()

    return Work(call, close=close)


if __name__ == "__main__":
    work.serve()
