"""Checks of functions that no program can be, as a program always does the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from gradwire_engine.context import current
from gradwire_engine.errors import EngineError
from gradwire_engine.gradcheck import Check, Tolerances
from gradwire_engine.hooks import register_hook
from gradwire_engine.tensor import Tensor


def leaf(values: list[float]) -> Tensor:
    return Tensor.from_array(np.array(values), requires_grad=True)


def test_a_backward_that_gives_something_else_each_time() -> None:
    noise = np.random.default_rng(0)

    def noisy(given: Sequence[Tensor]) -> list[Tensor]:
        made = given[0] * 2
        register_hook(made, lambda gradient: gradient + 1e-9 * noise.normal())
        return [made]

    worst = Check(noisy, [leaf([1.0, 2.0])], Tolerances()).run().worst
    assert worst is not None
    assert (worst.way, worst.excess) == ("repeated", np.inf)
    assert Check(noisy, [leaf([1.0, 2.0])], Tolerances(repeated=1e-6)).run().agrees


def test_an_output_whose_shape_hangs_on_values() -> None:
    def ragged(given: Sequence[Tensor]) -> list[Tensor]:
        return [given[0] * Tensor(np.ones(2 if given[0].data[0] > 1 else 1))]

    with pytest.raises(EngineError, match="output 0 of the function changes its shape"):
        Check(ragged, [leaf([1.0])], Tolerances()).run()


def test_it_can_be_stopped_between_evaluations() -> None:
    ran = []

    def counted(given: Sequence[Tensor]) -> list[Tensor]:
        ran.append(None)
        return [given[0] * 2]

    def stop() -> None:
        if len(ran) == 5:
            raise TimeoutError

    check = Check(counted, [leaf([1.0] * 100)], Tolerances())
    current.context.check = stop
    try:
        with pytest.raises(TimeoutError):
            check.run()
    finally:
        current.context.check = None
    assert len(ran) == 5


def test_what_it_is_going_to_cost() -> None:
    ran = []

    def counted(given: Sequence[Tensor]) -> list[Tensor]:
        ran.append(None)
        return [given[0] * 2]

    check = Check(counted, [leaf([1.0, 2.0, 3.0])], Tolerances())
    assert (check.evaluations(), check.passes(reverse=True, forward=False)) == (6, 6)
    before = len(ran)
    check.run()
    assert len(ran) - before == check.evaluations()
