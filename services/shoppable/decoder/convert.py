"""Messages to the decoder's own types, and back. Everything that is wrong with a message is reported at once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from shoppable.decoder import wire
from shoppable.decoder.domain import (
    NS_PER_S,
    Encoding,
    Event,
    InlineSource,
    MediaKind,
    Moments,
    Order,
    SampledFrame,
    Source,
    Summary,
    UploadSource,
    UriSource,
    VideoFacts,
)
from shoppable.decoder.errors import IdleError
from shoppable.decoder.orders import read_order
from shoppable.decoder.uris import read_uri
from shoppable.runtime.errors import InvalidRequestError, Violation
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2, frame_decoder_pb2

_SOURCE = "config.source"
_FORMATS = {
    Encoding.RGB24: common_pb2.IMAGE_FORMAT_RGB24,
    Encoding.JPEG: common_pb2.IMAGE_FORMAT_JPEG,
}
_KINDS = {
    MediaKind.VIDEO: common_pb2.STREAM_KIND_VIDEO,
    MediaKind.AUDIO: common_pb2.STREAM_KIND_AUDIO,
    MediaKind.SUBTITLE: common_pb2.STREAM_KIND_SUBTITLE,
    MediaKind.OTHER: common_pb2.STREAM_KIND_UNSPECIFIED,
}


@dataclass(frozen=True)
class SourceLimits:
    """How a video may come, and how large it may be by the way it comes."""

    max_inline_bytes: int
    max_upload_bytes: int
    schemes: frozenset[str]


@dataclass(frozen=True)
class Opening:
    """The first message of a stream."""

    source: Source
    order: Order
    field: str = _SOURCE


def read_probe(request: frame_decoder_pb2.ProbeVideoRequest, limits: SourceLimits) -> UriSource | InlineSource:
    """Read a probe's source.

    Raises:
        InvalidRequestError: With all violations.
    """
    violations = Violations()
    source = _read_source(request.source, "source", violations, limits)
    if isinstance(source, UploadSource):
        violations.add("source.upload", "must not be set: this call takes no chunks")
    violations.raise_if_any()
    assert isinstance(source, UriSource | InlineSource)  # noqa: S101  # for the type checker: or it was a violation
    return source


def read_opening(config: frame_decoder_pb2.DecodeFramesConfig, limits: SourceLimits) -> Opening:
    """Read a stream's config.

    Raises:
        InvalidRequestError: With all violations.
    """
    violations = Violations()
    source = _read_source(config.source, _SOURCE, violations, limits)
    order = read_order(config, violations)
    if isinstance(source, UploadSource) and source.live:
        _check_live(order, violations)
    violations.raise_if_any()
    assert source is not None  # noqa: S101  # for the type checker: or it was a violation
    return Opening(source, order)


class Requests:
    """The requests of one stream, read in the order that the contract asks for."""

    def __init__(self, messages: AsyncIterator[frame_decoder_pb2.DecodeFramesRequest], *, idle_s: float) -> None:
        """A wait for more than `idle_s` seconds ends the call."""
        self._messages = messages
        self._idle_s = idle_s

    async def opening(self, limits: SourceLimits) -> Opening:
        """Read the config, which must come first.

        Raises:
            InvalidRequestError: With all violations.
            IdleError: Nothing came.
        """
        message = await self._next(self._idle_s)
        if message is None or message.WhichOneof("request") != "config":
            raise InvalidRequestError([Violation("config", "must be set in the first message of the stream")])
        return read_opening(message.config, limits)

    async def chunks(self, *, patient: bool) -> AsyncIterator[bytes]:
        """Yield the chunks until the client closes its side. A patient reader waits for ever.

        Raises:
            InvalidRequestError: A message is no chunk.
            IdleError: Nothing came.
        """
        while (message := await self._next(None if patient else self._idle_s)) is not None:
            kind = message.WhichOneof("request")
            if kind == "config":
                raise InvalidRequestError([Violation("config", "must be set in the first message only")])
            if kind is None:
                raise InvalidRequestError([Violation("request", "must be a chunk after the config")])
            yield message.chunk

    async def _next(self, idle_s: float | None) -> frame_decoder_pb2.DecodeFramesRequest | None:
        try:
            async with asyncio.timeout(idle_s):
                return await anext(self._messages, None)
        except TimeoutError as error:
            raise IdleError(f"no message came for {idle_s:g} s", reason="UPLOAD_IDLE") from error


def response_of(event: Event) -> frame_decoder_pb2.DecodeFramesResponse | bytes:
    """Return an event as a message; a frame, which is large, as the message's bytes."""
    match event:
        case VideoFacts():
            return frame_decoder_pb2.DecodeFramesResponse(video=video_info_of(event))
        case SampledFrame():
            return _frame_response(event)
        case Summary():
            return frame_decoder_pb2.DecodeFramesResponse(summary=_summary_of(event))


