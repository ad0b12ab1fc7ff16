"""Links detections of successive frames into tracks: one track is one object in one unbroken span of time.

Sightings are assigned to tracks so that their likeness is greatest in sum (the Hungarian method, as in SORT: Bewley et
al., ICIP 2016). Likeness adds overlap with the predicted box, closeness, and colour, since at five frames a second a
moving object may no longer overlap its own last box. What a detector calls now a bottle and now a vase, at one place,
is one object.

This file knows nothing of pictures but the small colour vectors that come with detections.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from scipy.optimize import linear_sum_assignment

from shoppable.orchestrator.camera import STILL, Shift
from shoppable.orchestrator.domain import Box, Detection, Observation, Vector
from shoppable.orchestrator.thinning import ThinnedBoxes

# Shares of the likeness; they add up to 1.
_OVERLAP, _CLOSENESS, _COLOUR = 0.5, 0.2, 0.3
_MIN_LIKENESS = 0.35
_MAX_SIZE_RATIO = 3.0  # between two sightings; beyond, it is another thing
_SAME_PLACE = 0.7  # overlap from which things of two categories are one under two names
_VELOCITY_MEMORY = 0.7  # share of the old velocity that is kept at each sighting
_COLOUR_MEMORY = 0.8
_MAX_ACTIVE = 200  # tracks followed at a time; what was not seen for longest is given up first


@dataclass(frozen=True)
class Sighting:
    """A detection with the colours of its crop (see `views.colours`)."""

    detection: Detection
    colours: Vector


class Track:
    """An object that is being followed, or was, from its first sighting on. `tolerance`: see `ThinnedBoxes`."""

    def __init__(self, track_id: int, time_s: float, sighting: Sighting, *, tolerance: float = 0.0) -> None:
        self.track_id = track_id
        self.colours = sighting.colours
        self.velocity = (0.0, 0.0)  # of the centre in the scene, frame widths and heights a second
        self.seen = 0  # sightings, also those whose boxes are not kept
        self.score_sum = 0.0
        self.unseen_from: float | None = None  # time of the first frame since the latest sighting
        self.label_votes: defaultdict[str, float] = defaultdict(float)  # summed scores
        self._category_votes: defaultdict[str, float] = defaultdict(float)
        self._drift = (0.0, 0.0)  # by which the camera moved the picture since the latest sighting
        self._boxes = ThinnedBoxes(tolerance)
        self.first = self.last = _observation(time_s, sighting.detection)
        self._take(self.last, sighting.detection.category)

    @property
    def category(self) -> str:
        """The category of which the detector was surest and most often sure."""
        return max(self._category_votes, key=lambda category: self._category_votes[category])

    @property
    def observations(self) -> Sequence[Observation]:
        """The sightings that are kept, in order of time: between them the object moved in straight lines."""
        return self._boxes.boxes()

    def predict(self, time_s: float) -> Box:
        """Return where the object should be at a time, at its last size and steady speed."""
        elapsed = time_s - self.last.time_s
        dx, dy = self.velocity[0] * elapsed + self._drift[0], self.velocity[1] * elapsed + self._drift[1]
        return _moved(self.last.box, dx, dy)

    def stay(self) -> Box:
        """Return where the object should be if it stood still in the scene."""
        return _moved(self.last.box, *self._drift)

    def shift(self, dx: float, dy: float) -> None:
        """Take in that the camera moved the picture, in frame widths and heights."""
        self._drift = self._drift[0] + dx, self._drift[1] + dy

    def add(self, time_s: float, sighting: Sighting) -> None:
        """Take in a sighting that is later than all before."""
        elapsed = time_s - self.last.time_s
        (old_x, old_y), (new_x, new_y) = self.stay().centre, sighting.detection.box.centre
        keep = _VELOCITY_MEMORY if self.seen > 1 else 0.0
        self.velocity = (
            keep * self.velocity[0] + (1 - keep) * (new_x - old_x) / elapsed,
            keep * self.velocity[1] + (1 - keep) * (new_y - old_y) / elapsed,
        )
        mixed = _COLOUR_MEMORY * self.colours + (1 - _COLOUR_MEMORY) * sighting.colours
        self.colours = mixed / max(float(np.linalg.norm(mixed)), 1e-9)
        self._drift, self.unseen_from = (0.0, 0.0), None
        self.last = _observation(time_s, sighting.detection)
        self._take(self.last, sighting.detection.category)

    def _take(self, seen: Observation, category: str) -> None:
        self._boxes.add(seen)
        self.seen += 1
        self.score_sum += seen.score
        self.label_votes[seen.label] += seen.score
        self._category_votes[category] += seen.score


@dataclass(frozen=True)
class Step:
    """What one frame changed: the track of each sighting, in the frame's order, and the tracks that ended.

    A sighting without a track is another name for a thing that has one.
    """

    assigned: Sequence[Track | None]
    ended: Sequence[Track]


class Tracker:
    """Follows the objects of one video. Feed frames in order of time."""

    def __init__(self, *, max_gap_s: float, tolerance: float = 0.0) -> None:
        self._max_gap_s = max_gap_s
        self._tolerance = tolerance
        self._active: list[Track] = []
        self._ids = count(1)

    @property
    def active(self) -> Sequence[Track]:
        """The tracks that have not ended."""
        return self._active

    def update(self, time_s: float, sightings: Sequence[Sighting], *, scene_cut: bool, shift: Shift = STILL) -> Step:
        """Take in a frame. A cut ends all tracks before it. `shift` is by how much the camera moved the picture."""
        ended = self.finish() if scene_cut else self._end_unseen(time_s)
        for track in self._active:
            track.shift(*shift)
        assigned: list[Track | None] = [None] * len(sightings)
        for likeness in (_likeness, _likeness_under_another_name):
            free = [track for track in self._active if not any(track is taken for taken in assigned)]
            left = [index for index, track in enumerate(assigned) if track is None]
            for track, index in _associate(free, [(i, sightings[i]) for i in left], time_s, likeness):
                track.add(time_s, sightings[index])
                assigned[index] = track
        for index in sorted(range(len(sightings)), key=lambda index: -sightings[index].detection.score):
            if assigned[index] is None and not _is_named_already(sightings, assigned, index):
                track = Track(next(self._ids), time_s, sightings[index], tolerance=self._tolerance)
                self._active.append(track)
                assigned[index] = track
        for track in self._active:
            if track.unseen_from is None and not any(track is taken for taken in assigned):
                track.unseen_from = time_s
        return Step(assigned, ended)

    def finish(self) -> list[Track]:
        """End all tracks, as at the end of the video or at a cut."""
        ended, self._active = self._active, []
        return ended

    def _end_unseen(self, time_s: float) -> list[Track]:
        """End what was missed in a frame and is gone for too long. Where frames are far apart, none is missed."""
        latest_first = sorted(self._active, key=lambda track: -track.last.time_s)
        ended = [track for track in latest_first[:_MAX_ACTIVE] if self._is_gone(track, time_s)]
        ended += latest_first[_MAX_ACTIVE:]
        self._active = [track for track in self._active if not any(track is other for other in ended)]
        return ended

    def _is_gone(self, track: Track, time_s: float) -> bool:
        return track.unseen_from is not None and time_s - track.last.time_s > self._max_gap_s


def _is_named_already(sightings: Sequence[Sighting], assigned: Sequence[Track | None], index: int) -> bool:
    """Return whether a sighting is that of a thing which this frame already has under another name."""
    box = sightings[index].detection.box
    return any(
        track is not None and sighting.detection.box.iou(box) >= _SAME_PLACE
        for track, sighting in zip(assigned, sightings, strict=True)
    )


def _associate(
    tracks: Sequence[Track],
    sightings: Sequence[tuple[int, Sighting]],
    time_s: float,
    likeness_of: Callable[[Track, Sighting, float], float],
) -> list[tuple[Track, int]]:
    """Return the pairs of tracks and sightings' indices that are most alike in sum."""
    if not tracks or not sightings:
        return []
    likeness = np.array([[likeness_of(track, item, time_s) for _, item in sightings] for track in tracks])
    rows, columns = linear_sum_assignment(likeness, maximize=True)
    return [
        (tracks[row], sightings[column][0])
        for row, column in zip(rows, columns, strict=True)
        if likeness[row, column] >= _MIN_LIKENESS
    ]


