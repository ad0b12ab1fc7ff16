"""Keeps up with a stream that does not end: of the frames that wait too long, the oldest are dropped.

The decoder is read as fast as it gives, so it never falls behind the sender; what the stages cannot take in time is
dropped here, before it costs anything, and counted.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import replace

from shoppable.orchestrator.domain import Frame
from shoppable.runtime import metrics

# However fast the sampling and large the frames, so that memory is bounded.
_MAX_WAITING = 64
_MAX_WAITING_BYTES = 64 * 2**20


class LatestFrames:
    """The frames of a live stream that wait to be looked at."""

    def __init__(self, *, max_lag_s: float) -> None:
        """Let frames wait until newer ones are later by more than `max_lag_s` of the stream's time."""
        self._max_lag_s = max_lag_s
        self._waiting: deque[Frame] = deque()
        self._changed = asyncio.Event()
        self._cut_lost = False  # a dropped frame began a new scene: the next one that is kept does so
        self.dropped = 0

    async def keep(self, frames: AsyncGenerator[Frame, None]) -> AsyncGenerator[Frame, None]:
        """Yield the frames that can be kept up with, in order."""
        reader = asyncio.create_task(self._read(frames), name="live")
        try:
            while True:
                while not self._waiting:
                    if reader.done():
                        await reader
                        return
                    self._changed.clear()
                    await self._changed.wait()
                frame = self._waiting.popleft()
                if self._cut_lost:
                    frame, self._cut_lost = replace(frame, scene_cut=True), False
                yield frame
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await reader

    async def _read(self, frames: AsyncGenerator[Frame, None]) -> None:
        try:
            async with contextlib.aclosing(frames):
                async for frame in frames:
                    self._waiting.append(frame)
                    self._drop()
                    self._changed.set()
        finally:
            self._changed.set()

    def _drop(self) -> None:
        newest_s = self._waiting[-1].time_s
        while len(self._waiting) > 1 and (newest_s - self._waiting[0].time_s > self._max_lag_s or self._is_full()):
            self._cut_lost |= self._waiting.popleft().scene_cut
            self.dropped += 1
            metrics.FRAMES_DROPPED.inc()

    def _is_full(self) -> bool:
        size = sum(len(frame.image.data) for frame in self._waiting)
        return len(self._waiting) > _MAX_WAITING or size > _MAX_WAITING_BYTES
