"""as_strided: a view of a tensor's own memory, and never of more than that."""

import numpy as np
import pytest

from gradwire_engine import EngineError, Tensor, grad, operators

as_strided, add_ = operators["as_strided"], operators["add_"]


def counting(*shape: int) -> Tensor:
    return Tensor.from_array(np.arange(np.prod(shape), dtype=float).reshape(shape))


def test_it_is_a_view_that_changes_with_its_base() -> None:
    x = counting(3, 4)
    columns = as_strided(x, (2, 2), (1, 4), 5)
    assert columns.data.tolist() == [[5, 9], [6, 10]]
    add_(x, 1.0)
    assert columns.data.tolist() == [[6, 10], [7, 11]]
    add_(columns, 10.0)
    assert x.data.tolist()[1] == [5, 16, 17, 8]


def test_of_a_view_it_counts_from_where_the_view_begins() -> None:
    row = operators["select"](counting(3, 4), 0, 1)
    assert as_strided(row, (2,), (2,)).data.tolist() == [4, 6]
    assert as_strided(row, (2,), (2,), 0).data.tolist() == [0, 2]


def test_elements_that_are_seen_twice_get_the_sum_of_their_gradients() -> None:
    x = Tensor.from_array(np.arange(4.0), requires_grad=True)
    windows = as_strided(x, (3, 2), (1, 1))
    (gradient,) = grad([windows], [x], [Tensor(np.ones((3, 2)))])
    assert gradient is not None
    assert gradient.data.tolist() == [1, 2, 2, 1]


@pytest.mark.parametrize(
    ("size", "stride", "offset", "reason"),
    [
        ((3,), (2,), 0, "INDEX_OUT_OF_RANGE"),
        ((1,), (1,), 4, "INDEX_OUT_OF_RANGE"),
        ((2,), (-1,), 1, "BAD_VALUE"),
        ((2,), (1,), -1, "BAD_VALUE"),
        ((2, 2), (1,), 0, "BAD_VALUE"),
        ((1 << 40,), (1,), 0, "INDEX_OUT_OF_RANGE"),
        ((2,), (1 << 62,), 0, "INDEX_OUT_OF_RANGE"),
    ],
)
def test_memory_beyond_the_tensor_is_not_shown(
    size: tuple[int, ...], stride: tuple[int, ...], offset: int, reason: str
) -> None:
    with pytest.raises(EngineError) as refusal:
        as_strided(counting(4), size, stride, offset)
    assert refusal.value.reason == reason


def test_what_is_seen_twice_is_not_written_to() -> None:
    x = counting(4)
    with pytest.raises(EngineError, match="share memory") as refusal:
        add_(as_strided(x, (3, 2), (1, 1)), 1.0)
    assert refusal.value.reason == "BAD_VALUE"
    assert x.data.tolist() == [0, 1, 2, 3]


def test_what_does_not_lie_in_order_is_refused() -> None:
    turned = Tensor(np.asfortranarray(np.ones((2, 3))))
    with pytest.raises(EngineError) as refusal:
        as_strided(turned, (2,), (1,))
    assert refusal.value.reason == "BAD_VALUE"
