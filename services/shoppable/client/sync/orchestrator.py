# Derived from orchestrator.py of the async client by `make gen`; never edited.
"""Client of the orchestrator: a video in, its shoppable objects out."""

from collections.abc import Iterator

import grpc

from shoppable.client.errors import ShoppableError, readable, translated
from shoppable.client.sync.sources import Source, chunks, describe
from shoppable.client.sync.streams import ResponseStream, call_stream
from shoppable.v1 import common_pb2, orchestrator_pb2, orchestrator_pb2_grpc


class OrchestratorClient:
    """Calls an OrchestratorService."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)

    def annotate(
        self,
        source: common_pb2.VideoSource,
        options: orchestrator_pb2.AnnotateOptions | None = None,
        *,
        timeout_s: float | None = None,
    ) -> orchestrator_pb2.AnnotateVideoResponse:
        """Return the whole list for a URI or inline bytes."""
        request = orchestrator_pb2.AnnotateVideoRequest(source=source, options=options)
        with translated():
            return readable(self._stub.AnnotateVideo(request, timeout=timeout_s))

    def stream_annotate(
        self,
        source: Source,
        options: orchestrator_pb2.AnnotateOptions | None = None,
        *,
        timeout_s: float | None = None,
    ) -> ResponseStream[orchestrator_pb2.StreamAnnotateVideoResponse]:
        """Yield the video's info, progress, objects as each is final, and a summary. A Path is uploaded.

        With `options.live`, bytes that arrive over time may go on without end.
        """

        def requests() -> Iterator[orchestrator_pb2.StreamAnnotateVideoRequest]:
            described = describe(source, live=options is not None and options.HasField("live"))
            config = orchestrator_pb2.AnnotateConfig(source=described, options=options)
            yield orchestrator_pb2.StreamAnnotateVideoRequest(config=config)
            for chunk in chunks(source):
                yield orchestrator_pb2.StreamAnnotateVideoRequest(chunk=chunk)

        return call_stream(self._stub.StreamAnnotateVideo, requests(), timeout_s=timeout_s)

    def plan(
        self,
        source: Source | common_pb2.VideoSource,
        options: orchestrator_pb2.AnnotateOptions | None = None,
        *,
        timeout_s: float | None = None,
    ) -> orchestrator_pb2.AnnotatePlan:
        """Say what annotating would do, and all that is wrong with the request. Nothing is uploaded."""
        described = source if isinstance(source, common_pb2.VideoSource) else describe(source)
        config = orchestrator_pb2.AnnotateConfig(source=described, options=options, validate_only=True)
        requests = iter([orchestrator_pb2.StreamAnnotateVideoRequest(config=config)])
        with translated():
            for response in self._stub.StreamAnnotateVideo(requests, timeout=timeout_s):
                return response.plan
        raise ShoppableError(grpc.StatusCode.INTERNAL, "the orchestrator answered without a plan")

    def rematch(
        self, request: orchestrator_pb2.RematchProductsRequest, *, timeout_s: float | None = None
    ) -> orchestrator_pb2.RematchProductsResponse:
        """Find the products of objects of an earlier answer again."""
        with translated():
            return readable(self._stub.RematchProducts(request, timeout=timeout_s))
