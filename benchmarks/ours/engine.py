"""The engine in this process, with no wire: dynamic graphs, and compiled programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.ours.compiling import Function, compiled_step
from benchmarks.worker import Work, Workloads
from gradwire_engine import Tensor, backward, grad_mode
from gradwire_engine.interpret import TRACED

work = Workloads("gradwire", "numpy", "scipy")


def leaf(array: data.Array) -> Tensor:
    return Tensor.from_array(array, requires_grad=True)


def numbers(made: tuple[Any, Sequence[Any]]) -> list[float]:
    loss, gradients = (as_array(made[0]), [as_array(each) for each in made[1]])
    return [float(loss.sum()), *(float(np.abs(each).sum(dtype=float)) for each in gradients)]


def as_array(value: Any) -> data.Array:
    array: data.Array = value.data if isinstance(value, Tensor) else value
    return array


def value_and_gradients(function: Function, arrays: Sequence[data.Array], compiled: bool) -> Work:
    """A scalar function and its gradients by every argument: recorded, or as a program."""
    if compiled:
        return Work(compiled_step(function, arrays), numbers)
    leaves = [leaf(each) for each in arrays]

    def call() -> tuple[Tensor, list[Tensor | None]]:
        loss = function(TRACED, leaves)
        backward([loss])
        gradients = [each.grad for each in leaves]
        for each in leaves:
            each.grad = None
        return loss, gradients

    return Work(call, numbers)


@work.add("tiny")
def tiny(compiled: bool = False) -> Work:
    start = np.array([3.0], np.float32)
    if compiled:
        return value_and_gradients(lambda F, p: (p[0] + 2) ** 2, [start], compiled)

    def call() -> Any:
        x = leaf(start)
        y = (x + 2) ** 2
        backward([y], None)
        return y, [x.grad]

    return Work(call, numbers)


@work.add("chain")
def chain(ops: int, compiled: bool = False) -> Work:
    def function(F: Any, arguments: Sequence[Any]) -> Any:
        y = arguments[0]
        for _ in range(ops // 2):
            y = y * 1.001
            y = y + 0.1
        return F.sum(y)

    return value_and_gradients(function, [np.ones(8, np.float32)], compiled)


def classified(task: data.Classification, scores: Function) -> Function:
    labels = Tensor.from_array(task.labels)
    return lambda F, parameters: F.cross_entropy(scores(F, parameters), labels)


@work.add("mlp")
def mlp(compiled: bool = False) -> Work:
    task = data.mlp()
    x = Tensor.from_array(task.x)

    def scores(F: Any, parameters: Sequence[Any]) -> Any:
        w1, b1, w2, b2, w3, b3 = parameters
        hidden = F.relu(F.linear(F.relu(F.linear(x, w1, b1)), w2, b2))
        return F.linear(hidden, w3, b3)

    function = classified(task, scores)
    arrays = [each.copy() for each in task.parameters]
    if compiled:
        step = compiled_step(function, arrays, rate=data.RATE)
        return Work(step, lambda made: [float(as_array(made[0]))])
    parameters = [leaf(each) for each in arrays]

    def call() -> float:
        loss = function(TRACED, parameters)
        backward([loss])
        with grad_mode(False):
            for each in parameters:
                TRACED.add_(each, each.grad, alpha=-data.RATE)
                each.grad = None
        return float(loss.data)

    return Work(call, lambda made: [made])


@work.add("convnet")
def convnet(compiled: bool = False) -> Work:
    task = data.convnet()
    x = Tensor.from_array(task.x)

    def scores(F: Any, parameters: Sequence[Any]) -> Any:
        w1, b1, w2, b2, w3, b3 = parameters
        hidden = F.max_pool2d(F.relu(F.conv2d(x, w1, b1, 1, 1)), 2)
        hidden = F.max_pool2d(F.relu(F.conv2d(hidden, w2, b2, 1, 1)), 2)
        return F.linear(F.flatten(hidden, 1), w3, b3)

    return value_and_gradients(classified(task, scores), task.parameters, compiled)


@work.add("block")
def block(compiled: bool = False) -> Work:
    array, arrays = data.block()
    names = list(arrays)
    width = data.WIDTH
    shape = (data.BLOCK_BATCH, data.TOKENS, data.HEADS, width // data.HEADS)

    def function(F: Any, leaves: Sequence[Any]) -> Any:
        x, p = leaves[0], dict(zip(names, leaves[1:], strict=True))
        a = F.layer_norm(x, (width,), p["ln1_weight"], p["ln1_bias"])
        qkv = F.linear(a, p["qkv_weight"], p["qkv_bias"])
        thirds = (F.slice(qkv, 2, at * width, (at + 1) * width) for at in range(3))
        q, k, v = (F.transpose(F.reshape(each, shape), 1, 2) for each in thirds)
        a = F.scaled_dot_product_attention(q, k, v, None, 0.0, True)
        a = F.reshape(F.transpose(a, 1, 2), array.shape)
        h = x + F.linear(a, p["out_weight"], p["out_bias"])
        a = F.layer_norm(h, (width,), p["ln2_weight"], p["ln2_bias"])
        a = F.gelu(F.linear(a, p["up_weight"], p["up_bias"]), approximate="tanh")
        y = h + F.linear(a, p["down_weight"], p["down_bias"])
        return F.mean(y * y)

    return value_and_gradients(function, [array, *arrays.values()], compiled)


@work.add("conv2d")
def conv2d(compiled: bool = False) -> Work:
    return value_and_gradients(
        lambda F, p: F.sum(F.conv2d(p[0], p[1], None, 1, 1)), data.convolution(), compiled
    )


@work.add("elementwise")
def elementwise(compiled: bool = False) -> Work:
    return value_and_gradients(
        lambda F, p: F.sum(F.tanh(p[0] * p[1] + p[2]) * F.exp(-(p[0] ** 2))),
        data.elementwise(),
        compiled,
    )


@work.add("reductions")
def reductions(compiled: bool = False) -> Work:
    def function(F: Any, p: Sequence[Any]) -> Any:
        x = p[0]
        return (
            F.sum(F.abs(F.sum(x, 0)))
            + F.sum(F.var(x, 1))
            + F.sum(F.logsumexp(x, 1))
            + F.sum(F.amax(x, 0))
        )

    return value_and_gradients(function, [data.square()], compiled)


@work.add("matmul")
def matmul(compiled: bool = False) -> Work:
    arrays = [data.square(1024), data.square(1024)]
    return value_and_gradients(lambda F, p: F.sum(p[0] @ p[1]), arrays, compiled)


@work.add("gaussian")
def gaussian(compiled: bool = False) -> Work:
    b, x = data.gaussian()
    eye = Tensor.from_array(len(x) * np.eye(len(x)))

    def function(F: Any, p: Sequence[Any]) -> Any:
        covariance = p[0] @ F.t(p[0]) + eye
        solved = F.linalg__solve(covariance, p[1])
        return F.dot(p[1], solved) + F.linalg__slogdet(covariance)[1]

    return value_and_gradients(function, [b, x], compiled)


@work.add("embedding")
def embedding(compiled: bool = False) -> Work:
    array, indices = data.lookups()
    where = Tensor.from_array(indices)

    def function(F: Any, p: Sequence[Any]) -> Any:
        rows = F.embedding(p[0], where)
        return F.mean(rows * rows)

    return value_and_gradients(function, [array], compiled)


if __name__ == "__main__":
    work.serve()
