"""Messages in, the pipeline, messages out."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any

from shoppable.orchestrator import convert
from shoppable.orchestrator.domain import Options
from shoppable.orchestrator.pipeline import Annotation, Stages
from shoppable.orchestrator.products import FoundProducts
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime.errors import InvalidRequestError, Violation
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2, orchestrator_pb2, orchestrator_pb2_grpc


class OrchestratorServicer(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """Serves OrchestratorService."""

    def __init__(self, stages: Stages, settings: OrchestratorSettings) -> None:
        self._stages = stages
        self._settings = settings

    async def AnnotateVideo(  # noqa: N802  # gRPC's name
        self, request: orchestrator_pb2.AnnotateVideoRequest, context: Any
    ) -> orchestrator_pb2.AnnotateVideoResponse:
        """Collect the whole list."""
        response = orchestrator_pb2.AnnotateVideoResponse()
        options = self._options(request.source, request.options, upload=False)
        # Who wants the surest few must see all.
        unlimited = dataclasses.replace(options, max_objects=None)
        async with contextlib.aclosing(self._annotate(request.source, _no_chunks(), unlimited)) as messages:
            async for message in messages:
                if message.WhichOneof("response") == "object":
                    response.objects.append(message.object)
                elif message.WhichOneof("response") == "summary":
                    response.summary.CopyFrom(message.summary)
        chosen = sorted(response.objects, key=convert.surest_first, reverse=True)[: options.max_objects]
        chosen.sort(key=lambda found: found.segments[0].start.ToNanoseconds())
        del response.objects[:]
        response.objects.extend(chosen)
        response.summary.objects = len(chosen)
        del response.summary.found_products[:]
        response.summary.found_products.extend(_products(chosen))
        return response

    async def StreamAnnotateVideo(  # noqa: N802  # gRPC's name
        self, request_iterator: AsyncIterator[orchestrator_pb2.StreamAnnotateVideoRequest], context: Any
    ) -> AsyncGenerator[orchestrator_pb2.StreamAnnotateVideoResponse, None]:
        """Yield events as they happen."""
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("request") != "config":
            raise InvalidRequestError([Violation("config", "must be the first message of the stream")])
        options = self._options(first.config.source, first.config.options, upload=True)
        chunks = _chunks(request_iterator)
        async with contextlib.aclosing(self._annotate(first.config.source, chunks, options)) as messages:
            async for message in messages:
                yield message

    def _options(
        self, source: common_pb2.VideoSource, options: orchestrator_pb2.AnnotateOptions, *, upload: bool
    ) -> Options:
        violations = Violations()
        convert.read_source(source, self._settings, violations, upload=upload)
        checked = convert.read_options(options, self._settings, violations)
        violations.raise_if_any()
        return checked

    async def _annotate(
        self, source: common_pb2.VideoSource, chunks: AsyncIterator[bytes], options: Options
    ) -> AsyncGenerator[orchestrator_pb2.StreamAnnotateVideoResponse, None]:
        annotation = Annotation(self._stages, self._settings, options)
        products = FoundProducts()
        async with contextlib.aclosing(annotation.run(source, chunks)) as events:
            async for event in events:
                message = await asyncio.to_thread(convert.write_event, event, self._settings, options)
                if message.object.final:
                    products.add(message.object)
                elif message.WhichOneof("response") == "summary":
                    message.summary.found_products.extend(products.listed())
                yield message


def _products(objects: Iterable[orchestrator_pb2.ShoppableObject]) -> list[orchestrator_pb2.FoundProduct]:
    products = FoundProducts()
    for item in objects:
        products.add(item)
    return products.listed()


async def _chunks(requests: AsyncIterator[orchestrator_pb2.StreamAnnotateVideoRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("request") != "chunk":
            raise InvalidRequestError([Violation("chunk", "must be set in all messages but the first")])
        yield request.chunk


async def _no_chunks() -> AsyncIterator[bytes]:
    return
    yield b""
