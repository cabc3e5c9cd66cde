"""Memory of large arrays is used again instead of being fetched from the system anew."""

import platform
import subprocess
import sys

import pytest

from gradwire import memory

FAULTS = """
import resource
from gradwire import memory
%s
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * (%d << 20) for _ in range(3)]
    del blocks
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells glibc's allocator")


def faults(told: str, mebibytes: int = 20, **variables: str) -> int:
    """Page faults for memory that was in use before."""
    output = subprocess.run(
        [sys.executable, "-c", FAULTS % (told, mebibytes)],
        env={"PYTHONPATH": ":".join(sys.path), **variables},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return int(output)


@glibc_only
@pytest.mark.parametrize(
    ("told", "variables"),
    [
        ("assert memory.retain_memory()", {}),
        ("memory.retain_as_told()", {}),
        ("memory.retain_as_told()", {memory.VARIABLE: "134217728"}),
        ("memory.retain_as_told()", {memory.VARIABLE: "134217728", "MALLOC_ARENA_MAX": "2"}),
    ],
)
def test_large_blocks_are_used_again(told: str, variables: dict[str, str]) -> None:
    assert faults(told, **variables) < 10


@glibc_only
def test_so_are_those_of_the_largest_messages_but_none_beyond() -> None:
    largest = memory.LARGEST_KEPT >> 20
    assert faults("assert memory.retain_memory()", largest - 1) < 10
    assert faults("assert memory.retain_memory()", largest + 1) > 10


@glibc_only
def test_a_process_that_does_nothing_else_uses_the_largest_again() -> None:
    assert faults("assert memory.retain_memory(1 << 40, exclusive=True)", 100) < 10
    assert faults("assert memory.retain_memory()", 100) > 10


@glibc_only
@pytest.mark.parametrize(
    "variables", [{memory.VARIABLE: "0"}, {"MALLOC_TRIM_THRESHOLD_": "131072"}]
)
def test_a_variable_leaves_the_allocator_alone(variables: dict[str, str]) -> None:
    assert faults("memory.retain_as_told()", **variables) > 10


@glibc_only
def test_not_more_than_told_is_kept() -> None:
    assert faults("assert memory.retain_memory(10 << 20)") > 10


@pytest.mark.parametrize("size", [0, -1])
def test_keeping_nothing_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="positive number of bytes"):
        memory.retain_memory(size)


def test_a_variable_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(memory.VARIABLE, "256M")
    with pytest.raises(ValueError, match="must be a number of bytes, not '256M'"):
        memory.retain_as_told()


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert memory.retain_memory() is False
