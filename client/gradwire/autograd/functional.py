"""`gw.autograd.functional`: derivatives of a function at a point, as in torch.autograd.functional.

The older form of `gw.func`: it takes the function and its inputs together, a tensor or a tuple of
tensors, and results leave the graph unless `create_graph` is set. Each call is one request.

Of each function here:

    func: Of the inputs; gives a tensor or a tuple of tensors.
    inputs: A tensor, or a tuple of tensors.
    create_graph: Results can be differentiated by what the inputs and `func` were made of.
    strict: An output that does not depend on an input is an error (RuntimeError, at the next
        reading), instead of zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradwire import filled, reading
from gradwire import func as transforms
from gradwire import tensors as _tensors
from gradwire.arguments import wrong_type
from gradwire.errors import refused
from gradwire.func import steps
from gradwire.func.forward import require_dependence
from gradwire.func.transform import Transform
from gradwire.operators import functions

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

Function = Callable[..., Any]
Tensors = Any
"""A tensor or a tuple of tensors."""


def vjp(
    func: Function,
    inputs: Tensors,
    v: Tensors = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensors, Tensors]:
    """The output, and its vector-Jacobian product with `v`.

    Args:
        func: See the module.
        inputs: See the module.
        v: The cotangent, of the shape of the output; None for an output of one element.
        create_graph: See the module.
        strict: See the module.

    Returns:
        `(output, product)`; the product is built and shaped like `inputs`.

    Raises:
        TypeError: inputs, output or `v` are neither a tensor nor a tuple of tensors.
        RuntimeError: `v` does not fit the output.
    """
    call = _Call("vjp", func, inputs, create_graph, strict)
    found = call.pulled_back(call.directions(v, call.outputs, "output"))
    return call.output(), call.as_inputs(found)


def jvp(
    func: Function,
    inputs: Tensors,
    v: Tensors = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensors, Tensors]:
    """The output, and its Jacobian-vector product with `v`.

    Args:
        func: See the module.
        inputs: See the module.
        v: The tangent, built and shaped like `inputs`; None for an input of one element.
        create_graph: See the module.
        strict: See the module.

    Returns:
        `(output, product)`; the product is built and shaped like the output.

    Raises:
        TypeError: inputs, output or `v` are neither a tensor nor a tuple of tensors.
        RuntimeError: `v` does not fit the inputs.
    """
    call = _Call("jvp", func, inputs, create_graph, strict)
    found = steps.jvp(
        call.outputs,
        call.variables,
        call.directions(v, call.variables, "input"),
        call.transform.variables,
        create_graph=create_graph,
    )
    return call.output(), call.as_outputs(found)


def jacobian(
    func: Function,
    inputs: Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian.

    Args:
        func: See the module.
        inputs: See the module.
        create_graph: See the module.
        strict: See the module.
        vectorize: Accepted, and of no effect: there is one request either way.
        strategy: "reverse-mode" (a pass for each element of the output) or "forward-mode" (one for
            each element of the inputs).

    Returns:
        Of one output and one input, a tensor of the output's shape followed by the input's. Of
        several inputs, a tuple of these; of several outputs, a tuple with such an entry for each.

    Raises:
        TypeError: inputs or output are neither a tensor nor a tuple of tensors.
        ValueError: there is no such strategy.
    """
    if strategy not in ("reverse-mode", "forward-mode"):
        raise refused(
            "BAD_VALUE", f"strategy must be 'reverse-mode' or 'forward-mode', not {strategy!r}"
        )
    call = _Call("jacobian", func, inputs, create_graph, strict)
    variables = call.transform.variables
    rows: list[Sequence[Tensor]]
    if strategy == "forward-mode":
        columns = [
            steps.forward_jacobian(call.outputs, each, variables, create_graph=create_graph)
            for each in call.variables
        ]
        rows = list(zip(*columns, strict=True))
    else:
        rows = [
            steps.jacobian(
                each, call.variables, variables, retain_graph=True, create_graph=create_graph
            )
            for each in call.outputs
        ]
    return call.as_outputs([call.as_inputs(row) for row in rows])


