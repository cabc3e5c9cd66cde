"""Starts a server, load-tests it with Locust, stops it, and says whether all went well.

    python tests/load/run.py                              # 8 users for 30 seconds
    python tests/load/run.py --users 32 --run-time 2m     # or LOCUST_USERS=32 LOCUST_RUN_TIME=2m

Exits with 0 if every answer was right and the server drained when it was told to end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCUSTFILE = Path(__file__).with_name("locustfile.py")

START_SECONDS = 60.0
DRAIN_SECONDS = 10.0


class LoadTestError(Exception):
    """The load test did not go as it should have."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--users", type=int, default=os.environ.get("LOCUST_USERS", "8"))
    parser.add_argument("--run-time", default=os.environ.get("LOCUST_RUN_TIME", "30s"))
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "load", help="where reports go")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with running_server(out / "server.log") as address:
            run_locust(address, arguments.users, arguments.run_time, out)
    except LoadTestError as error:
        sys.exit(f"load test failed: {error}")
    except KeyboardInterrupt:
        sys.exit("load test interrupted")
    print(f"reports: {out / 'report.html'}, {out / 'locust_stats.csv'}, {out / 'server.log'}")


@contextmanager
def running_server(log: Path) -> Iterator[str]:
    """A server on a free port; its address. At the end it is told to end, and must drain."""
    command = [
        *(sys.executable, "-m", "gradwire_server", "serve", "--address", "127.0.0.1:0"),
        *("--log-level", "info", "--log-format", "json", "--drain-seconds", f"{DRAIN_SECONDS:g}"),
    ]
    with log.open("wb") as stream:
        # In a process group of its own, so that Ctrl-C ends Locust first, and then the server.
        server = subprocess.Popen(command, stderr=stream, process_group=0)
    try:
        address = wait_for_address(server, log)
        check_health(address)
        yield address
        if server.poll() is not None:
            raise LoadTestError(
                f"the server ended early with exit code {server.returncode}; see {log}"
            )
    finally:
        server.terminate()
        try:
            server.wait(DRAIN_SECONDS + 10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise LoadTestError(f"the server did not end when told to; see {log}") from None
    if server.returncode != 0 or not list(events(log, "server stopped")):
        raise LoadTestError(f"the server did not drain: exit code {server.returncode}; see {log}")


def wait_for_address(server: subprocess.Popen[bytes], log: Path) -> str:
    """Where the server listens, as it says in its log."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        for event in events(log, "server started"):
            return str(event["address"])
        if server.poll() is not None:
            raise LoadTestError(f"the server did not start:\n{log.read_text()}")
        time.sleep(0.05)
    raise LoadTestError(f"the server did not start within {START_SECONDS:g} s; see {log}")


def events(log: Path, name: str) -> Iterator[dict[str, object]]:
    """The lines of the server's log that bear this event; a last line may still be growing."""
    for line in log.read_text().splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):
            event = json.loads(line)
            if event.get("event") == name:
                yield event


def check_health(address: str) -> None:
    command = [sys.executable, "-m", "gradwire_server", "health", "--address", address]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise LoadTestError(f"the server is not healthy: {result.stderr.strip()}")


def run_locust(address: str, users: int, run_time: str, out: Path) -> None:
    locust = subprocess.Popen(
        [
            *(sys.executable, "-m", "locust", "--locustfile", LOCUSTFILE, "--headless"),
            *("--host", address, "--users", str(users), "--spawn-rate", str(users)),
            *("--run-time", run_time, "--only-summary"),
            *("--csv", out / "locust", "--html", out / "report.html"),
        ]
    )
    try:
        locust.wait()
    except KeyboardInterrupt:
        # Locust was interrupted too, and is writing its reports.
        locust.wait()
        raise
    if locust.returncode != 0:
        raise LoadTestError(f"Locust had failures: exit code {locust.returncode}; see {out}")


if __name__ == "__main__":
    main()
