"""Data becomes arrays of the dtype that PyTorch would give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradwire as gw
from gradwire.creation import as_array

numbers = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(width=32),
    st.complex_numbers(max_magnitude=1e6),
)
nested = st.recursive(numbers, lambda inner: st.lists(inner, max_size=3), max_leaves=8)


@given(nested)
def test_as_torch_does(data: Any) -> None:
    try:
        np.asarray(data)  # torch takes some ragged data: [[], False] is of shape (2, 0)
        expected = torch.tensor(data)
    except (ValueError, TypeError, RuntimeError, OverflowError):
        return
    found = as_array(data, None)
    assert found.shape == tuple(expected.shape)
    assert str(expected.dtype) == f"torch.{found.dtype.name}"
    np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize("dtype", gw.dtypes.ALL)
def test_a_dtype_that_is_given_is_taken(dtype: gw.dtype) -> None:
    assert as_array([0, 1], dtype).dtype == dtype.numpy
    assert as_array(np.array([0.0, 1.0]), dtype).dtype == dtype.numpy


def test_other_libraries_tensors_are_taken() -> None:
    theirs = torch.tensor([1.5, 2.5], requires_grad=True)
    assert as_array(theirs, None).tolist() == [1.5, 2.5]
    assert as_array(theirs, None).dtype == np.float32


def test_byte_order_and_layout_do_not_matter() -> None:
    array = np.arange(6, dtype=">f8").reshape(2, 3).T
    found = as_array(array, None)
    np.testing.assert_array_equal(found, array)
    assert gw.dtypes.from_numpy(found.dtype) is gw.float64


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ([[1], [2, 3]], ValueError),
        (2**63, ValueError),
        ([2**70], ValueError),
        (np.array([1], np.uint64), TypeError),
        ("a", TypeError),
        (["a"], TypeError),
        ([None], RuntimeError),
        (object(), RuntimeError),
        (np.array(["2020"], "M8[Y]"), TypeError),
    ],
)
def test_what_is_no_numbers_is_refused(data: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        as_array(data, None)


def test_complex_numbers_do_not_become_real() -> None:
    with pytest.raises(RuntimeError, match="complex"):
        as_array([1j], gw.float32)


@pytest.mark.parametrize(
    ("given_dtype", "found"),
    [
        (np.float64, gw.float64),
        (np.dtype("i4"), gw.int32),
        (float, gw.float32),
        (bool, gw.bool),
        (torch.float16, gw.float16),
        (gw.int8, gw.int8),
    ],
)
def test_dtypes_of_others_are_taken(given_dtype: Any, found: gw.dtype) -> None:
    assert gw.dtypes.as_dtype(given_dtype) is found


@pytest.mark.parametrize("value", ["float32", 3, None, object, np.dtype("M8[s]")])
def test_what_is_no_dtype_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        gw.dtypes.as_dtype(value)


def test_dtypes_tell_what_they_are() -> None:
    assert repr(gw.float32) == "gradwire.float32"
    assert gw.float32.is_floating_point and not gw.float32.is_complex
    assert gw.complex64.is_complex and gw.complex64.itemsize == 8
    assert not gw.uint8.is_signed and gw.int8.is_signed
    assert gw.float is gw.float32 and gw.double is gw.float64 and gw.long is gw.int64
