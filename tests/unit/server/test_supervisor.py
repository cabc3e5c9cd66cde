"""Workers that do not start."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from gradwire_server import supervisor
from gradwire_server.settings import Settings

SETTINGS = Settings(address="127.0.0.1:0", workers=2, log_format="json")


def workers_run(command: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shell command stand for Python in a worker, which first notes its process."""
    script = directory / "worker"
    script.write_text(f"#!/bin/sh\necho $$ >> {directory}/pids\n{command}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def pids(directory: Path) -> list[int]:
    noted = directory / "pids"
    return [int(line) for line in noted.read_text().split()] if noted.exists() else []


def assert_all_ended(directory: Path) -> None:
    started = pids(directory)
    assert len(started) == SETTINGS.workers
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)


@pytest.mark.parametrize("command", ["exec sleep 100", "exit 3", "echo something else; exec cat"])
def test_a_server_whose_workers_do_not_start_ends(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workers_run(command, tmp_path, monkeypatch)
    monkeypatch.setattr(supervisor, "_START_SECONDS", 0.5)
    assert supervisor.serve(SETTINGS) == 1
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events == ["worker did not start", "worker did not start", "server stopped"]
    assert_all_ended(tmp_path)


def test_a_server_can_be_stopped_while_its_workers_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers_run("exec sleep 100", tmp_path, monkeypatch)

    async def stopped() -> int:
        running = asyncio.create_task(supervisor._supervise(SETTINGS, "", str(tmp_path)))
        while len(pids(tmp_path)) < SETTINGS.workers:
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        return await asyncio.wait_for(running, 30)

    assert asyncio.run(stopped()) == 1
    assert_all_ended(tmp_path)
