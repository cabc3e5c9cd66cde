"""A Tesseract of tanh(x·W), in the form that its runtime loads."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from tesseract_core.runtime import Array, Differentiable, Float64

from benchmarks.peers import remote_functions as functions


class InputSchema(BaseModel):
    x: Differentiable[Array[(None,), Float64]]


class OutputSchema(BaseModel):
    y: Differentiable[Array[(None,), Float64]]


def apply(inputs: InputSchema) -> OutputSchema:
    return OutputSchema(y=functions.layer(inputs.x))


def vector_jacobian_product(
    inputs: InputSchema,
    vjp_inputs: set[str],
    vjp_outputs: set[str],
    cotangent_vector: dict[str, Any],
) -> dict[str, Any]:
    return {"x": functions.layer_vjp(inputs.x, cotangent_vector["y"])}
