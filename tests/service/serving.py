"""`gradwire serve` as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

GRADWIRE = [sys.executable, "-m", "gradwire_server"]


@dataclass
class Running:
    """A `gradwire serve` process."""

    process: subprocess.Popen[str]
    address: str
    log: Path

    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def environment(**variables: str) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if "GRADWIRE" not in key}
    return inherited | variables


@contextmanager
def serving(directory: Path) -> Iterator[Callable[..., Running]]:
    """Starts `gradwire serve` on free ports, logging to a directory; none is left at the end."""
    processes: list[subprocess.Popen[str]] = []

    def start(*flags: str, **variables: str) -> Running:
        log = directory / f"server{len(processes)}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [*GRADWIRE, "serve", "--address", "127.0.0.1:0", *flags],
                stderr=stream,
                text=True,
                env=environment(**variables),
            )
        processes.append(process)
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            for line in log.read_text().splitlines(keepends=True):
                if line.endswith("\n") and json.loads(line)["event"] == "server started":
                    return Running(process, json.loads(line)["address"], log)
            time.sleep(0.02)
        raise AssertionError(log.read_text())

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
