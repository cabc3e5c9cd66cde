"""The peers' virtual environments: one each, because what they ask for does not go together.

    python -m benchmarks.environments      # installs those that are missing

A peer that cannot be installed is noted with the reason, and does not stop the others.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "benchmarks" / "peers" / "requirements"
PLACE = ROOT / "build" / "peers"


class NotInstalledError(Exception):
    """A peer's environment is not there; the text says why."""


def python_of(environment: str) -> str:
    """The interpreter of a peer's environment; "" is the one that runs now.

    Raises:
        NotInstalledError: the environment is not there.
    """
    if not environment:
        return sys.executable
    if not _is_current(environment):
        failure = PLACE / f"{environment}.failed"
        reason = failure.read_text() if failure.exists() else "run `make bench`"
        raise NotInstalledError(f"not installed: {reason}")
    return str(PLACE / environment / "bin" / "python")


def install(environment: str) -> None:
    """Make the environment of a peer, unless it is there with just these requirements.

    Raises:
        NotInstalledError: it could not be made.
    """
    if _is_current(environment):
        return
    place = PLACE / environment
    failure = PLACE / f"{environment}.failed"
    PLACE.mkdir(parents=True, exist_ok=True)
    failure.unlink(missing_ok=True)
    print(f"   {environment}", flush=True)
    requirements = REQUIREMENTS / f"{environment}.txt"
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "-qq"]
    try:
        _run(["sh", str(ROOT / "tools" / "create_venv.sh"), sys.executable, str(place)])
        _run([*pip, "--requirement", str(requirements)])
    except NotInstalledError as error:
        failure.write_text(str(error))
        raise
    (place / "installed").write_text(_fingerprint(environment))


def install_h2load() -> None:
    """Make h2load available: root on Debian installs its package.

    Raises:
        NotInstalledError: it is not there.
    """
    if shutil.which("h2load"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NotInstalledError("h2load: install Debian's package nghttp2-client")
    print("   nghttp2-client", flush=True)
    _run(["apt-get", "update", "-qq"])
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "nghttp2-client"])


def main() -> None:
    """Install every peer, and h2load."""
    for environment in sorted(path.stem for path in REQUIREMENTS.glob("*.txt")):
        try:
            install(environment)
        except NotInstalledError as error:
            print(f"   {environment} is left out: {error}", flush=True)
    try:
        install_h2load()
    except NotInstalledError as error:
        print(f"   {error}", flush=True)


def _is_current(environment: str) -> bool:
    mark = PLACE / environment / "installed"
    return mark.exists() and mark.read_text() == _fingerprint(environment)


def _fingerprint(environment: str) -> str:
    content = (REQUIREMENTS / f"{environment}.txt").read_bytes()
    return hashlib.sha256(content + sys.version.encode()).hexdigest()


def _run(command: list[str]) -> None:
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    variables.pop("PYTHONPATH", None)
    made = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if made.returncode != 0:
        said = (made.stderr or made.stdout).strip().splitlines() or ["no output"]
        raise NotInstalledError(said[-1][:300])


if __name__ == "__main__":
    main()
