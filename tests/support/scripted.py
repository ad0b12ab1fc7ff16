"""A real server, with all interceptors, of a servicer that a test has scripted."""

import contextlib
from collections.abc import AsyncIterator
from types import ModuleType

from shoppable.runtime.health import ReadinessCheck, always_ready
from shoppable.runtime.server import Assembly, Server, Service, serving
from shoppable.runtime.settings import ServerSettings
from shoppable.v1 import (
    frame_decoder_pb2,
    frame_decoder_pb2_grpc,
    object_detector_pb2,
    object_detector_pb2_grpc,
    orchestrator_pb2,
    orchestrator_pb2_grpc,
    product_catalog_pb2,
    product_catalog_pb2_grpc,
    product_matcher_pb2,
    product_matcher_pb2_grpc,
)

_MODULES: dict[str, tuple[ModuleType, ModuleType]] = {
    "FrameDecoderService": (frame_decoder_pb2, frame_decoder_pb2_grpc),
    "ObjectDetectorService": (object_detector_pb2, object_detector_pb2_grpc),
    "OrchestratorService": (orchestrator_pb2, orchestrator_pb2_grpc),
    "ProductCatalogService": (product_catalog_pb2, product_catalog_pb2_grpc),
    "ProductMatcherService": (product_matcher_pb2, product_matcher_pb2_grpc),
}


@contextlib.asynccontextmanager
async def scripted(
    service: str, servicer: object, *, also: str = "", ready: ReadinessCheck = always_ready, **settings: object
) -> AsyncIterator[tuple[Server, str]]:
    """Serve `servicer` as a service of ours, and as `also`, while inside; yields the server and its address."""
    services = []
    for name in filter(None, (service, also)):
        messages, stubs = _MODULES[name]
        register = getattr(stubs, f"add_{name}Servicer_to_server")
        services.append(Service(messages.DESCRIPTOR.services_by_name[name], register, servicer, ready))

    @contextlib.asynccontextmanager
    async def build(_settings: ServerSettings) -> AsyncIterator[Assembly]:
        yield Assembly(services)

    async with serving(ServerSettings(**settings), build) as running:
        yield running
