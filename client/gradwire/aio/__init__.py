"""gradwire for event loops: what reads is awaited, all else is as in `gradwire`.

    import gradwire as gw

    async with gw.aio.connect("host:50051"):    # or gw.aio.connect(): a server in this process
        x = gw.tensor([3.0], requires_grad=True)
        y = (x + 2) ** 2
        y.backward()
        grad = await x.get_grad()
        await grad.item()                       # 10.0

Recording, which everything else is, never waits: so it takes the same functions, and only what
gives an answer of the server has a twin here.
"""

from gradwire.aio import optim
from gradwire.aio.compiling import compile
from gradwire.aio.connecting import Connecting, connect
from gradwire.aio.creation import (
    arange,
    as_tensor,
    eye,
    from_numpy,
    full,
    linspace,
    ones,
    rand,
    randint,
    randn,
    tensor,
    zeros,
)
from gradwire.aio.inspection import allclose, equal, fetch, graph
from gradwire.aio.profiling import profile
from gradwire.aio.session import Session
from gradwire.aio.tensors import Tensor

__all__ = [
    "Connecting",
    "Session",
    "Tensor",
    "allclose",
    "arange",
    "as_tensor",
    "compile",
    "connect",
    "equal",
    "eye",
    "fetch",
    "from_numpy",
    "full",
    "graph",
    "linspace",
    "ones",
    "optim",
    "profile",
    "rand",
    "randint",
    "randn",
    "tensor",
    "zeros",
]
