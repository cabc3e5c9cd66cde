"""The loop of a process that is measured: it prepares workloads and measures rounds, as told.

Commands come as lines of JSON on standard input, answers go to what was standard output. Runs in
the environments of the peers, so it asks for nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any


class UnavailableError(Exception):
    """This contender cannot do the workload; the text says why."""


@dataclass(frozen=True, slots=True)
class Work:
    """A workload, ready to be measured.

    Attributes:
        call: does it once.
        numbers: from what a call gave to the numbers that all contenders must agree on.
        facts: what else the table or other contenders want to know: bytes sent, for example.
        measure: a round of so many calls, in the row's unit; None: seconds a call, on a clock.
        close: frees what the workload holds.
    """

    call: Callable[[], Any]
    numbers: Callable[[Any], Sequence[float]] = lambda made: ()
    facts: Mapping[str, float] = field(default_factory=dict)
    measure: Callable[[int], float] | None = None
    close: Callable[[], None] = lambda: None


class Workloads:
    """The workloads of one contender, by name."""

    def __init__(self, *distributions: str) -> None:
        """Begin a table; `distributions` are the packages whose versions are reported."""
        self._makers: dict[str, Callable[..., Work]] = {}
        self._distributions = distributions

    def add(self, name: str) -> Callable[[Callable[..., Work]], Callable[..., Work]]:
        """Decorate the function that prepares the workload of this name from its arguments."""

        def register(maker: Callable[..., Work]) -> Callable[..., Work]:
            self._makers[name] = maker
            return maker

        return register

    def serve(self) -> None:
        """Answer commands until standard input ends."""
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        work: Work | None = None
        answer: dict[str, Any]
        for line in sys.stdin:
            command = json.loads(line)
            try:
                match command["do"]:
                    case "prepare":
                        work = self.make(command["workload"], command["arguments"])
                        answer = {
                            "numbers": [float(each) for each in work.numbers(work.call())],
                            "facts": dict(work.facts),
                        }
                    case "round":
                        assert work is not None, "a round comes after its workload is prepared"
                        answer = {"value": _round(work, command["calls"])}
                    case "close":
                        if work is not None:
                            work.close()
                        work, answer = None, {}
                    case "versions":
                        answer = {name: metadata.version(name) for name in self._distributions}
                    case other:
                        raise ValueError(f"no command {other!r}")
            except UnavailableError as reason:
                answer = {"unavailable": str(reason)}
            except Exception as error:
                traceback.print_exc()
                answer = {"unavailable": _in_a_line(error)}
            print(json.dumps(answer), file=answers, flush=True)

    def make(self, name: str, arguments: Mapping[str, Any]) -> Work:
        """Prepare a workload.

        Raises:
            UnavailableError: there is none of this name, or it cannot be done.
        """
        maker = self._makers.get(name)
        if maker is None:
            raise UnavailableError("has no such workload")
        return maker(**arguments)


def seconds_a_call(call: Callable[[], Any], calls: int) -> float:
    """Mean time of `calls` calls, after one that brings caches and clocks up again."""
    call()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def _round(work: Work, calls: int) -> float:
    return work.measure(calls) if work.measure else seconds_a_call(work.call, calls)


def _in_a_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
