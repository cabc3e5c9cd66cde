"""The demo: the tutorial script, run as a user would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

_NAME: Final = "computation_graph.py"

_PLACES: Final = (
    Path(__file__).parent / "examples" / _NAME,  # in a wheel
    Path(__file__).parents[2] / "examples" / _NAME,  # in the repository
)


def run(address: str | None, out: Path) -> int:
    """Run the script in a process of its own; its exit status.

    Raises:
        FileNotFoundError: if this installation has no examples.
    """
    script = next((place for place in _PLACES if place.is_file()), None)
    if script is None:
        raise FileNotFoundError(f"{_NAME} is neither in {_PLACES[0].parent} nor in a repository")
    command = [sys.executable, str(script), "--out", str(out)]
    if address is not None:
        command += ["--address", address]
    return subprocess.run(command, check=False).returncode
