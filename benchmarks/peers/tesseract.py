"""Tesseract: components over HTTP."""

from __future__ import annotations

from typing import Any

import numpy as np
from tesseract_core import Tesseract

from benchmarks import data
from benchmarks.processes import start_server
from benchmarks.worker import Work, Workloads

work = Workloads("tesseract-core", "numpy")


def connect(component: str) -> Any:
    address, _ = start_server("benchmarks.peers.tesseract_server", component)
    return Tesseract.from_url(f"http://{address}")


@work.add("value_vjp")
def value_vjp(elements: int) -> Work:
    component, x = connect("value"), data.vector(elements)
    one = np.array(1.0)

    def call() -> Any:
        value = component.apply({"x": x})
        vjp = component.vector_jacobian_product({"x": x}, ["x"], ["y"], {"y": one})
        return value["y"], vjp["x"]

    return Work(call, lambda made: [float(made[0]), float(np.abs(made[1]).sum())])


@work.add("many_vjps")
def many_vjps() -> Work:
    component = connect("layer")
    x, _, directions = data.resident()

    def call() -> Any:
        component.apply({"x": x})
        return [
            component.vector_jacobian_product({"x": x}, ["x"], ["y"], {"y": v})["x"]
            for v in directions
        ]

    return Work(call, lambda made: [float(np.abs(made).sum())])


if __name__ == "__main__":
    work.serve()
