"""HIPS autograd, in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import autograd
import autograd.numpy as np
import numpy

from benchmarks import data
from benchmarks.worker import Work, Workloads

work = Workloads("autograd", "numpy")


def numbers(made: tuple[Any, Any]) -> list[float]:
    loss, gradients = made
    listed = gradients if isinstance(gradients, list) else [gradients]
    return [float(loss), *(float(numpy.abs(each).sum(dtype=float)) for each in listed)]


def of(function: Callable[[Any], Any], arguments: Any) -> Work:
    differentiated = autograd.value_and_grad(function)
    return Work(lambda: differentiated(arguments), numbers)


@work.add("tiny")
def tiny() -> Work:
    differentiated = autograd.value_and_grad(lambda x: ((x + 2) ** 2)[0])
    return Work(lambda: differentiated(numpy.array([3.0], numpy.float32)), numbers)


@work.add("chain")
def chain(ops: int) -> Work:
    def function(x: Any) -> Any:
        for _ in range(ops // 2):
            x = x * 1.001
            x = x + 0.1
        return np.sum(x)

    return of(function, numpy.ones(8, numpy.float32))


def cross_entropy(scores: Any, labels: data.Array) -> Any:
    largest = np.max(scores, axis=1, keepdims=True)
    sums = np.log(np.sum(np.exp(scores - largest), axis=1)) + largest[:, 0]
    return np.mean(sums - scores[numpy.arange(len(labels)), labels])


@work.add("mlp")
def mlp() -> Work:
    task = data.mlp()
    parameters = task.parameters

    def function(parameters: list[Any]) -> Any:
        w1, b1, w2, b2, w3, b3 = parameters
        hidden = np.maximum(np.dot(task.x, w1.T) + b1, 0)
        hidden = np.maximum(np.dot(hidden, w2.T) + b2, 0)
        return cross_entropy(np.dot(hidden, w3.T) + b3, task.labels)

    differentiated = autograd.value_and_grad(function)

    def call() -> float:
        loss, gradients = differentiated(parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= data.RATE * gradient
        return float(loss)

    return Work(call, lambda made: [made])


def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    centred = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-5) * weight + bias


@work.add("block")
def block() -> Work:
    x, p = data.block()
    names = list(p)
    shape = (data.BLOCK_BATCH, data.TOKENS, data.HEADS, data.WIDTH // data.HEADS)
    hidden_from = numpy.where(
        numpy.tri(data.TOKENS, dtype=bool), numpy.float32(0), numpy.float32(-numpy.inf)
    )
    scale = numpy.float32(shape[-1] ** -0.5)
    root = numpy.float32((2 / numpy.pi) ** 0.5)

    def linear(x: Any, weight: Any, bias: Any) -> Any:
        return np.dot(x, weight.T) + bias

    def function(leaves: list[Any]) -> Any:
        x, p = leaves[0], dict(zip(names, leaves[1:], strict=True))
        a = layer_norm(x, p["ln1_weight"], p["ln1_bias"])
        qkv = np.split(linear(a, p["qkv_weight"], p["qkv_bias"]), 3, 2)
        q, k, v = (np.transpose(np.reshape(each, shape), (0, 2, 1, 3)) for each in qkv)
        scores = np.matmul(q, np.transpose(k, (0, 1, 3, 2))) * scale + hidden_from
        weights = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
        weights = weights / np.sum(weights, axis=-1, keepdims=True)
        a = np.reshape(np.transpose(np.matmul(weights, v), (0, 2, 1, 3)), x.shape)
        h = x + linear(a, p["out_weight"], p["out_bias"])
        a = layer_norm(h, p["ln2_weight"], p["ln2_bias"])
        a = linear(a, p["up_weight"], p["up_bias"])
        a = 0.5 * a * (1 + np.tanh(root * (a + 0.044715 * a * a * a)))
        y = h + linear(a, p["down_weight"], p["down_bias"])
        return np.mean(y * y)

    return of(function, [x, *p.values()])


@work.add("elementwise")
def elementwise() -> Work:
    return of(
        lambda p: np.sum(np.tanh(p[0] * p[1] + p[2]) * np.exp(-(p[0] ** 2))),
        list(data.elementwise()),
    )


@work.add("reductions")
def reductions() -> Work:
    def function(x: Any) -> Any:
        largest = np.max(x, axis=1)
        logsumexp = np.log(np.sum(np.exp(x - largest[:, None]), axis=1)) + largest
        return (
            np.sum(np.abs(np.sum(x, axis=0)))
            + np.sum(np.var(x, axis=1, ddof=1))
            + np.sum(logsumexp)
            + np.sum(np.max(x, axis=0))
        )

    return of(function, data.square())


@work.add("matmul")
def matmul() -> Work:
    return of(lambda p: np.sum(np.dot(p[0], p[1])), [data.square(1024), data.square(1024)])


@work.add("gaussian")
def gaussian() -> Work:
    b, x = data.gaussian()
    eye = len(x) * numpy.eye(len(x))

    def function(p: list[Any]) -> Any:
        covariance = np.dot(p[0], p[0].T) + eye
        solved = np.linalg.solve(covariance, p[1])
        return np.dot(p[1], solved) + np.linalg.slogdet(covariance)[1]

    return of(function, [b, x])


@work.add("embedding")
def embedding() -> Work:
    table, indices = data.lookups()
    return of(lambda table: np.mean(table[indices] ** 2), table)


if __name__ == "__main__":
    work.serve()
