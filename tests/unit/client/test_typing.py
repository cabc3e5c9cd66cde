"""Type checkers know of each operator of which twin its result is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_both_twins_are_typed() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "tests/unit/client/typing/twins.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.stdout, found.returncode) == ("Success: no issues found in 1 source file\n", 0)
