"""Asks a server's health and says it by the exit status: `python -m shoppable.runtime.health_probe 127.0.0.1:8081`.

For container engines whose health checks are commands; Kubernetes asks by itself.
"""

import sys
from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT_S = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if the server at host:port, the only argument, serves without TLS and is well; else 1."""
    (address,) = sys.argv[1:] if arguments is None else arguments
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types leave the methods out
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError:
            return 1
    return int(answer.status != health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(main())
