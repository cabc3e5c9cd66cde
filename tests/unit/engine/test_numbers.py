"""Numbers at the edges: ties, kinks, zeros, infinities, dtypes of gradients, as in torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradwire_engine import Tensor, grad, jvp, operators
from tests.unit.engine.sides import Side, refused, same

NAN, INF = float("nan"), float("inf")

GRADIENTS: dict[str, tuple[Callable[[Side, Any], Any], list[float]]] = {
    "max shares ties": (lambda m, x: m.max(x), [2.0, 5.0, 5.0, 5.0]),
    "min shares ties": (lambda m, x: m.min(x), [2.0, 2.0, 5.0]),
    "max of NaN": (lambda m, x: m.max(x), [2.0, NAN, 5.0]),
    "amax of NaN": (lambda m, x: m.amax(x, (0,)), [2.0, NAN, 5.0]),
    "amax shares ties": (lambda m, x: m.amax(x, (0,)), [2.0, 5.0, 5.0]),
    "amin shares ties": (lambda m, x: m.amin(x, (0,)), [2.0, 2.0, 5.0]),
    "max over a dimension takes one": (lambda m, x: m.max__dim(x, 0)[0], [2.0, 5.0, 5.0]),
    "min over a dimension takes one": (lambda m, x: m.min__dim(x, 0)[0], [5.0, 2.0, 2.0]),
    "maximum halves ties": (lambda m, x: m.maximum(x, m.tensor([1.0, 2.0, 3.0])), [1.0, 3.0, 1.0]),
    "minimum halves ties": (lambda m, x: m.minimum(x, m.tensor([1.0, 2.0, 3.0])), [1.0, 3.0, 1.0]),
    "clamp passes at its bounds": (lambda m, x: m.clamp(x, 0.0, 1.0), [-1.0, 0.0, 0.5, 1.0, 2.0]),
    "clamp with bounds in the wrong order": (lambda m, x: m.clamp(x, 1.0, 0.0), [-1.0, 0.5, 2.0]),
    "relu at 0": (lambda m, x: m.relu(x), [-1.0, 0.0, 1.0]),
    "leaky_relu at 0": (lambda m, x: m.leaky_relu(x), [-1.0, 0.0, 1.0]),
    "abs at 0": (lambda m, x: m.abs(x), [-1.0, 0.0, 1.0]),
    "sign": (lambda m, x: m.sign(x), [-1.0, 0.0, 1.0]),
    "norm at 0": (lambda m, x: m.norm(x), [0.0, 0.0]),
    "1-norm with a 0": (lambda m, x: m.norm(x, 1), [0.0, -2.0]),
    "3-norm with a 0": (lambda m, x: m.norm(x, 3), [0.0, -2.0]),
    "infinity norm shares ties": (lambda m, x: m.norm(x, INF), [3.0, -3.0, 1.0]),
    "std of equal numbers": (lambda m, x: m.std(x), [2.0, 2.0, 2.0]),
    "std of one number": (lambda m, x: m.std(x), [2.0]),
    "var of one number": (lambda m, x: m.var(x), [2.0]),
    "sqrt at 0": (lambda m, x: m.sqrt(x), [0.0, 4.0]),
    "log at 0": (lambda m, x: m.log(x), [0.0, -1.0, 1.0]),
    "reciprocal at 0": (lambda m, x: m.reciprocal(x), [0.0, 2.0]),
    "rsqrt at 0": (lambda m, x: m.rsqrt(x), [0.0, 4.0]),
    "prod without zeros": (lambda m, x: m.prod(x), [2.0, 3.0, 4.0]),
    "prod with a zero": (lambda m, x: m.prod(x), [2.0, 0.0, 4.0]),
    "prod with two zeros": (lambda m, x: m.prod(x), [2.0, 0.0, 0.0]),
    "0 ** 0": (lambda m, x: x**0, [0.0, 1.0]),
    "0 ** 1": (lambda m, x: x**1, [0.0, 1.0]),
    "0 ** 2": (lambda m, x: x**2, [0.0, -3.0]),
    "0 ** 0.5": (lambda m, x: x**0.5, [0.0, 4.0]),
    "0 ** -1": (lambda m, x: x**-1, [0.0, 4.0]),
    "negative ** 1.5": (lambda m, x: x**1.5, [-1.0, 4.0]),
    "0 ** a tensor": (lambda m, x: x ** m.tensor([0.0, 1.0, 2.0, -1.0]), [0.0, 0.0, 0.0, 0.0]),
    "0 to the x": (lambda m, x: m.tensor([0.0, 0.0, 0.0]) ** x, [0.0, 1.0, -1.0]),
    "number 0 to the x": (lambda m, x: 0.0**x, [0.0, 1.0, 2.0]),
    "x to the x": (lambda m, x: x**x, [0.0, 1.0, 2.0]),
    "division by 0": (lambda m, x: 1.0 / x, [0.0, -0.0, 2.0]),
    "sigmoid far out": (lambda m, x: m.sigmoid(x), [-1000.0, 0.0, 1000.0]),
    "silu far out": (lambda m, x: m.silu(x), [-1000.0, 0.0, 1000.0]),
    "softplus far out": (lambda m, x: m.softplus(x), [-1000.0, 0.0, 19.0, 21.0, 1000.0]),
    "gelu far out": (lambda m, x: m.gelu(x), [-100.0, 0.0, 100.0]),
    "tanh far out": (lambda m, x: m.tanh(x), [-1000.0, 0.0, 1000.0]),
    "exp far out": (lambda m, x: m.exp(x), [-1000.0, 1000.0]),
    "softmax far out": (lambda m, x: m.softmax(x, 0), [-1000.0, 0.0, 1000.0]),
    "log_softmax far out": (lambda m, x: m.log_softmax(x, 0), [-1000.0, 0.0, 1000.0]),
    "softmax with -inf": (lambda m, x: m.softmax(x, 0), [-INF, 0.0, 1.0]),
    "logsumexp far out": (lambda m, x: m.logsumexp(x, (0,)), [1000.0, 1000.0]),
    "logsumexp with -inf": (lambda m, x: m.logsumexp(x, (0,)), [-INF, 1.0]),
    "logsumexp of -inf": (lambda m, x: m.logsumexp(x, (0,)), [-INF, -INF]),
    "where lets NaN through": (
        lambda m, x: m.where(m.gt(x, 0.0), m.log(x), m.tensor(0.0)),
        [-1.0, 0.0, 1.0],
    ),
    "masked_fill": (
        lambda m, x: m.masked_fill(m.log(x), m.le(x, 0.0), 0.0),
        [-1.0, 0.0, 1.0],
    ),
    "mean of nothing": (lambda m, x: m.mean(x), []),
    "sum of nothing": (lambda m, x: m.sum(x), []),
    "prod of nothing": (lambda m, x: m.prod(x), []),
}


@pytest.mark.parametrize(("function", "values"), GRADIENTS.values(), ids=GRADIENTS)
def test_values_and_gradients(function: Callable[[Side, Any], Any], values: list[float]) -> None:
    def case(m: Side) -> Any:
        x = m.tensor(values, grad=True)
        y = function(m, x)
        m.backward(m.sum(y))
        return [m.array(y), m.array(x.grad)]

    same(case)


@pytest.mark.parametrize("name", ["relu", "abs", "sqrt", "norm", "prod", "max", "tanh", "silu"])
def test_second_derivatives_at_zero(name: str) -> None:
    def case(m: Side) -> Any:
        x = m.tensor([0.0, 1.0], grad=True)
        (g,) = m.grad(m.sum(getattr(m, name)(x)), x, create_graph=True)
        if not g.requires_grad:
            return m.array(g)
        (h,) = m.grad(m.sum(g), x, allow_unused=True)
        return [m.array(g), m.array(h)]

    same(case)


DTYPES: dict[str, Callable[[Side], Any]] = {
    "float32 times an integer tensor": lambda m: m.tensor([1.0]) * m.tensor([2], dtype="int64"),
    "float32 times float64 of no dimensions": lambda m: (
        m.tensor([1.0]) * m.tensor(2.0, dtype="float64")
    ),
    "float32 times a number": lambda m: m.tensor([1.0]) * 2.5,
    "integers times a number": lambda m: m.tensor([1], dtype="int64") * 2.5,
    "integers plus a complex number": lambda m: m.tensor([1], dtype="int64") + 2j,
    "bools plus bools": lambda m: m.tensor([True], dtype="bool") + m.tensor([True], dtype="bool"),
    "small integers wrap": lambda m: (
        m.tensor([200], dtype="uint8") + m.tensor([100], dtype="uint8")
    ),
    "integers divided": lambda m: m.tensor([3], dtype="int64") / 2,
    "integers divided, floor": lambda m: m.div(
        m.tensor([-3, 3], dtype="int64"), 2, rounding_mode="floor"
    ),
    "integers divided, trunc": lambda m: m.div(
        m.tensor([-3, 3], dtype="int64"), 2, rounding_mode="trunc"
    ),
    "sqrt of integers": lambda m: m.sqrt(m.tensor([4], dtype="int64")),
    "sum of bools": lambda m: m.sum(m.tensor([True, True], dtype="bool")),
    "sum of small integers": lambda m: m.sum(m.tensor([200, 200], dtype="uint8")),
    "sum of halves": lambda m: m.sum(m.tensor([1.0] * 5000, dtype="float16"), 0),
    "argmax": lambda m: m.argmax(m.tensor([1.0, 3.0, 3.0])),
    "argmax with NaN": lambda m: m.argmax(m.tensor([1.0, NAN, 3.0])),
    "comparisons": lambda m: m.tensor([1.0, NAN]) < 2,
    "comparison of int64 with a float": lambda m: m.eq(
        m.tensor([2**53 + 1], dtype="int64"), m.tensor([2.0**53], dtype="float64")
    ),
    "norm of float32": lambda m: m.norm(m.tensor([3.0, 4.0])),
    "abs of complex": lambda m: m.abs(m.tensor([3 + 4j], dtype="complex64")),
    "where with numbers": lambda m: m.where(m.tensor([True, False], dtype="bool"), 1.0, 0),
}


@pytest.mark.parametrize("make", DTYPES.values(), ids=DTYPES)
def test_values_and_dtypes(make: Callable[[Side], Any]) -> None:
    same(lambda m: m.array(make(m)))


REFUSALS: dict[str, tuple[Callable[[Side], Any], str]] = {
    "mean of integers": (lambda m: m.mean(m.tensor([1, 2], dtype="int64")), "DTYPE_MISMATCH"),
    "softmax of integers": (lambda m: m.softmax(m.tensor([1], dtype="int64"), 0), "DTYPE_MISMATCH"),
    "norm of integers": (lambda m: m.norm(m.tensor([1], dtype="int64")), "DTYPE_MISMATCH"),
    "order of complex numbers": (
        lambda m: m.max(m.tensor([1j], dtype="complex64")),
        "DTYPE_MISMATCH",
    ),
    "comparison of complex numbers": (
        lambda m: m.lt(m.tensor([1j], dtype="complex64"), 1.0),
        "DTYPE_MISMATCH",
    ),
    "negative bools": (lambda m: m.neg(m.tensor([True], dtype="bool")), "DTYPE_MISMATCH"),
    "bools subtracted": (
        lambda m: m.tensor([True], dtype="bool") - m.tensor([True], dtype="bool"),
        "DTYPE_MISMATCH",
    ),
    "floats as bits": (
        lambda m: m.bitwise_and(m.tensor([1.0]), m.tensor([1.0])),
        "DTYPE_MISMATCH",
    ),
    "products of two dtypes": (
        lambda m: m.mm(m.tensor([[1.0]]), m.tensor([[1.0]], dtype="float64")),
        "DTYPE_MISMATCH",
    ),
    "a condition that is no bool": (
        lambda m: m.where(m.tensor([1], dtype="int64"), m.tensor([1.0]), m.tensor([1.0])),
        "DTYPE_MISMATCH",
    ),
    "max of nothing": (lambda m: m.max(m.tensor([])), "SHAPE_MISMATCH"),
    "a negative power of integers": (lambda m: m.tensor([2], dtype="int64") ** -1, "BAD_VALUE"),
    "an integer divided by zero": (
        lambda m: m.div(m.tensor([2], dtype="int64"), 0, rounding_mode="floor"),
        "BAD_VALUE",
    ),
    "shapes that do not broadcast": (
        lambda m: m.add(m.tensor([1.0, 2.0]), m.tensor([1.0, 2.0, 3.0])),
        "SHAPE_MISMATCH",
    ),
    "products that do not fit": (
        lambda m: m.mm(m.tensor([[1.0, 2.0]]), m.tensor([[1.0, 2.0]])),
        "SHAPE_MISMATCH",
    ),
    "a shape of another size": (lambda m: m.view(m.tensor([1.0]), (2,)), "SHAPE_MISMATCH"),
    "a view that needs a copy": (
        lambda m: m.view(m.t(m.tensor([[1.0, 2.0], [3.0, 4.0]])), (4,)),
        "SHAPE_MISMATCH",
    ),
}


@pytest.mark.parametrize(("case", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(case: Callable[[Side], Any], reason: str) -> None:
    refused(case, reason)


OUT_OF_RANGE: dict[str, tuple[Callable[[Side], Any], str]] = {
    "a dimension": (lambda m: m.sum(m.tensor([1.0]), 1), "DIM_OUT_OF_RANGE"),
    "a dimension of a scalar": (lambda m: m.softmax(m.tensor(1.0), 1), "DIM_OUT_OF_RANGE"),
    "an index": (lambda m: m.select(m.tensor([1.0]), 0, 1), "INDEX_OUT_OF_RANGE"),
    "a class": (
        lambda m: m.cross_entropy(m.tensor([[1.0, 2.0]]), m.tensor([2], dtype="int64")),
        "INDEX_OUT_OF_RANGE",
    ),
}


@pytest.mark.parametrize(("case", "reason"), OUT_OF_RANGE.values(), ids=OUT_OF_RANGE)
def test_out_of_range(case: Callable[[Side], Any], reason: str) -> None:
    refused(case, reason, IndexError)


MIXED: dict[str, tuple[str, str, Callable[[Side, Any, Any], Any]]] = {
    "float32 and float64": ("float32", "float64", lambda m, x, y: x * y),
    "float16 and float32": ("float16", "float32", lambda m, x, y: x * y),
    "float32 and complex64": ("float32", "complex64", lambda m, x, y: x * y),
    "float64 and complex64": ("float64", "complex64", lambda m, x, y: x + y),
    "powers": ("float32", "complex128", lambda m, x, y: x**y),
    "cat": ("float32", "float64", lambda m, x, y: m.cat([x, y])),
    "copy_": ("float32", "float64", lambda m, x, y: m.copy_(m.mul(x, 1.0), y)),
}


@pytest.mark.parametrize(("first", "second", "function"), MIXED.values(), ids=MIXED)
def test_gradients_take_the_dtype_of_their_input(
    first: str, second: str, function: Callable[[Side, Any, Any], Any]
) -> None:
    def case(m: Side) -> Any:
        x, y = (
            m.tensor([1.0, 2.0], grad=True, dtype=first),
            m.tensor([3.0, 4.0], grad=True, dtype=second),
        )
        z = m.sum(function(m, x, y))
        direction = m.ones_like(z)
        m.backward(z, direction)
        return [m.array(z), m.array(x.grad), m.array(y.grad)]

    same(case)


def test_complex_gradients_point_to_steepest_ascent() -> None:
    def case(m: Side) -> Any:
        z = m.tensor([1 + 2j, -3j], grad=True, dtype="complex128")
        size = m.sum(m.abs(z) ** 2)
        m.backward(size)
        return m.array(z.grad)

    same(case)


@pytest.mark.parametrize("number", [True, False])
def test_a_truth_value_is_a_factor_like_any_number(number: bool) -> None:
    """Also where there is no other path for it than that of all calls."""
    x = Tensor(np.array([1 + 1j]))
    x.leaf_requires_grad = True
    for create_graph in (False, True):
        y = operators["mul"](x, number)
        (slope,) = grad([y], [x], [Tensor(np.array([2j]))], create_graph=create_graph)
        np.testing.assert_array_equal(slope.data, [2j * number])


def test_exponents_of_two_may_be_negative_integers() -> None:
    x = Tensor.from_array(np.array([3.0, 5.0]), requires_grad=True)
    y = operators["ldexp"](x, Tensor(np.array([-1, 20], np.int8)))
    (slope,) = grad([y], [x], [Tensor(np.ones(2))])
    np.testing.assert_array_equal(slope.data, [0.5, 2.0**20])


@pytest.mark.parametrize(
    ("name", "shape", "args"),
    [
        ("adaptive_max_pool2d", (0, 2, 3, 3), ((2, 2),)),
        ("scaled_dot_product_attention", (2, 0), None),
    ],
)
def test_nothing_has_a_tangent_too(name: str, shape: tuple[int, ...], args: Any) -> None:
    x = Tensor.from_array(np.ones(shape, np.float32), requires_grad=True)
    made = operators[name](x, x, x) if args is None else operators[name](x, *args)[0]
    (tangent,) = jvp([made], [x], [Tensor(np.ones(shape, np.float32))])
    assert tangent is not None and tangent.shape == made.shape
