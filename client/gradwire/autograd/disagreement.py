"""Derivatives that disagree with central differences, and how to say so."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.floating[Any]]


class GradcheckError(RuntimeError):
    """Derivatives that differ from those of central differences."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How derivatives are compared.

    Attributes:
        eps: How far an element is moved, either way.
        atol: Absolute difference that is allowed.
        rtol: Difference that is allowed as a part of the central difference.
        nondet_tol: How much two passes of the same backward may differ.
    """

    eps: float
    atol: float
    rtol: float
    nondet_tol: float


@dataclass(frozen=True, slots=True)
class Place:
    """An element of a Jacobian.

    Attributes:
        output: Which output.
        input: Which input.
        row: Element of the output; a complex one counts as two.
        column: Element of the input; likewise.
    """

    output: int
    input: int
    row: int
    column: int


def differs(
    place: Place, how: str, values: tuple[float, float], jacobians: tuple[Reals, Reals] | None
) -> GradcheckError:
    """The error for a derivative that differs from its central difference.

    Args:
        place: The element.
        how: What computed the derivative: "analytical", "forward mode".
        values: The central difference, and the derivative.
        jacobians: The whole ones, unless they are too large to be shown.
    """
    numerical, found = values
    text = (
        f"the Jacobian of output {place.output} by input {place.input} differs, most in row "
        f"{place.row}, column {place.column}: central differences give {numerical:.6g}, {how} "
        f"{found:.6g} (rows are elements of the output, columns of the input; a complex one counts "
        "as two)"
    )
    if jacobians is not None:
        text += f"\nnumerical:\n{jacobians[0]}\n{how}:\n{jacobians[1]}"
    return GradcheckError(text)


def repeats_differently(output: int, nr: int, first: object, second: object) -> GradcheckError:
    """The error for a backward that does not give the same twice."""
    return GradcheckError(
        f"two passes of the same backward from output {output} give different gradients of input "
        f"{nr}:\n{first}\n{second}"
    )
