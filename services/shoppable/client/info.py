"""Client of what every server tells about itself."""

import grpc

from shoppable.client.errors import readable, translated
from shoppable.v1 import server_info_pb2, server_info_pb2_grpc


class ServerInfoClient:
    """Calls the ServerInfoService that is served beside every other."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = server_info_pb2_grpc.ServerInfoServiceStub(channel)

    async def get(self, *, timeout_s: float | None = None) -> server_info_pb2.GetServerInfoResponse:
        """Return the server's version, its services and its limits."""
        with translated():
            return readable(await self._stub.GetServerInfo(server_info_pb2.GetServerInfoRequest(), timeout=timeout_s))
