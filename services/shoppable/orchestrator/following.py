"""Follows the objects of one video: detections of a frame in, tracks with their best views out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count

from shoppable.orchestrator.camera import STILL, Camera
from shoppable.orchestrator.domain import DetectedFrame, Detection, Frame, Pixels, Segment, Vector, View
from shoppable.orchestrator.tracking import Sighting, Track, Tracker
from shoppable.orchestrator.views import BestViews, colours, crop, quality
from shoppable.orchestrator.wearing import WornTracker, people_of

# Of two detections of one category, the smaller is a part of the larger if this share of it lies inside: a plant's pot
# is seen as a vase.
_PART_INSIDE = 0.85
_PART_SIZE = 0.6  # of the larger's area; a thing as large as the whole is no part
_FRAME_S = 0.04  # how long a frame is taken to last while there is only one
_MAX_SIGHTINGS = 100  # of a frame, the surest


@dataclass(frozen=True)
class EndedTrack:
    """A track that ended, when it was there, and its best views, best first."""

    track: Track
    segment: Segment
    views: Sequence[View]
    shot: int = 0  # how many cuts were before it

    @cached_property
    def looks(self) -> Sequence[Vector]:
        """The colours of its views."""
        return tuple(colours(view.crop) for view in self.views)


class Follower:
    """Follows the objects of one video. Blocking: call it in a thread, frame by frame."""

    def __init__(
        self,
        *,
        max_gap_s: float,
        min_observations: int,
        views_per_object: int,
        read_pixels: Callable[[Frame], Pixels],
        box_tolerance: float = 0.0,
    ) -> None:
        ids = count(1)
        self._tracker = Tracker(max_gap_s=max_gap_s, tolerance=box_tolerance, ids=ids)
        self._worn = WornTracker(max_gap_s=max_gap_s, tolerance=box_tolerance, ids=ids)
        self._max_gap_s = max_gap_s
        self._camera = Camera()
        self._min_observations = min_observations
        self._views_per_object = views_per_object
        self._read_pixels = read_pixels
        self._views: dict[int, BestViews] = {}
        self._latest_s: float | None = None
        self._interval_s = _FRAME_S  # between the two latest frames
        self._shot = 0

    def take(self, detected: DetectedFrame) -> list[EndedTrack]:
        """Take in a frame and return the tracks that ended before it. A frame that is not later says nothing new."""
        frame = detected.frame
        if self._latest_s is not None and frame.time_s <= self._latest_s:
            return []
        # What is followed costs time by the square of its number; who shows us more than this shows noise.
        strongest = sorted(detected.detections, key=lambda item: -item.score)[:_MAX_SIGHTINGS]
        whole = without_parts([item for item in strongest if item.derivation is None])
        derived = [item for item in strongest if item.derivation is not None]
        people = people_of(derived)
        looked_at = [*whole, *derived, *people]
        crops: list[Pixels] = []
        shift = STILL
        if frame.scene_cut or not (looked_at or self._active):
            self._camera.forget()
        if looked_at or self._active:
            pixels = self._read_pixels(frame)
            shift = self._camera.shift(pixels)
            crops = [crop(pixels, item.box) for item in looked_at]
        if self._latest_s is not None:
            self._interval_s = frame.time_s - self._latest_s
        sightings = [Sighting(item, colours(view)) for item, view in zip(looked_at, crops, strict=True)]
        first, last = len(whole), len(whole) + len(derived)
        seen = self._tracker.update(frame.time_s, sightings[:first], scene_cut=frame.scene_cut, shift=shift)
        worn = self._worn.update(
            frame.time_s, sightings[first:last], sightings[last:], scene_cut=frame.scene_cut, shift=shift
        )
        ended = self._ended([*seen.ended, *worn.ended], cut_s=frame.time_s if frame.scene_cut else None)
        self._latest_s = frame.time_s
        self._shot += frame.scene_cut
        for track, item, view in zip([*seen.assigned, *worn.assigned], looked_at[:last], crops[:last], strict=True):
            if track is None:
                continue
            others = [other.box for other in whole if other is not item]
            rated = View(frame.time_s, item.box, view, quality(view, item.box, score=item.score, others=others))
            self._views.setdefault(track.track_id, BestViews(limit=self._views_per_object)).offer(rated)
        return ended

    @property
    def _active(self) -> Sequence[Track]:
        return [*self._tracker.active, *self._worn.active]

    def finish(self) -> list[EndedTrack]:
        """Return the tracks that were still followed, at the end of the video."""
        return self._ended([*self._tracker.finish(), *self._worn.finish()], cut_s=None)

    def starts(self, category: str) -> list[float]:
        """Return when the tracks of a category that have not ended began."""
        return [track.first.time_s for track in self._active if track.category == category]

    def confirmed(self) -> list[EndedTrack]:
        """Return the tracks in the picture that are no flicker, as they stand now."""
        return [
            EndedTrack(
                track,
                Segment(track.first.time_s, track.last.time_s + self._interval_s),
                self._views[track.track_id].best_first(),
            )
            for track in self._active
            if track.seen >= self._min_observations
        ]

    def _ended(self, tracks: Sequence[Track], *, cut_s: float | None) -> list[EndedTrack]:
        ended = []
        for track in tracks:
            views = self._views.pop(track.track_id).best_first()
            if track.seen < self._min_observations:
                continue  # a detector's flicker
            segment = Segment(track.first.time_s, self._end_s(track, cut_s))
            ended.append(EndedTrack(track, segment, views, self._shot))
        # Who came first is joined to what was there before first.
        return sorted(ended, key=lambda item: item.segment.start_s)

    def _end_s(self, track: Track, cut_s: float | None) -> float:
        """Return when a track was over: at the first frame without it, but not long after the last that has it."""
        seen_s = track.last.time_s
        next_s = track.unseen_from if track.unseen_from is not None else cut_s
        if next_s is None:
            next_s = seen_s + self._interval_s
        return min(next_s, seen_s + self._max_gap_s)


def without_parts(detections: Sequence[Detection]) -> list[Detection]:
    """Leave out what is a part of a larger thing of its category under another label."""
    return [item for item in detections if not any(_is_part(item, other) for other in detections)]


def _is_part(item: Detection, other: Detection) -> bool:
    return (
        item.category == other.category
        and item.label != other.label
        and item.box.area < _PART_SIZE * other.box.area
        and item.box.intersection(other.box) >= _PART_INSIDE * item.box.area
    )
