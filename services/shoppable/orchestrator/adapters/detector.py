"""The object detector, through our own client; a detector that goes away is asked again for a while."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Sequence

import grpc
import structlog
from google.rpc import status_pb2

from shoppable.client import DetectorClient, ShoppableError
from shoppable.orchestrator.adapters.retrying import RetryBudget
from shoppable.orchestrator.domain import Box, DetectedFrame, Detection, Frame, Options
from shoppable.orchestrator.errors import upstream_error
from shoppable.runtime.call import remaining_s
from shoppable.runtime.errors import NotFoundError
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2, object_detector_pb2

_log = structlog.get_logger(__name__)
_FIELDS = {"config.": "options.", "options.": "options."}
_RETRY_DELAY_S = 0.25
_CHECK_TIMEOUT_S = 10.0
_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class _Window:
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

    async def close(self) -> None:
        """Stop reading."""
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading


class DetectorAdapter:
    """An ObjectDetector."""

    def __init__(self, client: DetectorClient, *, frames_in_flight: int, patience_s: float, timeout_s: float) -> None:
        self._client = client
        self._frames_in_flight = frames_in_flight
        self._patience_s = patience_s
        self._budget = RetryBudget()  # of all videos
        self._timeout_s = timeout_s

    async def check(self, options: Options) -> None:
        """Raise InvalidRequestError for categories, NotFoundError for models, that the detector does not have."""
        models = await self._models()
        categories = _categories(models)
        violations = Violations()
        known = f"must be one of {', '.join(sorted(categories))}"
        for field, names in (
            ("options.categories", options.categories),
            ("options.offers.excluded_categories", options.asked_to_exclude),
        ):
            for index, name in enumerate(names):
                violations.check(name in categories, f"{field}[{index}]", known)
        ours = {model.name for model in models}
        missing = [(index, name) for index, name in enumerate(options.detection_models) if name not in ours]
        if missing and not violations:
            name = missing[0][1]
            text = f"the detector has no model {name!r}; it has {', '.join(sorted(ours))}"
            raise NotFoundError("detection model", name, text, reason="UNKNOWN_MODEL")
        for index, _ in missing:
            violations.add(f"options.detection_models[{index}]", f"must be one of {', '.join(sorted(ours))}")
        violations.raise_if_any()

    async def categories(self) -> frozenset[str]:
        """Return all categories that an object may have. Raises ServiceError."""
        return _categories(await self._models())

    async def _models(self) -> Sequence[object_detector_pb2.DetectionModel]:
        try:
            answer = await self._client.list_models(timeout_s=remaining_s(_CHECK_TIMEOUT_S))
        except ShoppableError as error:
            raise upstream_error(error, "object detector") from error
        return answer.models

    async def detect(
        self, frames: AsyncIterable[Frame], options: Options
    ) -> AsyncGenerator[DetectedFrame | Sequence[common_pb2.ModelVersion], None]:
        """Yield the models once, then each frame with its detections, in order.

        A call that breaks, and a frame that the detector cannot look at now, is tried again for `patience_s` after the
        last good answer; unanswered frames go first. After that the call fails, or the frame, until one succeeds. A
        detector that was away from the first is an error at once.
        """
        config = object_detector_pb2.DetectionOptions(
            models=options.detection_models, min_score=options.min_detection_score, categories=options.categories
        )
        window = _Window(frames, self._frames_in_flight)
        loop = asyncio.get_running_loop()
        last_good: float | None = None
        models_known = False
        try:
            while True:
                timeout_s = remaining_s(options.timeout_s or self._timeout_s)
                call = self._client.stream_detect(window.requests(), config, timeout_s=timeout_s)
                try:
                    async with contextlib.aclosing(call) as responses:
                        async for response in responses:
                            if response.WhichOneof("response") == "models":
                                if not models_known:
                                    models_known = True
                                    yield tuple(response.models.models)
                                continue
                            result = response.frame.result
                            if not result.HasField("status"):
                                last_good = loop.time()
                                self._budget.succeeded()
                            elif _may_pass(result.status) and not self._is_over(last_good):
                                raise ShoppableError.from_status(result.status)
                            yield _detected(await window.answered(response.frame.frame_id), result)
                    break
                except ShoppableError as error:
                    if error.code is not _UNAVAILABLE or last_good is None or self._is_over(last_good):
                        raise upstream_error(error, "object detector", fields=_FIELDS) from error
                    _log.warning("the detector is away; asking again", reason=error.reason)
                    await self._budget.wait(error.retry_after_s or _RETRY_DELAY_S)
            if window.failure:
                raise window.failure
        finally:
            await window.close()

    def _is_over(self, last_good: float | None) -> bool:
        """Return whether patience is over, which it is not before there was a good answer."""
        return last_good is not None and asyncio.get_running_loop().time() - last_good >= self._patience_s


def _categories(models: Sequence[object_detector_pb2.DetectionModel]) -> frozenset[str]:
    return frozenset(label.category for model in models for label in model.labels if label.for_sale)


def _may_pass(status: status_pb2.Status) -> bool:
    return bool(status.code == _UNAVAILABLE.value[0])


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
