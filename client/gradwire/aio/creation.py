"""Creation functions as `gradwire` has them, whose results type checkers know for `aio.Tensor`.

They are the same functions: where a tensor goes, and so of which class it is, the current session
decides.
"""

from collections.abc import Callable
from typing import ParamSpec, cast

from gradwire import creation, filled, tensors
from gradwire.aio.tensors import Tensor

P = ParamSpec("P")


def _of_event_loops(function: Callable[P, tensors.Tensor]) -> Callable[P, Tensor]:
    return cast("Callable[P, Tensor]", function)


arange = _of_event_loops(filled.arange)
as_tensor = _of_event_loops(creation.as_tensor)
empty = _of_event_loops(filled.empty)
eye = _of_event_loops(filled.eye)
from_numpy = _of_event_loops(creation.from_numpy)
full = _of_event_loops(filled.full)
linspace = _of_event_loops(filled.linspace)
ones = _of_event_loops(filled.ones)
rand = _of_event_loops(filled.rand)
randint = _of_event_loops(filled.randint)
randn = _of_event_loops(filled.randn)
tensor = _of_event_loops(creation.tensor)
zeros = _of_event_loops(filled.zeros)
