"""pytensor-federated: arrays to arrays on a gRPC stream."""

from __future__ import annotations

from typing import Any

from pytensor_federated import ArraysToArraysServiceClient

from benchmarks import data
from benchmarks.processes import start_server
from benchmarks.worker import Work, Workloads

work = Workloads("pytensor-federated", "numpy")


def connect(function: str) -> Any:
    address, _ = start_server("benchmarks.peers.pytensor_federated_server", function)
    host, port = address.split(":")
    return ArraysToArraysServiceClient(host, int(port))


@work.add("value_vjp")
def value_vjp(elements: int) -> Work:
    client, x = connect("value"), data.vector(elements)
    return Work(
        lambda: client.evaluate(x), lambda made: [float(made[0]), float(abs(made[1]).sum())]
    )


@work.add("many_vjps")
def many_vjps() -> Work:
    client = connect("layer")
    x, _, directions = data.resident()

    def call() -> list[Any]:
        return [client.evaluate(x, v)[1] for v in directions]

    return Work(call, lambda rows: [float(sum(abs(each).sum() for each in rows))])


if __name__ == "__main__":
    work.serve()
