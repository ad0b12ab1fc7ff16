"""Tells whether a track is an object that was here before: a thing that left and came back, or is seen after a cut.

Two tracks are the same object if they never overlap in time and look the same. Looks are judged by the matcher's
embeddings where there are any (and by its products, which decide if both are sure), else by colours.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from shoppable.orchestrator.domain import MatchOutcome, Observation, Region, Segment, Vector, View, Worn
from shoppable.orchestrator.following import EndedTrack
from shoppable.orchestrator.tracking import Track
from shoppable.v1 import product_matcher_pb2

# Cosine of the mean embeddings of two tracks of one object against two of different ones, on the sample film:
# see tests/end_to_end. Colours alone say less, so more is asked of them.
_SAME_EMBEDDING = 0.80
_SAME_COLOURS = 0.92
_SAME_PLACE_BONUS = 0.1  # at full overlap: a thing that was covered for a while is where it was
_INSTANT = 1e-6  # seconds: finer than any frame's time
_BARELY = 1e-6  # the same product by the matcher's word alone, far from where it was and hardly alike
_MAX_TRACKS = 64  # of an object: in a picture without end a thing may come back for ever
_MAX_OPEN = 500  # objects
_NEAR_BONUS = 0.2  # for things alike enough, which of them it is: less for each frame's width or height between them


@dataclass(frozen=True)
class MatchedTrack:
    """What is kept of a track that ended; its pictures are not."""

    track: Track
    segment: Segment
    shot: int  # how many cuts were before it
    looks: Sequence[Vector]  # the colours of its views
    match: MatchOutcome | None  # what the matcher said of its views; None if no catalogue was asked for


@dataclass
class TrackedObject:
    """A thing in the video: one or more tracks that do not overlap."""

    object_id: str
    category: str
    best_view: View
    tracks: list[MatchedTrack] = field(default_factory=list)  # in order of time, at most 64
    supersedes: list[str] = field(default_factory=list)  # ids under which it was told of before it was recognised

    @property
    def last_seen_s(self) -> float:
        """When it was last in the picture."""
        return self.tracks[-1].segment.end_s

    @property
    def worn(self) -> Worn | None:
        """Where it was first seen to be worn, if it is derived from people."""
        return self.tracks[0].track.worn

    @property
    def detection_score(self) -> float:
        """The mean score of all sightings."""
        tracks = [matched.track for matched in self.tracks]
        return sum(track.score_sum for track in tracks) / sum(track.seen for track in tracks)

    def join(self, matched: MatchedTrack, best_view: View) -> None:
        """Take in a further track."""
        self.tracks.append(matched)
        self.tracks.sort(key=lambda item: item.segment.start_s)
        self.best_view = max(self.best_view, best_view, key=lambda view: view.quality)

    def observations(self) -> list[Observation]:
        """Return the sightings that are kept, in order of time."""
        return [observation for matched in self.tracks for observation in matched.track.observations]

    def segments(self, max_gap_s: float) -> list[Segment]:
        """Return when it is there: spans that nothing but a short gap parts are one, unless a cut is between."""
        joined: list[Segment] = []
        shot = -1
        for matched in self.tracks:
            segment = matched.segment
            if matched.shot == shot and segment.start_s - joined[-1].end_s <= max_gap_s:
                segment = Segment(joined.pop().start_s, segment.end_s)
            joined.append(segment)
            shot = matched.shot
        return joined

    def label(self) -> str:
        """Return the label that the detector gave most surely and most often."""
        votes: defaultdict[str, float] = defaultdict(float)
        for matched in self.tracks:
            for label, score in matched.track.label_votes.items():
                votes[label] += score
        return max(votes, key=lambda label: votes[label])

    def embeddings(self) -> list[product_matcher_pb2.Embedding]:
        """Return the embeddings of all views."""
        return [item for matched in self.tracks if matched.match for item in matched.match.embeddings]


class Identities:
    """The objects that may still come back. Feed tracks in the order in which they end."""

    def __init__(self, *, reentry_window_s: float) -> None:
        self._window_s = reentry_window_s
        self._open: list[TrackedObject] = []
        self._ids = count(1)

    def new_id(self) -> str:
        """Return an id that no object has."""
        return f"object-{next(self._ids)}"

    def add(self, ended: EndedTrack, match: MatchOutcome | None, *, told_as: str | None = None) -> TrackedObject:
        """Return the object that a track belongs to: one that came back, or a new one.

        `told_as` is the id, of `new_id`, under which the track was told of while it was in the picture, if it was.
        """
        matched = MatchedTrack(ended.track, ended.segment, ended.shot, ended.looks, match)
        scored = [(self._likeness(candidate, matched), candidate) for candidate in self._open]
        best = max(scored, key=lambda pair: pair[0], default=(0.0, None))
        if best[1] is not None and best[0] > 0:
            best[1].join(matched, ended.views[0])
            if told_as is not None:
                best[1].supersedes.append(told_as)
            return best[1]
        found = TrackedObject(told_as or self.new_id(), matched.track.category, ended.views[0], [matched])
        self._open.append(found)
        return found

    def close(self, time_s: float, unsettled: Callable[[str], Sequence[float]]) -> list[TrackedObject]:
        """Return and forget the objects that cannot change any more at a time of the video.

        `unsettled` gives the starts of a category's tracks that are not added yet: one of them may turn out to be an
        object that was last seen within the window before. Of more than 500 objects those that were last seen longest
        ago do not come back.
        """
        closed = [item for item in self._open if self._is_settled(item, time_s, unsettled(item.category))]
        if len(self._open) - len(closed) > _MAX_OPEN:
            by_age = sorted(self._open, key=lambda item: item.last_seen_s)
            closed = by_age[: max(len(closed), len(by_age) - _MAX_OPEN)]
        self._open = [item for item in self._open if not any(item is other for other in closed)]
        return closed

    def _is_settled(self, item: TrackedObject, time_s: float, unsettled: Sequence[float]) -> bool:
        seen_s = item.last_seen_s
        if seen_s >= time_s - self._window_s:
            return False
        # What began while the object was still there is another thing, however long it stays.
        return not any(seen_s - _INSTANT <= start_s <= seen_s + self._window_s for start_s in unsettled)

    def close_all(self) -> list[TrackedObject]:
        """Return and forget all objects, as at the end of the video."""
        closed, self._open = self._open, []
        return closed

    def _likeness(self, candidate: TrackedObject, matched: MatchedTrack) -> float:
        """Return by how much two things are more alike than they must be to be one; 0 or less if they are two."""
        if candidate.category != matched.track.category or _region(candidate.worn) != _region(matched.track.worn):
            return 0.0
        if len(candidate.tracks) >= _MAX_TRACKS:
            return 0.0
        if any(_overlap(earlier.segment, matched.segment) for earlier in candidate.tracks):
            return 0.0
        nearest = min(candidate.tracks, key=lambda item: abs(item.segment.end_s - matched.segment.start_s))
        if matched.segment.start_s - nearest.segment.end_s > self._window_s:
            return 0.0
        verdict = _by_products(candidate, matched)
        if verdict is False:
            return 0.0
        place, back = nearest.track.last.box, matched.track.first.box
        likeness = _looks(candidate, nearest, matched) + _SAME_PLACE_BONUS * place.iou(back)
        if not verdict and likeness <= 0:
            return 0.0
        # Of several things that are the same product, the one that looks most alike and stood nearest.
        return max(1.0 + likeness + _NEAR_BONUS * (1 - place.distance(back)), _BARELY)


def _region(worn: Worn | None) -> Region | None:
    """Return which region it is. A shirt that a model saw and where shirts are worn are two things."""
    return None if worn is None else worn.region


def _looks(candidate: TrackedObject, nearest: MatchedTrack, matched: MatchedTrack) -> float:
    """Return by how much two things look more alike than they must to be one."""
    before, now = _mean(candidate.embeddings()), _mean(matched.match.embeddings if matched.match else ())
    if before is not None and now is not None:
        return float(before @ now) - _SAME_EMBEDDING
    # One good look at each is enough: others may show what stands before them.
    return max(float(one @ other) for one in nearest.looks for other in matched.looks) - _SAME_COLOURS


def _by_products(candidate: TrackedObject, matched: MatchedTrack) -> bool | None:
    """Return whether both are surely the same product, or surely two; None if either is unsure."""
    before = {item.match.best_product for item in candidate.tracks if item.match} - {None}
    now = matched.match.best_product if matched.match else None
    return now in before if before and now is not None else None


def _mean(embeddings: Sequence[product_matcher_pb2.Embedding]) -> Vector | None:
    if not embeddings:
        return None
    mean = np.mean([np.asarray(item.values, np.float32) for item in embeddings], axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32)


def _overlap(one: Segment, other: Segment) -> bool:
    return one.start_s < other.end_s - _INSTANT and other.start_s < one.end_s - _INSTANT
