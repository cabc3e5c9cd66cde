"""Joint rules: gradients of several arguments from one function, which runs once a backward."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gradwire_engine import Tensor, grad, operators
from gradwire_engine.declare import general
from gradwire_engine.operator import Operator

Calls = list[tuple[bool, ...]]


@pytest.fixture
def joint() -> Iterator[tuple[Operator, Calls]]:
    """a·b + c, and which gradients were asked for, call by call."""
    calls: Calls = []

    def pull(F: Any, gs: Any, needs: Any, a: Any, b: Any) -> Any:
        calls.append(needs)
        return gs[0] * b, gs[0] * a, gs[0]

    made = general(
        "multiply_add(Tensor a, Tensor b, Tensor c) -> Tensor",
        lambda a, b, c: a * b + c,
        {"a b c": pull},
    )
    yield made, calls
    del operators[made.name]


def leaves() -> list[Tensor]:
    return [Tensor.from_array(np.full(2, n), requires_grad=True) for n in (2.0, 3.0, 5.0)]


def test_one_call_gives_all_gradients(joint: tuple[Operator, Calls]) -> None:
    op, calls = joint
    inputs = leaves()
    found = grad([op(*inputs)], inputs, [Tensor(np.ones(2))])
    assert [each.data[0] for each in found if each is not None] == [3.0, 2.0, 1.0]
    assert calls == [(True, True, True)]


def test_only_what_leads_to_an_input_is_asked_for(joint: tuple[Operator, Calls]) -> None:
    op, calls = joint
    a, b, c = leaves()
    out = op(a, b, c)
    grad([out], [a, c], [Tensor(np.ones(2))], retain_graph=True)
    assert calls.pop() == (True, False, True)
    grad([op(a, Tensor(np.ones(2)), Tensor(np.ones(2)))], [a], [Tensor(np.ones(2))])
    assert calls.pop() == (True, False, False)


def test_each_node_has_a_call_of_its_own(joint: tuple[Operator, Calls]) -> None:
    op, calls = joint
    inputs = leaves()
    out = op(*inputs) + op(inputs[1], inputs[0], inputs[2])
    found = grad([out], inputs, [Tensor(np.ones(2))])
    assert [each.data[0] for each in found if each is not None] == [6.0, 4.0, 2.0]
    assert len(calls) == 2


def test_second_derivatives(joint: tuple[Operator, Calls]) -> None:
    op, _ = joint
    a, b, c = leaves()
    (first,) = grad([op(a, b, c)], [a], [Tensor(np.ones(2))], create_graph=True)
    assert first is not None
    (second,) = grad([first], [b], [Tensor(np.ones(2))])
    assert second is not None
    assert second.data.tolist() == [1.0, 1.0]
