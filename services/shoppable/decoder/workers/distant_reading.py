"""Opens a video's file in a thread, and reads it for a worker that cannot: whatever is no plain file of this host."""

import asyncio
import contextlib
import io
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from typing import TypeAlias

from shoppable.decoder.inputs import OpenFile
from shoppable.decoder.workers.protocol import DATA, MAX_READ_BYTES, PLACE, ReadWish, SeekWish
from shoppable.runtime.errors import UnavailableError

# Opens a file in a thread. All its waiting, and that of the file's reading, ends soon after the event is set.
Opener: TypeAlias = Callable[[threading.Event], OpenFile]


class DistantReading:
    """An open file, which one thread at a time reads."""

    def __init__(self, opened: OpenFile, executor: Executor) -> None:
        """The executor must have a thread for each file: some reads wait for what is yet to come."""
        self._opened = opened
        self._executor = executor
        self._reading = threading.Lock()

    @property
    def size_bytes(self) -> int | None:
        """Return the file's size, if it is known already."""
        return self._opened.size_bytes

    @property
    def seekable(self) -> bool:
        """Return whether the file can be read at any place. If not, a seek to its end waits for that."""
        return self._opened.seekable

    @property
    def descriptor(self) -> int | None:
        """Return the descriptor of a plain file, which a worker can read by itself; None for anything else."""
        file: object = self._opened.file
        raw = file.raw if isinstance(file, io.BufferedReader) else file
        if type(raw) is not io.FileIO or not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
            return None
        return raw.fileno()

    async def answer(self, wish: ReadWish | SeekWish) -> bytes:
        """Return the message that answers a wish.

        Raises:
            ServiceError: What the file's own errors are, or UnavailableError.
            StoppedError: The file is no longer wanted.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._answer, wish)

    async def aclose(self) -> None:
        """Close the file once no thread reads it, even if nobody waits for that any more."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)

    def _answer(self, wish: ReadWish | SeekWish) -> bytes:
        with self._reading:
            try:
                match wish:
                    case ReadWish(size):
                        return DATA + self._opened.file.read(min(max(size, 1), MAX_READ_BYTES))
                    case SeekWish(offset, whence):
                        return PLACE + str(self._seek(offset, whence)).encode()
            except OSError as error:
                raise UnavailableError("the video's file cannot be read now", reason="FILE_SYSTEM_FAILED") from error

    def _seek(self, offset: int, whence: int) -> int:
        """Go to a place; -1 for one that there is not, which only a broken container asks for, or not any more."""
        if whence not in {io.SEEK_SET, io.SEEK_CUR, io.SEEK_END}:
            return -1
        try:
            return self._opened.file.seek(offset, whence)
        except (ValueError, OverflowError):
            return -1
        except OSError:
            if offset < 0:
                return -1
            raise

    def _close(self) -> None:
        with self._reading:
            self._opened.close()


@contextlib.asynccontextmanager
async def open_distantly(opener: Opener, executor: Executor) -> AsyncIterator[DistantReading]:
    """Open a file in a thread of the executor, and at the end, or if nobody waits for that any more, close it."""
    stop = threading.Event()
    opening = executor.submit(opener, stop)
    try:
        opened = await asyncio.wrap_future(opening)
    except BaseException:
        stop.set()
        await asyncio.get_running_loop().run_in_executor(executor, _close_late, opening)
        raise
    reading = DistantReading(opened, executor)
    try:
        yield reading
    finally:
        stop.set()  # a read that waits ends by that, and the file can be closed
        await reading.aclose()


def _close_late(opening: "Future[OpenFile]") -> None:
    """Close what was opened although nobody wanted it any more."""
    try:
        opened = opening.result()
    except Exception:  # it is told to whoever opened it, if he is still there
        return
    opened.close()
