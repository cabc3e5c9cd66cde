"""The processes of contenders: started when first needed, asked line by line, ended together."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from benchmarks import environments
from benchmarks.processes import THREADS
from benchmarks.rows import Contender

ROOT = Path(__file__).resolve().parent.parent

ANSWER_SECONDS = 300.0

THREAD_VARIABLES = {
    name: str(THREADS) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
}


class WorkerError(Exception):
    """A contender cannot do what it was asked; the text says why."""


class Worker:
    """One process."""

    def __init__(self, contender: Contender, log: Path) -> None:
        """Start it.

        Raises:
            WorkerError: its environment is not installed.
        """
        try:
            python = environments.python_of(contender.environment)
        except environments.NotInstalledError as error:
            raise WorkerError(str(error)) from None
        variables = {**os.environ, **THREAD_VARIABLES, **contender.variables}
        if contender.environment:
            variables.pop("PYTHONPATH", None)
        with log.open("ab") as stream:
            # In a process group of its own, which its servers belong to.
            self._process = subprocess.Popen(
                [python, "-m", contender.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                cwd=ROOT,
                env=variables,
                process_group=0,
            )
        self.module = contender.module
        self._log = log
        self._pending = b""

    def prepare(self, workload: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Prepare a workload; its numbers and facts.

        Raises:
            WorkerError: it cannot be done.
        """
        return self._ask(do="prepare", workload=workload, arguments=arguments)

    def round(self, calls: int) -> float:
        """A round of so many calls of what is prepared.

        Raises:
            WorkerError: a call failed.
        """
        value: float = self._ask(do="round", calls=calls)["value"]
        return value

    def close(self) -> None:
        """Let go of what is prepared."""
        self._ask(do="close")

    def versions(self) -> dict[str, str]:
        """Versions of the packages that it measures."""
        return self._ask(do="versions")

    def hang_up(self) -> None:
        """Tell the process to end, without waiting for it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """End the process and its servers."""
        self.hang_up()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        # The group outlives its first process as long as a server runs.
        self._signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _ask(self, **command: Any) -> dict[str, Any]:
        self._signal(signal.SIGCONT)
        try:
            return self._exchange(command)
        finally:
            # Whose turn it is not does nothing: some servers poll while they wait.
            self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _exchange(self, command: Mapping[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(json.dumps(command).encode() + b"\n")
            stdin.flush()
            answer: dict[str, Any] = json.loads(self._line(stdout))
        except (BrokenPipeError, EOFError):
            raise WorkerError(f"its process ended; see {self._log.name}") from None
        if "unavailable" in answer:
            raise WorkerError(answer["unavailable"])
        return answer

    def _line(self, stream: IO[bytes]) -> bytes:
        end = time.monotonic() + ANSWER_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(max(0.0, end - time.monotonic())):
                    self._signal(signal.SIGKILL)
                    raise WorkerError(f"no answer within {ANSWER_SECONDS:g} s")
                chunk = os.read(stream.fileno(), 1 << 16)
                if not chunk:
                    raise EOFError
                self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line


class Workers:
    """All processes of a run. A context manager: leaving it ends them."""

    def __init__(self, logs: Path) -> None:
        """Begin with none; what they print goes to files in `logs`."""
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._running: dict[object, Worker] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._running.values():
            worker.hang_up()
        for key in list(self._running):
            self._running.pop(key).end()

    def of(self, contender: Contender) -> Worker:
        """The process of a contender.

        Raises:
            WorkerError: it cannot be started.
        """
        key = _key(contender)
        if key not in self._running:
            log = self._logs / f"{contender.module.rpartition('.')[2]}.log"
            self._running[key] = Worker(contender, log)
        return self._running[key]

    def versions(self) -> dict[str, dict[str, str]]:
        """Versions of what runs, by module."""
        found: dict[str, dict[str, str]] = {}
        for worker in self._running.values():
            with contextlib.suppress(WorkerError):
                found[worker.module.rpartition(".")[2]] = worker.versions()
        return found

    def end(self, contender: Contender) -> None:
        """End the process of a contender, if it runs."""
        worker = self._running.pop(_key(contender), None)
        if worker is not None:
            worker.end()


def _key(contender: Contender) -> object:
    # Contenders that alternate need processes of their own, even where the module is one.
    return (contender.name, contender.module, contender.environment)
