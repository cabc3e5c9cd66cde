"""Define-by-run automatic differentiation as a service, with PyTorch's names.

    import gradwire as gw

    gw.connect("host:50051")          # or gw.connect(): a server in this process
    x = gw.tensor([3.0], requires_grad=True)
    y = (x + 2) ** 2
    y.backward()
    x.grad.item()                     # 10.0

Operators are recorded, and run on the server when something is read.
"""

# Tensor comes first: the modules that it is made of refer back to it. `graph` comes after the
# package of the same name was imported, so that `gw.graph` is the function.
from gradwire.tensors import Size, Tensor  # isort: skip
from gradwire import aio, autograd, dtypes, errors, fft, func, linalg, nn, optim, special
from gradwire.anomaly import is_anomaly_check_nan_enabled, is_anomaly_enabled
from gradwire.autograd import enable_grad, inference_mode, no_grad, set_grad_enabled
from gradwire.comparing import allclose, equal, is_tensor
from gradwire.compiling import compile
from gradwire.connecting import connect
from gradwire.creation import as_tensor, from_numpy, tensor
from gradwire.draws import normal, randint_like
from gradwire.dtypes import (
    complex64,
    complex128,
    dtype,
    float16,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    set_default_dtype,
    uint8,
)
from gradwire.errors import GradwireError
from gradwire.filled import (
    arange,
    empty,
    empty_like,
    eye,
    full,
    full_like,
    linspace,
    manual_seed,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    zeros,
    zeros_like,
)
from gradwire.inspection import fetch, graph
from gradwire.memory import retain_memory
from gradwire.modes import is_grad_enabled, is_inference_mode_enabled
from gradwire.nn.convolution import conv1d, conv2d, conv3d
from gradwire.nn.pooling import (
    adaptive_avg_pool1d,
    adaptive_max_pool1d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from gradwire.operators import functions
from gradwire.operators.functions import *  # noqa: F403 (the names are those of its __all__)
from gradwire.overloads import chunk, max, median, min, nanmedian, split, std, unbind, var
from gradwire.places import nonzero, unique, unique_consecutive
from gradwire.profiling import profile
from gradwire.session import Session
from gradwire.several import (
    block_diag,
    broadcast_tensors,
    cartesian_prod,
    dsplit,
    einsum,
    gradient,
    hsplit,
    meshgrid,
    tensor_split,
    tensordot,
    vsplit,
)

bool = dtypes.bool_
half = float16
float = float32
double = float64
short = int16
int = int32
long = int64
cfloat = complex64
cdouble = complex128

__all__ = [
    "GradwireError",
    "Session",
    "Size",
    "Tensor",
    "adaptive_avg_pool1d",
    "adaptive_max_pool1d",
    "aio",
    "allclose",
    "arange",
    "as_tensor",
    "autograd",
    "block_diag",
    "bool",
    "broadcast_tensors",
    "cartesian_prod",
    "cdouble",
    "cfloat",
    "chunk",
    "compile",
    "complex64",
    "complex128",
    "connect",
    "conv1d",
    "conv2d",
    "conv3d",
    "double",
    "dsplit",
    "dtype",
    "einsum",
    "empty",
    "empty_like",
    "enable_grad",
    "equal",
    "errors",
    "eye",
    "fetch",
    "fft",
    "float",
    "float16",
    "float32",
    "float64",
    "from_numpy",
    "full",
    "full_like",
    "func",
    "get_default_dtype",
    "gradient",
    "graph",
    "half",
    "hsplit",
    "inference_mode",
    "int",
    "int8",
    "int16",
    "int32",
    "int64",
    "is_anomaly_check_nan_enabled",
    "is_anomaly_enabled",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "is_tensor",
    "linalg",
    "linspace",
    "long",
    "manual_seed",
    "max",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "median",
    "meshgrid",
    "min",
    "nanmedian",
    "nn",
    "no_grad",
    "nonzero",
    "normal",
    "ones",
    "ones_like",
    "optim",
    "profile",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "retain_memory",
    "set_default_dtype",
    "set_grad_enabled",
    "short",
    "special",
    "split",
    "std",
    "tensor",
    "tensor_split",
    "tensordot",
    "uint8",
    "unbind",
    "unique",
    "unique_consecutive",
    "var",
    "vsplit",
    "zeros",
    "zeros_like",
]
__all__ += functions.__all__
