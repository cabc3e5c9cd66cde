"""A server under h2load, a load generator in C: one-sequence requests, and a bare echo's."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np

from benchmarks.ours import serving
from benchmarks.processes import processor_seconds, start_server
from benchmarks.worker import UnavailableError, Work, Workloads
from gradwire import wire
from gradwire.v1 import autograd_pb2 as pb

work = Workloads("gradwire", "grpcio")

ECHO = "/echo.Echo/Unary"


def sequence() -> tuple[pb.Sequence, bytes]:
    """(x + 2)² at 3, its backward, both read, all released: so it may be run again and again."""
    x, more, y, gradient = 1, 2, 3, 4
    steps = [
        pb.Step(put=pb.Put(output=x, dtype=pb.DTYPE_FLOAT32, shape=[1], requires_grad=True)),
        pb.Step(op=op("add", x, more, "other")),
        pb.Step(op=op("pow", more, y, "exponent")),
        pb.Step(backward=pb.Backward(tensors=[y])),
        pb.Step(get_grad=pb.GetGrad(tensors=[x], outputs=[gradient])),
        pb.Step(fetch=pb.Fetch(tensors=[y, gradient], values=True)),
        pb.Step(release=pb.Release(tensors=[x, more, y, gradient])),
    ]
    return pb.Sequence(steps=steps), np.array([3.0], np.float32).tobytes()


def op(name: str, source: int, output: int, argument: str) -> pb.Op:
    two = pb.Attribute(name=argument, int_value=2)
    return pb.Op(name=name, inputs=[source], output=output, attributes=[two])


def request(session_id: str) -> bytes:
    run, payload = sequence()
    return pb.RunRequest(
        session_id=session_id, sequence=run, payloads=[payload]
    ).SerializeToString()


def open_session(address: str) -> str:
    answer = ask(address, wire.CREATE_SESSION, pb.CreateSessionRequest().SerializeToString())
    return pb.CreateSessionResponse.FromString(answer).session.id


def ask(address: str, path: str, message: bytes) -> bytes:
    with grpc.insecure_channel(address) as channel:
        call: Callable[..., bytes] = channel.unary_unary(path)
        return call(message, timeout=30)


@work.add("load")
def load(target: str, clients: int, metric: str) -> Work:
    """Requests a second, or the server's processor seconds a request, under so many clients.

    Args:
        target: "session" (all in one), "ephemeral" (each in one of its own), or "echo".
        metric: "rate" or "processor".
    """
    if target == "echo":
        address, pid = start_server("benchmarks.peers.echo_server")
        path, message = ECHO, request("0" * 32)
    else:
        address, pid = serving.start()
        path = wire.RUN
        message = request(open_session(address) if target == "session" else "")
    answer = ask(address, path, message)
    if target != "echo":
        payloads = pb.RunResponse.FromString(answer).payloads
        values = [float(np.frombuffer(each, np.float32)[0]) for each in payloads]
        if values != [25.0, 10.0]:
            raise UnavailableError(f"the server answered {values}")

    def measure(calls: int) -> float:
        before = processor_seconds(pid)
        rate = run_h2load(f"http://{address}{path}", message, len(answer), calls, clients)
        spent = processor_seconds(pid) - before
        return rate if metric == "rate" else spent / calls

    return Work(lambda: measure(50 * clients), measure=measure)


def run_h2load(url: str, message: bytes, answer: int, calls: int, clients: int) -> float:
    """So many requests from so many clients, each with one in flight; requests a second.

    Raises:
        UnavailableError: h2load is not there, or an answer was not of `answer` bytes.
    """
    with tempfile.NamedTemporaryFile() as body:
        Path(body.name).write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
        command = [
            *("h2load", "--requests", str(calls), "--clients", str(clients)),
            *("--max-concurrent-streams", "1", "--data", body.name),
            *("--header", "content-type: application/grpc", "--header", "te: trailers", url),
        ]
        try:
            made = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise UnavailableError(
                "h2load is not installed (Debian's package nghttp2-client)"
            ) from None
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", made.stdout)
    data = re.search(r"\((\d+)\) data", made.stdout)
    if not rate or not data or f" {calls} succeeded" not in made.stdout:
        raise UnavailableError(f"h2load failed: {made.stdout[-300:]}{made.stderr[-300:]}")
    # To h2load every HTTP answer is one; a gRPC failure shows as an answer without a message.
    if int(data[1]) != calls * (5 + answer):
        raise UnavailableError(f"{data[1]} bytes came for {calls} requests of {5 + answer}")
    return float(rate[1])


if __name__ == "__main__":
    work.serve()
