"""The committed Python of the wire contract is what the contract generates."""

from pathlib import Path

import pytest

from tools import generate_protos


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    generate_protos.generate(folder)
    return folder


@pytest.mark.parametrize(
    "name",
    ["autograd_pb2.py", "autograd_pb2.pyi", "autograd_pb2_grpc.py", "autograd_pb2_grpc.pyi"],
)
def test_committed_file_is_what_the_contract_generates(fresh: Path, name: str) -> None:
    path = Path("gradwire/v1") / name
    committed = (generate_protos.GENERATED / path).read_bytes()
    assert committed == (fresh / path).read_bytes(), "run `make protos` and commit the result"


def test_nothing_is_committed_that_no_proto_file_generates() -> None:
    assert generate_protos.stale_files() == []
