"""A worker's side of its socket: asking for bytes and slots, and reporting."""

import pickle
import socket
from collections import deque

from shoppable.decoder.workers.protocol import (
    FREE,
    MAX_JOB_BYTES,
    MAX_READ_BYTES,
    Job,
    ReadWish,
    Report,
    SeekWish,
    encode,
)


class ServiceGoneError(Exception):
    """Nobody is there any more."""


class Link:
    """The socket of one worker. Blocking."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._free: deque[int] = deque()

    def receive_job(self) -> tuple[Job, list[int]]:
        """Return what is to be done, and the descriptors that come with it."""
        data, descriptors, _, _ = socket.recv_fds(self._connection, MAX_JOB_BYTES, 2)
        if not data:
            raise ServiceGoneError
        job: Job = pickle.loads(data)  # noqa: S301  # from the service, which started this process
        self._free.extend(range(job.slots.count if job.slots else 0))
        return job, descriptors

    def report(self, report: Report) -> None:
        """Say something."""
        try:
            self._connection.send(encode(report))
        except (BrokenPipeError, ConnectionResetError):
            raise ServiceGoneError from None

    def free_slot(self) -> int:
        """Return a slot that may be written. Waits until the reader has taken its picture."""
        while not self._free:
            self._receive()
        return self._free.popleft()

    def ask(self, wish: ReadWish | SeekWish) -> bytes:
        """Return the answer to a wish."""
        self.report(wish)
        while True:
            answer = self._receive()
            if answer is not None:
                return answer

    def _receive(self) -> bytes | None:
        """Take one message: return the answer in it, or None if it frees a slot."""
        try:
            message = self._connection.recv(MAX_READ_BYTES + 1)
        except ConnectionResetError:
            raise ServiceGoneError from None
        if not message:
            raise ServiceGoneError
        if message[:1] == FREE:
            self._free.append(message[1])
            return None
        return message[1:]


class DistantFile:
    """A file that the service reads for its worker."""

    def __init__(self, link: Link, *, seekable: bool) -> None:
        self._link = link
        self._seekable = seekable
        self._place = 0

    def read(self, size: int) -> bytes:
        """Return at most so many bytes; none at the end."""
        data = self._link.ask(ReadWish(min(size, MAX_READ_BYTES)))
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place; -1 if there is no such place."""
        place = int(self._link.ask(SeekWish(offset, whence)))
        if place >= 0:
            self._place = place
        return place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def seekable(self) -> bool:
        """Return whether it can be read at any place."""
        return self._seekable
