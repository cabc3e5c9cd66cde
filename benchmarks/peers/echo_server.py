"""The server of `echo`: grpc.aio on uvloop, as gradwire's is."""

from __future__ import annotations

from typing import Any

import grpc
import uvloop

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


async def unary(request: bytes, context: Any) -> bytes:
    return request


async def stream(requests: Any, context: Any) -> None:
    while (request := await context.read()) is not grpc.aio.EOF:
        size = int.from_bytes(request[:8], "little")
        await context.write(request if size == len(request) else bytes(size))


async def main() -> None:
    server = grpc.aio.server(options=OPTIONS)
    methods: dict[str, Any] = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"ready 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
