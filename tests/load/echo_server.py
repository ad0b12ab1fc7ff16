"""The least that a gRPC server in Python can do: sends back what it gets, unread. `python echo_server.py ADDRESS_FILE`.

What our services cost is told beside what this one costs, on the same machine and in the same run.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

_MESSAGE_BYTES = 32 * 2**20


async def _call(request: bytes, _: object) -> bytes:
    return request


async def _stream(requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def main(address_file: Path) -> None:
    """Serve on a free port of the loopback address until killed."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _MESSAGE_BYTES)])
    handlers = {
        "Call": grpc.unary_unary_rpc_method_handler(_call),
        "Stream": grpc.stream_stream_rpc_method_handler(_stream),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("load.Echo", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    partial = address_file.with_suffix(".partial")
    partial.write_text(f"127.0.0.1:{port}")
    partial.rename(address_file)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
