"""`gw.func`: functions that make functions of functions, as in torch.func.

All of them record, and wait for nothing: a Jacobian, a Hessian or a product with one is a single
request, sent when its value is read.
"""

from gradwire.func.batch import vmap
from gradwire.func.forward import jacfwd, jvp, linearize
from gradwire.func.reverse import grad, grad_and_value, jacrev, vjp
from gradwire.func.second import hessian, hvp

__all__ = [
    "grad",
    "grad_and_value",
    "hessian",
    "hvp",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "vjp",
    "vmap",
]
