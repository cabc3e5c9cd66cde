"""Running rows: everybody prepares, agrees on the numbers, and is measured in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.measure import Effort, alternate
from benchmarks.results import Result
from benchmarks.rows import Contender, Row
from benchmarks.workers import Worker, WorkerError, Workers

TOLERANCE = 2e-3
"""What sums in float32 may differ by, relatively."""

TRAFFIC = ("sent", "received")


def run(row: Row, workers: Workers, effort: Effort) -> Result:
    """Measure a row. A contender that cannot take part is absent, with the reason."""
    ready: dict[str, Worker] = {}
    absent: dict[str, str] = {}
    facts: dict[str, dict[str, float]] = {}
    agreed: list[float] = []
    try:
        for contender in row.contenders:
            try:
                if contender.fresh:
                    workers.end(contender)
                worker = workers.of(contender)
                arguments = _arguments(row, contender, facts)
                made = worker.prepare(contender.workload or row.workload, arguments)
                agreed = agreed or made["numbers"]
                _check_numbers(made["numbers"], agreed)
            except WorkerError as error:
                absent[contender.name] = str(error)
            else:
                facts[contender.name] = made["facts"]
                ready[contender.name] = worker
        try:
            taken = alternate(ready, effort, row.calls, row.rounds) if ready else {}
        except WorkerError as error:
            # Nobody's rounds can be compared any more; the row can be run again by its name.
            return Result(row.name, {}, {**absent, "all": f"a round failed: {error}"}, {})
        return Result(row.name, taken, absent, {n: f for n, f in facts.items() if f})
    finally:
        _finish(row, workers, ready)


def _finish(row: Row, workers: Workers, ready: dict[str, Worker]) -> None:
    for contender in row.contenders:
        worker = ready.get(contender.name)
        try:
            if worker is not None and not contender.fresh:
                worker.close()
        except WorkerError:
            workers.end(contender)
        if contender.fresh:
            workers.end(contender)


def _arguments(
    row: Row, contender: Contender, facts: dict[str, dict[str, float]]
) -> dict[str, Any]:
    arguments = {k: v for k, v in row.arguments.items() if k not in contender.drops}
    arguments.update(contender.arguments)
    if contender.takes_traffic:
        told = next((each for each in facts.values() if each.keys() >= set(TRAFFIC)), None)
        if told is None:
            raise WorkerError("nobody ran whose bytes it could echo")
        arguments.update({name: told[name] for name in TRAFFIC})
    return arguments


def _check_numbers(numbers: Sequence[float], agreed: Sequence[float]) -> None:
    """Refuse a contender that computes something else; one without numbers computes nothing."""
    if numbers and not (
        len(numbers) == len(agreed) and np.allclose(numbers, agreed, TOLERANCE, TOLERANCE)
    ):
        raise WorkerError(f"it computes {list(numbers)}, the others {list(agreed)}")
