"""What the workloads compute on: the same arrays for every contender, drawn from fixed seeds."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

RATE = 0.01
"""Learning rate of the training steps."""

MLP_SIZES = (784, 256, 256, 10)
BATCH = 128

WIDTH, HEADS, BLOCK_BATCH, TOKENS = 768, 12, 2, 64
"""The transformer block is that of GPT-2 small."""


def normal(seed: int, *shape: int, scale: float = 1.0, dtype: npt.DTypeLike = np.float32) -> Array:
    """Standard normal numbers, times `scale`."""
    drawn = np.random.default_rng(seed).standard_normal(shape) * scale
    return drawn.astype(dtype)


@dataclass(frozen=True, slots=True)
class Classification:
    """A minibatch and the parameters that classify it.

    Attributes:
        x: the inputs, float32.
        labels: their classes, (batch,) int64.
        parameters: weights, (outputs, inputs) as `linear` takes them, and biases, in turn.
    """

    x: Array
    labels: Array
    parameters: list[Array]


def mlp() -> Classification:
    """784-256-256-10, a minibatch of 128."""
    parameters: list[Array] = []
    for at, (inputs, outputs) in enumerate(itertools.pairwise(MLP_SIZES)):
        parameters.append(normal(10 + at, outputs, inputs, scale=inputs**-0.5))
        parameters.append(np.zeros(outputs, np.float32))
    labels = np.random.default_rng(1).integers(0, MLP_SIZES[-1], BATCH)
    return Classification(normal(0, BATCH, MLP_SIZES[0]), labels, parameters)


def convnet() -> Classification:
    """Two convolutions of 3×3 with pooling and a linear layer, 32 pictures of 28×28."""
    parameters = [
        normal(20, 16, 1, 3, 3, scale=1 / 3),
        np.zeros(16, np.float32),
        normal(21, 32, 16, 3, 3, scale=1 / 12),
        np.zeros(32, np.float32),
        normal(22, 10, 32 * 7 * 7, scale=1 / 40),
        np.zeros(10, np.float32),
    ]
    labels = np.random.default_rng(2).integers(0, 10, 32)
    return Classification(normal(3, 32, 1, 28, 28), labels, parameters)


def block() -> tuple[Array, dict[str, Array]]:
    """Activations (batch, tokens, width) and the parameters of a GPT-2 block, float32."""
    scale = WIDTH**-0.5
    return normal(30, BLOCK_BATCH, TOKENS, WIDTH), {
        "ln1_weight": np.ones(WIDTH, np.float32),
        "ln1_bias": np.zeros(WIDTH, np.float32),
        "qkv_weight": normal(31, 3 * WIDTH, WIDTH, scale=scale),
        "qkv_bias": np.zeros(3 * WIDTH, np.float32),
        "out_weight": normal(32, WIDTH, WIDTH, scale=scale),
        "out_bias": np.zeros(WIDTH, np.float32),
        "ln2_weight": np.ones(WIDTH, np.float32),
        "ln2_bias": np.zeros(WIDTH, np.float32),
        "up_weight": normal(33, 4 * WIDTH, WIDTH, scale=scale),
        "up_bias": np.zeros(4 * WIDTH, np.float32),
        "down_weight": normal(34, WIDTH, 4 * WIDTH, scale=scale / 2),
        "down_bias": np.zeros(WIDTH, np.float32),
    }


def convolution() -> tuple[Array, Array]:
    """32 pictures of 16 channels and 32×32, and 32 kernels of 3×3, float32."""
    return normal(40, 32, 16, 32, 32), normal(41, 32, 16, 3, 3)


def elementwise() -> tuple[Array, Array, Array]:
    """Three vectors of a million, float32."""
    return normal(50, 1_000_000), normal(51, 1_000_000), normal(52, 1_000_000)


def square(size: int = 1000) -> Array:
    """A square matrix, float32."""
    return normal(60, size, size)


def gaussian(size: int = 200) -> tuple[Array, Array]:
    """A matrix B that makes the covariance B·Bᵀ + size·I, and a vector; float64."""
    return normal(70, size, size, dtype=np.float64), normal(71, size, dtype=np.float64)


def lookups() -> tuple[Array, Array]:
    """A table of 10,000 rows of 64, float32, and 20,000 indices into it."""
    return normal(80, 10_000, 64), np.random.default_rng(81).integers(0, 10_000, 20_000)


def vector(elements: int) -> Array:
    """What the remote function sum((x + 2)²) takes, float64."""
    return normal(90, elements, dtype=np.float64)


RESIDENT, DIRECTIONS = 256, 32
"""Width of the function with a resident matrix, and so many VJPs after one forward."""


def resident() -> tuple[Array, Array, Array]:
    """The x and W of y = tanh(x·W), W kept by the server, and one direction a row; float64."""
    return (
        normal(91, RESIDENT, dtype=np.float64),
        normal(92, RESIDENT, RESIDENT, scale=RESIDENT**-0.5, dtype=np.float64),
        normal(93, DIRECTIONS, RESIDENT, dtype=np.float64),
    )