def video_info_of(facts: VideoFacts) -> common_pb2.VideoInfo:
    """Return a video's facts as a message."""
    return common_pb2.VideoInfo(
        container=facts.container,
        codec=facts.codec,
        width=facts.width,
        height=facts.height,
        rotation_degrees=facts.rotation_degrees,
        duration=None if facts.duration_ns is None else _duration(facts.duration_ns),
        average_frame_rate=facts.average_frame_rate,
        frame_count=facts.frame_count,
        pixel_format=facts.pixel_format,
        streams=[
            common_pb2.StreamInfo(index=stream.index, kind=_KINDS[stream.kind], codec=stream.codec)
            for stream in facts.streams
        ],
        size_bytes=facts.size_bytes,
        color_transfer=facts.color_transfer,
        hdr=facts.hdr,
        interlaced=facts.interlaced,
        stream_index=facts.stream_index,
    )


def _frame_response(sampled: SampledFrame) -> bytes:
    frame = frame_decoder_pb2.Frame(
        index=sampled.index,
        time=_duration(sampled.time_ns),
        image=common_pb2.Image(format=_FORMATS[sampled.encoding], width=sampled.width, height=sampled.height),
        keyframe=sampled.keyframe,
        scene_cut=sampled.scene_cut,
    )
    return wire.frame_response(frame, sampled.picture)


def _summary_of(summary: Summary) -> frame_decoder_pb2.DecodeSummary:
    return frame_decoder_pb2.DecodeSummary(
        frames_decoded=summary.frames_decoded,
        frames_sent=summary.frames_sent,
        damaged_packets=summary.damaged_packets,
        end_time=_duration(summary.end_ns),
        truncated=summary.truncated,
    )


def _duration(time_ns: int) -> Duration:
    seconds, nanos = divmod(time_ns, NS_PER_S)
    return Duration(seconds=seconds, nanos=nanos)


def _read_source(
    message: common_pb2.VideoSource, field: str, violations: Violations, limits: SourceLimits
) -> Source | None:
    match message.WhichOneof("source"):
        case "uri":
            try:
                return UriSource(message.uri, read_uri(message.uri, limits.schemes))
            except ValueError as error:
                violations.add(f"{field}.uri", str(error))
        case "inline_bytes":
            size = len(message.inline_bytes)
            most = limits.max_inline_bytes
            fits = f"must have 1..{most} bytes, the limit inline_video_bytes, and has {size}"
            if violations.check(1 <= size <= most, f"{field}.inline_bytes", fits):
                return InlineSource(message.inline_bytes)
        case "upload":
            return _read_upload(message.upload, field, violations, limits)
        case _:
            violations.add(field, "must be set: uri, inline_bytes or upload")
    return None


def _read_upload(
    message: common_pb2.VideoUpload, field: str, violations: Violations, limits: SourceLimits
) -> UploadSource:
    if not message.HasField("total_bytes"):
        return UploadSource(None, live=message.live)
    size, most = message.total_bytes, limits.max_upload_bytes
    field = f"{field}.upload.total_bytes"
    violations.check(not message.live, field, "must not be set if the upload is live")
    violations.check(1 <= size <= most, field, f"must be in 1..{most}, the limit upload_bytes, and is {size}")
    return UploadSource(size, live=message.live)


def _check_live(order: Order, violations: Violations) -> None:
    """Nothing of a live upload is kept, so one can go neither back nor, without reading, ahead."""
    violations.check(order.start_ns == 0, "config.start_time", "must not be set if the upload is live")
    by_time = isinstance(order.sampling, Moments)
    violations.check(not by_time, "config.sampling.timestamps", "must not be set if the upload is live")
