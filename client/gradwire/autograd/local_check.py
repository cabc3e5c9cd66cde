"""Derivatives against central differences, from this side, in many calls of the function.

Tensors count as real: a complex element is two, its real and its imaginary part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradwire import creation, filled, reading
from gradwire import tensors as _tensors
from gradwire.autograd import gradients
from gradwire.autograd.disagreement import (
    GradcheckError,
    Place,
    Reals,
    Tolerances,
    differs,
    repeats_differently,
)
from gradwire.codec import Array
from gradwire.func import steps
from gradwire.operators import functions

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

_REQUEST_BYTES: Final = 8 << 20
"""About so many bytes of perturbed results are read with one request."""

_REQUEST_CALLS: Final = 512
"""So many calls of the function are recorded before their results are read."""

Function = Callable[..., Any]

Jacobians = list[list[Reals]]
"""By output, then by input: (elements of the output, elements of the input), all real."""


class Check:
    """A function at a point, and its outputs there.

    Attributes:
        coarse: Which inputs are in less than double precision.
    """

    def __init__(self, func: Function, inputs: Tensor | Sequence[Any], bounds: Tolerances) -> None:
        self._func = func
        self._bounds = bounds
        self._given = as_list(inputs)
        self._at = [nr for nr, each in enumerate(self._given) if requires_grad(each)]
        if not self._at:
            raise ValueError(
                "gradcheck compares derivatives by inputs that require grad, and none does; set "
                "requires_grad=True"
            )
        self._inputs: list[Tensor] = [self._given[nr] for nr in self._at]
        self._values = [np.array(each) for each in reading.values_of(self._inputs)]
        self.coarse = [
            nr
            for nr, value in zip(self._at, self._values, strict=True)
            if value.dtype not in (np.float64, np.complex128)
        ]
        found = tensors_of(func(*self._given))
        shown = reading.values_of(found)
        # One that does not require grad is checked only where none does: all must be constant.
        chosen = [nr for nr, each in enumerate(found) if requires_grad(each)]
        self._chosen = chosen or [nr for nr, value in enumerate(shown) if value.dtype.kind in "fc"]
        self._outputs = [found[nr] for nr in self._chosen]
        self._shown = [shown[nr] for nr in self._chosen]
        self._is_constant = not chosen
        self._sizes = [_as_real(value).size for value in self._shown]

    def require_agreement(
        self, *, reverse: bool, forward: bool, batched: bool, dtypes: bool
    ) -> None:
        """Raise GradcheckError if derivatives differ by more than is allowed.

        Args:
            reverse: Compare those of reverse mode.
            forward: Compare those of forward mode.
            batched: Compare those along several directions at once with those along each.
            dtypes: Also require that gradients have the dtypes of their inputs.
        """
        numerical = self._numerical()
        if reverse:
            self._compare(numerical, self._backward(dtypes), "analytical")
        if forward:
            self._compare(numerical, self._forward(), "forward mode")
        if batched:
            self._batched()

    def _numerical(self) -> Jacobians:
        """By central differences."""
        eps = self._bounds.eps
        columns: list[list[list[Reals]]] = [[] for _ in self._inputs]
        moves = [
            (nr, element) for nr, value in enumerate(self._values) for element in _elements(value)
        ]
        size = sum(value.nbytes for value in self._shown) or 1
        most = max(1, min(_REQUEST_CALLS, _REQUEST_BYTES // size) // 2)
        for start in range(0, len(moves), most):
            some = moves[start : start + most]
            recorded = [self._moved(*move, sign * eps) for move in some for sign in (1, -1)]
            flat = [each for outputs in recorded for each in outputs]
            values = [_as_real(value) for value in reading.values_of(flat)] if flat else []
            width = len(self._chosen)
            for at, (nr, _) in enumerate(some):
                ahead = values[2 * at * width : (2 * at + 1) * width]
                behind = values[(2 * at + 1) * width : (2 * at + 2) * width]
                columns[nr].append(
                    [(a - b) / (2 * eps) for a, b in zip(ahead, behind, strict=True)]
                )
        return [
            [
                np.array([column[at] for column in of_input]).reshape(-1, size).T
                for of_input in columns
            ]
            for at, size in enumerate(self._sizes)
        ]

    def _moved(self, nr: int, element: int, by: float) -> list[Tensor]:
        """The outputs with one element of one input moved."""
        value = self._values[nr].copy()
        _as_real(value)[element] += by
        given = list(self._given)
        given[self._at[nr]] = creation.put(self._inputs[nr]._session, value, None, True)
        found = tensors_of(self._func(*given))
        return [found[each] for each in self._chosen]

    def _backward(self, check_dtypes: bool) -> Jacobians:
        """By reverse mode, twice, to see that both are the same."""
        if self._is_constant:
            return self._zeros()
        twice = [
            steps.jacobian(
                root, self._inputs, None, retain_graph=True, create_graph=False, allow_unused=True
            )
            for root in map(_real_output, self._outputs, self._shown)
            for _ in range(2)
        ]
        values = reading.values_of([each for row in twice for each in row])
        count = len(self._inputs)
        found: Jacobians = []
        for at, size in enumerate(self._sizes):
            one = values[2 * at * count : (2 * at + 1) * count]
            other = values[(2 * at + 1) * count : (2 * at + 2) * count]
            for nr, (a, b) in enumerate(zip(one, other, strict=True)):
                if not np.allclose(a, b, 0, self._bounds.nondet_tol, equal_nan=True):
                    raise repeats_differently(self._chosen[at], self._at[nr], a, b)
                if check_dtypes and a.dtype != self._values[nr].dtype:
                    raise GradcheckError(
                        f"the gradient of input {self._at[nr]} is of {a.dtype} and the input of "
                        f"{self._values[nr].dtype}"
                    )
            found.append([_as_real(value).reshape(size, -1) for value in one])
        return found

    def _forward(self) -> Jacobians:
        """By forward mode, from leaves that are real."""
        session = self._inputs[0]._session
        given = list(self._given)
        leaves: list[Tensor] = []
        for nr, value in zip(self._at, self._values, strict=True):
            is_complex = value.dtype.kind == "c"
            parts = _as_real(value).reshape(*value.shape, 2) if is_complex else value
            leaf = creation.put(session, parts, None, True)
            leaves.append(leaf)
            given[nr] = functions.view_as_complex(leaf) if is_complex else leaf
        found = tensors_of(self._func(*given))
        roots = [
            _real_output(found[nr], value)
            for nr, value in zip(self._chosen, self._shown, strict=True)
        ]
        columns = [steps.forward_jacobian(roots, leaf, None, create_graph=False) for leaf in leaves]
        values = reading.values_of([each for column in columns for each in column])
        return [
            [_as_real(values[nr * len(roots) + at]).reshape(size, -1) for nr in range(len(leaves))]
            for at, size in enumerate(self._sizes)
        ]

    def _batched(self) -> None:
        """Compare gradients along two directions at once with those along each."""
        if self._is_constant:
            return
        for nr, output in zip(self._chosen, self._outputs, strict=True):
            pair = [filled.randn_like(output) for _ in range(2)]
            options: dict[str, Any] = {"retain_graph": True, "materialize_grads": True}
            together = gradients.grad(
                [output], self._inputs, [functions.stack(pair)], is_grads_batched=True, **options
            )
            apart = [gradients.grad([output], self._inputs, [each], **options) for each in pair]
            stacked = [functions.stack(each) for each in zip(*apart, strict=True)]
            values = reading.values_of([*together, *stacked])
            for at, (a, b) in enumerate(
                zip(values[: len(together)], values[len(together) :], strict=True)
            ):
                if not np.allclose(a, b, self._bounds.rtol, self._bounds.atol):
                    raise GradcheckError(
                        f"gradients of input {self._at[at]} from output {nr} differ with "
                        f"is_grads_batched:\nbatched:\n{a}\none by one:\n{b}"
                    )

    def _compare(self, numerical: Jacobians, found: Jacobians, how: str) -> None:
        """Raise for what differs most, in proportion to what is allowed, if it is too much."""
        bounds, most, error = self._bounds, 1.0, None
        for output, wanted_row, found_row in zip(self._chosen, numerical, found, strict=True):
            for nr, wanted, got in zip(self._at, wanted_row, found_row, strict=True):
                if not wanted.size:
                    continue
                off = np.abs(got - wanted)
                with np.errstate(divide="ignore", invalid="ignore"):
                    excess = off / (bounds.atol + bounds.rtol * np.abs(wanted))
                excess = np.nan_to_num(np.where(off == 0, 0, excess), nan=np.inf, posinf=np.inf)
                place = np.unravel_index(int(np.argmax(excess)), off.shape)
                if excess[place] > most:
                    row, column = map(int, place)
                    values = float(wanted[place]), float(got[place])
                    most = excess[place]
                    error = differs(Place(output, nr, row, column), how, values, (wanted, got))
        if error is not None:
            raise error

    def _zeros(self) -> Jacobians:
        return [
            [np.zeros((size, _as_real(value).size)) for value in self._values]
            for size in self._sizes
        ]


def _as_real(value: Array) -> Reals:
    """The elements as real numbers, in one dimension; of a contiguous array, a view."""
    flat = value.reshape(-1)
    real: Reals = flat.view(flat.real.dtype)
    return real


def _elements(value: Array) -> range:
    return range(_as_real(value).size)


def _real_output(output: Tensor, value: Array) -> Tensor:
    return functions.view_as_real(output) if value.dtype.kind == "c" else output


def as_list(given: Any) -> list[Any]:
    """The arguments: those given, or the one."""
    return [given] if isinstance(given, _tensors.Tensor) else list(given)


def tensors_of(given: Any) -> list[Tensor]:
    """What a function to check gave.

    Raises:
        ValueError: it is neither a tensor nor several.
    """
    found = list(given) if isinstance(given, (tuple, list)) else [given]
    for each in found:
        if not isinstance(each, _tensors.Tensor):
            raise ValueError(
                f"the function to check must give tensors, not {type(each).__name__} ({each!r})"
            )
    if not found:
        raise ValueError("the function to check gives no tensor")
    return found


def requires_grad(value: object) -> bool:
    """Whether it is a tensor that requires grad; one round trip unless that is known."""
    return isinstance(value, _tensors.Tensor) and reading.info_of(value).requires_grad
