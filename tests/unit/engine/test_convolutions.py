"""Convolutions and poolings are PyTorch's, by whichever kernel and in whatever parts they run."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional

from gradwire_engine import Tensor, backward, operators, threads
from gradwire_engine.ops import correlation, max_windows, pooling, windows

SHARED = 2

# Of images, of weights, and arguments; what is beside a condition of a kernel is beside its case.
CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "windows": ((5, 2, 9, 9), (4, 2, 3, 3), {"padding": 1}),
    "as many channels as results": ((5, 3, 9, 9), (3, 3, 3, 3), {"padding": 1}),
    "not quite enough channels": ((3, 4, 9, 8), (3, 4, 3, 3), {"padding": 1}),
    "just enough channels": ((3, 3, 9, 8), (2, 3, 3, 3), {"padding": 1}),
    "shifts": ((5, 6, 9, 9), (2, 6, 3, 3), {"padding": 1}),
    "shifts, no padding": ((3, 6, 9, 9), (2, 6, 3, 3), {}),
    "shifts, padding that reaches beyond": ((3, 6, 5, 5), (2, 6, 3, 3), {"padding": 2}),
    "more padding than the kernel reaches": ((3, 6, 5, 5), (2, 6, 3, 3), {"padding": 3}),
    "shifts of an oblong kernel": ((2, 5, 8, 9), (2, 5, 1, 3), {"padding": (0, 1)}),
    "shifts of an upright kernel": ((2, 5, 8, 9), (2, 5, 4, 1), {"padding": (2, 0)}),
    "shifts with dilation": ((2, 5, 11, 23), (2, 5, 3, 2), {"padding": 2, "dilation": (2, 3)}),
    "shifts in groups": ((3, 6, 9, 9), (2, 3, 3, 3), {"padding": 1, "groups": 2}),
    "windows in groups": ((3, 2, 9, 9), (6, 1, 3, 3), {"padding": 1, "groups": 2}),
    "by channel": ((3, 4, 9, 9), (4, 1, 3, 3), {"padding": 1, "groups": 4}),
    "rows too short for one run": ((3, 6, 6, 5), (2, 6, 3, 3), {"padding": 1}),
    "a kernel longer than its parts": ((2, 5, 40), (3, 5, 21), {"padding": 10}),
    "strided": ((3, 5, 9, 9), (2, 5, 3, 3), {"padding": 1, "stride": 2}),
    "strided, with a rest": ((3, 2, 10, 12), (5, 2, 3, 3), {"padding": 1, "stride": (2, 3)}),
    "a line": ((3, 5, 23), (2, 5, 4), {"padding": 2}),
    "a line to more channels": ((3, 2, 23), (5, 2, 4), {"dilation": 2}),
    "a volume": ((2, 5, 4, 5, 12), (2, 5, 2, 3, 3), {"padding": 1}),
    "a volume to more channels": ((2, 2, 4, 5, 12), (5, 2, 2, 3, 3), {"padding": 1}),
    "one image": ((1, 6, 17, 9), (2, 6, 3, 3), {"padding": 1}),
    "no image": ((0, 6, 9, 9), (2, 6, 3, 3), {"padding": 1}),
    "a pixel": ((3, 6, 5, 5), (2, 6, 1, 1), {}),
    "a pixel in groups": ((3, 6, 5, 4), (4, 3, 1, 1), {"groups": 2}),
    "a pixel of a line": ((2, 3, 7), (4, 3, 1), {}),
    "a pixel, padded": ((3, 6, 5, 5), (2, 6, 1, 1), {"padding": 1}),
}
TRANSPOSED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "windows": ((3, 2, 9, 9), (2, 5, 3, 3), {"padding": 1}),
    "shifts": ((3, 6, 9, 9), (6, 2, 3, 3), {"padding": 1}),
    "shifts, more at the end": (
        (3, 6, 9, 19),
        (6, 2, 3, 3),
        {"padding": 1, "dilation": 2, "output_padding": 1},
    ),
    "strided": ((3, 2, 5, 5), (2, 5, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "strided in groups": ((3, 4, 5, 5), (4, 2, 3, 3), {"stride": 2, "groups": 2}),
}
POOLINGS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "halves": ((5, 3, 8, 6), {"kernel_size": 2}),
    "halves with a rest": ((5, 3, 9, 7), {"kernel_size": 2}),
    "halves to the end": ((5, 3, 9, 7), {"kernel_size": 2, "ceil_mode": True}),
    "overlapping": ((4, 3, 9, 9), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "dilated": ((4, 3, 11, 9), {"kernel_size": (2, 3), "stride": 1, "dilation": (3, 2)}),
    "along rows": ((4, 3, 8, 9), {"kernel_size": (1, 3)}),
    "along columns": ((4, 3, 8, 9), {"kernel_size": (3, 1)}),
    "a pixel": ((4, 3, 5, 5), {"kernel_size": 1, "stride": 2}),
    "many taps": ((1, 2, 20, 40), {"kernel_size": (17, 20), "stride": 1}),
    "a volume": ((2, 3, 4, 6, 5), {"kernel_size": 2, "stride": (1, 2, 1)}),
}


@pytest.fixture(params=["whole", "parts"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Once as ever, and once split into as many parts as can be, which two threads share."""
    before = threads.count()
    if request.param == "parts":
        monkeypatch.setattr(windows, "_PART_BYTES", 1)
        monkeypatch.setattr(windows, "_FACTOR_BYTES", 1)
        monkeypatch.setattr(correlation, "_FEW_PRODUCTS", 1)
        monkeypatch.setattr(max_windows, "_PART_BYTES", 1)
        monkeypatch.setattr(pooling, "_PART_BYTES", 1)
        threads.set_count(SHARED)
    yield
    threads.set_count(before)


