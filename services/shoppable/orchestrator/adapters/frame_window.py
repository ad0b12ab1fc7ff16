"""The frames between the decoder and the detector."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable

import grpc

from shoppable.client import ShoppableError
from shoppable.orchestrator.domain import Frame
from shoppable.v1 import object_detector_pb2


class FrameWindow:
    """The frames that were read and not answered, at most `limit`, oldest first.

    They are read apart from any call, so that a call that breaks does not break the reading; each new call begins with
    the oldest.
    """

    def __init__(self, frames: AsyncIterable[Frame], limit: int) -> None:
        self._frames = frames
        self._limit = limit
        self._unanswered: deque[Frame] = deque()
        self._answered = 0
        self._over = False
        self._changed = asyncio.Condition()
        self._failed_id: int | None = None  # of the latest frame that failed
        self._failed_alone = 0  # times that it failed and the one behind it did not
        self._reading = asyncio.create_task(self._read(), name="frames")
        self.failure: Exception | None = None  # with which the reading ended

    async def _read(self) -> None:
        try:
            async for frame in self._frames:
                async with self._changed:
                    await self._changed.wait_for(lambda: len(self._unanswered) < self._limit)
                    self._unanswered.append(frame)
                    self._changed.notify_all()
        except Exception as error:  # raised again once all that came before is answered
            self.failure = error
        async with self._changed:
            self._over = True
            self._changed.notify_all()

    async def requests(self) -> AsyncGenerator[object_detector_pb2.DetectionFrame, None]:
        """Yield all unanswered frames for a new call, and those that come."""
        sent = self._answered
        while True:
            async with self._changed:
                while sent - self._answered >= len(self._unanswered):
                    if self._over:
                        return
                    await self._changed.wait()
                frame = self._unanswered[sent - self._answered]
            sent += 1
            yield object_detector_pb2.DetectionFrame(frame_id=frame.index, image=frame.image)

    async def answered(self, frame_id: int) -> Frame:
        """Return the frame that an answer is for. Answers come in order: anything else is the detector's fault."""
        if not self._unanswered or self._unanswered[0].index != frame_id:
            raise ShoppableError(grpc.StatusCode.INTERNAL, "an answer out of order")
        async with self._changed:
            self._answered += 1
            frame = self._unanswered.popleft()
            self._changed.notify_all()
        return frame

    def fails_again(self, frame_id: int) -> bool:
        """Note that a frame failed; return whether it did so before, and others are sent behind it."""
        again = self._failed_id == frame_id
        if not again:
            self._failed_id, self._failed_alone = frame_id, 0
        return again and len(self._unanswered) > 1

    def is_poison(self) -> bool:
        """Note that the frame behind the failed one went well; return whether that happened before.

        Once may be chance: the detector may have come back between the two.
        """
        self._failed_alone += 1
        return self._failed_alone > 1

    async def close(self) -> None:
        """Stop reading."""
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
