"""One video in one worker, seen from the service: its job goes out; its facts, pictures and summary come in.

All of it runs in the event loop; no thread waits for a worker or for a reader. A worker is not trusted: what it says is
checked, and its pictures are read where it cannot make the service stumble.
"""

import asyncio
import contextlib
import pickle
import socket
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import replace

import structlog

from shoppable.decoder.domain import Encoding, Event, SampledFrame
from shoppable.decoder.workers import endings
from shoppable.decoder.workers.distant_reading import DistantReading, Opener, open_distantly
from shoppable.decoder.workers.fleet import Fleet, Worker
from shoppable.decoder.workers.protocol import (
    FREE,
    MAX_REPORT_BYTES,
    Bug,
    Device,
    Done,
    Fault,
    Job,
    Opened,
    Picture,
    ReadWish,
    Report,
    SeekWish,
)
from shoppable.decoder.workers.reports import decode
from shoppable.decoder.workers.slots import SlotMemory
from shoppable.runtime import metrics

_log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def open_session(
    fleet: Fleet, opener: Opener, job: Job, *, field: str, readers: Executor
) -> AsyncIterator["Session"]:
    """Open a file, and give a job on it to a new worker. At the end the worker is gone, and the file closed.

    Args:
        fleet: Has the worker.
        opener: Opens the video's file, in a thread.
        job: What to do; how its file is read is filled in here.
        field: The path of the source in the request, for errors.
        readers: Threads that open files, and read them for workers, one for each video.

    Raises:
        UnavailableError: No worker can be had.
        ServiceError: What the file's own errors are.
    """
    async with contextlib.AsyncExitStack() as stack:
        reading = await stack.enter_async_context(open_distantly(opener, readers))
        descriptor = reading.descriptor
        job = replace(
            job, size_bytes=reading.size_bytes, has_descriptor=descriptor is not None, seekable=reading.seekable
        )
        memory = stack.enter_context(SlotMemory(job.slots)) if job.slots else None
        worker = await stack.enter_async_context(fleet.worker())
        session = Session(worker, job, memory, reading, field=field)
        stack.callback(session.close)
        session.begin([memory.descriptor] if memory else [], [] if descriptor is None else [descriptor])
        yield session


class Session:
    """The events of one video, for one reader, in order: its facts, its frames, the summary.

    A frame's picture may be looked at until the next event is asked for. No more frames than there are slots are on
    their way, so a worker whose reader is slow stands still.
    """

    def __init__(
        self, worker: Worker, job: Job, memory: SlotMemory | None, reading: DistantReading, *, field: str
    ) -> None:
        self._worker = worker
        self._job = job
        self._memory = memory
        self._reading = reading
        self._field = field
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Event] = deque()
        self._slots: deque[int] = deque()  # of the frames that wait, and of the one that is looked at
        self._looked_at = False
        self._changed = asyncio.Event()
        self._listening = False
        self._ended = False
        self._error: Exception | None = None
        self._answering: asyncio.Task[None] | None = None
        self._frames = 0
        self._counts = (0, 0)  # frames decoded, packets damaged

    def begin(self, slots: list[int], file: list[int]) -> None:
        """Send the job, with descriptors of the slots' memory and of the file, and listen."""
        # A worker that could not be started has closed its end: the listener hears that.
        with contextlib.suppress(BrokenPipeError):
            socket.send_fds(self._worker.connection, [pickle.dumps(self._job)], slots + file)
        self._loop.add_reader(self._worker.connection, self._hear)
        self._listening = True

    def close(self) -> None:
        """Stop to listen; safe to repeat."""
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._worker.connection)
            frames_decoded, damaged_packets = self._counts
            metrics.FRAMES_DECODED.inc(frames_decoded)
            metrics.PACKETS_DAMAGED.inc(damaged_packets)

    def fail(self, error: Exception) -> None:
        """End the reader with an error, ahead of all events that wait."""
        self._waiting.clear()
        self._ended, self._error = True, error
        self._changed.set()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """Return the next event, or raise what the work ended with."""
        if self._looked_at:
            self._looked_at = False
            self._free_slot()
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        event = self._waiting.popleft()
        self._looked_at = isinstance(event, SampledFrame)
        return event

    def _free_slot(self) -> None:
        slot = self._slots.popleft()
        if self._memory is not None:
            self._memory.take_back(slot)
        self._send(FREE + bytes([slot]))

    # From the worker

    def _hear(self) -> None:
        while not self._ended:
            try:
                data = self._worker.connection.recv(MAX_REPORT_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:  # it ended without reading all; what it said before comes next
                continue
            if not data:
                self.close()
                self._answering = self._loop.create_task(self._look_at_exit())
                return
            try:
                self._take(decode(data))
            except ValueError:
                self._end(endings.error_of_misbehaviour())
        self.close()

    def _take(self, report: Report) -> None:
        """Do what a report asks for. Raises ValueError if it makes no sense."""
        match report:
            case ReadWish() | SeekWish():
                if self._answering is not None and not self._answering.done():
                    raise ValueError("one wish at a time")
                self._answering = self._loop.create_task(self._answer(report))
            case Opened(facts, accelerated):
                if self._job.guards.device is not None and not accelerated:
                    _log.info("this video is decoded in software", device=self._job.guards.device)
                self._give(facts)
                self._ended = self._job.task == "probe"
            case Picture():
                self._give(self._frame_of(report))
            case Done(summary):
                self._counts = (summary.frames_decoded, summary.damaged_packets)
                self._give(summary)
                self._end(None)
            case Fault():
                self._counts = (report.frames_decoded, report.damaged_packets)
                self._end(endings.error_of_fault(report, self._job, self._field))
            case Bug():
                self._end(endings.error_of_bug(report))
            case Device():
                raise ValueError("nobody asked for a device")

    def _give(self, event: Event) -> None:
        self._waiting.append(event)
        self._changed.set()

    def _end(self, error: Exception | None) -> None:
        self._ended, self._error = True, error
        self._changed.set()

    def _frame_of(self, picture: Picture) -> SampledFrame:
        encoding = self._job.order.encoding
        if encoding is Encoding.RGB24 and picture.size_bytes != picture.width * picture.height * 3:
            raise ValueError("a picture's size must be that of its pixels")
        if self._memory is None or min(picture.width, picture.height, picture.time_ns + 1) < 1:
            raise ValueError("a picture must be of some size, and of some time")
        frame = SampledFrame(
            index=self._frames,
            time_ns=picture.time_ns,
            picture=self._memory.lend(picture.slot, picture.size_bytes),
            encoding=encoding,
            width=picture.width,
            height=picture.height,
            keyframe=picture.keyframe,
            scene_cut=picture.scene_cut,
        )
        self._frames += 1
        self._slots.append(picture.slot)
        self._counts = (picture.frames_decoded, picture.damaged_packets)
        metrics.FRAMES_SENT.inc()
        return frame

    async def _answer(self, wish: ReadWish | SeekWish) -> None:
        try:
            self._send(await self._reading.answer(wish))
        except Exception as error:  # whatever is wrong with the source is the call's error
            self._end(error)

    async def _look_at_exit(self) -> None:
        status = await asyncio.shield(self._worker.ended)
        self._end(endings.error_of_exit(status, self._job, self._field))

    def _send(self, message: bytes) -> None:
        # A worker that is gone is heard of elsewhere; one that lets its buffer run full is none of ours.
        with contextlib.suppress(OSError):
            self._worker.connection.send(message)
