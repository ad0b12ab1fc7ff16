"""The service's fork server and its workers: started, counted, killed. Knows nothing of what they do."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from shoppable.decoder.workers.protocol import COMMAND, ENDED, KILL, LAUNCH, READY, READY_UNCONFINED
from shoppable.runtime.errors import UnavailableError

_START_LIMIT_S = 60.0  # a cold disk may take long to load FFmpeg
_END_LIMIT_S = 5.0
# All that a worker sees of the service's environment: where libraries are, and which GPU.
_ENVIRONMENT = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Worker:
    """A process that waits for its job."""

    connection: socket.socket  # does not block
    ended: "asyncio.Future[int | None]"  # its exit code, negative for a signal; None if its fork server is gone too


class Fleet:
    """Starts workers. Use it in one event loop, as a context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._server: socket.socket | None = None
        self._ended: dict[int, asyncio.Future[int | None]] = {}
        self._last = 0
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> "Fleet":
        """Start the fork server.

        Raises:
            RuntimeError: This system has no such processes, or it cannot be started.
        """
        if sys.platform != "linux":
            raise RuntimeError("the decoder runs on Linux only: it decodes in processes that Linux's kernel confines")
        await self._started()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all; workers that are still there are killed by the kernel."""
        self._give_up()
        if self._process is not None:
            await asyncio.to_thread(self._process.wait, _END_LIMIT_S)

    @property
    def fork_server_id(self) -> int | None:
        """Return the process id of the fork server, if there is one."""
        return self._process.pid if self._server is not None and self._process is not None else None

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[Worker]:
        """Fork a worker. When the context ends, it is killed, and gone.

        Raises:
            UnavailableError: None can be had now.
        """
        server = await self._started()
        self._last += 1
        number = self._last
        ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with ours, theirs:
            try:
                socket.send_fds(server, [COMMAND.pack(LAUNCH, number)], [theirs.fileno()])
            except OSError as error:
                raise no_worker() from error
            theirs.close()
            self._ended[number] = ended
            try:
                yield Worker(ours, ended)
            finally:
                if not ended.done():
                    with contextlib.suppress(OSError):
                        server.send(COMMAND.pack(KILL, number))
                    await _gone(ended)
                self._ended.pop(number, None)

    async def _started(self) -> socket.socket:
        async with self._starting:
            if self._server is None:
                self._server = await self._start()
            return self._server

    async def _start(self) -> socket.socket:
        if self._process is not None:
            _log.error("the fork server ended and is started again", status=self._process.wait())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        environment["OPENBLAS_NUM_THREADS"] = "1"  # a process that forks must have one thread
        with theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603  # our own program; it returns once that runs
                [sys.executable, "-P", "-m", f"{__package__}.forkserver", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd="/",
            )
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                greeting = await loop.sock_recv(ours, len(READY))
        except TimeoutError:
            greeting = b""
        if greeting == READY_UNCONFINED:
            _log.warning("workers are not confined: this kernel or processor takes no filter of system calls")
        elif greeting != READY:
            ours.close()
            self._process.kill()
            raise RuntimeError("the decoder's fork server does not start; what it wrote to stderr says why")
        loop.add_reader(ours, self._hear, ours)
        return ours

    def _hear(self, server: socket.socket) -> None:
        """Take what the fork server says."""
        while True:
            try:
                data = server.recv(ENDED.size)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._give_up()
                return
            number, status = ENDED.unpack(data)
            ended = self._ended.get(number)
            if ended is not None and not ended.done():
                ended.set_result(status)

    def _give_up(self) -> None:
        """Let go of the fork server, which ends by that if it has not yet."""
        if self._server is not None:
            asyncio.get_running_loop().remove_reader(self._server)
            self._server.close()
            self._server = None
        for ended in self._ended.values():
            if not ended.done():
                ended.set_result(None)


async def _gone(ended: "asyncio.Future[int | None]") -> None:
    """Wait for a worker's end, whatever happens to the call that had it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_LIMIT_S):
            await asyncio.shield(ended)


def no_worker() -> UnavailableError:
    """Return the error of a call for which no process could be started."""
    return UnavailableError("no process can be started for the video now", reason="NO_WORKER")
