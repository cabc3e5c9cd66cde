"""Windows and short-time Fourier transforms, as PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import gradwire as gw
from tests.service.sdk import session

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

WINDOWS: list[Callable[[Any, int, bool], Any]] = [
    lambda m, n, periodic: m.hann_window(n, periodic),
    lambda m, n, periodic: m.hamming_window(n, periodic),
    lambda m, n, periodic: m.hamming_window(n, periodic, 0.5, 0.4),
    lambda m, n, periodic: m.blackman_window(n, periodic),
    lambda m, n, periodic: m.bartlett_window(n, periodic),
    lambda m, n, periodic: m.kaiser_window(n, periodic),
    lambda m, n, periodic: m.kaiser_window(n, periodic, beta=3.0, dtype=m.float64),
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("periodic", [True, False])
def test_windows(window: Callable[[Any, int, bool], Any], periodic: bool) -> None:
    for length in (0, 1, 2, 5, 8):
        expected = window(torch, length, periodic).numpy()
        found = window(gw, length, periodic).numpy()
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "call", [lambda m: m.hann_window(-1), lambda m: m.hann_window(4, dtype=m.int64)]
)
@pytest.mark.parametrize("module", [gw, torch])
def test_windows_that_are_refused(call: Callable[[Any], Any], module: Any) -> None:
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        call(module).tolist()


def test_a_signal_comes_back_and_carries_gradients() -> None:
    values = np.random.default_rng(0).standard_normal((2, 50))
    gradients = []
    for module in (gw, torch):
        x: Any = module.tensor(values, requires_grad=True)
        window = module.hann_window(16, dtype=module.float64)
        spectrum = module.stft(x[:, ::1], 16, 4, window=window, return_complex=True)
        back = module.istft(spectrum * 0.5, 16, 4, window=window, length=50)
        np.testing.assert_allclose(back.detach().numpy(), values * 0.5, atol=1e-12)
        (spectrum.abs() ** 2).sum().backward()
        gradients.append(x.grad.numpy())
    np.testing.assert_allclose(*gradients, atol=1e-9)


def test_frames_of_a_view_are_those_of_its_elements() -> None:
    values = np.arange(40.0)
    spectra = []
    modules: tuple[Any, ...] = (gw, torch)
    for module in modules:
        x, window = module.tensor(values)[3::2], module.ones(8, dtype=module.float64)
        made = module.stft(x, 8, 3, window=window, center=False, return_complex=True)
        spectra.append(made.numpy())
    np.testing.assert_allclose(*spectra, atol=1e-12)


def test_frames_that_would_not_fit_are_refused_before_they_are_made() -> None:
    with pytest.raises(gw.GradwireError, match="admitted"):
        gw.stft(gw.ones(1_000_000), 100_000, 1, center=False, return_complex=True).tolist()


def test_a_window_that_leaves_gaps_is_refused() -> None:
    window = gw.tensor([0.0, 0.0, 1.0, 1.0])
    spectrum = gw.stft(gw.ones(20), 4, 4, window=window, center=False, return_complex=True)
    with pytest.raises(ValueError, match="cannot be had back"):
        gw.istft(spectrum, 4, 4, window=window, center=False).tolist()
