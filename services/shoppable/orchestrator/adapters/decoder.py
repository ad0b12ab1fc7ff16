"""The frame decoder, through our own client; one that goes away is asked to go on where it stopped."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration

from shoppable.client import DecoderClient, ShoppableError
from shoppable.client.info import ServerInfoClient
from shoppable.orchestrator.adapters.retrying import RetryBudget
from shoppable.orchestrator.domain import DecodeSummary, Frame, Options
from shoppable.orchestrator.errors import upstream_error
from shoppable.runtime.call import remaining_s
from shoppable.v1 import common_pb2, frame_decoder_pb2

_log = structlog.get_logger(__name__)
# Field paths of the decoder's request, and what they are called in ours.
_FIELDS = {"config.source": "source", "config.": "options."}
_PROBE_TIMEOUT_S = 30.0
_RETRY_DELAY_S = 0.25


class DecoderAdapter:
    """A FrameSource."""

    def __init__(
        self,
        client: DecoderClient,
        info: ServerInfoClient,
        *,
        output_format: common_pb2.ImageFormat.ValueType,
        timeout_s: float,
        patience_s: float,
    ) -> None:
        self._client = client
        self._info = info
        self._format = output_format
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._budget = RetryBudget()  # of all videos

    async def probe(self, source: common_pb2.VideoSource) -> common_pb2.VideoInfo:
        """Return what a video is; not for an upload. Raises ServiceError."""
        try:
            return (await self._client.probe(source, timeout_s=remaining_s(_PROBE_TIMEOUT_S))).video
        except ShoppableError as error:
            raise upstream_error(error, "frame decoder", fields=_FIELDS) from error

    async def limits(self) -> dict[str, int]:
        """Return the decoder's limits by name. Raises ServiceError."""
        try:
            answer = await self._info.get(timeout_s=remaining_s(_PROBE_TIMEOUT_S))
        except ShoppableError as error:
            raise upstream_error(error, "frame decoder") from error
        return {limit.name: limit.value for limit in answer.limits}

    async def decode(
        self, source: common_pb2.VideoSource, chunks: AsyncIterable[bytes], options: Options
    ) -> AsyncGenerator[common_pb2.VideoInfo | Frame | DecodeSummary, None]:
        """Yield the video's info, its sampled frames, and a summary.

        If the decoder goes away it is asked, for `patience_s`, to go on after the last frame that it gave. Not so for
        an upload: its bytes have passed through and are gone. One that was away from the first is an error at once.
        """
        config = frame_decoder_pb2.DecodeFramesConfig(
            source=source,
            sampling=options.sampling,
            start_time=_duration(options.start_s),
            end_time=_duration(options.end_s),
            longest_side=options.longest_side,
            output_format=self._format,
        )
        loop = asyncio.get_running_loop()
        last_sign = loop.time()
        latest: Duration | None = None  # time of the latest frame
        count = 0
        while True:
            call = self._client.decode(chunks, config, timeout_s=remaining_s(options.timeout_s or self._timeout_s))
            try:
                async with contextlib.aclosing(call) as responses:
                    async for response in responses:
                        last_sign = loop.time()
                        match response.WhichOneof("response"):
                            case "video" if latest is None:
                                yield response.video
                            case "frame" if latest is None or _seconds(response.frame.time) > _seconds(latest):
                                frame, latest = response.frame, response.frame.time
                                yield Frame(count, _seconds(frame.time), frame.image, frame.scene_cut)
                                count += 1
                            case "summary":
                                yield _summary(response.summary)
            except ShoppableError as error:
                may_pass = error.code is grpc.StatusCode.UNAVAILABLE and source.WhichOneof("source") != "upload"
                if latest is None or not may_pass or loop.time() - last_sign >= self._patience_s:
                    raise upstream_error(error, "frame decoder", fields=_FIELDS) from error
                _log.warning("the decoder is away; asking it to go on", frames=count, reason=error.reason)
                await self._budget.wait(error.retry_after_s or _RETRY_DELAY_S)
                # The latest frame comes once more and is left out: it tells the decoder whether a cut follows.
                config.start_time.CopyFrom(latest)
            else:
                self._budget.succeeded()
                return


def _summary(summary: frame_decoder_pb2.DecodeSummary) -> DecodeSummary:
    end_s = _seconds(summary.end_time) if summary.HasField("end_time") else None
    return DecodeSummary(summary.damaged_packets, summary.truncated, end_s)


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1e6))
    return duration


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
