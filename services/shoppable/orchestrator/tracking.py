"""Links detections of successive frames into tracks: one track is one object in one unbroken span of time.

Sightings are assigned to tracks so that their likeness is greatest in sum (the Hungarian method, as in SORT: Bewley et
al., ICIP 2016). Likeness adds overlap with the predicted box, closeness, and colour, since at five frames a second a
moving object may no longer overlap its own last box. What a detector calls now a bottle and now a vase, at one place,
is one object.

This file knows nothing of pictures but the small colour vectors that come with detections.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from scipy.optimize import linear_sum_assignment

from shoppable.orchestrator.camera import STILL, Shift
from shoppable.orchestrator.domain import Box, Detection, Observation, Vector

# Shares of the likeness; they add up to 1.
_OVERLAP, _CLOSENESS, _COLOUR = 0.5, 0.2, 0.3
_MIN_LIKENESS = 0.35
_MAX_SIZE_RATIO = 3.0  # between two sightings; beyond, it is another thing
_SAME_PLACE = 0.7  # overlap from which things of two categories are one under two names
_VELOCITY_MEMORY = 0.5  # share of the old velocity that is kept at each sighting
_COLOUR_MEMORY = 0.8


@dataclass(frozen=True)
class Sighting:
    """A detection with the colours of its crop (see `views.colours`)."""

    detection: Detection
    colours: Vector


@dataclass
class Track:
    """An object that is being followed, or was."""

    track_id: int
    colours: Vector
    observations: list[Observation] = field(default_factory=list)
    velocity: tuple[float, float] = (0.0, 0.0)  # of the centre in the scene, frame widths and heights a second
    _drift: tuple[float, float] = (0.0, 0.0)  # by which the camera moved the picture since the latest sighting
    _votes: dict[str, float] = field(default_factory=dict)  # summed scores by category

    @property
    def category(self) -> str:
        """The category of which the detector was surest and most often sure."""
        return max(self._votes, key=lambda category: self._votes[category])

    @property
    def last(self) -> Observation:
        """The latest sighting."""
        return self.observations[-1]

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
        """Take in a sighting."""
        detection = sighting.detection
        self._votes[detection.category] = self._votes.get(detection.category, 0.0) + detection.score
        if self.observations and time_s > self.last.time_s:
            elapsed = time_s - self.last.time_s
            (old_x, old_y), (new_x, new_y) = self.stay().centre, detection.box.centre
            keep = _VELOCITY_MEMORY if len(self.observations) > 1 else 0.0
            self.velocity = (
                keep * self.velocity[0] + (1 - keep) * (new_x - old_x) / elapsed,
                keep * self.velocity[1] + (1 - keep) * (new_y - old_y) / elapsed,
            )
            mixed = _COLOUR_MEMORY * self.colours + (1 - _COLOUR_MEMORY) * sighting.colours
            self.colours = mixed / max(float(np.linalg.norm(mixed)), 1e-9)
        self._drift = (0.0, 0.0)
        self.observations.append(Observation(time_s, detection.box, detection.score, detection.label))


@dataclass(frozen=True)
class Step:
    """What one frame changed: the track of each sighting, in the frame's order, and the tracks that ended.

    A sighting without a track is another name for a thing that has one.
    """

    assigned: Sequence[Track | None]
    ended: Sequence[Track]


class Tracker:
    """Follows the objects of one video. Feed frames in order of time."""

    def __init__(self, *, max_gap_s: float) -> None:
        self._max_gap_s = max_gap_s
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
                track = Track(next(self._ids), sightings[index].colours)
                track.add(time_s, sightings[index])
                self._active.append(track)
                assigned[index] = track
        return Step(assigned, ended)

    def finish(self) -> list[Track]:
        """End all tracks, as at the end of the video or at a cut."""
        ended, self._active = self._active, []
        return ended

    def _end_unseen(self, time_s: float) -> list[Track]:
        ended = [track for track in self._active if time_s - track.last.time_s > self._max_gap_s]
        self._active = [track for track in self._active if time_s - track.last.time_s <= self._max_gap_s]
        return ended


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


def _moved(box: Box, dx: float, dy: float) -> Box:
    return Box(box.left + dx, box.top + dy, box.right + dx, box.bottom + dy)
