"""The engine: tensors, operators and define-by-run differentiation on NumPy.

Knows no wire, no session and no server. `operators` holds every operator by name.
"""

from gradwire_engine import ops as ops
from gradwire_engine.autograd import backward, grad
from gradwire_engine.context import Context, Limits, grad_mode, use
from gradwire_engine.errors import EngineError
from gradwire_engine.forward import jvp
from gradwire_engine.jacobians import forward_jacobian, jacobian
from gradwire_engine.registry import lookup, operators
from gradwire_engine.tensor import Tensor

__all__ = [
    "Context",
    "EngineError",
    "Limits",
    "Tensor",
    "backward",
    "forward_jacobian",
    "grad",
    "grad_mode",
    "jacobian",
    "jvp",
    "lookup",
    "operators",
    "use",
]
