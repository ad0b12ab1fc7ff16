"""Links detections of successive frames into tracks: one track is one object in one unbroken span of time.

Sightings are assigned to tracks so that their likeness is greatest in sum (the Hungarian method, as in SORT: Bewley et
al., ICIP 2016). What a detector calls now a bottle and now a vase, at one place, is one object.

This file knows nothing of pictures but the small colour vectors that come with detections.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from scipy.optimize import linear_sum_assignment

from shoppable.orchestrator import likeness
from shoppable.orchestrator.camera import STILL, Shift
from shoppable.orchestrator.domain import Box, Detection, Observation, Vector, Worn
from shoppable.orchestrator.thinning import ThinnedBoxes

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

    def __init__(
        self, track_id: int, time_s: float, sighting: Sighting, *, tolerance: float = 0.0, worn: Worn | None = None
    ) -> None:
        self.track_id = track_id
        self.worn = worn  # None: a model sees it
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
    """Follows the objects of one video. Feed frames in order of time. `ids` may be shared with another tracker."""

    def __init__(self, *, max_gap_s: float, tolerance: float = 0.0, ids: Iterator[int] | None = None) -> None:
        self._max_gap_s = max_gap_s
        self._tolerance = tolerance
        self._active: list[Track] = []
        self._ids = count(1) if ids is None else ids

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
        free = list(self._active)
        for compare in (_continued, _renamed):
            left = [index for index, track in enumerate(assigned) if track is None]
            if not free or not left:
                break
            alike = compare(free, [sightings[index] for index in left], time_s)
            for row, column in zip(*linear_sum_assignment(alike, maximize=True), strict=True):
                if alike[row, column] > 0:
                    free[row].add(time_s, sightings[left[column]])
                    assigned[left[column]] = free[row]
            free = [track for track in free if track.last.time_s < time_s]
        for track in free:
            track.unseen_from = time_s if track.unseen_from is None else track.unseen_from
        for index in sorted(range(len(sightings)), key=lambda index: -sightings[index].detection.score):
            if assigned[index] is None and not _is_named_already(sightings, assigned, index):
                track = Track(next(self._ids), time_s, sightings[index], tolerance=self._tolerance)
                self._active.append(track)
                assigned[index] = track
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
        track is not None and sighting.detection.box.iou(box) >= likeness.SAME_PLACE
        for track, sighting in zip(assigned, sightings, strict=True)
    )


def _continued(tracks: Sequence[Track], sightings: Sequence[Sighting], time_s: float) -> likeness.Matrix:
    predicted, still, seen = _boxes(tracks, sightings, time_s)
    colours = np.stack([track.colours for track in tracks]) @ np.stack([item.colours for item in sightings]).T
    categories = np.array([track.category for track in tracks])
    same_category = categories[:, None] == np.array([item.detection.category for item in sightings])[None, :]
    return likeness.as_continued(predicted, still, seen, colours, same_category)


def _renamed(tracks: Sequence[Track], sightings: Sequence[Sighting], time_s: float) -> likeness.Matrix:
    return likeness.under_another_name(*_boxes(tracks, sightings, time_s))


def _boxes(
    tracks: Sequence[Track], sightings: Sequence[Sighting], time_s: float
) -> tuple[likeness.Matrix, likeness.Matrix, likeness.Matrix]:
    """Return where the tracks should be if they go on, and if they stood still, and where things are seen."""
    return (
        likeness.matrix([track.predict(time_s) for track in tracks]),
        likeness.matrix([track.stay() for track in tracks]),
        likeness.matrix([item.detection.box for item in sightings]),
    )


def _observation(time_s: float, detection: Detection) -> Observation:
    return Observation(time_s, detection.box, detection.score, detection.label)


def _moved(box: Box, dx: float, dy: float) -> Box:
    return Box(box.left + dx, box.top + dy, box.right + dx, box.bottom + dy)
