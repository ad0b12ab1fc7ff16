"""Messages in, the pipeline, messages out."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any

from shoppable.orchestrator import convert, convert_plan, convert_rematch
from shoppable.orchestrator.domain import Options, Summary
from shoppable.orchestrator.estimates import CostEstimates
from shoppable.orchestrator.pipeline import Annotation, Stages
from shoppable.orchestrator.planning import Planner
from shoppable.orchestrator.products import FoundProducts
from shoppable.orchestrator.rematching import Rematcher
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime.errors import InvalidRequestError, Violation
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2, orchestrator_pb2, orchestrator_pb2_grpc


class OrchestratorServicer(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """Serves OrchestratorService."""

    def __init__(self, stages: Stages, settings: OrchestratorSettings) -> None:
        self._stages = stages
        self._settings = settings
        self._estimates = CostEstimates()
        self._planner = Planner(stages, settings, self._estimates)
        self._rematcher = Rematcher(stages.detector, stages.matcher, at_a_time=settings.matches_in_flight)

    async def AnnotateVideo(  # noqa: N802  # gRPC's name
        self, request: orchestrator_pb2.AnnotateVideoRequest, context: Any
    ) -> orchestrator_pb2.AnnotateVideoResponse:
        """Collect the whole list."""
        response = orchestrator_pb2.AnnotateVideoResponse()
        if request.validate_only:
            response.plan.CopyFrom(await self._plan(request.source, request.options, upload=False))
            return response
        options = self._options(request.source, request.options, upload=False)
        # Who wants the surest few must see all, and who waits for the whole list sees nothing before it is final.
        whole = dataclasses.replace(options, max_objects=None, provisional=False)
        async with contextlib.aclosing(self._annotate(request.source, _no_chunks(), whole)) as messages:
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
        if first.config.validate_only:
            plan = await self._plan(first.config.source, first.config.options, upload=True)
            yield orchestrator_pb2.StreamAnnotateVideoResponse(plan=plan)
            return
        options = self._options(first.config.source, first.config.options, upload=True)
        chunks = _chunks(request_iterator)
        async with contextlib.aclosing(self._annotate(first.config.source, chunks, options)) as messages:
            async for message in messages:
                yield message

    async def RematchProducts(  # noqa: N802  # gRPC's name
        self, request: orchestrator_pb2.RematchProductsRequest, context: Any
    ) -> orchestrator_pb2.RematchProductsResponse:
        """Find products again by what an earlier answer carried."""
        violations = Violations()
        # Thousands of embeddings take a while to check.
        wanted = await asyncio.to_thread(convert_rematch.read_rematch, request, self._settings, violations)
        violations.raise_if_any()
        return convert_rematch.write_rematch(await self._rematcher.rematch(wanted))

    async def _plan(
        self, source: common_pb2.VideoSource, options: orchestrator_pb2.AnnotateOptions, *, upload: bool
    ) -> orchestrator_pb2.AnnotatePlan:
        violations = Violations()
        convert.read_source(source, self._settings, violations, upload=upload)
        checked = convert.read_options(options, self._settings, violations)
        return convert_plan.write_plan(await self._planner.plan(source, checked, violations.found))

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
                if isinstance(event, Summary):
                    self._estimates.add(event)
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
