"""Rows of the service: the same job done by another process, over a wire."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.contenders import (
    CLIENT,
    ECHO,
    FEDERATED,
    PROGRAM,
    REUSING_ECHO,
    TESSERACT,
    TORCH,
    TORCH_RPC,
    UM_BRIDGE,
)
from benchmarks.rows import Contender, Row, Target

SLOWEST = {FEDERATED.name: 1_000_000, UM_BRIDGE.name: 100_000, TESSERACT.name: 1_000_000}
"""Elements beyond which a peer takes seconds a call."""


def value_vjp(elements: int, targets: tuple[Target, ...] = ()) -> Row:
    echoes = (ECHO,) if elements < 100_000 else (ECHO, REUSING_ECHO)
    peers = (*echoes, TORCH_RPC, FEDERATED, UM_BRIDGE, TESSERACT)
    able = tuple(each for each in peers if elements <= SLOWEST.get(each.name, elements))
    return Row(
        f"value_vjp_{elements}",
        f"value and VJP of `sum((x + 2)**2)`, {elements:,} float64",
        "service",
        "value_vjp",
        (CLIENT, PROGRAM, *able),
        {"elements": elements},
        targets,
        family="elements",
        size=elements,
        quick=elements <= 1_000_000,
    )


def beside_echo(contender: str, at_most: float) -> Target:
    return Target(contender, {ECHO.name: 1.0}, at_most)


LOCAL = replace(TORCH, name="torch eager, local")
ALL_READ = replace(CLIENT, name="gradwire, each read", arguments={"each": True})


def local(workload: str) -> Contender:
    return replace(LOCAL, workload=workload)


ROWS = (
    value_vjp(1, (beside_echo(CLIENT.name, 1.3),)),
    value_vjp(1_000),
    value_vjp(100_000),
    value_vjp(1_000_000, (beside_echo(CLIENT.name, 1.25),)),
    value_vjp(10_000_000),
    Row(
        "training_step",
        "training step of an MLP, parameters on the server, minibatch sent, loss read",
        "service",
        "training_step",
        (CLIENT, PROGRAM, local("mlp"), ECHO, TORCH_RPC),
        targets=(Target(PROGRAM.name, {LOCAL.name: 1.0, ECHO.name: 1.2}, 1.0),),
        family="training",
    ),
    Row(
        "many_vjps",
        "32 VJPs of `tanh(x @ W)` after one forward, W of 256×256 on the server",
        "service",
        "many_vjps",
        (CLIENT, ALL_READ, TORCH_RPC, FEDERATED, UM_BRIDGE, TESSERACT),
        family="directions",
    ),
)
