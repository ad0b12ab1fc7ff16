"""The Python client for programs without an event loop: the same methods, and they block.

    with open_channel("localhost:50050") as channel:
        for message in OrchestratorClient(channel).stream_annotate(Path("film.mp4"), options):
            ...

Streams are iterators with `cancel()`, which any thread may call. Errors are those of `shoppable.client`.
"""

from shoppable.client.boxes import box_at
from shoppable.client.channels import TlsFiles
from shoppable.client.errors import ShoppableError
from shoppable.client.sync.catalog import CatalogClient
from shoppable.client.sync.channels import open_channel
from shoppable.client.sync.decoder import DecoderClient
from shoppable.client.sync.detector import DetectorClient
from shoppable.client.sync.info import ServerInfoClient
from shoppable.client.sync.matcher import MatcherClient
from shoppable.client.sync.orchestrator import OrchestratorClient
from shoppable.client.sync.streams import ResponseStream

__all__ = [
    "CatalogClient",
    "DecoderClient",
    "DetectorClient",
    "MatcherClient",
    "OrchestratorClient",
    "ResponseStream",
    "ServerInfoClient",
    "ShoppableError",
    "TlsFiles",
    "box_at",
    "open_channel",
]
