"""Forward mode of every operator: J·t against central differences, and against the VJP.

For an operator f, a direction t of its inputs and a cotangent v: J·t is the limit of
(f(x + εt) - f(x - εt)) / 2ε, and Re⟨v, J·t⟩ = Re⟨Jᵀ·v, t⟩, whatever f is.
"""

import numpy as np
import pytest
import torch

from gradwire_engine import Tensor, forward_jacobian, grad, jacobian, jvp
from gradwire_engine import operators as ops
from tests.parity.oracle import Entry
from tests.parity.test_derivatives import (
    ABSOLUTE,
    EPSILON,
    RELATIVE,
    Arrays,
    Function,
    as_function,
    directions,
    dot,
    leaf,
    per_operator,
    pull,
    small_calls,
)

MAX_CALLS = 6


@per_operator
def test_a_jvp_is_that_of_central_differences_and_adjoint_to_the_vjp(
    entry: Entry, dtype: torch.dtype
) -> None:
    generator = np.random.default_rng(0)
    for call in small_calls(entry, dtype)[:MAX_CALLS]:
        function, leaves = as_function(call)
        results = function(leaves)
        if not results or not leaves:
            continue
        along = directions(generator, leaves)
        tangents = push(results, leaves, along)
        for found, slope, allowed in zip(
            tangents, *central_differences(function, leaves, along), strict=True
        ):
            assert found.dtype == slope.dtype
            assert np.all(np.abs(found - slope) <= allowed), f"{call}: {found}, not {slope}"
        cotangents = directions(generator, results)
        forth, back = dot(cotangents, tangents), dot(pull(function, leaves, cotangents), along)
        assert forth == pytest.approx(back, rel=1e-8, abs=1e-10), str(call)


@per_operator
def test_a_recorded_jvp_is_the_same_and_can_be_differentiated(
    entry: Entry, dtype: torch.dtype
) -> None:
    """By the tangents: what is linear in them has itself as the derivative."""
    generator = np.random.default_rng(0)
    for call in small_calls(entry, dtype)[:2]:
        function, leaves = as_function(call)
        results = function(leaves)
        if not results or not leaves:
            continue
        tangents = [leaf(each) for each in directions(generator, leaves)]
        plain = jvp(results, leaves, tangents)
        recorded = jvp(results, leaves, tangents, create_graph=True)
        for one, other in zip(plain, recorded, strict=True):
            np.testing.assert_allclose(one.data, other.data, 1e-9, 1e-12, err_msg=str(call))
        cotangents = directions(generator, results)
        live = [nr for nr, each in enumerate(recorded) if each.requires_grad]
        if not live:
            continue
        pulled = grad(
            [recorded[nr] for nr in live],
            tangents,
            [Tensor(cotangents[nr]) for nr in live],
            materialize_grads=True,
        )
        found = [each.data for each in pulled if each is not None]
        for one, other in zip(found, pull(function, leaves, cotangents), strict=True):
            np.testing.assert_allclose(one, other, 1e-8, 1e-10, err_msg=str(call))


def test_jacobians_by_rows_and_by_columns_are_those_of_torch() -> None:
    generator = np.random.default_rng(0)
    weight, x = generator.standard_normal((2, 3)), generator.standard_normal(3)
    expected = torch.func.jacrev(lambda w, x: (w @ x).tanh() * x.sum(), argnums=(0, 1))(
        torch.tensor(weight), torch.tensor(x)
    )
    leaves = [leaf(weight), leaf(x)]
    output = ops["tanh"](ops["mv"](*leaves)) * ops["sum"](leaves[1])
    by_rows = jacobian(output, leaves, retain_graph=True)
    by_columns = [forward_jacobian([output], each)[0] for each in leaves]
    for wanted, one, other in zip(expected, by_rows, by_columns, strict=True):
        assert one is not None
        np.testing.assert_allclose(one.data, wanted.numpy(), 1e-12)
        np.testing.assert_allclose(other.data, wanted.numpy(), 1e-12)


def push(results: list[Tensor], leaves: list[Tensor], along: Arrays) -> Arrays:
    return [each.data for each in jvp(results, leaves, [Tensor(each) for each in along])]


def central_differences(
    function: Function, leaves: list[Tensor], along: Arrays
) -> tuple[Arrays, Arrays]:
    """The slope of each result, and by how much a JVP may be off it."""
    ahead, behind = (
        [
            result.data
            for result in function(
                [leaf(at.data + sign * EPSILON * u) for at, u in zip(leaves, along, strict=True)]
            )
        ]
        for sign in (1, -1)
    )
    slopes, allowed = [], []
    for a, b in zip(ahead, behind, strict=True):
        slope = np.asarray((a - b) / (2 * EPSILON))
        largest = float(np.max(np.abs(a), initial=0))
        rounding = largest * np.finfo(float).eps / EPSILON
        slopes.append(slope)
        allowed.append(ABSOLUTE + RELATIVE * np.abs(slope) + rounding)
    return slopes, allowed
