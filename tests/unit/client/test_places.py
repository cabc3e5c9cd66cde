"""What one imports from torch.autograd's modules can be imported from those of gradwire."""

from __future__ import annotations

import importlib

import pytest

NAMES = {
    "autograd": "Function backward grad gradcheck gradgradcheck detect_anomaly enable_grad no_grad",
    "autograd.function": "Function once_differentiable",
    "autograd.functional": "vjp jvp jacobian hessian hvp vhp",
    "autograd.gradcheck": "GradcheckError gradcheck gradgradcheck",
    "autograd.graph": "GradientEdge Node get_gradient_edge register_multi_grad_hook",
    "func": "vjp jvp grad grad_and_value jacrev jacfwd hessian linearize",
}


@pytest.mark.parametrize("library", ["torch", "gradwire"])
@pytest.mark.parametrize("module", NAMES)
def test_names_are_importable_where_torch_has_them(module: str, library: str) -> None:
    found = importlib.import_module(f"{library}.{module}")
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []
