"""What can be wrong with a network, one class each, after the toxics of Toxiproxy.

A toxic treats one direction of one connection: it gets the pieces that came in and passes on, late, slowly, in
slices, or not at all. All times are in seconds.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

Pieces = AsyncIterator[bytes]


class ConnectionToResetError(Exception):
    """The connection is to be reset: the peer sees no orderly end."""


class Toxic(Protocol):
    """Something that happens to the bytes of one direction."""

    def treat(self, pieces: Pieces) -> Pieces:
        """Yield what passes on of one connection's bytes, when it passes on."""
        ...


@dataclass(frozen=True)
class Latency:
    """Each piece comes `delay_s` later, give or take `jitter_s`; none overtakes another."""

    delay_s: float
    jitter_s: float = 0.0
    seed: int = 0

    async def treat(self, pieces: Pieces) -> Pieces:
        chance = random.Random(self.seed)
        queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue(maxsize=64)
        clock = asyncio.get_running_loop().time

        async def take() -> None:
            async for piece in pieces:
                await queue.put((clock() + self.delay_s + chance.uniform(-self.jitter_s, self.jitter_s), piece))
            await queue.put(None)

        taking = asyncio.create_task(take())
        try:
            while (entry := await queue.get()) is not None:
                due, piece = entry
                await asyncio.sleep(max(0.0, due - clock()))
                yield piece
            await taking  # its error, if it had one
        finally:
            taking.cancel()


@dataclass(frozen=True)
class Bandwidth:
    """At most `bytes_per_s` pass."""

    bytes_per_s: float
    step_s: float = 0.02

    async def treat(self, pieces: Pieces) -> Pieces:
        step = max(1, int(self.bytes_per_s * self.step_s))
        async for piece in pieces:
            for start in range(0, len(piece), step):
                part = piece[start : start + step]
                await asyncio.sleep(len(part) / self.bytes_per_s)
                yield part


@dataclass(frozen=True)
class Slicer:
    """Pieces are cut into `size` bytes, with a pause after each."""

    size: int
    pause_s: float = 0.0

    async def treat(self, pieces: Pieces) -> Pieces:
        async for piece in pieces:
            for start in range(0, len(piece), self.size):
                yield piece[start : start + self.size]
                await asyncio.sleep(self.pause_s)


@dataclass(frozen=True)
class BlackHole:
    """Nothing passes and nothing ends: what a firewall that drops packets looks like."""

    async def treat(self, pieces: Pieces) -> Pieces:
        async for _ in pieces:
            pass
        await asyncio.Event().wait()
        yield b""


@dataclass(frozen=True)
class SlowClose:
    """The end of a connection is told `delay_s` late."""

    delay_s: float

    async def treat(self, pieces: Pieces) -> Pieces:
        async for piece in pieces:
            yield piece
        await asyncio.sleep(self.delay_s)


@dataclass(frozen=True)
class ResetAfter:
    """The connection is reset when `count` bytes have passed."""

    count: int

    async def treat(self, pieces: Pieces) -> Pieces:
        left = self.count
        async for piece in pieces:
            if len(piece) > left:
                yield piece[:left]
                raise ConnectionToResetError
            left -= len(piece)
            yield piece


@dataclass(frozen=True)
class Down:
    """Each connection is reset as soon as it is made."""

    async def treat(self, pieces: Pieces) -> Pieces:
        raise ConnectionToResetError
        yield b""
