"""First and second derivatives against central differences, and the laws that any VJP obeys.

Central differences along random directions: for an operator f, directions u of its inputs and a
cotangent v, Re⟨v, f(x + εu) - f(x - εu)⟩ / 2ε must be Re⟨VJP(v), u⟩, whatever f is.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gradwire_engine import Context, Tensor, grad, operators, use
from gradwire_engine.declare import elementwise
from gradwire_engine.operator import Operator
from tests.parity.oracle import ENTRIES, Call, Entry, Sides, run_ours

EPSILON = 1e-6
RELATIVE, ABSOLUTE = 1e-3, 1e-5
MAX_ELEMENTS = 400
MAX_SAMPLES = 8

# Samples at points where there is a first derivative by convention and no second one.
NOT_SMOOTH = {"linalg.norm-subgradients_at_zero"}

# Samples in which several elements go to one place, where one stays and each has the gradient; the
# database has others for derivatives.
REPEATED = {f"nn.functional.max_unpool{rank}d" for rank in (1, 2, 3)}

# What is drawn moves with its parameters; as in PyTorch their gradients are zeros all the same.
DRAWN = {"normal", "normal-number_mean"}

Arrays = list[np.ndarray]
Function = Callable[[list[Tensor]], list[Tensor]]
"""From the leaves to the results that have a gradient."""

DIFFERENTIABLE = [
    (entry, dtype)
    for entry in ENTRIES
    for dtype in (torch.float64, torch.complex128)
    if entry.differentiable(dtype)
    and dtype in entry.info.dtypes
    and entry.id not in REPEATED | DRAWN
]

per_operator = pytest.mark.parametrize(
    ("entry", "dtype"),
    DIFFERENTIABLE,
    ids=[f"{entry.id}-{str(dtype).removeprefix('torch.')}" for entry, dtype in DIFFERENTIABLE],
)


@per_operator
def test_gradients_are_those_of_central_differences(entry: Entry, dtype: torch.dtype) -> None:
    generator = np.random.default_rng(0)
    for call in small_calls(entry, dtype):
        function, leaves = as_function(call)
        results = function(leaves)
        if results and leaves:
            check(function, leaves, directions(generator, results), generator, str(call))


@per_operator
def test_gradients_of_gradients_are_those_of_central_differences(
    entry: Entry, dtype: torch.dtype
) -> None:
    generator = np.random.default_rng(0)
    for call in [] if entry.id in NOT_SMOOTH else small_calls(entry, dtype):
        function, leaves = as_function(call)
        results = function(leaves)
        if not results or not leaves:
            continue
        count = len(leaves)

        def vjp(
            inputs: list[Tensor], function: Function = function, count: int = count
        ) -> list[Tensor]:
            variables = inputs[:count]
            pulled = grad(
                function(variables), variables, inputs[count:], create_graph=True, allow_unused=True
            )
            return [each for each in pulled if each is not None and each.requires_grad]

        cotangents = [leaf(each) for each in directions(generator, results)]
        inputs = [*leaves, *cotangents]
        pulled = vjp(inputs)
        if pulled:
            check(vjp, inputs, directions(generator, pulled), generator, str(call))


@per_operator
def test_a_recorded_backward_gives_the_same_gradients(entry: Entry, dtype: torch.dtype) -> None:
    generator = np.random.default_rng(0)
    for call in small_calls(entry, dtype):
        function, leaves = as_function(call)
        results = function(leaves)
        if not results or not leaves:
            continue
        cotangents = [Tensor(each) for each in directions(generator, results)]
        recorded = grad(
            results, leaves, cotangents, create_graph=True, retain_graph=True, allow_unused=True
        )
        plain = grad(results, leaves, cotangents, allow_unused=True)
        for one, other in zip(recorded, plain, strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert one.dtype == other.dtype
                np.testing.assert_allclose(one.data, other.data, 1e-9, 1e-12, err_msg=str(call))


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if entry.differentiable(torch.float64)], ids=lambda e: e.id
)
@settings(max_examples=4, phases=[Phase.generate])
@given(scale=st.floats(-4, 4), seed=st.integers(0, 1 << 16))
def test_a_vjp_is_linear_in_its_cotangent(entry: Entry, scale: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    with use(Context()), np.errstate(all="ignore"):
        for call in small_calls(entry, torch.float64)[:2]:
            function, leaves = as_function(call)
            results = function(leaves)
            if not results or not leaves:
                continue
            v, w = (directions(generator, results) for _ in range(2))
            both = [a + scale * b for a, b in zip(v, w, strict=True)]
            of_v, of_w, of_both = (pull(function, leaves, each) for each in (v, w, both))
            for a, b, whole in zip(of_v, of_w, of_both, strict=True):
                np.testing.assert_allclose(whole, a + scale * b, 1e-7, 1e-9, err_msg=str(call))


def small_calls(entry: Entry, dtype: torch.dtype) -> list[Call]:
    """Some samples of not too many elements, of every kind that the database has.

    Leaves are of that dtype: in a narrower one differences would be less exact.
    """
    calls = [
        call
        for call in entry.calls(dtype, requires_grad=True)
        if sum(each.numel() for each in tensors_in(call)) <= MAX_ELEMENTS
        and not any(each.requires_grad and each.dtype != dtype for each in tensors_in(call))
    ]
    step = math.ceil(len(calls) / MAX_SAMPLES) or 1
    return calls[::step]


def tensors_in(call: Call) -> list[torch.Tensor]:
    sides = Sides()
    for value in (*call.our_args, *call.our_kwargs.values()):
        sides.theirs(value)
    return list(sides.seen)


def as_function(call: Call) -> tuple[Function, list[Tensor]]:
    """A call as a function of its leaves, and the leaves."""
    sides = Sides()
    run_ours(call, sides)
    leaves = list(sides.our_leaves)

    def function(inputs: list[Tensor]) -> list[Tensor]:
        given = dict(zip(map(id, leaves), inputs, strict=True))
        replaced = {
            theirs: (copy, given.get(id(ours), ours)) for theirs, (copy, ours) in sides.seen.items()
        }
        results = run_ours(call, Sides(seen=replaced), in_shape=True)
        return [each for each in results if each.requires_grad and not is_input(each, inputs)]

    return function, leaves


def is_input(result: Tensor, inputs: Sequence[Tensor]) -> bool:
    """Whether an operator that had nothing to do gave back its argument."""
    return any(result is each for each in inputs)


def leaf(array: np.ndarray) -> Tensor:
    # Arithmetic on arrays of no dimensions gives NumPy scalars.
    return Tensor.from_array(np.asarray(array), requires_grad=True)


def directions(generator: np.random.Generator, tensors: Sequence[Tensor]) -> Arrays:
    """Random directions, one like each tensor, together of length 1."""
    drawn: Arrays = []
    for tensor in tensors:
        array = generator.standard_normal(tensor.shape)
        if tensor.dtype.kind == "c":
            array = array + 1j * generator.standard_normal(tensor.shape)
        drawn.append(np.asarray(array, tensor.dtype))
    length = math.sqrt(sum(float(np.sum(np.abs(each) ** 2)) for each in drawn)) or 1.0
    return [each / length for each in drawn]


def dot(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    """The real inner product."""
    return sum(float(np.sum(np.conj(x) * y).real) for x, y in zip(a, b, strict=True))


def pull(function: Function, leaves: list[Tensor], cotangents: Arrays) -> Arrays:
    """The VJP, zeros where there is none."""
    gradients = grad(
        function(leaves), leaves, [Tensor(each) for each in cotangents], materialize_grads=True
    )
    return [each.data for each in gradients if each is not None]


def check(
    function: Function,
    leaves: list[Tensor],
    cotangents: Arrays,
    generator: np.random.Generator,
    what: str,
) -> None:
    """Compare the VJP with central differences along three directions."""
    gradients = pull(function, leaves, cotangents)
    for _ in range(3):
        along = directions(generator, leaves)
        ahead, behind = (
            [
                result.data
                for result in function(
                    [
                        leaf(each.data + sign * EPSILON * u)
                        for each, u in zip(leaves, along, strict=True)
                    ]
                )
            ]
            for sign in (1, -1)
        )
        slope = (dot(cotangents, ahead) - dot(cotangents, behind)) / (2 * EPSILON)
        found = dot(gradients, along)
        largest = max((float(np.max(np.abs(each), initial=0)) for each in ahead), default=0.0)
        allowed = ABSOLUTE + RELATIVE * abs(slope) + largest * np.finfo(float).eps / EPSILON
        assert abs(found - slope) <= allowed, f"{what}: {found}, central differences give {slope}"


@pytest.fixture
def wrong_square() -> Iterator[Operator]:
    """A square whose rule is off by a hundredth; declared for one test."""
    made = elementwise(
        "wrong_square(Tensor self) -> Tensor", np.square, lambda F, self: 1.98 * self
    )
    yield made
    del operators[made.name]


def test_the_checker_sees_a_wrong_gradient(wrong_square: Operator) -> None:
    """To know that the tests above can fail."""
    generator = np.random.default_rng(0)
    leaves = [leaf(generator.standard_normal(5))]
    with pytest.raises(AssertionError, match="central differences"):
        check(lambda inputs: [wrong_square(*inputs)], leaves, [np.ones(5)], generator, "wrong")
