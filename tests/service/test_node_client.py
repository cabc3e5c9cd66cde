"""Another language's client: Node runs the tutorial, and large tensors, from the .proto alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gradwire_server.embedded import EmbeddedServer

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "tests" / "node"

INSTALL = "npm install --no-audit --no-fund --no-package-lock --no-progress --loglevel=error"


@pytest.fixture(scope="module")
def node() -> str:
    """Node, with npm beside it."""
    found = shutil.which("node") or shutil.which("nodejs")
    if found is None or shutil.which("npm") is None:
        missing = "Node and npm are not installed (apt-get install nodejs npm)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture(scope="module")
def installed(node: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client with the packages that it names."""
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(CLIENT, folder, ignore=shutil.ignore_patterns("node_modules"))
    done = subprocess.run(
        INSTALL.split(), cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_node_runs_the_tutorial_from_the_proto_alone(
    node: str, installed: Path, address: str
) -> None:
    done = subprocess.run(
        [node, "tutorial.mjs", address, str(ROOT / "proto")],
        cwd=installed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "y = 25, dy/dx = 10",
        "grad_fn of y, z, x: PowBackward0, AddBackward0, none",
        "in the direction 0.3, 0.7: 0.6, 2.8",
        "without a direction: INVALID_ARGUMENT, NON_SCALAR_ROOT",
        "a model by name: 7, and its gradient: 2, 10",
    ]


def test_node_sends_and_reads_large_tensors_from_the_proto_alone(
    node: str, installed: Path
) -> None:
    with EmbeddedServer.start(address="127.0.0.1:0", max_message_bytes=32_000) as server:
        done = subprocess.run(
            [node, "large.mjs", server.address, str(ROOT / "proto")],
            cwd=installed,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "of 120000 bytes there are 50000",
        "the server is asked, and has 50000",
        "then there are 120000",
        "the gradient has 120000 bytes, and is right",
    ]