def drawn(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def compare(
    name: str, theirs: Callable[..., Any], arrays: list[np.ndarray], arguments: dict[str, Any]
) -> None:
    """The values, and the gradients by every array."""
    ours = [Tensor.from_array(each, requires_grad=True) for each in arrays]
    leaves = [torch.from_numpy(each).requires_grad_() for each in arrays]
    made = operators[name](*ours, **arguments)
    expected = theirs(*leaves, **arguments)
    np.testing.assert_allclose(made.data, expected.detach().numpy(), 1e-11, 1e-11)
    g = drawn(tuple(expected.shape), 9)
    backward([made], [Tensor.from_array(g)])
    expected.backward(torch.from_numpy(g))
    for each, leaf in zip(ours, leaves, strict=True):
        assert each.grad is not None
        np.testing.assert_allclose(each.grad.data, leaf.grad.numpy(), 1e-11, 1e-11)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_convolution_is_that_of_torch(case: str, parts: None) -> None:
    shape, weight, arguments = CONVOLUTIONS[case]
    name = f"conv{len(shape) - 2}d"
    arrays = [drawn(shape), drawn(weight, 1), drawn(weight[:1], 2)]
    compare(name, getattr(functional, name), arrays, arguments)


@pytest.mark.parametrize("case", TRANSPOSED)
def test_a_transposed_convolution_is_that_of_torch(case: str, parts: None) -> None:
    shape, weight, arguments = TRANSPOSED[case]
    bias = weight[1] * arguments.get("groups", 1)
    arrays = [drawn(shape), drawn(weight, 1), drawn((bias,), 2)]
    compare("conv_transpose2d", functional.conv_transpose2d, arrays, arguments)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.complex128])
@pytest.mark.parametrize("channels", [(2, 4), (6, 2)], ids=["windows", "shifts"])
def test_a_convolution_keeps_its_dtype(
    channels: tuple[int, int], dtype: type[np.generic], parts: None
) -> None:
    x = drawn((3, channels[0], 9, 9)).astype(dtype)
    weight = drawn((channels[1], channels[0], 3, 3), 1).astype(dtype)
    made = operators["conv2d"](Tensor(x), Tensor(weight)).data
    wide = np.result_type(dtype, np.float64)
    expected = functional.conv2d(*(torch.from_numpy(each.astype(wide)) for each in (x, weight)))
    assert made.dtype == dtype
    accuracy = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(made, expected.numpy(), accuracy, 10 * accuracy)


@pytest.mark.parametrize("case", POOLINGS)
@pytest.mark.parametrize("kind", ["distinct", "ties", "nan", "lowest"])
def test_the_largest_of_windows_are_those_of_torch(case: str, kind: str, parts: None) -> None:
    shape, arguments = POOLINGS[case]
    x = drawn(shape)
    if kind == "ties":
        x = np.round(x)
    elif kind == "nan":
        x[drawn(shape, 1) > 1] = np.nan
    elif kind == "lowest":
        x[drawn(shape, 1) > -1] = -np.inf
    name = f"max_pool{len(shape) - 2}d"
    best, indices = operators[f"{name}_with_indices"](Tensor(x), **arguments)
    theirs = getattr(functional, name)
    expected = theirs(torch.from_numpy(x), **arguments, return_indices=True)
    np.testing.assert_array_equal(best.data, expected[0].numpy())
    np.testing.assert_array_equal(indices.data, expected[1].numpy())


@pytest.mark.parametrize("case", POOLINGS)
def test_a_gradient_goes_to_the_largest_of_windows(case: str, parts: None) -> None:
    shape, arguments = POOLINGS[case]
    name = f"max_pool{len(shape) - 2}d"
    compare(name, getattr(functional, name), [drawn(shape)], arguments)


def test_a_gradient_by_weights_does_not_depend_on_the_threads() -> None:
    x, weight = drawn((24, 8, 24, 24)).astype(np.float32), drawn((8, 8, 3, 3), 1)
    found = []
    before = threads.count()
    for count in (1, 2, 3):
        threads.set_count(count)
        leaf = Tensor.from_array(weight.astype(np.float32), requires_grad=True)
        made = operators["conv2d"](Tensor(x), leaf, None, [1, 1], [1, 1])
        backward([made], [Tensor.from_array(drawn(made.shape, 2).astype(np.float32))])
        assert leaf.grad is not None
        found.append(leaf.grad.data)
    threads.set_count(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
