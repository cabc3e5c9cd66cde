"""Rows of the engine: forward and backward in one process, with no wire.

All processes reuse large blocks, as gradwire's server does. By default, glibc returns them to the
kernel or not depending on what has run before, which changes a row of large arrays twofold.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks import contenders
from benchmarks.contenders import REUSE
from benchmarks.rows import Row, Target

ENGINE, COMPILED, TORCH, HIPS, MYGRAD = ALL = tuple(
    replace(each, variables=REUSE)
    for each in (
        contenders.ENGINE,
        contenders.COMPILED,
        contenders.TORCH,
        contenders.HIPS,
        contenders.MYGRAD,
    )
)
DYNAMIC, PROGRAM = ENGINE.name, COMPILED.name


def beside_torch(contender: str, at_most: float) -> Target:
    return Target(contender, {TORCH.name: 1.0}, at_most)


ROWS = (
    Row("tiny", "`(x + 2)**2` at one element, from leaf to gradient", "engine", "tiny", ALL),
    Row(
        "chain",
        "1,000 operators on vectors of 8",
        "engine",
        "chain",
        ALL,
        {"ops": 1000},
        (
            beside_torch(DYNAMIC, 0.5),
            Target(DYNAMIC, {HIPS.name: 1.0}, 0.2),
            beside_torch(PROGRAM, 0.1),
        ),
    ),
    Row(
        "mlp",
        "training step of an MLP, 784-256-256-10, batch 128",
        "engine",
        "mlp",
        ALL,
        targets=(beside_torch(PROGRAM, 1.0),),
    ),
    Row(
        "convnet",
        "two 3×3 convolutions, pooling, linear; 32 pictures of 28×28",
        "engine",
        "convnet",
        (ENGINE, COMPILED, TORCH, MYGRAD),
    ),
    Row(
        "conv2d",
        "conv2d, 32×16×32×32 by 32 kernels of 3×3",
        "engine",
        "conv2d",
        (ENGINE, COMPILED, TORCH, MYGRAD),
        targets=(beside_torch(DYNAMIC, 1.5),),
    ),
    Row(
        "block",
        "GPT-2 small's block, 2×64 tokens",
        "engine",
        "block",
        ALL,
        targets=(beside_torch(PROGRAM, 1.2),),
    ),
    Row(
        "elementwise",
        "`sum(tanh(x*w + b) * exp(-x**2))`, 1e6 elements",
        "engine",
        "elementwise",
        ALL,
        targets=(beside_torch(PROGRAM, 0.6),),
    ),
    Row(
        "reductions",
        "sum, var, logsumexp and amax of 1,000×1,000",
        "engine",
        "reductions",
        ALL,
    ),
    Row("matmul", "product of matrices, 1,024×1,024", "engine", "matmul", ALL),
    Row(
        "gaussian",
        "solve and log-determinant of 200×200, float64",
        "engine",
        "gaussian",
        (ENGINE, COMPILED, TORCH, HIPS),
    ),
    Row("embedding", "20,000 of 10,000 rows of 64", "engine", "embedding", ALL),
)
