"""The arrows between the packages, as they are imported and as they load.

`lint-imports` holds the contracts of pyproject.toml over what the source says; here is what those
contracts cannot say, and what really happens in a fresh interpreter.
"""

import json
import subprocess
import sys

import grimp
import pytest

# Not the packages of gRPC itself: where they are installed, grpc imports some of them.
SERVER_ONLY = {"pydantic", "structlog", "typer", "uvloop"}


def packages_loaded_by(statement: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after the statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    return {name.partition(".")[0] for name in json.loads(output.splitlines()[-1])}


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("gradwire_engine", {"gradwire", "gradwire_server", "google", "grpc"} | SERVER_ONLY),
        ("gradwire", {"gradwire_engine", "gradwire_server", "scipy"} | SERVER_ONLY),
    ],
)
def test_importing_a_package_loads_nothing_above_it(package: str, forbidden: set[str]) -> None:
    assert not packages_loaded_by(f"import {package}") & forbidden


def test_the_codec_stands_on_the_contract_alone() -> None:
    """What the server may import of the client must not bring the rest of the client along."""
    graph = grimp.build_graph("gradwire", cache_dir=None)
    shared = {"gradwire.wire"} | graph.find_descendants("gradwire.v1")
    assert {
        (module, imported)
        for module in shared
        for imported in graph.find_modules_directly_imported_by(module)
        if imported not in shared | {"gradwire.v1"}
    } == set()
