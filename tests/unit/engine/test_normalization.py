"""Batch and instance norm: statistics that run along, changed in place, as in torch."""

from typing import Any

import numpy as np
import pytest
import torch

from gradwire_engine import EngineError, Tensor, operators

DTYPES = [np.float32, np.float64]


def drawn(shape: tuple[int, ...], dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
@pytest.mark.parametrize("training", [True, False])
def test_running_statistics_are_those_of_torch(name: str, training: bool, dtype: Any) -> None:
    mean, var = Tensor(np.zeros(3, dtype)), Tensor(np.ones(3, dtype))
    theirs = [torch.zeros(3), torch.ones(3)]
    theirs = [torch.from_numpy(np.array(each.numpy(), dtype)) for each in theirs]
    function = getattr(torch.nn.functional, name)
    for seed in range(3):
        x = drawn((4, 3, 5, 5), dtype, seed) * 3 + 2
        ours = operators[name](Tensor(x), mean, var, None, None, training, 0.3, 1e-4)
        expected = function(
            torch.from_numpy(x), *theirs, None, None, training, momentum=0.3, eps=1e-4
        )
        np.testing.assert_allclose(ours.data, expected.numpy(), 1e-4, 1e-5)
    np.testing.assert_allclose(mean.data, theirs[0].numpy(), 1e-4, 1e-6)
    np.testing.assert_allclose(var.data, theirs[1].numpy(), 1e-4, 1e-6)
    assert (mean.version[0] > 0) is training


def test_running_statistics_have_no_graph() -> None:
    mean, var = Tensor(np.zeros(2)), Tensor(np.ones(2))
    x = Tensor.from_array(drawn((3, 2)), requires_grad=True)
    operators["batch_norm"](x, mean, var, training=True)
    assert not mean.requires_grad
    assert not var.requires_grad


def test_a_large_mean_costs_no_digits() -> None:
    x = (drawn((8, 2, 4, 4)) + 1000).astype(np.float32)
    ours = operators["batch_norm"](Tensor(x), None, None, training=True)
    exact = torch.nn.functional.batch_norm(torch.from_numpy(x).double(), None, None, training=True)
    np.testing.assert_allclose(ours.data, exact.numpy(), rtol=1e-3, atol=1e-3)


def test_evaluation_needs_statistics() -> None:
    with pytest.raises(EngineError, match="running_mean"):
        operators["batch_norm"](Tensor(drawn((3, 2))), None, None)
