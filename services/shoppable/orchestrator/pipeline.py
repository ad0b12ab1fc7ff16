"""The use case: all stages of one video at once, bounded, in the order in which things become known.

One coroutine draws: it reads detected frames, follows objects, and yields events. Behind it the detector's stream draws
frames from the decoder's; beside it a few matches are in work. Whoever reads slowly slows all of it down.
"""

import asyncio
import contextlib
import math
import time
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
    Progress,
    Summary,
    Withheld,
)
from shoppable.orchestrator.errors import reason_of
from shoppable.orchestrator.following import Follower
from shoppable.orchestrator.frames import frame_pixels
from shoppable.orchestrator.identity import Identities, TrackedObject
from shoppable.orchestrator.live import LatestFrames
from shoppable.orchestrator.lookups import Lookups
from shoppable.orchestrator.offers import OfferGate, nothing_barred
from shoppable.orchestrator.ports import ContentClassifier, FrameSource, ObjectDetector, ProductMatcher
from shoppable.orchestrator.previews import Previews
from shoppable.orchestrator.sensitivity import SensitivityWatch, WatchSettings
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.orchestrator.timing import StageClock
from shoppable.runtime import metrics
from shoppable.runtime.errors import DataLossError, UnavailableError
from shoppable.v1 import common_pb2

_PROGRESS_EVERY_S = 0.5  # of work; the contract promises one a second
_MAX_FAILURES = 20  # kinds of failures that a summary names


@dataclass(frozen=True)
class Stages:
    """The services behind the pipeline."""

    frames: FrameSource
    detector: ObjectDetector
    matcher: ProductMatcher
    classifier: ContentClassifier | None = None


class Annotation:
    """The work on one video. Use it once."""

    def __init__(self, stages: Stages, settings: OrchestratorSettings, options: Options) -> None:
        self._stages = stages
        self._options = options
        self._decoding, self._detecting = (StageClock(name) for name in ("decode", "detect"))
        self._follower = Follower(
            max_gap_s=settings.max_gap_s,
            min_observations=settings.min_observations,
            views_per_object=settings.views_per_object,
            read_pixels=frame_pixels,
            box_tolerance=options.box_tolerance,
        )
        self._max_gap_s, self._reentry_window_s = settings.max_gap_s, settings.reentry_window_s
        self._identities = Identities(reentry_window_s=settings.reentry_window_s)
        self._watch: SensitivityWatch | None = None
        if stages.classifier and options.matching:
            closeness = WatchSettings(
                interval_s=settings.classifier_interval_s,
                padding_s=settings.classifier_padding_s,
                threshold=settings.classifier_threshold,
            )
            self._watch = SensitivityWatch(stages.classifier, closeness, record=lambda s: self._record("classify", s))
        self._gate = OfferGate(options.offers, self._watch.barred if self._watch else nothing_barred)
        self._lookups = Lookups(
            stages.matcher,
            options.matching,
            self._gate,
            at_a_time=settings.matches_in_flight,
            record=lambda status: self._record("match", status),
        )
        self._most_in_match = 4 * settings.matches_in_flight
        self._previews: Previews | None = None
        if options.provisional:
            self._previews = Previews(
                self._lookups, self._gate, new_id=self._identities.new_id, cleared_s=self._cleared_s
            )
        self._live = None if options.max_lag_s is None else LatestFrames(max_lag_s=options.max_lag_s)
        self._video = common_pb2.VideoInfo()
        self._decoded = DecodeSummary(0, truncated=False, end_s=None)
        self._latest_s = 0.0
        self._models: Sequence[common_pb2.ModelVersion] = ()
        self._failures: dict[tuple[str, str], status_pb2.Status] = {}
        self._objects = self._unmatched = self._withheld = self._left_out = 0
        self._told: set[str] = set()  # ids of objects that were told as provisional and are not final

    async def run(self, source: common_pb2.VideoSource, chunks: AsyncIterable[bytes]) -> AsyncGenerator[Event, None]:
        """Yield the video's info, progress and objects as they become known, and a summary. Raises ServiceError."""
        started = time.perf_counter()
        if self._options.matching:
            await self._stages.matcher.check(self._options.matching)
        if self._options.asked_to_exclude:
            await self._stages.detector.check(self._options)
        try:
            async with contextlib.aclosing(self._annotate(source, chunks)) as events:
                async for event in events:
                    yield event
                    if self._objects == self._options.max_objects:
                        break
        finally:
            await self._close()
        yield self._summary(time.perf_counter() - started)

    async def _annotate(
        self, source: common_pb2.VideoSource, chunks: AsyncIterable[bytes]
    ) -> AsyncGenerator[Event, None]:
        first, told = True, time.perf_counter()
        broken: Exception | None = None
        try:
            async with (
                contextlib.aclosing(self._kept(self._frames(source, chunks))) as frames,
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
                    yield item
                elif isinstance(item, DecodeSummary):
                    self._decoded = item
                else:
                    self._video = item

    async def _kept(self, frames: AsyncGenerator[Frame, None]) -> AsyncGenerator[Frame, None]:
        """Yield the frames that are looked at: of a film all, of a live stream those that can be kept up with."""
        async with contextlib.aclosing(self._live.keep(frames) if self._live else frames) as kept:
            async for frame in kept:
                self._detecting.begin()
                yield frame

    async def _take(self, detected: DetectedFrame) -> AsyncGenerator[FoundObject, None]:
        """Follow the objects of a frame; yield what became known by it."""
        time_s = self._latest_s = detected.frame.time_s
        self._detecting.end()
        self._detecting.items += 1
        if detected.failure:
            self._detecting.failed += 1
            self._record("detect", detected.failure)
        if self._watch:
            await self._watch.take(detected.frame)
        for ended in await asyncio.to_thread(self._follower.take, detected):
            self._lookups.start(ended)
        if self._previews:
            self._previews.take(time_s, self._follower.confirmed())
            # A lookup that needs no waiting is told with its frame.
            await asyncio.sleep(0)
            for found in self._previews.known():
                if self._tells_early(found):
                    yield found
        async for found in self._join(block_above=self._most_in_match):
            yield found
        settled_s = min(time_s, self._cleared_s() + self._reentry_window_s)
        async for found in self._settle(self._identities.close(settled_s, self._unsettled_since)):
            yield found

    async def _finish(self) -> AsyncGenerator[FoundObject, None]:
        """Settle all that is left at the end of the video."""
        for ended in await asyncio.to_thread(self._follower.finish):
            self._lookups.start(ended)
        if self._watch:
            await self._watch.finish(self._decoded.end_s or self._latest_s)
        async for found in self._join(block_above=0):
            yield found
        async for found in self._settle(self._identities.close_all()):
            yield found

    async def _join(self, *, block_above: int) -> AsyncGenerator[FoundObject, None]:
        """Join matched tracks to objects; wait while too many are in work."""
        async for matched in self._lookups.ended(block_above=block_above):
            told_as = self._previews.end(matched.track.track_id) if self._previews else None
            item = self._identities.add(matched, told_as=told_as)
            if self._options.provisional and item.last_seen_s <= self._cleared_s():
                found = await self._found(item, final=False)
                if self._tells_early(found):
                    yield found

    def _tells_early(self, found: FoundObject) -> bool:
        """Return whether an object that may still change is told; remember that it was."""
        sure = self._is_sure(found.match)
        if sure:
            self._told.add(found.object_id)
        return sure

    async def _settle(self, items: Sequence[TrackedObject]) -> AsyncGenerator[FoundObject, None]:
        """Yield objects that are final, without those that the caller finds too unsure and was not told of."""
        for item in items:
            found = await self._found(item, final=True)
            names = {found.object_id, *found.supersedes}
            if self._is_sure(found.match) or names & self._told:
                self._told -= names
                self._objects += 1
                yield found
            else:
                self._left_out += 1

    def _is_sure(self, match: MatchOutcome | None) -> bool:
        floor = self._options.min_object_confidence
        return floor is None or (match is not None and match.confidence is not None and match.confidence >= floor)

    def _cleared_s(self) -> float:
        """Return the moment of the film up to which nothing will be found sensitive any more."""
        return self._watch.cleared_s if self._watch else math.inf

    def _unsettled_since(self, category: str) -> float | None:
        """Return the earliest start of a category's tracks that have not been joined to an object."""
        starts = (self._lookups.earliest_start(category), self._follower.followed_since(category))
        return min((start for start in starts if start is not None), default=None)

    async def _found(self, item: TrackedObject, *, final: bool) -> FoundObject:
        segments = item.segments(self._max_gap_s)
        area = max(seen.box.area for seen in item.observations())
        asked = self._options.matching is not None or self._options.offers.opt_out
        withheld = self._gate.before_telling(item.category, segments, area=area) if asked else None
        # What is too little may be judged otherwise later: its views are kept for that.
        judged = withheld in {None, Withheld.TOO_LITTLE_SEEN}
        match = await self._lookups.match_object(item) if judged else None
        if final:
            self._unmatched += bool(match and match.failure)
            if withheld:
                self._withheld += 1
                metrics.OBJECTS_WITHHELD.labels(withheld.name).inc()
            decision = match.decision.name if match and match.decision else "NONE"
            metrics.OBJECTS_FOUND.labels(decision).inc()
        return FoundObject(
            object_id=item.object_id,
            label=item.label(),
            category=item.category,
            detection_score=item.detection_score,
            segments=segments,
            observations=item.observations(),
            best_view=item.best_view(),
            match=match,
            final=final,
            withheld=withheld,
            supersedes=tuple(item.supersedes),
            worn=item.worn,
        )

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
        return Progress(
            time_s=time_s,
            fraction=fraction,
            frames_sampled=self._decoding.items,
            frames_detected=self._detecting.items,
            objects_final=self._objects,
            frames_dropped=self._live.dropped if self._live else 0,
            segments_matched=self._lookups.clock.items,
        )

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
        searched = self._lookups.searched
        return Summary(
            video=self._video,
            frames_sampled=self._decoding.items,
            frames_failed=self._detecting.failed,
            objects=self._objects,
            objects_unmatched=self._unmatched,
            decoding=self._decoded,
            detection_models=self._models,
            embedder=searched.embedder if searched else None,
            catalog_revision=searched.catalog_revision if searched else None,
            elapsed_s=elapsed_s,
            stages=[clock.timing() for clock in (self._decoding, self._detecting, self._lookups.clock)],
            failures=tuple(self._failures.values()),
            objects_withheld=self._withheld,
            sensitive_ranges=self._watch.ranges if self._watch else (),
            opted_out=self._options.offers.opt_out,
            frames_dropped=self._live.dropped if self._live else 0,
            objects_left_out=self._left_out,
        )

    async def _close(self) -> None:
        for part in (self._lookups, self._previews, self._watch):
            if part is not None:
                await part.close()