def _likeness(track: Track, sighting: Sighting, time_s: float) -> float:
    """Return how well a sighting continues a track, 0..1; 0 if it cannot."""
    detection = sighting.detection
    if detection.category != track.category:
        return 0.0
    ratio = detection.box.area / max(track.last.box.area, 1e-9)
    if not 1 / _MAX_SIZE_RATIO <= ratio <= _MAX_SIZE_RATIO:
        return 0.0
    predicted = track.predict(time_s)
    reach = math.hypot(predicted.right - predicted.left, predicted.bottom - predicted.top)
    closeness = max(0.0, 1.0 - predicted.distance(detection.box) / max(reach, 1e-9))
    if closeness == 0.0:  # further than its own diagonal from where it should be
        return 0.0
    overlap = max(predicted.iou(detection.box), track.stay().iou(detection.box))
    colour = float(track.colours @ sighting.colours)
    return _OVERLAP * overlap + _CLOSENESS * closeness + _COLOUR * colour


def _likeness_under_another_name(track: Track, sighting: Sighting, time_s: float) -> float:
    """Return how well a sighting of another category stands at a track's place, 0..1; 0 if it does not."""
    box = sighting.detection.box
    overlap = max(track.predict(time_s).iou(box), track.stay().iou(box))
    return overlap if overlap >= _SAME_PLACE else 0.0


def _observation(time_s: float, detection: Detection) -> Observation:
    return Observation(time_s, detection.box, detection.score, detection.label)


def _moved(box: Box, dx: float, dy: float) -> Box:
    return Box(box.left + dx, box.top + dy, box.right + dx, box.bottom + dy)
