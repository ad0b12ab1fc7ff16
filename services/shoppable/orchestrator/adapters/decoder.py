"""The frame decoder, through our own client."""

from collections.abc import AsyncGenerator, AsyncIterable

from google.protobuf.duration_pb2 import Duration

from shoppable.client import DecoderClient, ShoppableError
from shoppable.orchestrator.domain import DecodeSummary, Frame, Options
from shoppable.orchestrator.errors import upstream_error
from shoppable.runtime.call import remaining_s
from shoppable.v1 import common_pb2, frame_decoder_pb2

# Field paths of the decoder's request, and what they are called in ours.
_FIELDS = {"config.source": "source", "config.": "options."}


class DecoderAdapter:
    """A FrameSource."""

    def __init__(
        self, client: DecoderClient, *, output_format: common_pb2.ImageFormat.ValueType, timeout_s: float
    ) -> None:
        self._client = client
        self._format = output_format
        self._timeout_s = timeout_s

    async def decode(
        self, source: common_pb2.VideoSource, chunks: AsyncIterable[bytes], options: Options
    ) -> AsyncGenerator[common_pb2.VideoInfo | Frame | DecodeSummary, None]:
        """Yield the video's info, its sampled frames, and a summary."""
        config = frame_decoder_pb2.DecodeFramesConfig(
            source=source,
            sampling=options.sampling,
            start_time=_duration(options.start_s),
            end_time=_duration(options.end_s),
            longest_side=options.longest_side,
            output_format=self._format,
        )
        try:
            async for response in self._client.decode(chunks, config, timeout_s=remaining_s(self._timeout_s)):
                match response.WhichOneof("response"):
                    case "video":
                        yield response.video
                    case "frame":
                        frame = response.frame
                        yield Frame(frame.index, _seconds(frame.time), frame.image, frame.scene_cut)
                    case "summary":
                        summary = response.summary
                        end = _seconds(summary.end_time) if summary.HasField("end_time") else None
                        yield DecodeSummary(summary.damaged_packets, summary.truncated, end)
        except ShoppableError as error:
            raise upstream_error(error, "frame decoder", fields=_FIELDS) from error


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1e6))
    return duration


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
