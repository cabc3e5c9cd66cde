"""Where the usual formula of a derivative fails and the true one does not."""

from typing import Any

import numpy as np
import pytest

from gradwire_engine import EngineError, Tensor, grad, operators


def leaf(values: Any, dtype: str = "float64") -> Tensor:
    return Tensor.from_array(np.array(values, dtype), requires_grad=True)


def gradient(result: Tensor, variable: Tensor, **options: Any) -> Tensor:
    (found,) = grad([result], [variable], **options)
    assert found is not None
    return found


def test_the_determinant_of_a_singular_matrix_has_its_cofactors_as_gradient() -> None:
    matrix = leaf([[1, 2, 3], [4, 5, 6], [5, 7, 9]])
    matrix.data[...] = matrix.data.round()
    cofactors = [[3, -6, 3], [3, -6, 3], [-3, 6, -3]]
    found = gradient(operators["linalg.det"](matrix), matrix)
    np.testing.assert_allclose(found.data, cofactors, atol=1e-9)


def test_a_determinant_of_rank_one_has_no_gradient_and_no_nan() -> None:
    matrix = leaf(np.zeros((3, 3)))
    np.testing.assert_array_equal(
        gradient(operators["linalg.det"](matrix), matrix).data, np.zeros((3, 3))
    )


@pytest.mark.parametrize("zeros", [[1], [0, 2], [0, 1, 2, 3]])
def test_running_products_with_zeros_have_derivatives_of_every_order(zeros: list[int]) -> None:
    values = np.array([2.0, -3.0, 0.5, 4.0])
    values[zeros] = 0
    x = leaf(values)
    total = operators["sum"](operators["cumprod"](x, 0))
    first = gradient(total, x, create_graph=True)
    ones = [np.prod(np.delete(values[: j + 1], k)) for k in range(4) for j in range(k, 4)]
    rows = np.split(np.array(ones), np.cumsum([4, 3, 2]))
    np.testing.assert_allclose(first.data, [row.sum() for row in rows])
    second = gradient(operators["select"](first, 0, 3), x)
    others = [np.prod(np.delete(values[:3], k)) for k in range(3)]
    np.testing.assert_allclose(second.data, [*others, 0])


def test_a_loss_that_depends_on_the_phase_of_singular_vectors_is_refused() -> None:
    generator = np.random.default_rng(0)
    matrix = leaf(
        generator.standard_normal((3, 3)) + 1j * generator.standard_normal((3, 3)), "complex128"
    )
    left, _, _ = operators["linalg.svd"](matrix)
    with pytest.raises(EngineError, match="phase") as refusal:
        gradient(operators["sum"](operators["real"](left)), matrix)
    assert refusal.value.reason == "BAD_VALUE"


def test_an_index_that_repeats_adds_every_time_however_the_sum_is_made() -> None:
    generator = np.random.default_rng(0)
    for rows, features in [(10, 3), (500, 3), (500, 1)]:
        table = leaf(generator.standard_normal((7, features)), "float32")
        index = generator.integers(0, 7, rows)
        taken = operators["index_select"](table, 0, Tensor(index))
        weights = generator.standard_normal(taken.shape).astype(np.float32)
        expected = np.zeros((7, features))
        np.add.at(expected, index, weights)
        found = gradient(operators["sum"](taken * Tensor(weights)), table)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.data, expected, 1e-4, 1e-4)


@pytest.mark.parametrize(
    ("name", "results"),
    [
        ("lgamma", 1),
        ("special.bessel_j0", 1),
        ("linalg.inv", 1),
        ("linalg.svd", 3),
        ("linalg.qr", 2),
        ("fft.rfft", 1),
        ("logcumsumexp", 1),
        ("cumprod", 1),
    ],
)
def test_single_precision_stays_single(name: str, results: int) -> None:
    x = leaf(np.random.default_rng(0).standard_normal((4, 4)) + 3 * np.eye(4), "float32")
    made = operators[name](x, 0) if "cum" in name else operators[name](x)
    made = made if isinstance(made, tuple) else (made,)
    assert len(made) == results
    assert {each.dtype.name for each in made} <= {"float32", "complex64"}
    assert gradient(operators["sum"](operators["abs"](made[-1])), x).dtype == np.float32


def test_frequencies_are_those_of_numpy() -> None:
    for n in (4, 5):
        np.testing.assert_allclose(operators["fft.fftfreq"](n, 0.5).data, np.fft.fftfreq(n, 0.5))
        np.testing.assert_allclose(operators["fft.rfftfreq"](n).data, np.fft.rfftfreq(n))


@pytest.mark.parametrize("name", ["fmod", "remainder"])
def test_what_is_left_of_a_truth_value_has_a_derivative_by_the_divisor(name: str) -> None:
    divisor = leaf([0.75, 2.0])
    left = operators[name](Tensor.from_array(np.array([True, False])), divisor)
    assert left.data.tolist() == [0.25, 0.0]
    found = gradient(operators["sum"](left), divisor)
    np.testing.assert_array_equal(found.data, [-1.0, 0.0])
