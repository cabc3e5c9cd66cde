"""Rows that show how cost grows with operators, sessions and clients (elements: service.py)."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.contenders import CLIENT, ECHO, TORCH, TORCH_RPC
from benchmarks.rows import Contender, Row, Target

LOCAL = replace(TORCH, name="torch eager, local", workload="chain")


def ops(count: int) -> Row:
    target = Target(CLIENT.name, {LOCAL.name: 1.0}, 1.0)
    return Row(
        f"ops_{count}",
        f"graph of {count:,} operators: recorded, sent, run, differentiated, gradient read",
        "growth",
        "remote_chain",
        (CLIENT, LOCAL, TORCH_RPC, ECHO),
        {"ops": count},
        (target,) if count == 1000 else (),
        family="ops",
        size=count,
        quick=count <= 10_000,
    )


def sessions(count: int) -> Row:
    return Row(
        f"sessions_{count}",
        f"a small request in each of {count:,} open sessions, in turn",
        "growth",
        "sessions",
        (CLIENT,),
        {"count": count},
        family="sessions",
        size=count,
        quick=count <= 100,
    )


def under_load(name: str, target: str, metric: str) -> Contender:
    arguments = {"target": target, "metric": metric}
    return Contender(name, "benchmarks.ours.load", arguments=arguments)


def clients(count: int) -> Row:
    return Row(
        f"clients_{count}",
        f"requests of one sequence, {count} at a time, under h2load",
        "growth",
        "load",
        (
            under_load("gradwire", "session", "rate"),
            under_load("gradwire, no session", "ephemeral", "rate"),
            under_load("gRPC echo", "echo", "rate"),
        ),
        {"clients": count},
        (Target("gradwire", {"gRPC echo": 1.0}, at_least=0.7),) if count == 16 else (),
        unit="requests/s",
        calls=max(1500, 100 * count),
        rounds=5,
        family="clients",
        size=count,
    )


PROCESSOR = Row(
    "processor",
    "processor time of the server, a request of one sequence, 16 at a time, under h2load",
    "growth",
    "load",
    (
        under_load("gradwire", "session", "processor"),
        under_load("gradwire, no session", "ephemeral", "processor"),
        under_load("gRPC echo", "echo", "processor"),
    ),
    {"clients": 16},
    calls=3000,
    rounds=5,
    family="processor",
)

ROWS = (
    *map(ops, (10, 100, 1000, 10_000, 100_000)),
    *map(sessions, (1, 10, 100, 1000)),
    *map(clients, (1, 2, 4, 8, 16, 32, 64)),
    PROCESSOR,
)
