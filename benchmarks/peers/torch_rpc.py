"""PyTorch's RPC with distributed autograd: forward on another process, backward through both."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed.autograd as dist_autograd
import torch.nn.functional as F
from torch.distributed import rpc

from benchmarks import data
from benchmarks.peers.ports import free_port
from benchmarks.processes import THREADS
from benchmarks.worker import Work, Workloads

work = Workloads("torch", "numpy")

# What the server keeps between calls.
kept: dict[str, list[Any]] = {}


def keep(name: str, tensors: list[Any]) -> None:
    kept[name] = [each.requires_grad_(each.is_floating_point()) for each in tensors]


def remote_value(x: Any) -> Any:
    return ((x + 2) ** 2).sum()


def remote_chain(x: Any, ops: int) -> Any:
    for _ in range(ops // 2):
        x = x * 1.001
        x = x + 0.1
    return x.sum()


def remote_loss(x: Any, labels: Any) -> Any:
    w1, b1, w2, b2, w3, b3 = kept["mlp"]
    hidden = F.relu(F.linear(F.relu(F.linear(x, w1, b1)), w2, b2))
    return F.cross_entropy(F.linear(hidden, w3, b3), labels)


def remote_step(context: int, rate: float) -> None:
    gradients = dist_autograd.get_gradients(context)
    with torch.no_grad():
        for each in kept["mlp"]:
            each.sub_(gradients[each], alpha=rate)


def remote_layer(x: Any) -> Any:
    return torch.tanh(x @ kept["resident"][0])


def join(rank: int, port: int) -> None:
    """Become one of the two processes of the RPC."""
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", str(port)
    torch.set_num_threads(THREADS)
    rpc.init_rpc(f"worker{rank}", rank=rank, world_size=2)


def numbers(made: tuple[Any, Any]) -> list[float]:
    return [float(made[0]), float(made[1].double().abs().sum())]


@work.add("value_vjp")
def value_vjp(elements: int) -> Work:
    x = torch.tensor(data.vector(elements), requires_grad=True)

    def call() -> Any:
        with dist_autograd.context() as context:
            y = rpc.rpc_sync("worker1", remote_value, (x,))
            dist_autograd.backward(context, [y])
            return y.item(), dist_autograd.get_gradients(context)[x]

    return Work(call, numbers)


@work.add("remote_chain")
def chain(ops: int) -> Work:
    x = torch.ones(8, requires_grad=True)

    def call() -> Any:
        with dist_autograd.context() as context:
            y = rpc.rpc_sync("worker1", remote_chain, (x, ops))
            dist_autograd.backward(context, [y])
            return y.item(), dist_autograd.get_gradients(context)[x]

    return Work(call, numbers)


@work.add("training_step")
def training_step() -> Work:
    task = data.mlp()
    x, labels = torch.from_numpy(task.x), torch.from_numpy(task.labels)
    parameters = [torch.tensor(each) for each in task.parameters]
    rpc.rpc_sync("worker1", keep, ("mlp", parameters))

    def call() -> float:
        with dist_autograd.context() as context:
            loss = rpc.rpc_sync("worker1", remote_loss, (x, labels))
            dist_autograd.backward(context, [loss])
            rpc.rpc_sync("worker1", remote_step, (context, data.RATE))
            return float(loss)

    return Work(call, lambda made: [made])


@work.add("many_vjps")
def many_vjps() -> Work:
    vector, matrix, directions = data.resident()
    x = torch.tensor(vector, requires_grad=True)
    rpc.rpc_sync("worker1", keep, ("resident", [torch.tensor(matrix)]))
    cotangents = torch.from_numpy(directions)

    def call() -> Sequence[Any]:
        # `backward` of distributed autograd takes scalars only and adds up within a context.
        total = torch.zeros_like(x)
        rows: list[Any] = []
        with dist_autograd.context() as context:
            y = rpc.rpc_sync("worker1", remote_layer, (x,))
            for v in cotangents:
                dist_autograd.backward(context, [(y * v).sum()], retain_graph=True)
                now = dist_autograd.get_gradients(context)[x].clone()
                rows.append(now - total)
                total = now
        return rows

    return Work(call, lambda rows: [float(sum(each.abs().sum() for each in rows))])


def main() -> None:
    """The client of the measurements, with its server as a child."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peers.torch_rpc", str(port)], stdout=sys.stderr
    )
    atexit.register(server.terminate)
    join(0, port)
    work.serve()


if __name__ == "__main__":
    # Functions travel by the name of their module, which must be the same on both sides.
    from benchmarks.peers import torch_rpc

    if len(sys.argv) > 1:
        torch_rpc.join(1, int(sys.argv[1]))
        rpc.shutdown()
    else:
        torch_rpc.main()
