"""The object detector, through our own client; a detector that goes away is asked again for a while."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Sequence

import grpc
import structlog

from shoppable.client import DetectorClient, ShoppableError
from shoppable.orchestrator.domain import Box, DetectedFrame, Detection, Frame, Options
from shoppable.orchestrator.errors import upstream_error
from shoppable.runtime.call import remaining_s
from shoppable.v1 import common_pb2, object_detector_pb2

_log = structlog.get_logger(__name__)
_FIELDS = {"config.": "options.", "options.": "options."}
_RETRY_DELAY_S = 0.25


class _Feed:
    """Reads frames ahead into a small queue, apart from any call: a call that breaks must not break the reading."""

    def __init__(self, frames: AsyncIterable[Frame], depth: int) -> None:
        self._frames = frames
        self._queue: asyncio.Queue[Frame | None] = asyncio.Queue(depth)
        self._task = asyncio.create_task(self._fill(), name="frame feed")
        self.failure: Exception | None = None
        self._over = False

    async def _fill(self) -> None:
        try:
            async for frame in self._frames:
                await self._queue.put(frame)
        except Exception as error:  # raised again by the reader, once what came before is done
            self.failure = error
        await self._queue.put(None)

    async def next(self) -> Frame | None:
        """Return the next frame, or None at the end."""
        if self._over:
            return None
        frame = await self._queue.get()
        self._over = frame is None
        return frame

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


class _Pending:
    """Frames that were sent and not answered, at most `limit`; those of a broken call are sent again first."""

    def __init__(self, limit: int) -> None:
        self._frames: deque[Frame] = deque()
        self._room = asyncio.Semaphore(limit)

    async def admit(self) -> None:
        await self._room.acquire()

    def release(self) -> None:
        self._room.release()

    def append(self, frame: Frame) -> None:
        self._frames.append(frame)

    def answered(self, frame_id: int) -> Frame | None:
        """Return the frame that an answer is for, if it is the oldest; answers come in order."""
        if not self._frames or self._frames[0].index != frame_id:
            return None
        self._room.release()
        return self._frames.popleft()

    def unanswered(self) -> list[Frame]:
        return list(self._frames)


class DetectorAdapter:
    """An ObjectDetector."""

    def __init__(
        self, client: DetectorClient, *, frames_in_flight: int, patience_s: float, timeout_s: float, follow_score: float
    ) -> None:
        self._client = client
        self._frames_in_flight = frames_in_flight
        self._patience_s = patience_s
        self._timeout_s = timeout_s
        self._follow_score = follow_score

    async def detect(
        self, frames: AsyncIterable[Frame], options: Options
    ) -> AsyncGenerator[DetectedFrame | Sequence[common_pb2.ModelVersion], None]:
        """Yield the models once, then each frame with its detections, in order.

        A broken call is made again for `patience_s` after the last answer; unanswered frames go first.
        """
        config = object_detector_pb2.DetectionOptions(
            models=options.detection_models,
            min_score=options.min_detection_score if options.min_detection_score is not None else self._follow_score,
            categories=options.categories,
        )
        feed = _Feed(frames, depth=2)
        pending = _Pending(self._frames_in_flight)
        loop = asyncio.get_running_loop()
        last_answer = loop.time()
        models_known = False
        try:
            while True:
                try:
                    async for response in self._client.stream_detect(
                        _requests(feed, pending), config, timeout_s=remaining_s(self._timeout_s)
                    ):
                        last_answer = loop.time()
                        if response.WhichOneof("response") == "models":
                            if not models_known:
                                models_known = True
                                yield tuple(response.models.models)
                            continue
                        frame = pending.answered(response.frame.frame_id)
                        if frame is None:
                            raise ShoppableError(grpc.StatusCode.INTERNAL, "an answer out of order")  # noqa: TRY301
                        yield _detected(frame, response.frame.result)
                    break
                except ShoppableError as error:
                    gone = error.code is grpc.StatusCode.UNAVAILABLE
                    if not gone or loop.time() - last_answer > self._patience_s:
                        raise upstream_error(error, "object detector", fields=_FIELDS) from error
                    _log.warning("detector went away; asking again", unanswered=len(pending.unanswered()))
                    await asyncio.sleep(_RETRY_DELAY_S)
            if feed.failure:
                raise feed.failure
        finally:
            await feed.close()


async def _requests(feed: _Feed, pending: _Pending) -> AsyncGenerator[object_detector_pb2.DetectionFrame, None]:
    for unanswered in pending.unanswered():
        yield _message(unanswered)
    while True:
        await pending.admit()
        frame = None
        try:
            frame = await feed.next()
        finally:
            if frame is None:  # the end, or the call is over
                pending.release()
        if frame is None:
            return
        pending.append(frame)
        yield _message(frame)


def _message(frame: Frame) -> object_detector_pb2.DetectionFrame:
    return object_detector_pb2.DetectionFrame(frame_id=frame.index, image=frame.image)


def _detected(frame: Frame, result: object_detector_pb2.ImageDetections) -> DetectedFrame:
    if result.HasField("status"):
        return DetectedFrame(frame, (), result.status)
    return DetectedFrame(
        frame,
        [
            Detection(
                item.label, item.category, Box(item.box.left, item.box.top, item.box.right, item.box.bottom), item.score
            )
            for item in result.detections
            if item.for_sale
        ],
    )
