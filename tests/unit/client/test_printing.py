"""Tensors print as PyTorch prints them, character for character."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gradwire import dtypes, printing
from gradwire.codec import Info
from gradwire.v1 import autograd_pb2 as pb


def info(array: np.ndarray, *, requires_grad: bool = False, grad_fn: str = "") -> Info:
    return Info(
        dtypes.from_numpy(array.dtype),
        array.shape,
        requires_grad,
        not grad_fn,
        False,
        0,
        pb.NodeRef(id=1, name=grad_fn) if grad_fn else None,
        (),
    )


@given(
    st.sampled_from(["?", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16"]).flatmap(
        lambda code: arrays.arrays(
            code, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)
        )
    )
)
def test_any_array(array: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NaNs and infinities on the way
        expected = repr(torch.from_numpy(array.copy())).replace("torch.", "gradwire.")
        # Where the line breaks before the dtype depends on its length, in which the two differ.
        assert _on_one_line(printing.show_value(array, info(array))) == _on_one_line(expected)


def _on_one_line(text: str) -> str:
    return re.sub(r",\s+dtype=", ", dtype=", text)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(1001),
        np.arange(3000.0, dtype=np.float32).reshape(30, 100),
        np.linspace(-1, 1, 2000).reshape(2, 10, 10, 10),
        np.ones((1, 2000), np.float32) * 1e-7,
    ],
)
def test_a_large_array_is_summarized(array: np.ndarray) -> None:
    expected = repr(torch.from_numpy(array)).replace("torch.", "gradwire.")
    assert printing.show_value(array, info(array)) == expected


def test_what_the_graph_knows_is_shown() -> None:
    array = np.array([3.0], np.float32)
    assert printing.show_value(array, info(array, requires_grad=True)) == (
        "tensor([3.], requires_grad=True)"
    )
    assert printing.show_value(array, info(array, requires_grad=True, grad_fn="AddBackward0")) == (
        "tensor([3.], grad_fn=<AddBackward0>)"
    )


def test_a_suffix_that_does_not_fit_goes_to_a_line_of_its_own() -> None:
    theirs = torch.linspace(1, 2, 8, requires_grad=True) * 1.5
    array = theirs.detach().numpy()
    shown = printing.show_value(array, info(array, requires_grad=True, grad_fn="MulBackward0"))
    assert shown == repr(theirs)
