"""`gw.autograd.gradcheck` and `gradgradcheck`: derivatives against central differences.

Tensors count as real: a complex element is two, its real and its imaginary part.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from gradwire import creation, filled, reading
from gradwire import tensors as _tensors
from gradwire.autograd import gradients
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
Reals = npt.NDArray[np.floating[Any]]


class GradcheckError(RuntimeError):
    """Derivatives that differ from those of central differences."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    eps: float
    atol: float
    rtol: float
    nondet_tol: float


def gradcheck(
    func: Function,
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Compare the Jacobian of a function with central differences.

    Whole Jacobians are compared, element by element, and calls of the function travel many to a
    request.

    Args:
        func: Of tensors and whatever else; gives a tensor or a tuple or list of tensors.
        inputs: Its arguments. Those that require grad are checked; they should be of float64 or
            complex128, for central differences in less are too coarse.
        eps: How far an element is moved.
        atol: Absolute difference that is allowed.
        rtol: Difference that is allowed as a part of the central difference.
        raise_exception: Raise, instead of giving False.
        nondet_tol: How much two passes of the same backward may differ.
        check_undefined_grad: Accepted, and of no effect: no rule ever sees a missing gradient.
        check_grad_dtypes: Also that gradients have the dtype of their inputs.
        check_batched_grad: Also that `is_grads_batched` gives the same.
        check_forward_ad: Also the Jacobian by forward mode.
        check_backward_ad: The Jacobian by reverse mode.
        fast_mode: Accepted, and of no effect: the check is always the whole one.

    Returns:
        Whether all agree.

    Raises:
        ValueError: no input requires grad, or the function gives something else than tensors.
        GradcheckError: (a RuntimeError) they do not; its text shows both Jacobians.
    """
    bounds = _Bounds(eps, atol, rtol, nondet_tol)
    try:
        check = _Check(func, inputs, bounds)
        numerical = check.numerical()
        if check_backward_ad:
            check.compare(numerical, check.backward(check_grad_dtypes), "analytical")
        if check_forward_ad:
            check.compare(numerical, check.forward(), "forward mode")
        if check_batched_grad:
            check.batched()
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Function,
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
) -> bool:
    """Compare second derivatives with central differences of first ones.

    Args:
        func: As for `gradcheck`.
        inputs: As for `gradcheck`.
        grad_outputs: The cotangents of the outputs, which the gradient is also differentiated by;
            None: random ones.
        eps: As for `gradcheck`, as are those not named here.
        atol: As for `gradcheck`.
        rtol: As for `gradcheck`.
        gen_non_contig_grad_outputs: Accepted, and of no effect: data that travel are contiguous.
        raise_exception: As for `gradcheck`.
        nondet_tol: As for `gradcheck`.
        check_undefined_grad: As for `gradcheck`.
        check_grad_dtypes: As for `gradcheck`.
        check_batched_grad: As for `gradcheck`.
        check_fwd_over_rev: Also by forward mode over reverse mode.
        check_rev_over_rev: By reverse mode over reverse mode.
        fast_mode: As for `gradcheck`.

    Returns:
        Whether all agree.

    Raises:
        ValueError: as `gradcheck`.
        GradcheckError: as `gradcheck`.
    """
    given = _as_list(inputs)
    at = [nr for nr, each in enumerate(given) if _requires_grad(each)]
    outputs = _tensors_of(func(*given))
    reading.values_of(outputs)
    chosen = [nr for nr, each in enumerate(outputs) if _requires_grad(each)]
    if grad_outputs is None:
        cotangents = [filled.randn_like(outputs[nr]).requires_grad_() for nr in chosen]
    else:
        cotangents = [each for each in _as_list(grad_outputs) if _requires_grad(each)]

    def gradient(*args: Any) -> tuple[Tensor, ...]:
        split = len(args) - len(cotangents)
        found = _tensors_of(func(*args[:split]))
        return gradients.grad(
            [found[nr] for nr in chosen],
            [args[nr] for nr in at],
            args[split:],
            create_graph=True,
            materialize_grads=True,
        )

    return gradcheck(
        gradient,
        [*given, *cotangents],
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad,
        check_forward_ad=check_fwd_over_rev,
        check_backward_ad=check_rev_over_rev,
    )


Jacobians = list[list[Reals]]
"""By output, then by input: (elements of the output, elements of the input), all real."""


class _Check:
    """A function at a point, and its outputs there."""

    def __init__(self, func: Function, inputs: Tensor | Sequence[Any], bounds: _Bounds) -> None:
        self._func = func
        self._bounds = bounds
        self._given = _as_list(inputs)
        self._at = [nr for nr, each in enumerate(self._given) if _requires_grad(each)]
        if not self._at:
            raise ValueError(
                "gradcheck compares derivatives by inputs that require grad, and none does; set "
                "requires_grad=True"
            )
        self._inputs: list[Tensor] = [self._given[nr] for nr in self._at]
        self._values = [np.array(each) for each in reading.values_of(self._inputs)]
        for nr, value in zip(self._at, self._values, strict=True):
            if value.dtype not in (np.float64, np.complex128):
                warnings.warn(
                    f"input {nr} is of {value.dtype}: central differences are too coarse in less "
                    "than float64 or complex128, so this check will likely fail",
                    UserWarning,
                    stacklevel=3,
                )
        found = _tensors_of(func(*self._given))
        shown = reading.values_of(found)
        # One that does not require grad is checked only where none does: all must be constant.
        chosen = [nr for nr, each in enumerate(found) if _requires_grad(each)]
        self._chosen = chosen or [nr for nr, value in enumerate(shown) if value.dtype.kind in "fc"]
        self._outputs = [found[nr] for nr in self._chosen]
        self._shown = [shown[nr] for nr in self._chosen]
        self._is_constant = not chosen
        self._sizes = [_as_real(value).size for value in self._shown]

    def numerical(self) -> Jacobians:
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
        found = _tensors_of(self._func(*given))
        return [found[each] for each in self._chosen]

    def backward(self, check_dtypes: bool) -> Jacobians:
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
                    raise GradcheckError(
                        f"two passes of the same backward from output {self._chosen[at]} give "
                        f"different gradients of input {self._at[nr]}:\n{a}\n{b}"
                    )
                if check_dtypes and a.dtype != self._values[nr].dtype:
                    raise GradcheckError(
                        f"the gradient of input {self._at[nr]} is of {a.dtype} and the input of "
                        f"{self._values[nr].dtype}"
                    )
            found.append([_as_real(value).reshape(size, -1) for value in one])
        return found

    def forward(self) -> Jacobians:
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
        found = _tensors_of(self._func(*given))
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

    def batched(self) -> None:
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

    def compare(self, numerical: Jacobians, found: Jacobians, how: str) -> None:
        """Raise if Jacobians differ by more than is allowed."""
        bounds = self._bounds
        for output, wanted_row, found_row in zip(self._chosen, numerical, found, strict=True):
            for nr, wanted, got in zip(self._at, wanted_row, found_row, strict=True):
                off = np.abs(got - wanted)
                wrong = ~(off <= bounds.atol + bounds.rtol * np.abs(wanted))
                if wrong.any():
                    raise GradcheckError(_mismatch(output, nr, wanted, got, off, how))

    def _zeros(self) -> Jacobians:
        return [
            [np.zeros((size, _as_real(value).size)) for value in self._values]
            for size in self._sizes
        ]


def _mismatch(output: int, nr: int, wanted: Reals, got: Reals, off: Reals, how: str) -> str:
    row, column = np.unravel_index(int(np.argmax(np.nan_to_num(off, nan=np.inf))), off.shape)
    return (
        f"the Jacobian of output {output} by input {nr} differs, most in row {row}, column "
        f"{column}: central differences give {wanted[row, column]:.6g}, {how} "
        f"{got[row, column]:.6g} (rows are elements of the output, columns of the input; a complex "
        f"one counts as two)\nnumerical:\n{wanted}\n{how}:\n{got}"
    )


def _as_real(value: Array) -> Reals:
    """The elements as real numbers, in one dimension; of a contiguous array, a view."""
    flat = value.reshape(-1)
    real: Reals = flat.view(flat.real.dtype)
    return real


def _elements(value: Array) -> range:
    return range(_as_real(value).size)


def _real_output(output: Tensor, value: Array) -> Tensor:
    return functions.view_as_real(output) if value.dtype.kind == "c" else output


def _as_list(given: Any) -> list[Any]:
    return [given] if isinstance(given, _tensors.Tensor) else list(given)


def _tensors_of(given: Any) -> list[Tensor]:
    found = list(given) if isinstance(given, (tuple, list)) else [given]
    for each in found:
        if not isinstance(each, _tensors.Tensor):
            raise ValueError(
                f"the function to check must give tensors, not {type(each).__name__} ({each!r})"
            )
    if not found:
        raise ValueError("the function to check gives no tensor")
    return found


def _requires_grad(value: object) -> bool:
    return isinstance(value, _tensors.Tensor) and reading.info_of(value).requires_grad
