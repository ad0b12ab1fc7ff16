"""What is wired to what."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shoppable.client import CatalogClient, DecoderClient, DetectorClient, MatcherClient, open_channel
from shoppable.client.channels import TlsFiles
from shoppable.client.info import ServerInfoClient
from shoppable.orchestrator.adapters.classifier import TritonClassifier
from shoppable.orchestrator.adapters.decoder import DecoderAdapter
from shoppable.orchestrator.adapters.detector import DetectorAdapter
from shoppable.orchestrator.adapters.matcher import MatcherAdapter
from shoppable.orchestrator.pipeline import Stages
from shoppable.orchestrator.ports import ObjectDetector
from shoppable.orchestrator.servicer import OrchestratorServicer
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime import inference, interceptors, triton_connection
from shoppable.runtime.exposure import check_peer
from shoppable.runtime.health import ReadinessCheck
from shoppable.runtime.peers import PeerFiles, RenewedChannel, peer_api_key, peer_files
from shoppable.runtime.server import Assembly, Limit, Service
from shoppable.v1 import common_pb2, orchestrator_pb2, orchestrator_pb2_grpc

_HEALTH_TIMEOUT_S = 3.0
# Replicas answer in turns. One that drains, or has lost its Triton, must not speak for all of them.
_REPLICAS_ASKED = 8


@contextlib.asynccontextmanager
async def build(settings: OrchestratorSettings) -> AsyncIterator[Assembly]:
    """Open channels to the three services and assemble the orchestrator."""
    async with contextlib.AsyncExitStack() as stack:
        outgoing, files = interceptors.outgoing(peer_api_key(settings)), peer_files(settings)
        endpoints = (settings.decoder_endpoint, settings.detector_endpoint, settings.matcher_endpoint)
        for endpoint in endpoints:
            check_peer(settings, endpoint)
        decoder, detector, matcher = [
            await stack.enter_async_context(_open(endpoint, files, outgoing)) for endpoint in endpoints
        ]
        classifier = None
        if settings.classifier_model:
            triton = await stack.enter_async_context(triton_connection.connect(settings))
            model = inference.Model(
                triton,
                settings.classifier_model,
                input_name="images",
                output_name="score",
                timeout_s=settings.classifier_timeout_s,
            )
            classifier = TritonClassifier(model)
        jpeg = settings.frame_format == "jpeg"
        stages = Stages(
            frames=DecoderAdapter(
                DecoderClient(decoder),
                ServerInfoClient(decoder),
                output_format=common_pb2.IMAGE_FORMAT_JPEG if jpeg else common_pb2.IMAGE_FORMAT_RGB24,
                timeout_s=settings.call_timeout_s,
                patience_s=settings.patience_s,
            ),
            detector=DetectorAdapter(
                DetectorClient(detector),
                frames_in_flight=settings.frames_in_flight,
                patience_s=settings.patience_s,
                timeout_s=settings.call_timeout_s,
            ),
            matcher=MatcherAdapter(
                MatcherClient(matcher),
                CatalogClient(matcher),
                jpeg=jpeg,
                timeout_s=settings.match_timeout_s,
                patience_s=settings.patience_s,
            ),
            classifier=classifier,
        )
        serving = _all_serving(
            {
                "frame decoder": (decoder, "shoppable.v1.FrameDecoderService"),
                "object detector": (detector, "shoppable.v1.ObjectDetectorService"),
                "product matcher": (matcher, "shoppable.v1.ProductMatcherService"),
            }
        )

        async def ready() -> None:
            await serving()
            await _check_exclusions(settings, stages.detector)

        yield Assembly(
            services=[
                Service(
                    orchestrator_pb2.DESCRIPTOR.services_by_name["OrchestratorService"],
                    orchestrator_pb2_grpc.add_OrchestratorServiceServicer_to_server,
                    OrchestratorServicer(stages, settings),
                    ready,
                )
            ],
            limits=[
                Limit("inline_video_bytes", settings.max_inline_bytes, "bytes"),
                Limit("rematch_objects", settings.rematch_objects, "objects"),
            ],
        )


async def _check_exclusions(settings: OrchestratorSettings, detector: ObjectDetector) -> None:
    """Raise if a category that must never be offered is misspelt: it would be offered."""
    if not settings.excluded_categories:
        return
    unknown = set(settings.excluded_categories) - await detector.categories()
    if unknown:
        raise RuntimeError(f"excluded_categories names what the detector does not have: {', '.join(sorted(unknown))}")


def _open(endpoint: str, files: PeerFiles | None, outgoing: Sequence[grpc.aio.ClientInterceptor]) -> grpc.aio.Channel:
    if files is None:
        return open_channel(endpoint, interceptors=outgoing)
    tls = TlsFiles(files.roots, files.certificate, files.key)
    return RenewedChannel(lambda: open_channel(endpoint, tls=tls, interceptors=outgoing), files)


def _all_serving(services: dict[str, tuple[grpc.aio.Channel, str]]) -> ReadinessCheck:
    """Return a check that passes while some replica of every service says that it serves."""

    async def check() -> None:
        for words, (channel, name) in services.items():
            failure = await _failure(channel, name)
            if failure:
                raise RuntimeError(f"the {words} {failure}")

    return check


async def _failure(channel: grpc.aio.Channel, service: str) -> str:
    """Say why no replica serves; nothing if one does. One that ends while it is asked is no reason."""
    request = health_pb2.HealthCheckRequest(service=service)
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its types leave the methods out
    failure = ""
    for _ in range(_REPLICAS_ASKED):
        try:
            answer = await stub.Check(request, timeout=_HEALTH_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            failure = f"cannot be reached ({error.code().name})"
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                break
        else:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return ""
            failure = "is not serving"
    return failure
