"""The server of `pytensor_federated`: `value` or `layer`, whichever it is asked for."""

from __future__ import annotations

import asyncio
import socket
import sys

import grpclib.server
import numpy as np
from pytensor_federated import ArraysToArraysService

from benchmarks import data
from benchmarks.peers import remote_functions as functions


def value(x: data.Array) -> list[data.Array]:
    return [np.asarray(functions.value(x)), functions.value_gradient(x)]


def layer(x: data.Array, v: data.Array) -> list[data.Array]:
    return [functions.layer(x), functions.layer_vjp(x, v)]


async def main(name: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    server = grpclib.server.Server([ArraysToArraysService({"value": value, "layer": layer}[name])])
    await server.start(sock=listener)
    print(f"ready 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
