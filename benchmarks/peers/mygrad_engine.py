"""MyGrad, in this process."""

from __future__ import annotations

from typing import Any

import mygrad as mg
import numpy as np
from mygrad.nnet.activations import relu
from mygrad.nnet.layers import conv_nd, max_pool
from mygrad.nnet.losses import softmax_crossentropy

from benchmarks import data
from benchmarks.worker import Work, Workloads

work = Workloads("mygrad", "numpy")


def value_and_gradients(loss: Any, leaves: list[Any]) -> tuple[Any, list[Any]]:
    """Run backward; a leaf's gradient is that of the last one."""
    loss.backward()
    return loss, [each.grad for each in leaves]


def numbers(made: tuple[Any, list[Any]]) -> list[float]:
    loss, gradients = made
    return [loss.item(), *(float(np.abs(each).sum(dtype=float)) for each in gradients)]


@work.add("tiny")
def tiny() -> Work:
    def call() -> Any:
        x = mg.tensor([3.0])
        y = (x + 2) ** 2
        return value_and_gradients(y, [x])

    return Work(call, numbers)


@work.add("chain")
def chain(ops: int) -> Work:
    start = np.ones(8, np.float32)

    def call() -> Any:
        x = mg.tensor(start)
        y = x
        for _ in range(ops // 2):
            y = y * 1.001
            y = y + 0.1
        return value_and_gradients(y.sum(), [x])

    return Work(call, numbers)


def linear(x: Any, weight: Any, bias: Any) -> Any:
    return mg.matmul(x, weight.T) + bias


@work.add("mlp")
def mlp() -> Work:
    task = data.mlp()
    parameters = [mg.tensor(each) for each in task.parameters]

    def call() -> float:
        w1, b1, w2, b2, w3, b3 = parameters
        hidden = relu(linear(relu(linear(task.x, w1, b1)), w2, b2))
        loss = softmax_crossentropy(linear(hidden, w3, b3), task.labels)
        loss.backward()
        for each in parameters:
            each.data -= data.RATE * each.grad
        return float(loss.item())

    return Work(call, lambda made: [made])


@work.add("convnet")
def convnet() -> Work:
    task = data.convnet()
    parameters = [mg.tensor(each) for each in task.parameters]

    def convolve(x: Any, weight: Any, bias: Any) -> Any:
        y = relu(conv_nd(x, weight, stride=1, padding=1) + bias.reshape(1, -1, 1, 1))
        return max_pool(y, pool=(2, 2), stride=2)

    def call() -> Any:
        w1, b1, w2, b2, w3, b3 = parameters
        hidden = convolve(convolve(task.x, w1, b1), w2, b2)
        scores = linear(hidden.reshape(len(task.x), -1), w3, b3)
        return value_and_gradients(softmax_crossentropy(scores, task.labels), parameters)

    return Work(call, numbers)


def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    centred = x - mg.mean(x, axis=-1, keepdims=True)
    variance = mg.mean(centred * centred, axis=-1, keepdims=True)
    return centred / mg.sqrt(variance + 1e-5) * weight + bias


@work.add("block")
def block() -> Work:
    array, arrays = data.block()
    x = mg.tensor(array)
    p = {name: mg.tensor(each) for name, each in arrays.items()}
    leaves = [x, *p.values()]
    width = data.WIDTH
    shape = (data.BLOCK_BATCH, data.TOKENS, data.HEADS, width // data.HEADS)
    hidden_from = np.where(np.tri(data.TOKENS, dtype=bool), np.float32(0), np.float32(-np.inf))
    scale = np.float32(shape[-1] ** -0.5)
    root = np.float32((2 / np.pi) ** 0.5)

    def call() -> Any:
        a = layer_norm(x, p["ln1_weight"], p["ln1_bias"])
        qkv = linear(a, p["qkv_weight"], p["qkv_bias"])
        q, k, v = (
            mg.transpose(qkv[:, :, at * width : (at + 1) * width].reshape(shape), (0, 2, 1, 3))
            for at in range(3)
        )
        scores = mg.matmul(q, mg.transpose(k, (0, 1, 3, 2))) * scale + hidden_from
        weights = mg.exp(scores - mg.max(scores, axis=-1, keepdims=True))
        weights = weights / mg.sum(weights, axis=-1, keepdims=True)
        a = mg.transpose(mg.matmul(weights, v), (0, 2, 1, 3)).reshape(x.shape)
        h = x + linear(a, p["out_weight"], p["out_bias"])
        a = layer_norm(h, p["ln2_weight"], p["ln2_bias"])
        a = linear(a, p["up_weight"], p["up_bias"])
        a = 0.5 * a * (1 + mg.tanh(root * (a + 0.044715 * a * a * a)))
        y = h + linear(a, p["down_weight"], p["down_bias"])
        return value_and_gradients(mg.mean(y * y), leaves)

    return Work(call, numbers)


@work.add("conv2d")
def conv2d() -> Work:
    x, weight = map(mg.tensor, data.convolution())
    return Work(
        lambda: value_and_gradients(conv_nd(x, weight, stride=1, padding=1).sum(), [x, weight]),
        numbers,
    )


@work.add("elementwise")
def elementwise() -> Work:
    x, w, b = map(mg.tensor, data.elementwise())

    def call() -> Any:
        y = (mg.tanh(x * w + b) * mg.exp(-(x**2))).sum()
        return value_and_gradients(y, [x, w, b])

    return Work(call, numbers)


@work.add("reductions")
def reductions() -> Work:
    x = mg.tensor(data.square())

    def call() -> Any:
        largest = mg.max(x, axis=1, keepdims=True)
        logsumexp = mg.log(mg.sum(mg.exp(x - largest), axis=1, keepdims=True)) + largest
        y = (
            mg.sum(mg.abs(mg.sum(x, axis=0)))
            + mg.sum(mg.var(x, axis=1, ddof=1))
            + mg.sum(logsumexp)
            + mg.sum(mg.max(x, axis=0))
        )
        return value_and_gradients(y, [x])

    return Work(call, numbers)


@work.add("matmul")
def matmul() -> Work:
    a, b = mg.tensor(data.square(1024)), mg.tensor(data.square(1024))
    return Work(lambda: value_and_gradients(mg.matmul(a, b).sum(), [a, b]), numbers)


@work.add("embedding")
def embedding() -> Work:
    array, indices = data.lookups()
    table = mg.tensor(array)

    def call() -> Any:
        rows = table[indices]
        return value_and_gradients(mg.mean(rows * rows), [table])

    return Work(call, numbers)


if __name__ == "__main__":
    work.serve()
