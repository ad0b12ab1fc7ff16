"""The use case: a video's bytes in, its facts, sampled frames and summary out.

Blocking work runs in a bounded pool of threads, shared by all videos; see `feed`.
"""

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from shoppable.decoder.adapters.opening import DAMAGE, Guards
from shoppable.decoder.adapters.pyav import VideoFile
from shoppable.decoder.adapters.rendering import Renderer
from shoppable.decoder.cuts import CutDetector
from shoppable.decoder.domain import (
    Encoding,
    FilePath,
    InlineSource,
    KeyframesOnly,
    Moments,
    Order,
    Source,
    Summary,
    UploadSource,
    UriSource,
    VideoFacts,
)
from shoppable.decoder.errors import BusyError
from shoppable.decoder.feed import Feed
from shoppable.decoder.inputs import OpenFile
from shoppable.decoder.selection import Selected, Selection
from shoppable.decoder.sources import Sources
from shoppable.decoder.uploads import Upload, UploadLimits
from shoppable.runtime import metrics
from shoppable.runtime.errors import InvalidRequestError, Violation
from shoppable.runtime.images import write_jpeg


@dataclass(frozen=True)
class SampledFrame:
    """A frame that leaves."""

    index: int  # from 0
    time_ns: int
    picture: memoryview  # contiguous bytes, as `encoding` says
    encoding: Encoding
    width: int
    height: int
    keyframe: bool
    scene_cut: bool


Event: TypeAlias = VideoFacts | SampledFrame | Summary
_Opener: TypeAlias = Callable[[], OpenFile]


class DecoderPipeline:
    """Probes and decodes videos, `max_streams` at a time."""

    def __init__(
        self,
        *,
        sources: Sources,
        guards: Guards,
        live_guards: Guards,
        uploads: UploadLimits,
        max_streams: int,
        frames_ahead: int,
        executor: Executor,
        waiting_executor: Executor,
    ) -> None:
        """Create it on the event loop.

        Args:
            sources: What is opened.
            guards: The limits of a video.
            live_guards: The limits of one that may never end.
            uploads: The limits of uploads.
            max_streams: Videos at a time.
            frames_ahead: Frames that wait for their reader.
            executor: Threads that decode, for all videos.
            waiting_executor: As many threads as videos, for those that have to wait for their bytes in between.
        """
        self._sources = sources
        self._guards = guards
        self._live_guards = live_guards
        self._uploads = uploads
        self._max_streams = max_streams
        self._frames_ahead = frames_ahead
        self._executor = executor
        self._waiting_executor = waiting_executor
        self._in_work = 0

    async def probe(self, source: UriSource | InlineSource, *, field: str) -> VideoFacts:
        """Say what a video is. Decodes one frame: only frames tell their rotation.

        Raises:
            ServiceError: See `DecodeFrames` in the contract; `field` is the path of the source in the request.
        """
        stop = threading.Event()
        with self._slot():
            try:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._executor_for(source), self._probe, source, field, stop)
            finally:
                stop.set()

    async def decode(
        self, source: Source, order: Order, chunks: AsyncIterator[bytes], *, field: str
    ) -> AsyncGenerator[Event, None]:
        """Yield the video's facts, then its frames in order of time, then the summary.

        Args:
            source: Where the video is.
            order: Which frames are wanted.
            chunks: The bytes of an upload. With another source there must be none.
            field: The path of the source in the request, for errors.

        Raises:
            ServiceError: See `DecodeFrames` in the contract.
        """
        stop = threading.Event()
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._slot())
            opener: _Opener
            seeks = order.start_ns > 0 or isinstance(order.sampling, Moments)
            if isinstance(source, UploadSource):
                upload = self._new_upload(source, field, seeks=seeks)
                stack.callback(upload.close)
                stack.callback(asyncio.create_task(upload.fill(chunks)).cancel)
                opener = functools.partial(upload.open, stop)
            else:
                opener = functools.partial(self._sources.open, source, field=field, seeks=seeks, stop=stop)
            guards = self._live_guards if isinstance(source, UploadSource) and source.live else self._guards
            feed: Feed[Event] = Feed(
                self._session(opener, order, guards, field, stop),
                self._executor_for(source),
                ahead=self._frames_ahead,
                stop=stop,
            )
            stack.push_async_callback(_finish, feed)
            if not isinstance(source, UploadSource):
                stack.callback(asyncio.create_task(_refuse_chunks(chunks, feed)).cancel)
            async for event in feed:
                yield event

    @contextlib.contextmanager
    def _slot(self) -> Iterator[None]:
        if self._in_work >= self._max_streams:
            raise BusyError(self._max_streams)
        self._in_work += 1
        try:
            yield
        finally:
            self._in_work -= 1

    def _new_upload(self, source: UploadSource, field: str, *, seeks: bool) -> Upload:
        return Upload(
            self._uploads,
            asyncio.get_running_loop(),
            total_bytes=source.total_bytes,
            total_field=f"{field}.upload.total_bytes",
            seekable=seeks,
            live=source.live,
        )

    def _executor_for(self, source: Source) -> Executor:
        at_hand = isinstance(source, InlineSource) or (
            isinstance(source, UriSource) and isinstance(source.place, FilePath)
        )
        return self._executor if at_hand else self._waiting_executor

    # In threads

    def _probe(self, source: UriSource | InlineSource, field: str, stop: threading.Event) -> VideoFacts:
        with self._sources.open(source, field=field, seeks=False, stop=stop) as opened:
            video = VideoFile(opened, self._guards, field=field, keyframes_only=False, stop=stop)
            video.close()
            return video.facts

    def _session(
        self, opener: _Opener, order: Order, guards: Guards, field: str, stop: threading.Event
    ) -> Generator[Event | None, None, None]:
        """Decode a video. Yields None where the work may be interrupted."""
        with opener() as opened:
            keyframes_only = isinstance(order.sampling, KeyframesOnly)
            video = VideoFile(opened, guards, field=field, keyframes_only=keyframes_only, stop=stop)
            try:
                yield from _decode(video, order)
            finally:
                metrics.FRAMES_DECODED.inc(video.frames_decoded)
                metrics.PACKETS_DAMAGED.inc(video.damaged_packets)
                video.close()


