"""A real orchestrator in this process, over real sockets, with real or scripted services behind it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np

from shoppable.client import OrchestratorClient, open_channel
from shoppable.orchestrator.server import build
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime.images import raw_image
from shoppable.runtime.server import serving
from shoppable.v1 import (
    common_pb2,
    frame_decoder_pb2,
    frame_decoder_pb2_grpc,
    object_detector_pb2,
    object_detector_pb2_grpc,
    orchestrator_pb2,
    product_matcher_pb2,
    product_matcher_pb2_grpc,
)
from support.scripted import scripted

CATALOG = "catalogs/scripted"
CATEGORIES = {"cup": "drinkware", "laptop": "computers", "bottle": "bottles"}
# A film that scripted decoders do not look at.
ANY_FILM = common_pb2.VideoSource(uri="file:///film.mp4")
_PICTURE = raw_image(np.random.default_rng(0).integers(0, 256, (90, 160, 3)).astype(np.uint8))


def seen(label: str, left: float = 0.2, *, score: float = 0.9, size: float = 0.2) -> object_detector_pb2.Detection:
    """A detection in the upper part of the frame."""
    box = common_pb2.BoundingBox(left=left, top=0.2, right=left + size, bottom=0.2 + size)
    return object_detector_pb2.Detection(
        label=label, category=CATEGORIES[label], for_sale=True, box=box, score=score, model="scripted"
    )


@dataclass
class ScriptedDecoder(frame_decoder_pb2_grpc.FrameDecoderServiceServicer):
    """Sends `frames` frames, `rate` a second of film, as fast as they are taken, `delay_s` apart."""

    frames: int
    rate: float = 5.0
    delay_s: float = 0.0
    picture: common_pb2.Image = field(default_factory=lambda: _PICTURE)
    sent: int = 0
    in_work: int = 0

    async def ProbeVideo(self, request, context):
        return frame_decoder_pb2.ProbeVideoResponse(video=self._info())

    async def DecodeFrames(self, request_iterator, context):
        await anext(request_iterator)
        self.in_work += 1
        try:
            yield frame_decoder_pb2.DecodeFramesResponse(video=self._info())
            for index in range(self.frames):
                await asyncio.sleep(self.delay_s)
                frame = frame_decoder_pb2.Frame(index=index, image=self.picture)
                frame.time.FromMicroseconds(round(index / self.rate * 1e6))
                self.sent += 1
                yield frame_decoder_pb2.DecodeFramesResponse(frame=frame)
            summary = frame_decoder_pb2.DecodeSummary(frames_sent=self.frames)
            summary.end_time.FromMicroseconds(round(self.frames / self.rate * 1e6))
            yield frame_decoder_pb2.DecodeFramesResponse(summary=summary)
        finally:
            self.in_work -= 1

    def _info(self) -> common_pb2.VideoInfo:
        video = common_pb2.VideoInfo(codec="h264", width=160, height=90, average_frame_rate=self.rate)
        video.duration.FromMicroseconds(round(self.frames / self.rate * 1e6))
        return video


@dataclass
class ScriptedDetector(object_detector_pb2_grpc.ObjectDetectorServiceServicer):
    """Answers frame n with `script(n)`, after `delay_s`."""

    script: Callable[[int], Sequence[object_detector_pb2.Detection]]
    delay_s: float = 0.0
    answered: int = 0
    received: list[int] = field(default_factory=list)
    in_work: int = 0

    async def StreamDetectObjects(self, request_iterator, context):
        self.in_work += 1
        try:
            yield object_detector_pb2.StreamDetectObjectsResponse(models={"models": [{"name": "scripted"}]})
            async for request in request_iterator:
                if request.WhichOneof("request") != "frame":
                    continue
                number = request.frame.frame_id
                self.received.append(number)
                del self.received[:-10_000]
                await asyncio.sleep(self.delay_s)
                response = object_detector_pb2.StreamDetectObjectsResponse(frame={"frame_id": number})
                response.frame.result.detections.extend(self.script(number))
                self.answered += 1
                yield response
        finally:
            self.in_work -= 1

    async def ListDetectionModels(self, request, context):
        model = object_detector_pb2.DetectionModel(name="scripted", version="1", ready=True)
        for label, category in CATEGORIES.items():
            model.labels.add(label=label, category=category, for_sale=True)
        return object_detector_pb2.ListDetectionModelsResponse(models=[model])

    async def ListCategories(self, request, context):
        return object_detector_pb2.ListCategoriesResponse(
            categories=[
                object_detector_pb2.Category(id=category, labels=[label]) for label, category in CATEGORIES.items()
            ]
        )


@dataclass
class ScriptedMatcher(product_matcher_pb2_grpc.ProductMatcherServiceServicer):
    """Finds the product that is called like a thing's category, after `delay_s`."""

    delay_s: float = 0.0
    asked: list[str] = field(default_factory=list)  # categories
    in_work: int = 0
    most_in_work: int = 0

    async def MatchProducts(self, request, context):
        self.in_work += 1
        self.most_in_work = max(self.most_in_work, self.in_work)
        try:
            await asyncio.sleep(self.delay_s)
            response = product_matcher_pb2.MatchProductsResponse(catalog_revision=7, embedder={"name": "embedder"})
            for query in request.queries:
                self.asked.append(query.category_hint)
                result = response.results.add(decision=product_matcher_pb2.MATCH_DECISION_MATCH)
                name = f"{request.catalog}/products/{query.category_hint}"
                result.products.add(product={"name": name}, confidence=0.9)
                embedding = product_matcher_pb2.Embedding(model={"name": "embedder"}, values=[1.0, 0.0])
                result.embeddings.extend([embedding] * len(query.views))
            return response
        finally:
            self.in_work -= 1


