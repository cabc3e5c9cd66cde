"""Rows of memory: the most that the server needs, and that it does not grow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.contenders import CLIENT, PROGRAM, TORCH
from benchmarks.rows import Contender, Row

SERVER = replace(CLIENT, name="gradwire's server", fresh=True)
LOCAL = replace(TORCH, name="torch eager's process", fresh=True)


def doing(contender: Contender, of: str, **arguments: Any) -> Contender:
    return replace(contender, arguments={"of": of, **arguments})


STEPS = Row(
    "memory_steps",
    "memory after 1,000, 2,000, ... 10,000 training steps of the MLP",
    "memory",
    "memory_of_steps",
    (SERVER, replace(PROGRAM, name="gradwire's server, compiled", fresh=True), LOCAL),
    unit="bytes",
    calls=1000,
    rounds=10,
    quick=False,
)

ROWS = (
    Row(
        "memory_elements",
        "value and VJP of `sum((x + 2)**2)`, 10,000,000 float64",
        "memory",
        "peak_memory",
        (
            doing(SERVER, "value_vjp", elements=10_000_000),
            doing(LOCAL, "value_vjp", elements=10_000_000),
        ),
        unit="bytes",
        calls=1,
        rounds=3,
        quick=False,
    ),
    Row(
        "memory_graph",
        "graph of 100,000 operators and its backward",
        "memory",
        "peak_memory",
        (doing(SERVER, "remote_chain", ops=100_000), doing(LOCAL, "chain", ops=100_000)),
        unit="bytes",
        calls=1,
        rounds=3,
        quick=False,
    ),
    STEPS,
)
