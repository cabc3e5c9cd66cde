"""Type promotion by itself: its algebra, and tensors, 0-d tensors and numbers in their ranks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire_engine.dtypes import (
    SUPPORTED,
    can_cast,
    category,
    is_differentiable,
    promote_types,
    real_dtype,
    result_dtype,
)

dtypes = st.sampled_from(SUPPORTED)
operands = st.one_of(
    st.builds(lambda dtype: np.ones(2, dtype), dtypes),
    st.builds(lambda dtype: np.ones((), dtype), dtypes),
    st.sampled_from([True, 2, 2.5, 2j]),
)


@given(dtypes, dtypes)
def test_promotion_is_torch_s(a: np.dtype, b: np.dtype) -> None:
    expected = torch.promote_types(getattr(torch, a.name), getattr(torch, b.name))
    if expected != torch.complex32:  # NumPy has none
        assert promote_types(a, b) == np.dtype(str(expected).removeprefix("torch."))


@given(dtypes, dtypes)
def test_promotion_has_no_order(a: np.dtype, b: np.dtype) -> None:
    assert promote_types(a, b) == promote_types(b, a)
    assert promote_types(a, a) == a
    assert category(promote_types(a, b)) == max(category(a), category(b))


@given(operands, operands)
def test_results_have_no_order(a: object, b: object) -> None:
    assert result_dtype([a, b]) == result_dtype([b, a])  # type: ignore[list-item]


@given(dtypes, st.sampled_from([True, 2, 2.5, 2j]))
def test_a_number_only_changes_the_category(dtype: np.dtype, number: complex) -> None:
    for shape in ((2,), ()):
        result = result_dtype([np.ones(shape, dtype), number])
        if category(np.asarray(number).dtype) <= category(dtype):
            assert result == dtype
        else:
            assert category(result) == category(np.asarray(number).dtype)


def test_numpy_scalars_are_tensors_of_no_dimensions() -> None:
    assert result_dtype([np.float64(1.0), 2.0]) == np.float64
    assert result_dtype([np.ones(2, np.float32), np.float64(1.0)]) == np.float32


def test_the_default_dtype_is_that_of_numbers() -> None:
    integers = np.ones(2, np.int64)
    assert result_dtype([integers, 1.5]) == np.float32
    assert result_dtype([integers, 1.5], np.dtype(np.float64)) == np.float64
    assert result_dtype([integers, 1j], np.dtype(np.float64)) == np.complex128


def test_nothing_has_no_dtype() -> None:
    with pytest.raises(ValueError, match="at least one"):
        result_dtype([])


@given(dtypes, dtypes)
def test_in_place_results_may_lose_precision_but_not_kind(a: np.dtype, b: np.dtype) -> None:
    expected = torch.can_cast(getattr(torch, a.name), getattr(torch, b.name))
    assert can_cast(a, b) == expected


def test_what_is_differentiable() -> None:
    assert [dtype.name for dtype in SUPPORTED if is_differentiable(dtype)] == [
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    ]
    assert real_dtype(np.dtype(np.complex64)) == np.float32
    assert real_dtype(np.dtype(np.float64)) == np.float64
