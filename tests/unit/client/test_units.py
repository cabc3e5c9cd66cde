"""Times and sizes in three digits."""

from __future__ import annotations

import pytest

from gradwire.units import size_text, time_text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1000, "1.00 µs"),
        (12_345, "12.3 µs"),
        (123_456, "123 µs"),
        (1_060_000, "1.06 ms"),
        (2_500_000_000, "2.50 s"),
        (250e9, "250 s"),
    ],
)
def test_times(nanoseconds: float, text: str) -> None:
    assert time_text(nanoseconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (4_000_000, "3.81 MiB"),
        (1 << 34, "16.0 GiB"),
    ],
)
def test_sizes(size: float, text: str) -> None:
    assert size_text(size) == text
