"""Train a small network on scanned digits, with its parameters resident on the server.

    python examples/digits.py                  # on an embedded server
    python examples/digits.py --address host:50051
    python examples/digits.py --compiled       # a training step is one program on the server

The data are scikit-learn's 1,797 real scans of 8x8 pixels. Each minibatch travels to the server;
parameters, activations, gradients and the optimizer's state stay there. Compiled, the data travel
once, and the server runs each epoch by itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import gradwire as gw
import gradwire.nn.functional as F

HIDDEN = 64
CLASSES = 10


class Network:
    """64 pixels -> 64 hidden units -> 10 classes."""

    def __init__(self, generator: np.random.Generator, pixels: int) -> None:
        def layer(outputs: int, inputs: int) -> tuple[gw.Tensor, gw.Tensor]:
            spread = np.sqrt(2 / inputs)
            weight = (generator.standard_normal((outputs, inputs)) * spread).astype(np.float32)
            bias = np.zeros(outputs, np.float32)
            return gw.tensor(weight, requires_grad=True), gw.tensor(bias, requires_grad=True)

        self.hidden = layer(HIDDEN, pixels)
        self.output = layer(CLASSES, HIDDEN)

    def __call__(self, x: gw.Tensor) -> gw.Tensor:
        """Scores of shape (batch, classes) for pixels of shape (batch, pixels)."""
        return F.linear(F.relu(F.linear(x, *self.hidden)), *self.output)

    def parameters(self) -> list[gw.Tensor]:
        """The four leaves that training changes."""
        return [*self.hidden, *self.output]


def minibatches(
    generator: np.random.Generator, x: np.ndarray, y: np.ndarray, size: int
) -> Iterator[tuple[gw.Tensor, gw.Tensor]]:
    """The examples in random order, `size` at a time, as tensors on the server."""
    order = generator.permutation(len(x))
    for start in range(0, len(x), size):
        chosen = order[start : start + size]
        yield gw.tensor(x[chosen]), gw.tensor(y[chosen])


def training_step(
    network: Network, optimizer: gw.optim.SGD
) -> Callable[[gw.Tensor, gw.Tensor], gw.Tensor]:
    """A function that takes one step and gives the loss before it."""

    def step(x: gw.Tensor, y: gw.Tensor) -> gw.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


class StepByStep:
    """Sends each minibatch, and waits for its loss."""

    def __init__(
        self, step: Callable[[gw.Tensor, gw.Tensor], gw.Tensor], x: np.ndarray, y: np.ndarray
    ) -> None:
        self.step, self.x, self.y = step, x, y

    def epoch(
        self, generator: np.random.Generator, size: int, on_progress: Callable[[int], object]
    ) -> float:
        """Train on all examples; the mean loss."""
        losses: list[float] = []
        for x, y in minibatches(generator, self.x, self.y, size):
            losses.append(float(self.step(x, y)))
            on_progress(len(losses))
        return float(np.mean(losses))


class Compiled:
    """Leaves the data with the server, which takes the steps of an epoch one after the other."""

    def __init__(
        self, step: Callable[[gw.Tensor, gw.Tensor], gw.Tensor], x: np.ndarray, y: np.ndarray
    ) -> None:
        self.step, self.x, self.y = gw.compile(step), gw.tensor(x), gw.tensor(y)

    def epoch(
        self, generator: np.random.Generator, size: int, on_progress: Callable[[int], object]
    ) -> float:
        """Train on the examples, but for those that make no whole minibatch; the mean loss."""
        steps = len(self.x) // size
        order = gw.tensor(generator.permutation(len(self.x))[: steps * size])
        x = self.x[order].reshape(steps, size, -1)
        y = self.y[order].reshape(steps, size)
        losses = self.step.repeat(steps, x, y, on_progress=lambda done, *_: on_progress(done))
        return float(losses.mean())


def accuracy(network: Network, x: np.ndarray, y: np.ndarray) -> float:
    """The share of right answers, between 0 and 1."""
    with gw.no_grad():
        right = network(gw.tensor(x)).argmax(1) == gw.tensor(y)
        return float(right.to(gw.float32).mean())


def main() -> None:
    """Train, show the loss falling, and check the test accuracy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--address", help="server to use; an embedded one if not given")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--compiled", action="store_true", help="train with a compiled step")
    arguments = parser.parse_args()

    digits = load_digits()
    pixels = (digits.data / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    x_train, x_test, y_train, y_test = train_test_split(
        pixels, labels, test_size=0.25, random_state=0, stratify=labels
    )
    generator = np.random.default_rng(0)
    columns = (
        TextColumn("epoch {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
    )
    whole = len(x_train) // arguments.batch
    steps = whole if arguments.compiled else -(-len(x_train) // arguments.batch)
    with gw.connect(arguments.address), Progress(*columns) as progress:
        network = Network(generator, x_train.shape[1])
        optimizer = gw.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        task = progress.add_task("1", total=arguments.epochs * steps, loss=float("nan"))
        way = Compiled if arguments.compiled else StepByStep
        training = way(training_step(network, optimizer), x_train, y_train)
        losses: list[float] = []
        for epoch in range(arguments.epochs):

            def show(done: int, before: int = epoch * steps) -> None:
                progress.update(task, completed=before + done)

            losses.append(training.epoch(generator, arguments.batch, show))
            progress.update(task, description=str(epoch + 1), loss=losses[-1])
        share = accuracy(network, x_test, y_test)
    print(f"loss by epoch: {' '.join(f'{loss:.3f}' for loss in losses)}")
    print(f"test accuracy: {share:.1%} of {len(y_test)} digits")
    if losses[-1] >= losses[0] or share <= 0.95:
        raise SystemExit("the network did not learn: expected a falling loss and above 95 %")


if __name__ == "__main__":
    main()
