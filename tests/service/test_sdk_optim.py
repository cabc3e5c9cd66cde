"""Optimizers take the steps that torch's take, with the parameters staying on the server."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import gradwire as gw
from gradwire import optim
from tests.service.sdk import session

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
]


def train(lib: Any, name: str, settings: dict[str, Any], set_to_none: bool) -> list[Any]:
    """Five steps of a small regression; one parameter gets gradients only every other step."""
    w = lib.linspace(-1, 1, 6, dtype=lib.float64).reshape(3, 2).requires_grad_()
    b = lib.zeros(2, dtype=lib.float64).requires_grad_()
    unused = lib.ones(1, dtype=lib.float64).requires_grad_()
    x = lib.linspace(0, 1, 12, dtype=lib.float64).reshape(4, 3)
    optimizer = getattr(lib.optim, name)([w, b, unused], **settings)
    for turn in range(5):
        optimizer.zero_grad(set_to_none=set_to_none)
        output = x @ w
        if turn % 2:
            output = output + b
        ((output - 1) ** 2).mean().backward()
        optimizer.step()
    return [each.detach().numpy() for each in (w, b, unused)]


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_takes_the_steps_that_torch_takes(
    name: str, settings: dict[str, Any], set_to_none: bool
) -> None:
    ours = train(gw, name, settings, set_to_none)
    theirs = train(torch, name, settings, set_to_none)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_steps_are_not_recorded_in_the_graph() -> None:
    w = gw.ones(2, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.5)
    (w * 3).sum().backward()
    optimizer.step()
    assert w.tolist() == [-0.5, -0.5]
    assert w.is_leaf and w.requires_grad


@pytest.mark.parametrize(
    "make",
    [
        lambda w: optim.SGD([w], lr=-1),
        lambda w: optim.SGD([], lr=1),
        lambda w: optim.SGD([w], lr=1, nesterov=True),
        lambda w: optim.Adam([w], betas=(1.0, 0.9)),
        lambda w: optim.Adam([w], eps=-1.0),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the settings differ)
        make(gw.ones(1, requires_grad=True))


def test_what_is_no_parameter_is_refused() -> None:
    for params in (gw.ones(1), [1.0]):
        with pytest.raises(TypeError):
            optim.SGD(params, lr=1)  # type: ignore[arg-type]
