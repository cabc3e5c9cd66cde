"""The `gradwire` command, before there is a server."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# What the server would be is replaced, so that the command ends where it would begin.
_SERVE = """
import os, sys, types
from gradwire_server import cli
assert "numpy" not in sys.modules
server = types.ModuleType("gradwire_server.server")
server.serve = lambda settings: print(os.environ["OPENBLAS_THREAD_TIMEOUT"])
sys.modules["gradwire_server.server"] = server
cli.app(["serve"])
"""


@pytest.mark.parametrize(("given", "found"), [({}, "20"), ({"OPENBLAS_THREAD_TIMEOUT": "9"}, "9")])
def test_threads_of_blas_wait_for_work_asleep_unless_told_otherwise(
    given: dict[str, str], found: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_THREAD_TIMEOUT"} | given
    made = subprocess.run(
        [sys.executable, "-c", _SERVE], env=environment, capture_output=True, text=True, check=True
    )
    assert made.stdout.strip() == found
