"""Reads a file for a worker that cannot: whatever is no plain file of this host."""

import asyncio
import io
import os
import stat
import threading
from concurrent.futures import Executor

from shoppable.decoder.inputs import OpenFile
from shoppable.decoder.workers.protocol import DATA, MAX_READ_BYTES, PLACE, ReadWish, SeekWish
from shoppable.runtime.errors import UnavailableError


def descriptor_of(opened: OpenFile) -> int | None:
    """Return the descriptor of a plain file, which a worker can read by itself; None for anything else."""
    file: object = opened.file
    raw = file.raw if isinstance(file, io.BufferedReader) else file
    if type(raw) is not io.FileIO or not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        return None
    return raw.fileno()


def is_seekable(opened: OpenFile) -> bool:
    """Return whether a file can be read at any place."""
    return opened.file.seekable()


class DistantReading:
    """An open file, which one thread at a time reads, and which is closed when none does."""

    def __init__(self, opened: OpenFile, executor: Executor) -> None:
        """The executor must have a thread for each file: some reads wait for what is yet to come."""
        self._opened = opened
        self._executor = executor
        self._reading = threading.Lock()

    async def answer(self, wish: ReadWish | SeekWish) -> bytes:
        """Return the message that answers a wish.

        Raises:
            ServiceError: What the file's own errors are, or UnavailableError.
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
        """Go to a place; -1 for one before the file's start, which only a broken container asks for."""
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
            self._opened.file.close()