class RunningOrchestrator(OrchestratorClient):
    """A client of the orchestrator under test, with its channel and address."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        super().__init__(channel)
        self.channel = channel
        self.address = address


@contextlib.asynccontextmanager
async def orchestrating(
    *,
    decoder: ScriptedDecoder | str,
    detector: ScriptedDetector | str,
    matcher: ScriptedMatcher | str | None = None,
    **settings: object,
) -> AsyncIterator[RunningOrchestrator]:
    """Serve an orchestrator over services that are scripted, or run at an address."""
    stages = {
        "FrameDecoderService": decoder,
        "ObjectDetectorService": detector,
        "ProductMatcherService": matcher if matcher is not None else ScriptedMatcher(),
    }
    async with contextlib.AsyncExitStack() as stack:
        addresses = []
        for service, double in stages.items():
            if isinstance(double, str):
                addresses.append(double)
            else:
                addresses.append((await stack.enter_async_context(scripted(service, double, shutdown_grace_s=0)))[1])
        values = {"min_observations": 2, "patience_s": 0, "shutdown_grace_s": 0} | settings
        ours = OrchestratorSettings(
            port=0,
            decoder_endpoint=addresses[0],
            detector_endpoint=addresses[1],
            matcher_endpoint=addresses[2],
            **values,
        )
        _, address = await stack.enter_async_context(serving(ours, build))
        yield RunningOrchestrator(await stack.enter_async_context(open_channel(address)), address)


async def told(
    client: OrchestratorClient,
    source=ANY_FILM,
    *,
    timeout_s: float = 60,
    **options: object,
) -> list[orchestrator_pb2.StreamAnnotateVideoResponse]:
    """All that is said of a video whose source is a message, a path or a URI."""
    if isinstance(source, common_pb2.VideoSource):
        source = source.uri
    wanted = orchestrator_pb2.AnnotateOptions(**({"catalog": CATALOG, "omit_thumbnails": True} | options))
    return [message async for message in client.stream_annotate(source, wanted, timeout_s=timeout_s)]


def objects(messages: Sequence[orchestrator_pb2.StreamAnnotateVideoResponse]) -> list[orchestrator_pb2.ShoppableObject]:
    """The objects among messages."""
    return [message.object for message in messages if message.WhichOneof("response") == "object"]


def summary_of(messages: Sequence[orchestrator_pb2.StreamAnnotateVideoResponse]) -> orchestrator_pb2.AnnotateSummary:
    """The summary, which is the last message."""
    assert messages[-1].WhichOneof("response") == "summary"
    return messages[-1].summary
