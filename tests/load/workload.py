"""What the load test has the server do, and what it must answer. Free of Locust."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

import gradwire as gw
import gradwire.nn.functional as F

PIXELS, HIDDEN, CLASSES, BATCH = 64, 32, 10, 32
RATE = 0.1
STEPS = 50
"""So many steps a training takes before the next one begins from the start."""

_RELATIVE_ERROR = 1e-4
"""What float32 may differ from float64 by. A step lost or done twice changes a loss by far more."""

Array = np.ndarray


class WrongAnswerError(Exception):
    """The server answered, and not what it should have."""


def scalar_graph() -> tuple[float, float]:
    """The value of (x + 2)² at x = 3, and the gradient of x."""
    x = gw.tensor([3.0], requires_grad=True)
    z = x + 2
    y = z**2
    y.backward()
    return y.item(), x.grad.item()


def check_scalar_graph(answer: tuple[float, float]) -> None:
    if answer != (25.0, 10.0):
        raise WrongAnswerError(f"(x + 2)**2 at 3 and its gradient are (25.0, 10.0), not {answer}")


def vector_graph() -> list[float]:
    """The gradient of vᵀx² at x = [1, 2] along v = [0.3, 0.7], of float32."""
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x**2
    y.backward(gradient=gw.tensor([0.3, 0.7]))
    return x.grad.tolist()


def check_vector_graph(answer: list[float]) -> None:
    expected = np.array([0.6, 2.8], np.float32).tolist()
    if answer != expected:
        raise WrongAnswerError(f"the gradient of x**2 along v is {expected}, not {answer}")


@dataclass(frozen=True, slots=True)
class Training:
    """A small training, computed with NumPy in float64 alone.

    Attributes:
        pixels: One minibatch, (BATCH, PIXELS) float32.
        labels: Its classes, (BATCH,) int64.
        parameters: Weight and bias of both layers at the start, as `linear` takes them, float32.
        gradients: Their gradients at the start, of the same shapes.
        losses: The loss before each of STEPS steps.
    """

    pixels: Array
    labels: Array
    parameters: list[Array]
    gradients: list[Array]
    losses: list[float]

    def check_gradients(self, gradients: Iterable[Array]) -> None:
        """Compare gradients taken before the first step with NumPy's."""
        names = ("weight 1", "bias 1", "weight 2", "bias 2")
        for name, found, due in zip(names, gradients, self.gradients, strict=True):
            if found.shape != due.shape:
                raise WrongAnswerError(f"the gradient of {name} is {due.shape}, not {found.shape}")
            error = np.abs(found - due).max() / np.abs(due).max()
            if not error <= _RELATIVE_ERROR:
                raise WrongAnswerError(
                    f"the gradient of {name} differs from NumPy's by {error:.1e}"
                )

    def check_loss(self, steps: int, loss: float) -> None:
        """Compare the loss after so many steps with NumPy's. The losses of NumPy fall."""
        due = self.losses[steps]
        if not abs(loss - due) <= _RELATIVE_ERROR * due:
            raise WrongAnswerError(f"the loss after {steps} steps is {due:.6f}, not {loss:.6f}")


def make_training(seed: int | list[int]) -> Training:
    generator = np.random.default_rng(seed)

    def normal(*shape: int, spread: float = 1.0) -> Array:
        return (generator.standard_normal(shape) * spread).astype(np.float32)

    pixels = normal(BATCH, PIXELS)
    labels = generator.integers(0, CLASSES, BATCH)
    first = [
        normal(HIDDEN, PIXELS, spread=(2 / PIXELS) ** 0.5),
        np.zeros(HIDDEN, np.float32),
        normal(CLASSES, HIDDEN, spread=(2 / HIDDEN) ** 0.5),
        np.zeros(CLASSES, np.float32),
    ]
    parameters = [each.astype(np.float64) for each in first]
    losses: list[float] = []
    gradients_at_start: list[Array] = []
    for _ in range(STEPS):
        loss, gradients = _loss_and_gradients(parameters, pixels.astype(np.float64), labels)
        losses.append(loss)
        gradients_at_start = gradients_at_start or gradients
        parameters = [p - RATE * g for p, g in zip(parameters, gradients, strict=True)]
    return Training(pixels, labels, first, gradients_at_start, losses)


def _loss_and_gradients(
    parameters: list[Array], x: Array, labels: Array
) -> tuple[float, list[Array]]:
    """Mean cross entropy of linear, relu, linear; and its gradients, worked out by hand."""
    w1, b1, w2, b2 = parameters
    hidden = np.maximum(x @ w1.T + b1, 0)
    scores = hidden @ w2.T + b2
    scores -= scores.max(1, keepdims=True)
    probabilities = np.exp(scores)
    probabilities /= probabilities.sum(1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -np.log(probabilities[rows, labels]).mean()
    d_scores = probabilities
    d_scores[rows, labels] -= 1
    d_scores /= len(labels)
    d_hidden = (d_scores @ w2) * (hidden > 0)
    gradients = [d_hidden.T @ x, d_hidden.sum(0), d_scores.T @ hidden, d_scores.sum(0)]
    return float(loss), gradients


class Trainer:
    """The same training on a server: the parameters stay there, each step sends its minibatch.

    Made and used where the session it lives in is the current one.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.losses: list[float] = []
        self._parameters = [gw.tensor(each, requires_grad=True) for each in training.parameters]
        self._optimizer = gw.optim.SGD(self._parameters, lr=RATE)

    @property
    def is_done(self) -> bool:
        return len(self.losses) == STEPS

    def gradients(self) -> list[Array]:
        """The gradients of the four parameters where they are now."""
        self._optimizer.zero_grad()
        self._loss().backward()
        return list(gw.fetch(*(each.grad for each in self._parameters)))

    def step(self) -> float:
        """Forward, backward and the optimizer's step; the loss before it."""
        self._optimizer.zero_grad()
        loss = self._loss()
        loss.backward()
        self._optimizer.step()
        self.losses.append(loss.item())
        return self.losses[-1]

    def check_last_loss(self, loss: float) -> None:
        self.training.check_loss(len(self.losses) - 1, loss)

    def _loss(self) -> gw.Tensor:
        w1, b1, w2, b2 = self._parameters
        x, labels = gw.tensor(self.training.pixels), gw.tensor(self.training.labels)
        return F.cross_entropy(F.linear(F.relu(F.linear(x, w1, b1)), w2, b2), labels)
