"""Makes a file, for a thread, of what lies elsewhere and is fetched piece by piece on the event loop.

Pieces are fetched ahead while the reader goes on in order, and the last few are kept. Knows no protocol.
"""

import asyncio
import concurrent.futures
import io
import threading
import time
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, TypeVar, cast, runtime_checkable

from shoppable.decoder.errors import IdleError, StoppedError
from shoppable.decoder.inputs import OpenFile

T = TypeVar("T")
PIECE_BYTES = 2**20
_AHEAD = 2  # pieces
_POLL_S = 0.1  # how soon a waiting thread notices that nobody wants the video any more
_CLOSE_S = 5.0


@dataclass(frozen=True)
class RemoteLimits:
    """How large a video elsewhere may be, and how long it may be waited for."""

    max_bytes: int
    cache_bytes: int  # kept in memory of each
    header_s: float  # until a server begins to answer
    stall_s: float  # without a byte of the answer
    request_s: float  # for one piece
    total_s: float  # that a call may wait, in all
    attempts: int  # for one piece


@runtime_checkable
class Remote(Protocol):
    """Something elsewhere. Used on the event loop."""

    size: int

    async def read(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to before `end`, which are within the size. All or a ServiceError."""

    async def aclose(self) -> None:
        """Let go of connections."""


def run_on_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], stop: threading.Event) -> T:
    """Wait in a thread for what the event loop does; it is cancelled once `stop` is set.

    Raises:
        StoppedError: `stop` was set.
        Exception: What the work raises.
    """
    return _await(asyncio.run_coroutine_threadsafe(work, loop), stop)


def settle(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    """Let the event loop clean up, and do not wait for ever. In a thread."""
    concurrent.futures.wait([asyncio.run_coroutine_threadsafe(work, loop)], _CLOSE_S)


def open_remote(
    remote: Remote, limits: RemoteLimits, loop: asyncio.AbstractEventLoop, stop: threading.Event
) -> OpenFile:
    """Return something elsewhere as a file, which closes it."""
    file = _RemoteFile(remote, limits, loop, stop)
    return OpenFile(cast(BinaryIO, file), remote.size)


class _RemoteFile(io.RawIOBase):
    """Of one thread at a time."""

    def __init__(
        self, remote: Remote, limits: RemoteLimits, loop: asyncio.AbstractEventLoop, stop: threading.Event
    ) -> None:
        self._remote = remote
        self._limits = limits
        self._loop = loop
        self._stop = stop
        self._place = 0
        self._waited_s = 0.0
        self._pieces: OrderedDict[int, concurrent.futures.Future[bytes]] = OrderedDict()
        self._capacity = max(limits.cache_bytes // PIECE_BYTES, _AHEAD + 1)

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = self._remote.size
        number, offset = divmod(self._place, PIECE_BYTES)
        if self._place >= self._remote.size:
            return b""
        data = self._piece(number)[offset : offset + size]  # FFmpeg takes less than it asks for
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._remote.size}[whence]
        if place < 0:
            raise ValueError("a place before the file's start")
        self._place = place
        return place

    def tell(self) -> int:
        return self._place

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        for piece in self._pieces.values():
            piece.cancel()
        self._pieces.clear()
        settle(self._loop, self._remote.aclose())

    def _piece(self, number: int) -> bytes:
        """Return a piece, and have those after it fetched if the reader comes from the one before."""
        goes_on = number - 1 in self._pieces
        wanted = self._fetch(number)
        if goes_on:
            for later in range(number + 1, number + 1 + _AHEAD):
                if later * PIECE_BYTES < self._remote.size:
                    self._fetch(later)
        while len(self._pieces) > self._capacity:
            _, oldest = self._pieces.popitem(last=False)
            oldest.cancel()
        since = time.monotonic()
        try:
            data = _await(wanted, self._stop, limit_s=self._limits.total_s - self._waited_s)
        except TimeoutError as error:
            raise IdleError(
                f"the video's server was waited for {self._limits.total_s:g} s in all", reason="REMOTE_TOO_SLOW"
            ) from error
        finally:
            self._waited_s += time.monotonic() - since
        return data

    def _fetch(self, number: int) -> "concurrent.futures.Future[bytes]":
        found = self._pieces.get(number)
        if found is None:
            start = number * PIECE_BYTES
            end = min(start + PIECE_BYTES, self._remote.size)
            found = asyncio.run_coroutine_threadsafe(self._remote.read(start, end), self._loop)
            self._pieces[number] = found
        self._pieces.move_to_end(number)
        return found


def _await(future: "concurrent.futures.Future[T]", stop: threading.Event, *, limit_s: float | None = None) -> T:
    ends = None if limit_s is None else time.monotonic() + limit_s
    while not concurrent.futures.wait([future], _POLL_S).done:
        if stop.is_set():
            future.cancel()
            raise StoppedError
        if ends is not None and time.monotonic() > ends:
            future.cancel()
            raise TimeoutError
    return future.result()
