"""What the figures were taken on: machine, system, versions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.processes import THREADS

ROOT = Path(__file__).resolve().parent.parent


def describe() -> dict[str, Any]:
    """The machine and the code as they are now."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "threads": THREADS,
    }


def save(
    description: Mapping[str, Any], versions: Mapping[str, Mapping[str, str]], path: Path
) -> None:
    """Write it, with the versions that contenders report; those of others stay as they were."""
    merged = {**load(path).get("versions", {}), **versions}
    path.parent.mkdir(parents=True, exist_ok=True)
    held = {**description, "versions": dict(sorted(merged.items()))}
    path.write_text(json.dumps(held, indent=1) + "\n")


def load(path: Path) -> dict[str, Any]:
    """What was written; empty if nothing was."""
    held: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return held


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    return made.stdout.strip() if made.returncode == 0 else "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