def hessian(
    func: Function,
    inputs: Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The Hessian of a function that gives one element.

    Args:
        func: See the module.
        inputs: See the module.
        create_graph: See the module.
        strict: See the module.
        vectorize: Accepted, and of no effect.
        outer_jacobian_strategy: As `strategy` of `jacobian`, for the Jacobian of the gradient.

    Returns:
        Of one input, a tensor of its shape twice; of several, a tuple of tuples, of which entry
        [i][j] has the shape of input i followed by that of input j.

    Raises:
        TypeError: inputs are neither a tensor nor a tuple of tensors.
        RuntimeError: `func` gives something else than one tensor of one element.
    """
    count = len(inputs) if isinstance(inputs, tuple) else None

    def gradient(*given: Tensor) -> Tensors:
        argnums = 0 if count is None else tuple(range(count))
        return transforms.grad(_scalar("hessian", func), argnums)(*given)

    return jacobian(
        gradient, inputs, create_graph, strict, vectorize, strategy=outer_jacobian_strategy
    )


def hvp(
    func: Function,
    inputs: Tensors,
    v: Tensors = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensor, Tensors]:
    """The value of a function that gives one element, and the product of its Hessian with `v`.

    Args:
        func: See the module.
        inputs: See the module.
        v: The vector, built and shaped like `inputs`; None for an input of one element.
        create_graph: See the module.
        strict: See the module.

    Returns:
        `(output, product)`; the product is built and shaped like `inputs`.

    Raises:
        TypeError: inputs or `v` are neither a tensor nor a tuple of tensors.
        RuntimeError: `v` does not fit the inputs; `func` gives something else than one tensor of
            one element.
    """
    return _second("hvp", func, inputs, v, create_graph, strict)


def vhp(
    func: Function,
    inputs: Tensors,
    v: Tensors = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensor, Tensors]:
    """As `hvp`: a Hessian is symmetric."""
    return _second("vhp", func, inputs, v, create_graph, strict)


def _second(
    function: str, func: Function, inputs: Tensors, v: Tensors, create_graph: bool, strict: bool
) -> tuple[Tensor, Tensors]:
    count = len(inputs) if isinstance(inputs, tuple) else 1
    values: list[Tensor] = []

    def gradient(*given: Tensor) -> Tensors:
        argnums = tuple(range(count))
        found, value = transforms.grad_and_value(_scalar(function, func), argnums)(*given)
        values.append(value)
        return found

    call = _Call(function, gradient, inputs, create_graph, strict)
    found = call.pulled_back(call.directions(v, call.variables, "input"))
    return call.transform.leave(values[0]), call.as_inputs(found)


@dataclass(slots=True)
class _Tuple:
    """A tensor or a tuple of tensors, as a list and what it was."""

    items: list[Tensor]
    is_tuple: bool

    @classmethod
    def of(cls, function: str, name: str, given: Any) -> _Tuple:
        items = given if isinstance(given, tuple) else (given,)
        for each in items:
            if not isinstance(each, _tensors.Tensor):
                raise wrong_type(function, name, "a tensor or a tuple of tensors", each)
        if not items:
            raise refused("BAD_VALUE", f"{function}(): {name} is an empty tuple")
        return cls(list(items), isinstance(given, tuple))

    def like(self, results: Sequence[Any]) -> Any:
        return tuple(results) if self.is_tuple else results[0]


class _Call:
    """A function run on variables."""

    def __init__(
        self, function: str, func: Function, inputs: Tensors, create_graph: bool, strict: bool
    ) -> None:
        self._function = function
        self._inputs = _Tuple.of(function, "inputs", inputs)
        with Transform(connected=create_graph) as self.transform:
            self.variables = [self.transform.variable(each) for each in self._inputs.items]
            self._outputs = _Tuple.of(function, "the output of func", func(*self.variables))
        self.outputs = self._outputs.items
        if strict:
            require_dependence(self.outputs, self.variables)

    def pulled_back(self, directions: list[Tensor]) -> list[Tensor]:
        """The gradients of the variables along directions of the outputs."""
        return steps.grad(
            self.outputs,
            self.variables,
            directions,
            self.transform.variables,
            create_graph=self.transform.connected,
        )

    def output(self) -> Tensors:
        return self.transform.leave(self._outputs.like(self.outputs))

    def as_inputs(self, results: Sequence[Any]) -> Any:
        return self._inputs.like(results)

    def as_outputs(self, results: Sequence[Any]) -> Any:
        return self._outputs.like(results)

    def directions(self, v: Tensors, like: list[Tensor], what: str) -> list[Tensor]:
        """The vector of a product, one tensor for each of `like`."""
        if v is None:
            sizes = [math.prod(reading.type_of(each).shape) for each in like]
            if sizes != [1]:
                raise refused(
                    "NON_SCALAR_ROOT",
                    f"{self._function}() needs v: only for one {what} of one element it is 1",
                )
            return [filled.ones_like(like[0])]
        given = _Tuple.of(self._function, "v", v).items
        if len(given) != len(like):
            raise refused(
                "BAD_VALUE",
                f"{self._function}() needs a tensor in v for each {what}: {len(like)}, not "
                f"{len(given)}",
            )
        return given


def _scalar(function: str, func: Function) -> Function:
    """The function with a result of no dimensions, which PyTorch also lets be of shape (1,)."""

    def scalar(*given: Tensor) -> Tensor:
        output = func(*given)
        if not isinstance(output, _tensors.Tensor):
            raise refused(
                "BAD_VALUE",
                f"{function}() needs a function that gives one tensor of one element, not "
                f"{type(output).__name__}",
            )
        return functions.reshape(output, ())

    return scalar
