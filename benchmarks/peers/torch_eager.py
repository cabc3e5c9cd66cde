"""PyTorch's eager mode, in this process."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import data
from benchmarks.processes import THREADS, peak_bytes, resident_bytes
from benchmarks.worker import Work, Workloads

work = Workloads("torch", "numpy")


def leaf(array: data.Array) -> Any:
    return torch.tensor(array, requires_grad=True)


def value_and_gradients(loss: Any, leaves: list[Any]) -> tuple[Any, list[Any]]:
    """Run backward and take the gradients off the leaves."""
    loss.backward()
    gradients = [each.grad for each in leaves]
    for each in leaves:
        each.grad = None
    return loss, gradients


def numbers(made: tuple[Any, list[Any]]) -> list[float]:
    loss, gradients = made
    return [loss.item(), *(each.double().abs().sum().item() for each in gradients)]


@work.add("tiny")
def tiny() -> Work:
    def call() -> Any:
        x = torch.tensor([3.0], requires_grad=True)
        y = (x + 2) ** 2
        y.backward()
        return y, [x.grad]

    return Work(call, numbers)


@work.add("chain")
def chain(ops: int) -> Work:
    start = np.ones(8, np.float32)

    def call() -> Any:
        x = leaf(start)
        y = x
        for _ in range(ops // 2):
            y = y * 1.001
            y = y + 0.1
        return value_and_gradients(y.sum(), [x])

    return Work(call, numbers)


def scores(x: Any, parameters: list[Any]) -> Any:
    w1, b1, w2, b2, w3, b3 = parameters
    hidden = F.relu(F.linear(F.relu(F.linear(x, w1, b1)), w2, b2))
    return F.linear(hidden, w3, b3)


@work.add("mlp")
def mlp() -> Work:
    task = data.mlp()
    x, labels = task.x, task.labels
    parameters = [leaf(each) for each in task.parameters]

    def call() -> Any:
        loss = F.cross_entropy(scores(torch.from_numpy(x), parameters), torch.from_numpy(labels))
        loss, gradients = value_and_gradients(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=data.RATE)
        return loss.item()

    return Work(call, lambda made: [made])


@work.add("convnet")
def convnet() -> Work:
    task = data.convnet()
    x, labels = torch.from_numpy(task.x), torch.from_numpy(task.labels)
    parameters = [leaf(each) for each in task.parameters]

    def call() -> Any:
        w1, b1, w2, b2, w3, b3 = parameters
        hidden = F.max_pool2d(F.relu(F.conv2d(x, w1, b1, padding=1)), 2)
        hidden = F.max_pool2d(F.relu(F.conv2d(hidden, w2, b2, padding=1)), 2)
        loss = F.cross_entropy(F.linear(hidden.flatten(1), w3, b3), labels)
        return value_and_gradients(loss, parameters)

    return Work(call, numbers)


@work.add("block")
def block() -> Work:
    array, arrays = data.block()
    x = leaf(array)
    p = {name: leaf(each) for name, each in arrays.items()}
    leaves = [x, *p.values()]
    shape = (data.BLOCK_BATCH, data.TOKENS, data.HEADS, data.WIDTH // data.HEADS)

    def call() -> Any:
        a = F.layer_norm(x, (data.WIDTH,), p["ln1_weight"], p["ln1_bias"])
        qkv = F.linear(a, p["qkv_weight"], p["qkv_bias"]).split(data.WIDTH, 2)
        q, k, v = (each.reshape(shape).transpose(1, 2) for each in qkv)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        a = a.transpose(1, 2).reshape(x.shape)
        h = x + F.linear(a, p["out_weight"], p["out_bias"])
        a = F.layer_norm(h, (data.WIDTH,), p["ln2_weight"], p["ln2_bias"])
        a = F.gelu(F.linear(a, p["up_weight"], p["up_bias"]), approximate="tanh")
        y = h + F.linear(a, p["down_weight"], p["down_bias"])
        return value_and_gradients((y * y).mean(), leaves)

    return Work(call, numbers)


@work.add("conv2d")
def conv2d() -> Work:
    x, weight = map(leaf, data.convolution())
    return Work(
        lambda: value_and_gradients(F.conv2d(x, weight, padding=1).sum(), [x, weight]), numbers
    )


@work.add("elementwise")
def elementwise() -> Work:
    x, w, b = map(leaf, data.elementwise())

    def call() -> Any:
        y = (torch.tanh(x * w + b) * torch.exp(-(x**2))).sum()
        return value_and_gradients(y, [x, w, b])

    return Work(call, numbers)


@work.add("reductions")
def reductions() -> Work:
    x = leaf(data.square())

    def call() -> Any:
        y = x.sum(0).abs().sum() + x.var(1).sum() + x.logsumexp(1).sum() + x.amax(0).sum()
        return value_and_gradients(y, [x])

    return Work(call, numbers)


@work.add("matmul")
def matmul() -> Work:
    a, b = leaf(data.square(1024)), leaf(data.square(1024))
    return Work(lambda: value_and_gradients((a @ b).sum(), [a, b]), numbers)


@work.add("gaussian")
def gaussian() -> Work:
    b, x = map(leaf, data.gaussian())
    size = len(x)
    eye = size * torch.eye(size, dtype=torch.float64)

    def call() -> Any:
        covariance = b @ b.T + eye
        y = x @ torch.linalg.solve(covariance, x) + torch.linalg.slogdet(covariance)[1]
        return value_and_gradients(y, [b, x])

    return Work(call, numbers)


@work.add("embedding")
def embedding() -> Work:
    array, indices = data.lookups()
    table, where = leaf(array), torch.from_numpy(indices)

    def call() -> Any:
        rows = F.embedding(where, table)
        return value_and_gradients((rows * rows).mean(), [table])

    return Work(call, numbers)


@work.add("value_vjp")
def value_vjp(elements: int) -> Work:
    x = data.vector(elements)

    def call() -> Any:
        held = leaf(x)
        return value_and_gradients(((held + 2) ** 2).sum(), [held])

    return Work(call, numbers)


@work.add("peak_memory")
def peak_memory(of: str, **arguments: Any) -> Work:
    """The most memory of this process during a call of another workload; bytes."""
    at_rest = resident_bytes(os.getpid())
    inner = work.make(of, arguments)
    return Work(
        inner.call,
        inner.numbers,
        {"at rest": float(at_rest)},
        measure=lambda calls: float(peak_bytes(os.getpid(), inner.call)),
    )


@work.add("memory_of_steps")
def memory_of_steps() -> Work:
    """Memory of this process after so many training steps; bytes."""
    inner = mlp()

    def measure(calls: int) -> float:
        for _ in range(calls):
            inner.call()
        return float(resident_bytes(os.getpid()))

    return Work(inner.call, inner.numbers, measure=measure)


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    work.serve()