def _decode(video: VideoFile, order: Order) -> Generator[Event | None, None, None]:
    yield video.facts
    selection = Selection(video, order)
    studio = _Studio(video, order)
    for selected in selection:
        yield None if selected is None else studio.develop(selected)
    yield Summary(
        frames_decoded=video.frames_decoded,
        frames_sent=studio.developed,
        damaged_packets=video.damaged_packets,
        end_ns=video.end_ns,
        truncated=selection.read_to_end and video.truncated,
    )


class _Studio:
    """Makes pictures of decoded frames."""

    def __init__(self, video: VideoFile, order: Order) -> None:
        self._video = video
        self._order = order
        self._renderer = Renderer(
            longest_side=order.longest_side,
            pixel_aspect=video.pixel_aspect,
            bottom_field_first=video.bottom_field_first,
        )
        self._cuts = CutDetector()
        self.developed = 0

    def develop(self, selected: Selected) -> SampledFrame | None:
        """Return what leaves, or None if the frame is of a kind that nothing can be made of."""
        frame = selected.frame
        try:
            pixels = self._renderer.render(frame.picture, frame.orientation)
        except DAMAGE:
            self._video.note_damage()
            return None
        picture = np.ascontiguousarray(pixels).data.cast("B")
        if self._order.encoding is Encoding.JPEG:
            picture = memoryview(write_jpeg(pixels, quality=self._order.jpeg_quality).data)
        sampled = SampledFrame(
            index=self.developed,
            time_ns=frame.time_ns,
            picture=picture,
            encoding=self._order.encoding,
            width=pixels.shape[1],
            height=pixels.shape[0],
            keyframe=frame.keyframe,
            scene_cut=self._cuts.is_cut(pixels) or selected.after_cut,
        )
        self.developed += 1
        metrics.FRAMES_SENT.inc()
        return sampled


async def _finish(feed: Feed[Event]) -> None:
    # A second cancellation must not leave a thread with an open file behind.
    await asyncio.shield(asyncio.ensure_future(feed.aclose()))


async def _refuse_chunks(chunks: AsyncIterator[bytes], feed: Feed[Event]) -> None:
    """End the call if the client sends more than its config although its source is no upload."""
    try:
        async for _ in chunks:
            feed.fail(InvalidRequestError([Violation("chunk", "must not be sent: the config's source is no upload")]))
            return
    except Exception as error:  # whatever is wrong with the client's side is the call's error
        feed.fail(error)
