"""UM-Bridge: models over HTTP and JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import umbridge

from benchmarks import data
from benchmarks.processes import start_server
from benchmarks.worker import Work, Workloads

work = Workloads("umbridge", "numpy")


def connect(model: str) -> Any:
    address, _ = start_server("benchmarks.peers.um_bridge_server")
    return umbridge.HTTPModel(f"http://{address}", model)


@work.add("value_vjp")
def value_vjp(elements: int) -> Work:
    model, x = connect("value"), data.vector(elements).tolist()
    config = {"elements": elements}

    def call() -> Any:
        return model([x], config), model.gradient(0, 0, [x], [1.0], config)

    return Work(call, lambda made: [made[0][0][0], float(np.abs(made[1]).sum())])


@work.add("many_vjps")
def many_vjps() -> Work:
    model = connect("layer")
    vector, _, directions = data.resident()
    x, rows = vector.tolist(), directions.tolist()

    def call() -> Any:
        model([x])
        return [model.gradient(0, 0, [x], v) for v in rows]

    return Work(call, lambda made: [float(np.abs(made).sum())])


if __name__ == "__main__":
    work.serve()
