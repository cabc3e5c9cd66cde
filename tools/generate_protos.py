"""Generates the Python of the wire contract, and checks that the committed files are up to date.

Run it through `make protos`. pyproject.toml pins grpcio-tools, because the generated code demands
at least its version of grpcio, and of protobuf, from whoever imports it, and mypy-protobuf, so that
the same contract gives the same bytes everywhere.
"""

import argparse
import importlib.resources
import sys
import sysconfig
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "proto"
GENERATED = ROOT / "client"


def generate(destination: Path) -> list[Path]:
    """Generates messages and gRPC stubs of every .proto file, and the types of both.

    Args:
        destination: the folder that stands for the import root; created files keep the path of
            their .proto file below it.

    Returns:
        The files written, relative to the destination.

    Raises:
        RuntimeError: protoc refused a file; it has printed why.
    """
    sources = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    stub_types = Path(sysconfig.get_path("scripts")) / "protoc-gen-mypy_grpc"
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={well_known}",
            f"--python_out={destination}",
            f"--pyi_out={destination}",
            f"--grpc_python_out={destination}",
            f"--plugin=protoc-gen-mypy_grpc={stub_types}",
            f"--mypy_grpc_out=quiet:{destination}",
            *sources,
        ]
    )
    if status != 0:
        raise RuntimeError(f"protoc failed with status {status} on {', '.join(sources)}")
    return sorted(
        path.relative_to(destination)
        for path in destination.rglob("*_pb2*")
        if path.suffix in {".py", ".pyi"}
    )


def stale_files() -> list[Path]:
    """Lists the committed files that differ from what the contract generates now."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        expected = set(generate(fresh))
        committed = {
            path.relative_to(GENERATED)
            for path in GENERATED.rglob("*_pb2*.py*")
            if path.parent.name != "__pycache__"
        }
        return sorted(
            path
            for path in expected | committed
            if path not in expected
            or path not in committed
            or (fresh / path).read_bytes() != (GENERATED / path).read_bytes()
        )


def main() -> int:
    """Generates into the client's source root, or with --check only compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if not parser.parse_args().check:
        generate(GENERATED)
        return 0
    stale = stale_files()
    for path in stale:
        print(f"{GENERATED.name}/{path} is not what proto/ generates", file=sys.stderr)
    if stale:
        print("run `make protos` and commit the result", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
