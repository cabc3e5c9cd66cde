"""Derivatives of a function against central differences, as torch.autograd.gradcheck.

Jacobians are compared as real matrices: a complex element counts as two, its real part and then
its imaginary part. Rows are elements of an output, columns elements of an input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradwire_engine.autograd import grad
from gradwire_engine.context import current
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import TRACED
from gradwire_engine.jacobians import forward_jacobian, jacobian
from gradwire_engine.tensor import Tensor

Function = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""What is checked: from all inputs to all outputs. It changes none of its inputs in place."""

Way = Literal["reverse", "forward", "repeated"]
"""What differs from what: reverse or forward mode from central differences, or a second pass of the
same backward from the first."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How numbers are compared.

    Attributes:
        eps: how far an element is moved, either way.
        atol, rtol: |found - numerical| may be up to atol + rtol · |numerical|.
        repeated: how much two passes of the same backward may differ.
    """

    eps: float = 1e-6
    atol: float = 1e-5
    rtol: float = 1e-3
    repeated: float = 0.0


@dataclass(frozen=True, slots=True)
class Difference:
    """Two Jacobians of one output by one input, at the element where they differ most.

    Attributes:
        way: what the second Jacobian is, and what the first.
        output: index of the output.
        input: index of the input.
        row, column: of the element.
        numerical: what is right.
        found: what differs from it.
        excess: the difference in units of what is allowed: more than 1 is too much.
    """

    way: Way
    output: int
    input: int
    row: int
    column: int
    numerical: np.ndarray
    found: np.ndarray
    excess: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check came to.

    Attributes:
        compared: how many elements of Jacobians.
        worst: the difference of the largest excess; None if there was nothing to compare.
    """

    compared: int
    worst: Difference | None

    @property
    def agrees(self) -> bool:
        """Whether no difference is larger than allowed."""
        return self.worst is None or self.worst.excess <= 1


class Check:
    """A function at a point, and its outputs there.

    Attributes:
        outputs: of one run of the function, in all of their kinds.
        coarse: indices of inputs to differentiate by that are of less than double precision.
    """

    def __init__(self, function: Function, inputs: Sequence[Tensor], bounds: Tolerances) -> None:
        """Run the function once.

        Args:
            function: the function.
            inputs: what it takes. It is differentiated by those that require grad, which it gets
                as leaves of their values.
            bounds: how numbers are compared.

        Raises:
            EngineError: NOTHING_TO_CHECK, and what the function raises.
        """
        self._function = function
        self._bounds = bounds
        self._given = [_leaf(each.data) if each.requires_grad else each for each in inputs]
        self._at = [nr for nr, each in enumerate(self._given) if each.requires_grad]
        if not self._at:
            raise EngineError(
                "NOTHING_TO_CHECK",
                "gradcheck compares derivatives by inputs that require grad, and none does; set "
                "requires_grad=True",
            )
        self._leaves = [self._given[nr] for nr in self._at]
        self.coarse = [nr for nr in self._at if _is_coarse(self._given[nr])]
        self.outputs = function(self._given)
        # One that does not require grad is checked only where none does: all must be constant.
        chosen = [nr for nr, each in enumerate(self.outputs) if each.requires_grad]
        self._chosen = chosen or [
            nr for nr, each in enumerate(self.outputs) if each.dtype.kind in "fc"
        ]

    def evaluations(self) -> int:
        """How many runs of the function `run` will take for its central differences."""
        return 2 * sum(map(_size, self._leaves))

    def passes(self, *, reverse: bool, forward: bool) -> int:
        """How many backward passes `run` will take."""
        rows = sum(_size(self.outputs[nr]) for nr in self._chosen)
        columns = sum(_size(leaf) for leaf in self._leaves)
        # Forward mode goes through a backward that was recorded, which is about twice as long.
        return 2 * rows * reverse + (len(self._leaves) + 2 * columns) * forward

    def run(self, *, reverse: bool = True, forward: bool = False) -> Verdict:
        """Compare the whole Jacobians by central differences with those of the modes wanted.

        Raises:
            EngineError: LIMIT_EXCEEDED where a Jacobian is too large, SHAPE_MISMATCH where outputs
                change their shapes, and what the function, a backward or `Context.check` raise.
        """
        compared, worst = 0, None
        for each in self._differences(reverse, forward):
            compared += 0 if each.way == "repeated" else each.found.size
            if worst is None or each.excess > worst.excess:
                worst = each
        return Verdict(compared, worst)

    def _differences(self, reverse: bool, forward: bool) -> Iterator[Difference]:
        """Where each pair of Jacobians that has elements differs most."""
        numerical = self._numerical()
        bounds = self._bounds
        for at, row in enumerate(numerical):
            if not reverse:
                break
            first, second = self._reverse(at), self._reverse(at)
            for nr, (wanted, found, again) in enumerate(zip(row, first, second, strict=True)):
                if not wanted.size:
                    continue
                place = (self._chosen[at], self._at[nr])
                allowed = bounds.atol + bounds.rtol * np.abs(wanted)
                yield _difference("reverse", *place, wanted, found, allowed)
                both_nan = np.isnan(found) & np.isnan(again)
                again = np.where(both_nan, 0, again)
                found = np.where(both_nan, 0, found)
                yield _difference("repeated", *place, found, again, np.array(bounds.repeated))
        if forward:
            for nr, column in enumerate(self._forward()):
                for at, found in enumerate(column):
                    wanted = numerical[at][nr]
                    if wanted.size:
                        place = (self._chosen[at], self._at[nr])
                        allowed = bounds.atol + bounds.rtol * np.abs(wanted)
                        yield _difference("forward", *place, wanted, found, allowed)

    def _numerical(self) -> list[list[np.ndarray]]:
        """By central differences; by output, then by input."""
        sizes = [_size(self.outputs[nr]) for nr in self._chosen]
        found = [[_matrix(rows, _size(leaf)) for leaf in self._leaves] for rows in sizes]
        eps = self._bounds.eps
        for nr, leaf in enumerate(self._leaves):
            for column in range(_size(leaf)):
                ahead, behind = (self._moved(nr, column, by) for by in (eps, -eps))
                for at, (a, b) in enumerate(zip(ahead, behind, strict=True)):
                    if a.size != sizes[at] or b.size != sizes[at]:
                        raise EngineError(
                            "SHAPE_MISMATCH",
                            f"output {self._chosen[at]} of the function changes its shape when an "
                            "input moves a little, so it has no Jacobian",
                            output=self._chosen[at],
                        )
                    found[at][nr][:, column] = (a - b) / (2 * eps)
        return found

    def _moved(self, nr: int, element: int, by: float) -> list[np.ndarray]:
        """The outputs with one element of one input moved."""
        check = current.context.check
        if check is not None:
            check()
        value = self._leaves[nr].data.copy()
        _as_real(value)[element] += by
        given = list(self._given)
        given[self._at[nr]] = _leaf(value)
        found = self._function(given)
        return [_as_real(found[each].data) for each in self._chosen]

    def _reverse(self, at: int) -> list[np.ndarray]:
        """Of one output by each input, by reverse mode."""
        output = self.outputs[self._chosen[at]]
        rows = _size(output)
        if not output.requires_grad:
            return [_matrix(rows, _size(leaf)) for leaf in self._leaves]
        found = jacobian(
            _real_output(output), self._leaves, retain_graph=True, materialize_grads=True
        )
        return [
            _as_real(each.data).reshape(rows, _size(leaf))
            for each, leaf in zip(found, self._leaves, strict=True)
            if each is not None
        ]

    def _forward(self) -> Iterator[list[np.ndarray]]:
        """Of each output by one input after the other, by forward mode, from real leaves."""
        given = list(self._given)
        leaves: list[Tensor] = []
        for nr in self._at:
            value = self._given[nr].data
            if value.dtype.kind == "c":
                leaves.append(_leaf(_as_real(value).reshape(*value.shape, 2)))
                given[nr] = TRACED.view_as_complex(leaves[-1])
            else:
                leaves.append(_leaf(value))
                given[nr] = leaves[-1]
        found = self._function(given)
        roots = [_real_output(found[nr]) for nr in self._chosen]
        for leaf in leaves:
            columns = forward_jacobian(roots, leaf)
            yield [
                _as_real(each.data).reshape(root.data.size, leaf.data.size)
                for each, root in zip(columns, roots, strict=True)
            ]


def gradient_of(
    function: Function, inputs: Sequence[Tensor], directions: Sequence[Tensor] = ()
) -> tuple[Function, list[Tensor]]:
    """The gradient of a function, as a function of the inputs and of directions; and those.

    Args:
        function: run once here.
        inputs: what it takes.
        directions: one for each output that requires grad, of its shape. Left out: random ones, by
            which the gradient is to be differentiated too.

    Raises:
        EngineError: WRONG_ARITY, NOTHING_TO_CHECK, and what the function raises.
    """
    at = [nr for nr, each in enumerate(inputs) if each.requires_grad]
    outputs = function(inputs)
    chosen = [nr for nr, each in enumerate(outputs) if each.requires_grad]
    if not chosen:
        raise EngineError(
            "NOTHING_TO_CHECK",
            "gradgradcheck compares derivatives of gradients, and no output of the function "
            "requires grad",
        )
    if not directions:
        directions = [_random(outputs[nr]) for nr in chosen]
    if len(directions) != len(chosen):
        raise EngineError(
            "WRONG_ARITY",
            f"{len(chosen)} outputs of the function require grad, and {len(directions)} directions "
            "are given; give one for each, or none at all",
            outputs=len(chosen),
            given=len(directions),
        )
    count = len(inputs)

    def gradient(given: Sequence[Tensor]) -> Sequence[Tensor]:
        found = function(given[:count])
        gradients = grad(
            [found[nr] for nr in chosen],
            [given[nr] for nr in at],
            given[count:],
            create_graph=True,
            materialize_grads=True,
        )
        return [each for each in gradients if each is not None]

    return gradient, [*inputs, *directions]


def _difference(
    way: Way,
    output: int,
    input: int,
    wanted: np.ndarray,
    found: np.ndarray,
    allowed: np.ndarray,
) -> Difference:
    off = np.abs(found - wanted)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(off == 0, 0, off / allowed)
    excess = np.nan_to_num(excess, nan=np.inf, posinf=np.inf)
    row, column = np.unravel_index(int(np.argmax(excess)), excess.shape)
    place = (int(row), int(column))
    return Difference(way, output, input, *place, wanted, found, float(excess[place]))


def _leaf(value: np.ndarray) -> Tensor:
    return Tensor.from_array(np.array(value, order="C"), requires_grad=True)


def _random(like: Tensor) -> Tensor:
    """A direction."""
    draw = current.context.generator.standard_normal
    value = draw(like.shape)
    if like.dtype.kind == "c":
        value = value + 1j * draw(like.shape)
    return _leaf(np.asarray(value, like.dtype))


def _matrix(rows: int, columns: int) -> np.ndarray:
    current.context.admit((rows, columns), "a Jacobian")
    return np.zeros((rows, columns))


def _is_coarse(tensor: Tensor) -> bool:
    return tensor.dtype not in (np.float64, np.complex128)


def _size(tensor: Tensor) -> int:
    """The number of real elements."""
    return tensor.data.size * (2 if tensor.dtype.kind == "c" else 1)


def _as_real(value: np.ndarray) -> np.ndarray:
    """The elements as real numbers, in one dimension; of a contiguous array, a view."""
    flat = np.ascontiguousarray(value).reshape(-1)
    return flat.view(flat.real.dtype)


def _real_output(output: Tensor) -> Tensor:
    if output.dtype.kind != "c":
        return output
    real: Tensor = TRACED.view_as_real(output)
    return real
