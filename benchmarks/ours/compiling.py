"""Programs of the engine, for the rows that run compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import data
from benchmarks.worker import UnavailableError


def compiled_step(
    function: Callable[[Sequence[Any]], Any], arrays: Sequence[data.Array], rate: float = 0.0
) -> Callable[[], tuple[Any, Sequence[Any]]]:
    """The value of a scalar function and its gradients by every argument, as one program."""
    raise UnavailableError("the engine has no compiled programs yet")
