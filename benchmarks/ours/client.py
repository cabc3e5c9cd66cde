"""The service from its client's side: the SDK, and a server in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import gradwire as gw
import gradwire.nn.functional as F
from benchmarks import data
from benchmarks.ours import serving
from benchmarks.processes import peak_bytes, resident_bytes
from benchmarks.worker import Work, Workloads

work = Workloads("gradwire", "grpcio", "protobuf", "numpy")


def connect() -> gw.Session:
    """A session on the server of this process."""
    return gw.connect(serving.start()[0], name="benchmark")


def measured(
    session: gw.Session,
    call: Callable[[], Any],
    numbers: Callable[[Any], list[float]],
    array_bytes: int = 0,
) -> Work:
    """A workload that also tells the bytes which one call sends and receives.

    Args:
        array_bytes: what they are at least in both directions. A session does not count arrays that
            travel on streams of their own, because they are larger than a message.
    """
    call()
    before = session.traffic
    call()
    after = session.traffic
    facts = {
        "sent": float(max(after.sent - before.sent, array_bytes)),
        "received": float(max(after.received - before.received, array_bytes)),
    }
    return Work(call, numbers, facts, close=session.close)


def gradient(leaf: gw.Tensor) -> gw.Tensor:
    """The `.grad` that a backward has brought."""
    found = leaf.grad
    assert found is not None
    return found


def value_and_gradient(made: tuple[Any, Any]) -> list[float]:
    return [float(made[0]), float(np.abs(made[1]).sum(dtype=float))]


@work.add("value_vjp")
def value_vjp(elements: int, program: bool = False) -> Work:
    session, array = connect(), data.vector(elements)

    def function(x: gw.Tensor) -> tuple[gw.Tensor, gw.Tensor]:
        y = ((x + 2) ** 2).sum()
        (slope,) = gw.autograd.grad(y, x)
        return y, slope

    value_and_slope = gw.compile(function) if program else function

    def call() -> Any:
        return gw.fetch(*value_and_slope(gw.tensor(array, requires_grad=True)))

    return measured(session, call, value_and_gradient, array.nbytes)


@work.add("remote_chain")
def remote_chain(ops: int) -> Work:
    session = connect()
    start = np.ones(8, np.float32)

    def call() -> Any:
        x = gw.tensor(start, requires_grad=True)
        y = x
        for _ in range(ops // 2):
            y = y * 1.001
            y = y + 0.1
        y = y.sum()
        y.backward()
        return gw.fetch(y, gradient(x))

    return measured(session, call, value_and_gradient)


@work.add("training_step")
def training_step(program: bool = False) -> Work:
    session, task = connect(), data.mlp()
    parameters = [gw.tensor(each, requires_grad=True) for each in task.parameters]
    optimizer = gw.optim.SGD(parameters, lr=data.RATE)

    def step(x: gw.Tensor, labels: gw.Tensor) -> gw.Tensor:
        w1, b1, w2, b2, w3, b3 = parameters
        optimizer.zero_grad()
        hidden = F.relu(F.linear(F.relu(F.linear(x, w1, b1)), w2, b2))
        loss = F.cross_entropy(F.linear(hidden, w3, b3), labels)
        loss.backward()
        optimizer.step()
        return loss

    run = gw.compile(step) if program else step

    def call() -> float:
        return float(run(gw.tensor(task.x), gw.tensor(task.labels)))

    # The numbers are those of the first step, so it comes before any other.
    first = call()
    return measured(session, call, lambda _: [first])


@work.add("many_vjps")
def many_vjps(each: bool = False) -> Work:
    """One forward, then a VJP a direction; with `each`, every one is read before the next."""
    session = connect()
    vector, matrix, directions = data.resident()
    w = gw.tensor(matrix)

    def call() -> list[Any]:
        x = gw.tensor(vector, requires_grad=True)
        y = (x @ w).tanh()
        rows: list[Any] = []
        for direction in directions:
            v = gw.tensor(direction)
            (row,) = gw.autograd.grad(y, x, v, retain_graph=True)
            rows.append(row.numpy() if each else row)
        return rows if each else list(gw.fetch(*rows))

    return measured(session, call, lambda rows: [float(sum(np.abs(row).sum() for row in rows))])


@work.add("sessions")
def sessions(count: int) -> Work:
    """A small request in each of so many open sessions in turn; seconds of one request."""
    opened = [connect() for _ in range(count)]
    turn = 0

    def call() -> float:
        nonlocal turn
        with opened[turn % count].use():
            turn += 1
            x = gw.tensor([3.0], requires_grad=True)
            y = (x + 2) ** 2
            y.backward()
            return float(gradient(x))

    def close() -> None:
        for each in opened:
            each.close()

    return Work(call, lambda made: [made], close=close)


@work.add("peak_memory")
def peak_memory(of: str, **arguments: Any) -> Work:
    """The most memory of the server during a call of another workload; bytes."""
    pid = serving.start()[1]
    at_rest = resident_bytes(pid)
    inner = work.make(of, arguments)
    return Work(
        inner.call,
        inner.numbers,
        {"at rest": float(at_rest)},
        measure=lambda calls: float(peak_bytes(pid, inner.call)),
        close=inner.close,
    )


@work.add("memory_of_steps")
def memory_of_steps(program: bool = False) -> Work:
    """Memory of the server after so many training steps; bytes."""
    inner = training_step(program)

    def measure(calls: int) -> float:
        for _ in range(calls):
            inner.call()
        return float(resident_bytes(serving.start()[1]))

    return Work(inner.call, inner.numbers, measure=measure, close=inner.close)


if __name__ == "__main__":
    work.serve()
