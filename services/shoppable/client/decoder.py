"""Client of the frame decoder."""

from collections.abc import AsyncGenerator, AsyncIterator

import grpc

from shoppable.client.errors import readable, translated
from shoppable.client.sources import Source, chunks, describe
from shoppable.client.streams import call_stream
from shoppable.v1 import common_pb2, frame_decoder_pb2, frame_decoder_pb2_grpc


class DecoderClient:
    """Calls a FrameDecoderService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)

    async def probe(
        self, source: common_pb2.VideoSource, *, timeout_s: float | None = None
    ) -> frame_decoder_pb2.ProbeVideoResponse:
        """Say what a video is."""
        with translated():
            return readable(
                await self._stub.ProbeVideo(frame_decoder_pb2.ProbeVideoRequest(source=source), timeout=timeout_s)
            )

    def decode(
        self, source: Source, config: frame_decoder_pb2.DecodeFramesConfig, *, timeout_s: float | None = None
    ) -> AsyncGenerator[frame_decoder_pb2.DecodeFramesResponse, None]:
        """Stream a video's frames. The config's own source, if it has one, wins over `source`'s description."""

        async def requests() -> AsyncIterator[frame_decoder_pb2.DecodeFramesRequest]:
            complete = frame_decoder_pb2.DecodeFramesConfig()
            complete.CopyFrom(config)
            if not complete.HasField("source"):
                complete.source.CopyFrom(describe(source))
            yield frame_decoder_pb2.DecodeFramesRequest(config=complete)
            async for chunk in chunks(source):
                yield frame_decoder_pb2.DecodeFramesRequest(chunk=chunk)

        return call_stream(self._stub.DecodeFrames, requests(), timeout_s=timeout_s)
