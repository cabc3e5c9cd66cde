"""Dropout: how much is left out, what is left is scaled, and a seed decides which."""

import numpy as np
import pytest

from gradwire_engine import Context, Tensor, grad, operators, use

ONES = Tensor(np.ones((40, 50, 4)))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_as_many_as_asked_are_left_out_and_the_rest_is_scaled(p: float) -> None:
    with use(Context(seed=1)):
        out = operators["dropout"](ONES, p).data
    assert set(np.unique(out)) == {0.0, 1 / (1 - p)}
    assert np.mean(out == 0) == pytest.approx(p, abs=0.03)


def test_a_seed_decides_which() -> None:
    def draw(seed: int) -> list[float]:
        with use(Context()):
            operators["manual_seed"](seed)
            return list(operators["dropout"](ONES, 0.5).data.ravel())

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_channels_are_left_out_whole() -> None:
    with use(Context(seed=1)):
        out = operators["dropout2d"](ONES, 0.5).data
    assert {len(set(channel)) for image in out for channel in image} == {1}


@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout"])
def test_alpha_dropout_keeps_mean_and_deviation(name: str) -> None:
    normal = np.random.default_rng(0).standard_normal((400, 200))
    with use(Context(seed=1)):
        out = operators[name](Tensor(normal), 0.3, True).data
    assert np.mean(out) == pytest.approx(0, abs=0.03)
    assert np.std(out) == pytest.approx(1, abs=0.03)


def test_the_gradient_goes_where_the_value_went() -> None:
    x = Tensor.from_array(np.full(100, 3.0), requires_grad=True)
    with use(Context(seed=1)):
        out = operators["dropout"](x, 0.25)
        (gradient,) = grad([out], [x], [Tensor(np.ones(100))])
    assert gradient is not None
    np.testing.assert_array_equal(gradient.data * 3, out.data)
