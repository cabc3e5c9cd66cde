"""`gw.autograd`: backward, grad, and what belongs to them, as in torch.autograd."""

from gradwire.anomaly import detect_anomaly, set_detect_anomaly
from gradwire.autograd import functional, graph
from gradwire.autograd.function import Function
from gradwire.autograd.gradcheck import GradcheckError, gradcheck, gradgradcheck
from gradwire.autograd.gradients import backward, grad
from gradwire.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)

__all__ = [
    "Function",
    "GradcheckError",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "graph",
    "inference_mode",
    "is_grad_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]
