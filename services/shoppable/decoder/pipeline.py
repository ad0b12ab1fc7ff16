"""The use case: a video's bytes in, its facts, sampled frames and summary out, from a worker process of its own."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import Executor
from functools import partial

from shoppable.decoder.adapters.opening import Guards
from shoppable.decoder.domain import Event, InlineSource, Moments, Order, Source, UploadSource, UriSource, VideoFacts
from shoppable.decoder.errors import BusyError
from shoppable.decoder.sources import Sources
from shoppable.decoder.uploads import Upload, UploadLimits
from shoppable.decoder.workers.distant_reading import Opener
from shoppable.decoder.workers.fleet import Fleet
from shoppable.decoder.workers.protocol import Job, Limits
from shoppable.decoder.workers.session import Session, open_session
from shoppable.decoder.workers.slots import slots_for
from shoppable.runtime.errors import InvalidRequestError, Violation


class DecoderPipeline:
    """Probes and decodes videos, `max_streams` at a time."""

    def __init__(
        self,
        *,
        sources: Sources,
        guards: Guards,
        live_guards: Guards,
        limits: Limits,
        uploads: UploadLimits,
        max_streams: int,
        frames_ahead: int,
        fleet: Fleet,
        readers: Executor,
    ) -> None:
        """Create it on the event loop.

        Args:
            sources: What is opened.
            guards: The limits of a video.
            live_guards: The limits of one that may never end.
            limits: What the kernel holds each worker to.
            uploads: The limits of uploads.
            max_streams: Videos at a time.
            frames_ahead: Frames that wait for their reader.
            fleet: Has the workers.
            readers: Threads that open and read for workers: as many as videos, since some wait for their bytes.
        """
        self._sources = sources
        self._guards = guards
        self._live_guards = live_guards
        self._limits = limits
        self._uploads = uploads
        self._max_streams = max_streams
        self._frames_ahead = frames_ahead
        self._fleet = fleet
        self._readers = readers
        self._in_work = 0

    async def probe(self, source: UriSource | InlineSource, *, field: str) -> VideoFacts:
        """Say what a video is. Decodes one frame: only frames tell their rotation.

        Raises:
            ServiceError: See `DecodeFrames` in the contract; `field` is the path of the source in the request.
        """
        with self._slot():
            opener = partial(self._sources.open, source, field=field, seeks=False)
            job = Job("probe", self._guards, self._limits)
            async with open_session(self._fleet, opener, job, field=field, readers=self._readers) as session:
                facts = await anext(session)
        assert isinstance(facts, VideoFacts)  # noqa: S101  # for the type checker: nothing else comes first
        return facts

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
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._slot())
            opener: Opener
            seeks = order.start_ns > 0 or isinstance(order.sampling, Moments)
            if isinstance(source, UploadSource):
                upload = self._new_upload(source, field, seeks=seeks)
                stack.callback(upload.close)
                stack.callback(asyncio.create_task(upload.fill(chunks)).cancel)
                opener = upload.open
            else:
                opener = partial(self._sources.open, source, field=field, seeks=seeks)
            guards = self._live_guards if isinstance(source, UploadSource) and source.live else self._guards
            # One slot more than may wait: a picture is looked at where it lies.
            slots = slots_for(order, max_pixels=guards.max_pixels, count=self._frames_ahead + 1)
            job = Job("decode", guards, self._limits, order=order, slots=slots)
            session = await stack.enter_async_context(
                open_session(self._fleet, opener, job, field=field, readers=self._readers)
            )
            if not isinstance(source, UploadSource):
                stack.callback(asyncio.create_task(_refuse_chunks(chunks, session)).cancel)
            async for event in session:
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


async def _refuse_chunks(chunks: AsyncIterator[bytes], session: Session) -> None:
    """End the call if the client sends more than its config although its source is no upload."""
    try:
        async for _ in chunks:
            session.fail(
                InvalidRequestError([Violation("chunk", "must not be sent: the config's source is no upload")])
            )
            return
    except Exception as error:  # whatever is wrong with the client's side is the call's error
        session.fail(error)
