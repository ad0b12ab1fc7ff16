"""A real decoder in this process, and calls of it as the tests make them."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from shoppable.decoder.server import build
from shoppable.decoder.settings import DecoderSettings
from shoppable.runtime.images import read_image
from shoppable.runtime.server import serving
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2, frame_decoder_pb2, frame_decoder_pb2_grpc

NS = 1_000_000_000


@dataclass
class Decoded:
    """All that one call gave."""

    video: common_pb2.VideoInfo | None = None
    frames: list[frame_decoder_pb2.Frame] = field(default_factory=list)
    summary: frame_decoder_pb2.DecodeSummary | None = None
    error: grpc.aio.AioRpcError | None = None

    @property
    def times(self) -> list[float]:
        """Times of the frames in seconds, to the microsecond."""
        return [round(frame.time.ToNanoseconds() / NS, 6) for frame in self.frames]


@dataclass(frozen=True)
class Refusal:
    """An error as a client reads it."""

    code: grpc.StatusCode
    reason: str
    fields: tuple[str, ...]
    metadata: dict[str, str]


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    status = rpc_status.from_call(error)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        for message in (info, bad):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    fields = tuple(sorted(violation.field for violation in bad.field_violations))
    return Refusal(error.code(), info.reason, fields, dict(info.metadata))


def pixels_of(frame: frame_decoder_pb2.Frame) -> np.ndarray:
    violations = Violations()
    pixels = read_image(frame.image, "image", violations, max_pixels=10**8)
    violations.raise_if_any()
    assert pixels is not None
    return pixels


def duration(seconds: float | Fraction) -> Duration:
    whole, nanos = divmod(int(seconds * NS), NS)
    return Duration(seconds=whole, nanos=nanos)


def config(source: common_pb2.VideoSource | bytes, **options: Any) -> frame_decoder_pb2.DecodeFramesConfig:
    """Return a config; `sampling` is given by its fields, times in seconds."""
    if isinstance(source, bytes):
        source = common_pb2.VideoSource(inline_bytes=source)
    for name in ("frames_per_second", "every_nth_frame", "keyframes_only", "scenes"):
        if name in options:
            options["sampling"] = common_pb2.FrameSampling(**{name: options.pop(name)})
    if "timestamps" in options:
        moments = [duration(time) for time in options.pop("timestamps")]
        options["sampling"] = common_pb2.FrameSampling(timestamps=common_pb2.TimestampSampling(times=moments))
    for name in ("start_time", "end_time"):
        if name in options and not isinstance(options[name], Duration):
            options[name] = duration(options[name])
    return frame_decoder_pb2.DecodeFramesConfig(source=source, **options)


async def requests(
    opening: frame_decoder_pb2.DecodeFramesConfig, chunks: Iterable[bytes] = ()
) -> AsyncIterator[frame_decoder_pb2.DecodeFramesRequest]:
    yield frame_decoder_pb2.DecodeFramesRequest(config=opening)
    for chunk in chunks:
        yield frame_decoder_pb2.DecodeFramesRequest(chunk=chunk)


async def rest_of(call: Any) -> list[frame_decoder_pb2.DecodeFramesResponse]:
    """Read a call to its end."""
    responses = []
    while (response := await call.read()) is not grpc.aio.EOF:
        responses.append(response)
    return responses


def chunks_of(data: bytes, size: int = 10_000) -> Iterable[bytes]:
    return (data[start : start + size] for start in itertools.takewhile(len(data).__gt__, itertools.count(0, size)))


class Decoder:
    """A client of the decoder under test."""

    def __init__(self, stub: frame_decoder_pb2_grpc.FrameDecoderServiceStub, address: str) -> None:
        self.stub = stub
        self.address = address

    async def probe(self, source: common_pb2.VideoSource | bytes) -> common_pb2.VideoInfo:
        if isinstance(source, bytes):
            source = common_pb2.VideoSource(inline_bytes=source)
        request = frame_decoder_pb2.ProbeVideoRequest(source=source)
        return (await self.stub.ProbeVideo(request, timeout=20)).video

    async def converse(self, messages: AsyncIterator[frame_decoder_pb2.DecodeFramesRequest]) -> Decoded:
        decoded = Decoded()
        try:
            async for response in self.stub.DecodeFrames(messages, timeout=30):
                match response.WhichOneof("response"):
                    case "video":
                        assert decoded.video is None
                        assert not decoded.frames
                        decoded.video = response.video
                    case "frame":
                        assert decoded.summary is None
                        decoded.frames.append(response.frame)
                    case "summary":
                        assert decoded.summary is None
                        decoded.summary = response.summary
        except grpc.aio.AioRpcError as error:
            decoded.error = error
        return decoded

    async def try_decode(self, source: common_pb2.VideoSource | bytes, **options: Any) -> Decoded:
        return await self.converse(requests(config(source, **options)))

    async def decode(self, source: common_pb2.VideoSource | bytes, **options: Any) -> Decoded:
        decoded = await self.try_decode(source, **options)
        if decoded.error is not None:
            raise decoded.error
        assert decoded.video is not None
        assert decoded.summary is not None
        assert decoded.summary.frames_sent == len(decoded.frames)
        assert [frame.index for frame in decoded.frames] == list(range(len(decoded.frames)))
        return decoded

    async def upload(self, data: bytes, *, total_bytes: int | None = None, **options: Any) -> Decoded:
        source = common_pb2.VideoSource(upload=common_pb2.VideoUpload(total_bytes=total_bytes))
        return await self.converse(requests(config(source, **options), chunks_of(data)))


@contextlib.asynccontextmanager
async def running_decoder(*roots: Path, **settings: Any) -> AsyncIterator[Decoder]:
    """Serve a decoder that may read `roots`."""
    listed = DecoderSettings(port=0, file_roots=tuple(roots), shutdown_grace_s=1, **settings)
    async with serving(listed, build) as (_, address):
        options = [("grpc.max_receive_message_length", 2**26)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            yield Decoder(frame_decoder_pb2_grpc.FrameDecoderServiceStub(channel), address)
