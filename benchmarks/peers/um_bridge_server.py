"""The server of `um_bridge`: both models."""

from __future__ import annotations

from typing import Any

import numpy as np
import umbridge

from benchmarks import data
from benchmarks.peers import remote_functions as functions
from benchmarks.peers.ports import announce, free_port


class Value(umbridge.Model):  # type: ignore[misc]
    """sum((x + 2)²)."""

    def __init__(self) -> None:
        super().__init__("value")

    def get_input_sizes(self, config: dict[str, Any]) -> list[int]:
        return [config.get("elements", 1)]

    def get_output_sizes(self, config: dict[str, Any]) -> list[int]:
        return [1]

    def __call__(self, parameters: list[list[float]], config: dict[str, Any]) -> Any:
        return [[functions.value(np.array(parameters[0]))]]

    def supports_evaluate(self) -> bool:
        return True

    def gradient(self, out: int, into: int, parameters: Any, v: Any, config: Any) -> Any:
        return (functions.value_gradient(np.array(parameters[0])) * v[0]).tolist()

    def supports_gradient(self) -> bool:
        return True


class Layer(Value):
    """tanh(x·W)."""

    def __init__(self) -> None:
        umbridge.Model.__init__(self, "layer")

    def get_input_sizes(self, config: dict[str, Any]) -> list[int]:
        return [data.RESIDENT]

    def get_output_sizes(self, config: dict[str, Any]) -> list[int]:
        return [data.RESIDENT]

    def __call__(self, parameters: list[list[float]], config: dict[str, Any]) -> Any:
        return [functions.layer(np.array(parameters[0])).tolist()]

    def gradient(self, out: int, into: int, parameters: Any, v: Any, config: Any) -> Any:
        return functions.layer_vjp(np.array(parameters[0]), np.array(v)).tolist()


if __name__ == "__main__":
    chosen = free_port()
    announce(chosen)
    umbridge.serve_models([Value(), Layer()], chosen)
