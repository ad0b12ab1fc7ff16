"""A TCP proxy on the loopback address whose network one can spoil while it runs."""

import asyncio
import contextlib
import enum
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from faults.toxics import ConnectionToResetError, Pieces, Toxic

_PIECE_BYTES = 64 * 1024


class _End(enum.Enum):
    ORDERLY = enum.auto()
    RESET = enum.auto()


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def close(self) -> None:
        """Send what is left, then end both sides."""
        self.client.close()
        self.server.close()

    def reset(self) -> None:
        """End both sides at once; what is on its way is lost."""
        for writer in (self.client, self.server):
            with contextlib.suppress(OSError):
                ours = writer.get_extra_info("socket")
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class FaultProxy:
    """Listens at once; takes connections when it is told where to."""

    def __init__(self, name: str) -> None:
        """Take a free port. `name` is that of the hop."""
        self.name = name
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.address = f"{host}:{port}"
        self.upstream = ""  # host:port, or unix:/path
        self.bytes_passed = 0
        self._toxics: dict[str, tuple[Toxic, ...]] = {"up": (), "down": ()}
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, sock=self._listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.reset_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._connections)

    def reset_all(self) -> None:
        """Break what is connected; new connections are taken."""
        for connection in list(self._connections):
            connection.reset()

    @contextlib.contextmanager
    def spoiled(self, *toxics: Toxic, up: Sequence[Toxic] = (), down: Sequence[Toxic] = ()) -> Iterator[None]:
        """Spoil both directions with `toxics`, requests with `up` and answers with `down`, connections of now too."""
        before = dict(self._toxics)
        self._toxics = {"up": (*toxics, *up), "down": (*toxics, *down)}
        self.reset_all()  # a toxic treats a connection from its start; a client that is well connects again
        try:
            yield
        finally:
            self._toxics = before
            self.reset_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            server_reader, server_writer = await _connect(self.upstream)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, server_writer)
        self._connections.add(connection)
        up = asyncio.create_task(self._pass(reader, server_writer, self._toxics["up"]))
        down = asyncio.create_task(self._pass(server_reader, writer, self._toxics["down"]))
        try:
            # gRPC ends both directions at a time: when one side is gone the other has nothing to say.
            ended, _ = await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if any(task.result() is _End.RESET for task in ended):
                connection.reset()
        except asyncio.CancelledError:
            pass  # the proxy is being closed; asyncio's server would log a cancelled handler as a fault
        finally:
            for passing in (up, down):
                passing.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            connection.close()
            self._connections.discard(connection)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, toxics: Sequence[Toxic]) -> _End:
        pieces: Pieces = self._read(reader)
        for toxic in toxics:
            pieces = toxic.treat(pieces)
        try:
            async for piece in pieces:
                writer.write(piece)
                await writer.drain()
        except (ConnectionToResetError, OSError):
            return _End.RESET
        return _End.ORDERLY

    async def _read(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        while piece := await reader.read(_PIECE_BYTES):
            self.bytes_passed += len(piece)
            yield piece


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address.removeprefix("unix:").replace("//", "", 1))
    host, port = address.rsplit(":", 1)
    return await asyncio.open_connection(host, int(port))
