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
from shoppable.orchestrator.following import Follower
from shoppable.orchestrator.frames import frame_pixels
from shoppable.orchestrator.heartbeat import with_progress
from shoppable.orchestrator.identity import Identities, TrackedObject
from shoppable.orchestrator.live import LatestFrames
from shoppable.orchestrator.lookups import Lookups
from shoppable.orchestrator.offers import OfferGate, nothing_barred
from shoppable.orchestrator.ports import ContentClassifier, FrameSource, ObjectDetector, ProductMatcher
from shoppable.orchestrator.previews import Previews
from shoppable.orchestrator.sensitivity import SensitivityWatch, WatchSettings
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.orchestrator.tally import Tally
from shoppable.runtime.errors import DataLossError
from shoppable.v1 import common_pb2

_PROGRESS_EVERY_S = 0.5  # of work; the contract promises one a second
# Tracks that wait for the matcher until the detector waits for them, as a multiple of those that are matched at a time.
# All things of a scene end with it: a live stream's next frames are looked at before these are matched.
_MOST_WAITING, _MOST_WAITING_LIVE = 4, 16


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
        self._tally = Tally(options)
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
            self._watch = SensitivityWatch(
                stages.classifier, closeness, record=lambda s: self._tally.fail("classify", s)
            )
        self._gate = OfferGate(options.offers, self._watch.barred if self._watch else nothing_barred)
        self._lookups = Lookups(
            stages.matcher,
            options.matching,
            self._gate,
            at_a_time=settings.matches_in_flight,
            tally=self._tally,
        )
        self._previews: Previews | None = None
        if options.provisional:
            self._previews = Previews(
                self._lookups, self._gate, new_id=self._identities.new_id, cleared_s=self._cleared_s
            )
        self._live = None if options.max_lag_s is None else LatestFrames(max_lag_s=options.max_lag_s)
        self._most_in_match = (_MOST_WAITING_LIVE if self._live else _MOST_WAITING) * settings.matches_in_flight
        self._known_s: float | None = None  # the latest moment whose objects are known
        self._told: set[str] = set()  # ids of objects that were told as provisional and are not final

    async def run(self, source: common_pb2.VideoSource, chunks: AsyncIterable[bytes]) -> AsyncGenerator[Event, None]:
        """Yield the video's info, progress and objects as they become known, and a summary. Raises ServiceError."""
        started = time.perf_counter()
        if self._options.matching:
            await self._stages.matcher.check(self._options.matching)
        if self._options.asked_to_exclude:
            await self._stages.detector.check(self._options)
        try:
            async with (
                contextlib.aclosing(self._annotate(source, chunks)) as steps,
                contextlib.aclosing(with_progress(steps, self._progress, every_s=_PROGRESS_EVERY_S)) as events,
            ):
                async for event in events:
                    yield event
                    # While progress is told, the last object that is wanted may be on its way.
                    if isinstance(event, FoundObject) and self._tally.objects == self._options.max_objects:
                        break
        finally:
            await self._close()
        yield self._summary(time.perf_counter() - started)

    async def _annotate(
        self, source: common_pb2.VideoSource, chunks: AsyncIterable[bytes]
    ) -> AsyncGenerator[Event | None, None]:
        """Yield what becomes known, and None after each frame."""
        first = True
        broken: Exception | None = None
        try:
            async with (
                contextlib.aclosing(self._kept(self._frames(source, chunks))) as frames,
                contextlib.aclosing(self._stages.detector.detect(frames, self._options)) as detected,
            ):
                async for item in detected:
                    if not isinstance(item, DetectedFrame):
                        self._tally.models = item
                        continue
                    if first:
                        first = False
                        yield self._tally.video
                    async for found in self._take(item):
                        yield found
                    self._known_s = item.frame.time_s
                    yield None
        except DataLossError as error:
            broken = error  # what was found before is good, and is told before the error
        if first:
            yield self._tally.video
        self._tally.check_detected()
        async for found in self._finish():
            yield found
        if broken:
            raise broken
        yield self._tally.progress(None, dropped=self._dropped())

    async def _frames(
        self, source: common_pb2.VideoSource, chunks: AsyncIterable[bytes]
    ) -> AsyncGenerator[Frame, None]:
        """Yield the decoder's frames; keep what else it says."""
        async with contextlib.aclosing(self._stages.frames.decode(source, chunks, self._options)) as items:
            while True:
                with self._tally.decoding.working():
                    item = await anext(items, None)
                if item is None:
                    return
                if isinstance(item, Frame):
                    self._tally.decoding.items += 1
                    yield item
                elif isinstance(item, DecodeSummary):
                    self._tally.decoded = item
                else:
                    self._tally.video = item

    async def _kept(self, frames: AsyncGenerator[Frame, None]) -> AsyncGenerator[Frame, None]:
        """Yield the frames that are looked at: of a film all, of a live stream those that can be kept up with."""
        async with contextlib.aclosing(self._live.keep(frames) if self._live else frames) as kept:
            async for frame in kept:
                self._tally.detecting.begin()
                yield frame

    async def _take(self, detected: DetectedFrame) -> AsyncGenerator[FoundObject, None]:
        """Follow the objects of a frame; yield what became known by it."""
        time_s = detected.frame.time_s
        detecting = self._tally.detecting
        detecting.end()
        detecting.items += 1
        if detected.failure:
            detecting.failed += 1
            self._tally.fail("detect", detected.failure)
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
        async for found in self._settle(self._identities.close(settled_s, self._unsettled)):
            yield found

    async def _finish(self) -> AsyncGenerator[FoundObject, None]:
        """Settle all that is left at the end of the video."""
        for ended in await asyncio.to_thread(self._follower.finish):
            self._lookups.start(ended)
        if self._watch:
            await self._watch.finish(self._tally.decoded.end_s or self._known_s or 0.0)
        async for found in self._join(block_above=0):
            yield found
        async for found in self._settle(self._identities.close_all()):
            yield found

    async def _join(self, *, block_above: int) -> AsyncGenerator[FoundObject, None]:
        """Join matched tracks to objects; wait while too many are in work."""
        async for ended, match in self._lookups.ended(block_above=block_above):
            told_as = self._previews.end(ended.track.track_id) if self._previews else None
            item = self._identities.add(ended, match, told_as=told_as)
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
            self._tally.settle(found)
            names = {found.object_id, *found.supersedes}
            if self._is_sure(found.match) or names & self._told:
                self._told -= names
                self._tally.objects += 1
                yield found
            else:
                self._tally.left_out += 1

    def _is_sure(self, match: MatchOutcome | None) -> bool:
        floor = self._options.min_object_confidence
        return floor is None or (match is not None and match.confidence is not None and match.confidence >= floor)

    def _cleared_s(self) -> float:
        """Return the moment of the film up to which nothing will be found sensitive any more."""
        return self._watch.cleared_s if self._watch else math.inf

    def _unsettled(self, category: str) -> list[float]:
        """Return the starts of a category's tracks that have not been joined to an object."""
        return self._lookups.starts(category) + self._follower.starts(category)

    async def _found(self, item: TrackedObject, *, final: bool) -> FoundObject:
        segments = item.segments(self._max_gap_s)
        area = max(seen.box.area for seen in item.observations())
        asked = self._options.matching is not None or self._options.offers.opt_out
        withheld = self._gate.before_telling(item.category, segments, area=area) if asked else None
        # What is too little may be judged otherwise later: its views are kept for that.
        judged = withheld in {None, Withheld.TOO_LITTLE_SEEN}
        match = await self._lookups.match_object(item) if judged else None
        return FoundObject(
            object_id=item.object_id,
            label=item.label(),
            category=item.category,
            detection_score=item.detection_score,
            segments=segments,
            observations=item.observations(),
            best_view=item.best_view,
            match=match,
            final=final,
            withheld=withheld,
            supersedes=tuple(item.supersedes),
            worn=item.worn,
        )

    def _progress(self) -> Progress | None:
        """Return how far the work is; None while no frame was looked at, and the video is not told."""
        return None if self._known_s is None else self._tally.progress(self._known_s, dropped=self._dropped())

    def _dropped(self) -> int:
        return self._live.dropped if self._live else 0

    def _summary(self, elapsed_s: float) -> Summary:
        return self._tally.summary(
            elapsed_s,
            dropped=self._dropped(),
            searched=self._lookups.searched,
            sensitive_ranges=self._watch.ranges if self._watch else (),
        )

    async def _close(self) -> None:
        for part in (self._lookups, self._previews, self._watch):
            if part is not None:
                await part.close()
