# Derived from decoder.py of the async client by `make gen`; never edited.
"""Client of the frame decoder."""

from collections.abc import Iterator

import grpc

from shoppable.client.errors import readable, translated
from shoppable.client.sync.sources import Source, chunks, describe
from shoppable.client.sync.streams import ResponseStream, call_stream
from shoppable.v1 import common_pb2, frame_decoder_pb2, frame_decoder_pb2_grpc


class DecoderClient:
    """Calls a FrameDecoderService."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel)

    def probe(
        self, source: common_pb2.VideoSource, *, timeout_s: float | None = None
    ) -> frame_decoder_pb2.ProbeVideoResponse:
        """Say what a video is."""
        with translated():
            return readable(
                self._stub.ProbeVideo(frame_decoder_pb2.ProbeVideoRequest(source=source), timeout=timeout_s)
            )

    def decode(
        self, source: Source, config: frame_decoder_pb2.DecodeFramesConfig, *, timeout_s: float | None = None
    ) -> ResponseStream[frame_decoder_pb2.DecodeFramesResponse]:
        """Stream a video's frames. The config's own source, if it has one, wins over `source`'s description."""

        def requests() -> Iterator[frame_decoder_pb2.DecodeFramesRequest]:
            complete = frame_decoder_pb2.DecodeFramesConfig()
            complete.CopyFrom(config)
            if not complete.HasField("source"):
                complete.source.CopyFrom(describe(source))
            yield frame_decoder_pb2.DecodeFramesRequest(config=complete)
            for chunk in chunks(source):
                yield frame_decoder_pb2.DecodeFramesRequest(chunk=chunk)

        return call_stream(self._stub.DecodeFrames, requests(), timeout_s=timeout_s)
