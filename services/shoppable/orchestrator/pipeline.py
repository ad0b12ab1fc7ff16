"""The use case: all stages of one video at once, bounded, in the order in which things become known.

One coroutine draws: it reads detected frames, follows objects, and yields events. Behind it the detector's stream draws
frames from the decoder's; beside it a few matches are in work. Whoever reads slowly slows all of it down.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from dataclasses import dataclass

from google.rpc import status_pb2

from shoppable.orchestrator.domain import (
    DecodeSummary,
    DetectedFrame,
    Event,
    FoundObject,
    Frame,
    MatchOutcome,
    Options,
    Pixels,
    Progress,
    Summary,
)
from shoppable.orchestrator.errors import reason_of
from shoppable.orchestrator.following import EndedTrack, Follower
from shoppable.orchestrator.identity import Identities, MatchedTrack, TrackedObject
from shoppable.orchestrator.ports import FrameSource, ObjectDetector, ProductMatcher
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.orchestrator.timing import StageClock
from shoppable.runtime import metrics
from shoppable.runtime.errors import DataLossError, InternalError, UnavailableError
from shoppable.runtime.images import read_image
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2

_PROGRESS_EVERY_S = 0.5  # of work; the contract promises one a second
_MAX_FAILURES = 20  # kinds of failures that a summary names
_MAX_EMBEDDINGS = 8  # views that the matcher takes for one thing
_FRAME_PIXELS = 4096 * 4096


@dataclass(frozen=True)
class Stages:
    """The services behind the pipeline."""

    frames: FrameSource
    detector: ObjectDetector
    matcher: ProductMatcher


class Annotation:
    """The work on one video. Use it once."""

    def __init__(self, stages: Stages, settings: OrchestratorSettings, options: Options) -> None:
        self._stages = stages
        self._settings = settings
        self._options = options
        self._decoding, self._detecting, self._matching = (StageClock(name) for name in ("decode", "detect", "match"))
        self._follower = Follower(
            max_gap_s=settings.max_gap_s,
            min_observations=settings.min_observations,
            views_per_object=settings.views_per_object,
            read_pixels=_pixels,
            box_tolerance=options.box_tolerance,
        )
        self._identities = Identities(reentry_window_s=settings.reentry_window_s)
        self._in_match: deque[tuple[EndedTrack, asyncio.Task[MatchOutcome | None]]] = deque()
        self._match_slots = asyncio.Semaphore(settings.matches_in_flight)
        self._video = common_pb2.VideoInfo()
        self._decoded = DecodeSummary(0, truncated=False, end_s=None)
        self._models: Sequence[common_pb2.ModelVersion] = ()
        self._failures: dict[tuple[str, str], status_pb2.Status] = {}
        self._objects = 0
        self._unmatched = 0
        self._left_out = 0
        self._told: set[str] = set()  # ids of objects that were told as provisional and are not final
        self._searched: MatchOutcome | None = None

    async def run(self, source: common_pb2.VideoSource, chunks: AsyncIterable[bytes]) -> AsyncGenerator[Event, None]:
        """Yield the video's info, progress and objects as they become known, and a summary. Raises ServiceError."""
        started = time.perf_counter()
        if self._options.matching:
            await self._stages.matcher.check(self._options.matching)
        try:
            async with contextlib.aclosing(self._annotate(source, chunks)) as events:
                async for event in events:
                    yield event
                    if self._objects == self._options.max_objects:
                        break
        finally:
            await self._cancel_matches()
        yield self._summary(time.perf_counter() - started)

    async def _annotate(
        self, source: common_pb2.VideoSource, chunks: AsyncIterable[bytes]
    ) -> AsyncGenerator[Event, None]:
        first, told = True, time.perf_counter()
        broken: Exception | None = None
        try:
            async with (
                contextlib.aclosing(self._frames(source, chunks)) as frames,
                contextlib.aclosing(self._stages.detector.detect(frames, self._options)) as detected,
            ):
                async for item in detected:
                    if not isinstance(item, DetectedFrame):
                        self._models = item
                        continue
                    if first:
                        first = False
                        yield self._video
                    async for found in self._take(item):
                        yield found
                    if time.perf_counter() - told >= _PROGRESS_EVERY_S:
                        told = time.perf_counter()
                        yield self._progress(item.frame.time_s)
        except DataLossError as error:
            broken = error  # what was found before is good, and is told before the error
        if first:
            yield self._video
        self._check_detected()
        async for found in self._finish():
            yield found
        if broken:
            raise broken
        yield self._progress(None)

    async def _frames(
        self, source: common_pb2.VideoSource, chunks: AsyncIterable[bytes]
    ) -> AsyncGenerator[Frame, None]:
        """Yield the decoder's frames; keep what else it says."""
        async with contextlib.aclosing(self._stages.frames.decode(source, chunks, self._options)) as items:
            while True:
                with self._decoding.working():
                    item = await anext(items, None)
                if item is None:
                    return
                if isinstance(item, Frame):
                    self._decoding.items += 1
                    self._detecting.begin()
                    yield item
                elif isinstance(item, DecodeSummary):
                    self._decoded = item
                else:
                    self._video = item

    async def _take(self, detected: DetectedFrame) -> AsyncGenerator[FoundObject, None]:
        """Follow the objects of a frame; yield what became known by it."""
        self._detecting.end()
        self._detecting.items += 1
        if detected.failure:
            self._detecting.failed += 1
            self._record("detect", detected.failure)
        for ended in await asyncio.to_thread(self._follower.take, detected):
            self._start_match(ended)
        async for found in self._collect(block_above=4 * self._settings.matches_in_flight):
            yield found
        async for found in self._settle(self._identities.close(detected.frame.time_s, self._unsettled_since)):
            yield found

    async def _finish(self) -> AsyncGenerator[FoundObject, None]:
        """Settle all that is left at the end of the video."""
        for ended in await asyncio.to_thread(self._follower.finish):
            self._start_match(ended)
        async for found in self._collect(block_above=0):
            yield found
        async for found in self._settle(self._identities.close_all()):
            yield found

    def _start_match(self, ended: EndedTrack) -> None:
        self._in_match.append((ended, asyncio.create_task(self._match(ended), name="match")))

    async def _match(self, ended: EndedTrack) -> MatchOutcome | None:
        if self._options.matching is None:
            return None
        async with self._match_slots:
            with self._matching.working():
                outcome = await self._stages.matcher.match(ended.views, ended.track.category, self._options.matching)
        self._matching.items += 1
        if outcome.failure:
            self._matching.failed += 1
            self._record("match", outcome.failure)
        else:
            self._searched = outcome
        return outcome

    async def _collect(self, *, block_above: int) -> AsyncGenerator[FoundObject, None]:
        """Join matched tracks to objects, in the order in which the tracks ended; wait while too many are in work."""
        while self._in_match and (self._in_match[0][1].done() or len(self._in_match) > block_above):
            ended, task = self._in_match[0]
            match = await task
            self._in_match.popleft()
            item = self._identities.add(MatchedTrack(ended, match))
            if self._options.provisional:
                found = await self._found(item, final=False)
                if self._is_sure(found.match):
                    self._told.add(found.object_id)
                    yield found

    async def _settle(self, items: Sequence[TrackedObject]) -> AsyncGenerator[FoundObject, None]:
        """Yield objects that are final, without those that the caller finds too unsure."""
        for item in items:
            found = await self._found(item, final=True)
            if self._is_sure(found.match) or found.object_id in self._told:
                self._told.discard(found.object_id)
                self._objects += 1
                yield found
            else:
                self._left_out += 1

    def _is_sure(self, match: MatchOutcome | None) -> bool:
        floor = self._options.min_object_confidence
        return floor is None or (match is not None and match.confidence is not None and match.confidence >= floor)

    def _unsettled_since(self, category: str) -> float | None:
        """Return the earliest start of a category's tracks that have not been joined to an object."""
        starts = [ended.segment.start_s for ended, _ in self._in_match if ended.track.category == category]
        followed = self._follower.followed_since(category)
        return min([*starts, *([] if followed is None else [followed])], default=None)

    async def _found(self, item: TrackedObject, *, final: bool) -> FoundObject:
        match = await self._object_match(item)
        if final:
            self._unmatched += bool(match and match.failure)
            decision = match.decision.name if match and match.decision else "NONE"
            metrics.OBJECTS_FOUND.labels(decision).inc()
        return FoundObject(
            object_id=item.object_id,
            label=item.label(),
            category=item.category,
            detection_score=item.detection_score,
            segments=item.segments(self._settings.max_gap_s),
            observations=item.observations(),
            best_view=item.best_view(),
            match=match,
            final=final,
        )

    async def _object_match(self, item: TrackedObject) -> MatchOutcome | None:
        """Return what the object may be: its one track's answer, or one made of all tracks' views."""
        answers = [matched.match for matched in item.tracks if matched.match]
        good = [answer for answer in answers if answer.failure is None]
        if not good:
            return answers[0] if answers else None
        if len(good) == 1 or self._options.matching is None:
            return good[0]
        # Each track's best views in turn, so that none is left out.
        longest = max(len(answer.embeddings) for answer in good)
        looks = [answer.embeddings[rank] for rank in range(longest) for answer in good if rank < len(answer.embeddings)]
        with self._matching.working():
            joint = await self._stages.matcher.match(looks[:_MAX_EMBEDDINGS], item.category, self._options.matching)
        return good[0] if joint.failure else joint

    def _progress(self, time_s: float | None) -> Progress:
        """Return how far the work is; None is the end."""
        options, video = self._options, self._video
        length = video.duration.ToMicroseconds() / 1e6 if video.HasField("duration") else None
        start_s = options.start_s or 0.0
        end_s = min(filter(None, (length, options.end_s)), default=None)
        if time_s is None:
            time_s = self._decoded.end_s or end_s or 0.0
            fraction: float | None = 1.0
        else:
            fraction = min(max((time_s - start_s) / (end_s - start_s), 0.0), 1.0) if end_s and end_s > start_s else None
        return Progress(time_s, fraction, self._decoding.items, self._detecting.items, self._objects)

    def _check_detected(self) -> None:
        """Raise if no frame at all could be looked at: an empty list would be a lie."""
        if self._detecting.items and self._detecting.failed == self._detecting.items:
            status = next(status for (stage, _), status in self._failures.items() if stage == "detect")
            raise UnavailableError(f"no frame could be looked at: {status.message}", reason="DETECTION_FAILED")

    def _record(self, stage: str, status: status_pb2.Status) -> None:
        metrics.STAGE_FAILURES.labels(stage).inc()
        if len(self._failures) < _MAX_FAILURES:
            self._failures.setdefault((stage, reason_of(status)), status)

    def _summary(self, elapsed_s: float) -> Summary:
        return Summary(
            video=self._video,
            frames_sampled=self._decoding.items,
            frames_failed=self._detecting.failed,
            objects=self._objects,
            objects_unmatched=self._unmatched,
            decoding=self._decoded,
            detection_models=self._models,
            embedder=self._searched.embedder if self._searched else None,
            catalog_revision=self._searched.catalog_revision if self._searched else None,
            elapsed_s=elapsed_s,
            stages=[clock.timing() for clock in (self._decoding, self._detecting, self._matching)],
            failures=tuple(self._failures.values()),
            objects_left_out=self._left_out,
        )

    async def _cancel_matches(self) -> None:
        tasks = [task for _, task in self._in_match]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _pixels(frame: Frame) -> Pixels:
    violations = Violations()
    pixels = read_image(frame.image, "frame", violations, max_pixels=_FRAME_PIXELS)
    if pixels is None:
        raise InternalError("the decoder sent a frame that is no picture", reason="BAD_FRAME")
    return pixels
