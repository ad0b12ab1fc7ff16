"""The Python client: what generated stubs make hard, for services that call the suite and for the suite itself.

    async with open_channel("localhost:50050") as channel:
        orchestrator = OrchestratorClient(channel)
        async for message in orchestrator.stream_annotate(Path("film.mp4"), options):
            ...

Requests and answers are the generated messages of `shoppable.v1`. Errors are `ShoppableError`. For programs without an
event loop, `shoppable.client.sync` has the same.
"""

from shoppable.client.boxes import box_at
from shoppable.client.catalog import CatalogClient
from shoppable.client.channels import TlsFiles, open_channel
from shoppable.client.decoder import DecoderClient
from shoppable.client.detector import DetectorClient
from shoppable.client.errors import ShoppableError
from shoppable.client.info import ServerInfoClient
from shoppable.client.matcher import MatcherClient
from shoppable.client.orchestrator import OrchestratorClient

__all__ = [
    "CatalogClient",
    "DecoderClient",
    "DetectorClient",
    "MatcherClient",
    "OrchestratorClient",
    "ServerInfoClient",
    "ShoppableError",
    "TlsFiles",
    "box_at",
    "open_channel",
]
