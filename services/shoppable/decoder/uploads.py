"""Turns bytes that arrive in chunks into a file that a thread reads: while they arrive, or once they are all here.

Which of the two the file's first bytes decide (see `containers`). What is decoded as it comes is never stored: the
reader takes the bytes from a window in memory, and while the window is full no more chunks are taken. All else is
collected, in memory while it is small and then in a temporary file without a name.
"""

import asyncio
import contextlib
import io
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from shoppable.decoder.containers import can_stream
from shoppable.decoder.errors import SIZE_LIMIT, RefusedVideoError, StoppedError
from shoppable.decoder.inputs import OpenFile
from shoppable.runtime.errors import UnavailableError

_POLL_S = 0.1  # how soon a waiting thread notices that nobody wants the video any more
_MAX_HEAD_BYTES = 2**20  # after so many bytes without a decision a file is collected
_REWIND_BYTES = 6 * 2**20  # more than FFmpeg reads to learn about the streams: its opening may be tried twice


@dataclass(frozen=True)
class UploadLimits:
    """How much is taken, and where it is kept."""

    max_bytes: int
    spool_bytes: int
    scratch_dir: Path | None
    window_bytes: int


class Upload:
    """A file that arrives. The event loop fills it; one thread at a time reads it."""

    def __init__(
        self,
        limits: UploadLimits,
        loop: asyncio.AbstractEventLoop,
        *,
        total_bytes: int | None,
        total_field: str,
        bytes_field: str = "chunk",
        seekable: bool = False,
        live: bool = False,
    ) -> None:
        """Nothing is taken before `fill` is called.

        Args:
            limits: How much is taken.
            loop: The event loop that fills it.
            total_bytes: The size that was announced, if any.
            total_field: The path in the request of what announced it, for errors.
            bytes_field: The path in the request of what gives the bytes, for errors.
            seekable: Whether the reader wants to seek: then the file is collected, whatever it is.
            live: Whether it may never end: no limit of size, and refused if it cannot be decoded as it comes.
        """
        self._limits = limits
        self._total = total_bytes
        self._total_field = total_field
        self._bytes_field = bytes_field
        self._live = live
        self._loop = loop
        self._room = asyncio.Event()
        self._changed = threading.Condition()
        # Of the event loop alone
        self._head: bytearray | None = bytearray()  # None once it is known how the file is read
        self._spool: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._collects = seekable and not live
        # Of both sides, under the lock
        self._window: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._streams = False
        self._size = 0
        self._ended = False
        self._error: Exception | None = None

    # The event loop's side

    async def fill(self, chunks: AsyncIterator[bytes]) -> None:
        """Take all chunks, as fast as they are read. What goes wrong is raised to the reader, after what came before.

        The reader may get RefusedVideoError (too large, of another size than announced, or live and unfit for it),
        UnavailableError (the disk is full or broken), and whatever the chunks raise.
        """
        try:
            async for chunk in chunks:
                await self._take(chunk)
            await self._finish()
        except Exception as error:  # all of it is the reader's to raise
            self._end(error)

    async def _take(self, chunk: bytes) -> None:
        self._size += len(chunk)
        self._check_size()
        if self._head is not None:
            self._head += chunk
            await self._decide(whole=False)
        elif self._spool is not None:
            await self._store(chunk)
        else:
            await self._pass_on(chunk)

    async def _finish(self) -> None:
        if self._head is not None:
            await self._decide(whole=True)
        if self._total is not None and self._size != self._total:
            self._refuse_size()
        self._end(None)

    async def _decide(self, *, whole: bool) -> None:
        head = self._head
        assert head is not None  # noqa: S101  # for the type checker: callers have looked
        streams = False if self._collects else can_stream(head)
        if streams is None and not whole and len(head) <= _MAX_HEAD_BYTES:
            return
        self._head = None
        if streams:
            with self._changed:
                self._streams = True
                self._changed.notify_all()
            await self._pass_on(bytes(head))
        elif self._live:
            raise RefusedVideoError(
                self._total_field,
                "must be of a container that can be decoded as it comes: MPEG-TS, Matroska, WebM or fragmented MP4",
                reason="NOT_STREAMABLE",
            )
        else:
            folder = None if self._limits.scratch_dir is None else str(self._limits.scratch_dir)
            self._spool = tempfile.SpooledTemporaryFile(max_size=self._limits.spool_bytes, dir=folder)  # noqa: SIM115
            await self._store(bytes(head))

    async def _pass_on(self, chunk: bytes) -> None:
        """Put a chunk into the window once there is room."""
        if not chunk:
            return
        while True:
            with self._changed:
                # One chunk always fits, whatever its size: messages are bounded by the server.
                if not self._window or self._waiting_bytes + len(chunk) <= self._limits.window_bytes:
                    self._window.append(memoryview(chunk))
                    self._waiting_bytes += len(chunk)
                    self._changed.notify_all()
                    return
                self._room.clear()
            await self._room.wait()

    async def _store(self, chunk: bytes) -> None:
        assert self._spool is not None  # noqa: S101  # for the type checker: callers have looked
        try:
            await asyncio.to_thread(self._spool.write, chunk)
        except OSError as error:
            raise UnavailableError("the upload cannot be stored now", reason="SCRATCH_FAILED") from error

    def _end(self, error: Exception | None) -> None:
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()

    def _check_size(self) -> None:
        if self._total is not None and self._size > self._total:
            self._refuse_size()
        if not self._live and self._size > self._limits.max_bytes:
            raise RefusedVideoError(
                self._bytes_field,
                f"the file must have at most {self._limits.max_bytes} bytes",
                reason=SIZE_LIMIT,
                limit=self._limits.max_bytes,
                value=self._size,
            )

    def _refuse_size(self) -> NoReturn:
        raise RefusedVideoError(
            self._total_field,
            f"must be the size of the file: {self._total} were announced, and {self._size} came",
            reason="SIZE_MISMATCH",
        )

    def close(self) -> None:
        """Drop what was collected, once nobody reads or fills it any more; safe to repeat."""
        if self._spool is not None:
            self._spool.close()

    # The reader's side

    def open(self, stop: threading.Event) -> OpenFile:
        """Return the file as soon as it can be read. Blocking: waits for all of a file that must be whole.

        Reading ends with StoppedError soon after `stop` is set.

        Raises:
            StoppedError: `stop` was set.
            Exception: What `fill` tells of.
        """
        with self._changed:
            while not self._streams and not self._ended:
                self._wait(stop)
            if self._streams:
                return OpenFile(cast(BinaryIO, _Arriving(self, stop)), self._total, seekable=False)
            if self._error is not None:
                raise self._error
        spool = self._spool
        assert spool is not None  # noqa: S101  # for the type checker: all that does not stream is collected
        spool.seek(0)
        return OpenFile(cast(BinaryIO, spool), self._size)

    def take(self, size: int, stop: threading.Event) -> bytes:
        """Return the next bytes of a file that streams, at most so many; nothing at its end. Blocking."""
        with self._changed:
            while not self._window:
                if self._error is not None:
                    raise self._error
                if self._ended:
                    return b""
                self._wait(stop)
            chunk = self._window.popleft()
            if len(chunk) > size:
                self._window.appendleft(chunk[size:])
                chunk = chunk[:size]
            self._waiting_bytes -= len(chunk)
        self._make_room()
        return bytes(chunk)

    def put_back(self, data: bytes) -> None:
        """Let bytes be read again."""
        with self._changed:
            self._window.appendleft(memoryview(data))
            self._waiting_bytes += len(data)

    def _wait(self, stop: threading.Event) -> None:
        if stop.is_set():
            raise StoppedError
        self._changed.wait(_POLL_S)

    def _make_room(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so is the call
            self._loop.call_soon_threadsafe(self._room.set)


class _Arriving(io.RawIOBase):
    """An upload that is read while it arrives, from its beginning to its end; it can be rewound only at first."""

    def __init__(self, upload: Upload, stop: threading.Event) -> None:
        self._upload = upload
        self._stop = stop
        self._place = 0
        self._read: bytearray | None = bytearray()  # None: too much to be rewound

    def read(self, size: int = -1) -> bytes:
        data = self._upload.take(size if size >= 0 else 2**20, self._stop)
        self._place += len(data)
        if self._read is not None:
            self._read += data
            if len(self._read) > _REWIND_BYTES:
                self._read = None
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go back to the beginning, or read to the end; there is no other way."""
        if whence == io.SEEK_END and offset == 0:
            while self.read():
                pass
        elif whence == io.SEEK_SET and offset == 0 and self._read is not None:
            if self._read:
                self._upload.put_back(bytes(self._read))
            self._place, self._read = 0, bytearray()
        else:
            raise io.UnsupportedOperation("what was read of this upload was not kept")
        return self._place

    def tell(self) -> int:
        return self._place
