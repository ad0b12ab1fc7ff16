"""The object detector, through our own client; a detector that goes away is asked again for a while."""

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterator, Sequence

import grpc
import structlog
from google.rpc import status_pb2

from shoppable.client import DetectorClient, ShoppableError
from shoppable.orchestrator.adapters.frame_window import FrameWindow
from shoppable.orchestrator.adapters.retrying import RetryBudget
from shoppable.orchestrator.domain import Box, Derivation, DetectedFrame, Detection, Frame, Options
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


class _Patience:
    """How long a video waits for a detector that is away: since its last good answer."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._last_good: float | None = None

    def succeeded(self) -> None:
        """Note a good answer."""
        self._last_good = time.monotonic()

    @property
    def had_success(self) -> bool:
        """Whether there ever was a good answer."""
        return self._last_good is not None

    @property
    def is_over(self) -> bool:
        """Whether patience is over, which it is not before there was a good answer."""
        return self._last_good is not None and time.monotonic() - self._last_good >= self._limit_s


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
        models, categories = await self._models(), await self._categories()
        violations = Violations()
        # With a category are wanted all that are a part of it; excluded is only what an object can itself be.
        for field, names, known in (
            ("options.categories", options.categories, {category.id for category in categories}),
            ("options.offers.excluded_categories", options.asked_to_exclude, _of_objects(categories)),
        ):
            for index, name in enumerate(names):
                violations.check(name in known, f"{field}[{index}]", f"must be one of {', '.join(sorted(known))}")
        violations.check(
            not options.derive_apparel or any(category.derived_regions for category in categories),
            "options.derive_apparel_regions",
            "must not be set: the detector's taxonomy has no categories for derived regions",
        )
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
        return _of_objects(await self._categories())

    async def _models(self) -> Sequence[object_detector_pb2.DetectionModel]:
        with _as_upstream():
            return (await self._client.list_models(timeout_s=remaining_s(_CHECK_TIMEOUT_S))).models

    async def _categories(self) -> Sequence[object_detector_pb2.Category]:
        with _as_upstream():
            return (await self._client.list_categories(timeout_s=remaining_s(_CHECK_TIMEOUT_S))).categories

    async def detect(
        self, frames: AsyncIterable[Frame], options: Options
    ) -> AsyncGenerator[DetectedFrame | Sequence[common_pb2.ModelVersion], None]:
        """Yield the models once, then each frame with its detections, in order.

        A call that breaks, and a frame that the detector cannot look at now, is tried again for `patience_s` after the
        last good answer; unanswered frames go first. After that the call fails, or the frame, until one succeeds. A
        frame that fails again and again while the one behind it goes well fails alone, at once: it is the frame's
        fault. A detector that was away from the first is an error at once.
        """
        config = object_detector_pb2.DetectionOptions(
            models=options.detection_models,
            min_score=options.min_detection_score,
            categories=options.categories,
            derive_apparel_regions=options.derive_apparel,
        )
        window = FrameWindow(frames, self._frames_in_flight)
        patience = _Patience(self._patience_s)
        models_known = False
        try:
            while True:
                timeout_s = remaining_s(options.timeout_s or self._timeout_s)
                call = self._client.stream_detect(window.requests(), config, timeout_s=timeout_s)
                try:
                    async with contextlib.aclosing(call) as responses:
                        async for item in self._answers(responses, window, patience):
                            if isinstance(item, DetectedFrame):
                                yield item
                            elif not models_known:
                                models_known = True
                                yield item
                    break
                except ShoppableError as error:
                    over = patience.is_over and not isinstance(error, _NotNowError)
                    if error.code is not _UNAVAILABLE or over or not patience.had_success:
                        raise upstream_error(error, "object detector", fields=_FIELDS) from error
                    _log.warning("the detector is away; asking again", reason=error.reason)
                    await self._budget.wait(error.retry_after_s or _RETRY_DELAY_S)
            if window.failure:
                raise window.failure
        finally:
            await window.close()

    async def _answers(
        self,
        responses: AsyncIterable[object_detector_pb2.StreamDetectObjectsResponse],
        window: FrameWindow,
        patience: _Patience,
    ) -> AsyncGenerator[DetectedFrame | Sequence[common_pb2.ModelVersion], None]:
        """Yield what one call says; raise if it is to be made again."""
        suspect: object_detector_pb2.FrameDetections | None = None  # failed before; what of the one behind it?
        async for response in responses:
            if response.WhichOneof("response") == "models":
                yield tuple(response.models.models)
                continue
            result = response.frame.result
            failed = result.HasField("status")
            if not failed:
                patience.succeeded()
                self._budget.succeeded()
            elif _may_pass(result.status) and not patience.is_over:
                if suspect is None and window.fails_again(response.frame.frame_id):
                    suspect = response.frame
                    continue
                raise _NotNowError.from_status(result.status)
            if suspect is not None:
                if not failed and not window.is_poison():
                    raise _NotNowError.from_status(suspect.result.status)
                yield _detected(await window.answered(suspect.frame_id), suspect.result)
                suspect = None
            yield _detected(await window.answered(response.frame.frame_id), result)


class _NotNowError(ShoppableError):
    """A frame cannot be looked at now. Patience was not over then: should it end meanwhile, the frame fails alone."""


@contextlib.contextmanager
def _as_upstream() -> Iterator[None]:
    try:
        yield
    except ShoppableError as error:
        raise upstream_error(error, "object detector") from error


def _of_objects(categories: Sequence[object_detector_pb2.Category]) -> frozenset[str]:
    """Return the categories that something found can be of, not those that only have others below them."""
    return frozenset(category.id for category in categories if category.labels or category.derived_regions)


def _may_pass(status: status_pb2.Status) -> bool:
    return bool(status.code == _UNAVAILABLE.value[0])


def _detected(frame: Frame, result: object_detector_pb2.ImageDetections) -> DetectedFrame:
    if result.HasField("status"):
        return DetectedFrame(frame, (), result.status)
    return DetectedFrame(
        frame,
        [
            Detection(item.label, item.category, _box(item.box), item.score, _derivation(item))
            for item in result.detections
            if item.for_sale
        ],
    )


def _derivation(item: object_detector_pb2.Detection) -> Derivation | None:
    if not item.HasField("derivation"):
        return None
    source = item.derivation
    return Derivation(source.region, source.source_label, _box(source.source_box))


def _box(box: common_pb2.BoundingBox) -> Box:
    return Box(box.left, box.top, box.right, box.bottom)
