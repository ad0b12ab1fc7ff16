"""A worker's side of its socket: asking for bytes and slots, and reporting."""

import pickle
import socket
import threading
from collections import deque
from typing import TypeVar

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

T = TypeVar("T")


class ServiceGoneError(Exception):
    """Nobody is there any more."""


class Link:
    """The socket of one worker. Blocking; one thread may ask for bytes while another waits for a slot."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._changed = threading.Condition()  # guards what follows
        self._free: deque[int] = deque()
        self._answers: deque[bytes] = deque()
        self._receiving = False  # a thread waits at the socket, for all
        self._gone = False

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
        return self._wait_for(self._free)

    def ask(self, wish: ReadWish | SeekWish) -> bytes:
        """Return the answer to a wish. One thread at a time."""
        self.report(wish)
        return self._wait_for(self._answers)

    def _wait_for(self, received: deque[T]) -> T:
        """Return the next of one kind of message. Of the threads that wait, one receives, whatever comes."""
        with self._changed:
            while not received:
                if self._gone:
                    raise ServiceGoneError
                if self._receiving:
                    self._changed.wait()
                else:
                    self._receive()
            return received.popleft()

    def _receive(self) -> None:
        """Take one message; the lock is held, but not while there is none."""
        self._receiving = True
        self._changed.release()
        try:
            message = self._connection.recv(MAX_READ_BYTES + 1)
        except ConnectionResetError:
            message = b""
        finally:
            self._changed.acquire()
            self._receiving = False
            self._changed.notify_all()
        if not message:
            self._gone = True
        elif message[:1] == FREE:
            self._free.append(message[1])
        else:
            self._answers.append(message[1:])


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
