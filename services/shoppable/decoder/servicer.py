"""Messages in, a call of the pipeline, messages out."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from shoppable.decoder import convert
from shoppable.decoder.domain import UploadSource
from shoppable.decoder.pipeline import DecoderPipeline
from shoppable.decoder.reader_watch import ReaderWatch
from shoppable.v1 import frame_decoder_pb2, frame_decoder_pb2_grpc


class FrameDecoderServicer(frame_decoder_pb2_grpc.FrameDecoderServiceServicer):
    """Serves shoppable.v1.FrameDecoderService."""

    def __init__(
        self,
        pipeline: DecoderPipeline,
        limits: convert.SourceLimits,
        *,
        upload_idle_s: float,
        reader_idle_s: float,
    ) -> None:
        self._pipeline = pipeline
        self._limits = limits
        self._upload_idle_s = upload_idle_s
        self._reader_idle_s = reader_idle_s

    async def ProbeVideo(  # noqa: N802  # gRPC's name
        self, request: frame_decoder_pb2.ProbeVideoRequest, context: Any
    ) -> frame_decoder_pb2.ProbeVideoResponse:
        """See the contract."""
        source = convert.read_probe(request, self._limits)
        facts = await self._pipeline.probe(source, field="source")
        return frame_decoder_pb2.ProbeVideoResponse(video=convert.video_info_of(facts))

    async def DecodeFrames(  # noqa: N802  # gRPC's name
        self, request_iterator: AsyncIterator[frame_decoder_pb2.DecodeFramesRequest], context: Any
    ) -> AsyncIterator[Any]:
        """See the contract. Frames leave as the bytes of their responses: see `wire`."""
        requests = convert.Requests(request_iterator, idle_s=self._upload_idle_s)
        opening = await requests.opening(self._limits)
        chunks = requests.chunks(patient=not isinstance(opening.source, UploadSource))
        events = self._pipeline.decode(opening.source, opening.order, chunks, field=opening.field)
        watch = ReaderWatch(context, idle_s=self._reader_idle_s)
        async with contextlib.aclosing(events):
            async for event in events:
                with watch.writing():
                    yield convert.response_of(event)
