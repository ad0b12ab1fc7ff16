"""How well things keep their identity: what a detector might say of known frames, and the measures of TrackEval.

A thing counts in a frame if enough of it can be seen. What is said of a thing that is there and hidden is neither
right nor wrong, as in the benchmarks that the measures come from.
"""

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from shoppable.orchestrator.domain import Box, DetectedFrame, Detection, Frame, Pixels
from shoppable.orchestrator.following import Follower
from shoppable.orchestrator.identity import Identities, TrackedObject
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.v1 import common_pb2
from support.moving_scenes import Shot, TrueThing

with contextlib.redirect_stdout(io.StringIO()):  # it tells which benchmarks it cannot read here
    from trackeval.metrics import CLEAR, HOTA, Identity

COUNTS_FROM = 0.35  # visible share
_SAME_BOX = 0.5  # intersection over union
_QUIET = {"PRINT_CONFIG": False}
Said = Mapping[int, Box]  # in one frame, by the object's number


@dataclass(frozen=True)
class TrackingScore:
    """What TrackEval says of one clip, and how many objects were reported for how many things."""

    hota: float  # 0..1, the mean over overlaps from 0.05 to 0.95
    association: float  # 0..1, HOTA's share that is about identity alone
    idf1: float
    mota: float
    switches: int
    objects: int
    things: int

    @property
    def objects_per_thing(self) -> float:
        return self.objects / self.things


def noisy(shots: Sequence[Shot], seed: int) -> list[DetectedFrame]:
    """Return what a detector might say: boxes that tremble, misses, wrong names, and things that are not there."""
    chance = np.random.default_rng(seed)
    kinds = sorted({(thing.label, thing.category) for shot in shots for thing in shot.things})
    frames = []
    for index, shot in enumerate(shots):
        found = [seen for thing in shot.things if (seen := _noisy_thing(thing, kinds, chance))]
        if chance.random() < 0.08:
            label, category = kinds[chance.integers(len(kinds))]
            left, top = chance.uniform(0, 0.85, 2)
            found.append(Detection(label, category, Box(left, top, left + 0.12, top + 0.15), chance.uniform(0.3, 0.5)))
        frame = Frame(index, shot.time_s, common_pb2.Image(), shot.after_cut)
        frames.append(DetectedFrame(frame, [found[place] for place in chance.permutation(len(found))]))
    return frames


def _noisy_thing(thing: TrueThing, kinds: Sequence[tuple[str, str]], chance: np.random.Generator) -> Detection | None:
    seen = thing.visibility
    if chance.random() > np.interp(seen, [0.2, 0.4, 0.8], [0.0, 0.6, 0.96]):
        return None
    left, top, right, bottom = thing.box
    trembling = 0.03 * (2 - seen) * np.array([right - left, bottom - top] * 2)
    left, top, right, bottom = np.clip(np.array(thing.box) + chance.normal(0, trembling), 0, 1)
    if left >= right or top >= bottom:
        return None
    label, category = kinds[chance.integers(len(kinds))] if chance.random() < 0.02 else (thing.label, thing.category)
    score = float(np.clip(chance.normal(0.8 * np.sqrt(seen), 0.08), 0.25, 0.99))
    return Detection(label, category, Box(float(left), float(top), float(right), float(bottom)), score)


def followed(frames: Iterable[DetectedFrame], pictures: Mapping[int, Pixels]) -> list[TrackedObject]:
    """Return the objects that the orchestrator makes of frames, without a catalogue: by place and colours alone."""
    settings = OrchestratorSettings()
    follower = Follower(
        max_gap_s=settings.max_gap_s,
        min_observations=settings.min_observations,
        views_per_object=settings.views_per_object,
        read_pixels=lambda frame: pictures[frame.index],
    )
    identities = Identities(reentry_window_s=settings.reentry_window_s)
    objects: dict[str, TrackedObject] = {}
    ended = [track for frame in frames for track in follower.take(frame)]
    for track in [*ended, *follower.finish()]:
        found = identities.add(track, None)
        objects[found.object_id] = found
    return list(objects.values())


def said_by(objects: Iterable[TrackedObject], times: Sequence[float]) -> list[dict[int, Box]]:
    """Return where the objects were seen at each of the times."""
    said: dict[float, dict[int, Box]] = {time_s: {} for time_s in times}
    for number, item in enumerate(objects):
        for seen in item.observations():
            said[seen.time_s][number] = seen.box
    return list(said.values())


def named_truly(shots: Sequence[Shot], frames: Sequence[DetectedFrame]) -> list[dict[int, Box]]:
    """Return the detections as if each had been given to the thing that it shows: what no tracker can better."""
    said = []
    for shot, frame in zip(shots, frames, strict=True):
        boxes = [item.box for item in frame.detections]
        alike = _overlaps(shot.things, boxes)
        rows, columns = linear_sum_assignment(alike, maximize=True)
        pairs = zip(rows, columns, strict=True)
        said.append({shot.things[row].who: boxes[column] for row, column in pairs if alike[row, column] > 0})
    return said


def scored(truth: Sequence[Sequence[TrueThing]], said: Sequence[Said]) -> TrackingScore:
    """Compare, frame by frame."""
    there, told, likeness = [], [], []
    for things, boxes in zip(truth, said, strict=True):
        boxes = _without_hidden(things, boxes)
        things = [thing for thing in things if thing.visibility >= COUNTS_FROM]
        there.append([thing.who for thing in things])
        told.append(list(boxes))
        likeness.append(_overlaps(things, list(boxes.values())))
    everyone = sorted({who for frame in there for who in frame})
    numbers = sorted({number for frame in told for number in frame})
    data = {
        "num_timesteps": len(truth),
        "num_gt_ids": len(everyone),
        "num_tracker_ids": len(numbers),
        "num_gt_dets": sum(map(len, there)),
        "num_tracker_dets": sum(map(len, told)),
        "gt_ids": [np.array([everyone.index(who) for who in frame], int) for frame in there],
        "tracker_ids": [np.array([numbers.index(number) for number in frame], int) for frame in told],
        "similarity_scores": likeness,
    }
    hota = HOTA().eval_sequence(data)
    clear = CLEAR(_QUIET).eval_sequence(data)
    identity = Identity(_QUIET).eval_sequence(data)
    return TrackingScore(
        hota=float(np.mean(hota["HOTA"])),
        association=float(np.mean(hota["AssA"])),
        idf1=float(identity["IDF1"]),
        mota=float(clear["MOTA"]),
        switches=int(clear["IDSW"]),
        objects=len(numbers),
        things=len(everyone),
    )


def _without_hidden(things: Sequence[TrueThing], boxes: Said) -> dict[int, Box]:
    """Leave out the boxes that lie on things which are there but cannot be seen well enough to count."""
    numbers = list(boxes)
    overlaps = _overlaps(things, [boxes[number] for number in numbers])
    rows, columns = linear_sum_assignment(np.where(overlaps >= _SAME_BOX, overlaps, 0.0), maximize=True)
    hidden = {
        numbers[column]
        for row, column in zip(rows, columns, strict=True)
        if overlaps[row, column] >= _SAME_BOX and things[row].visibility < COUNTS_FROM
    }
    return {number: box for number, box in boxes.items() if number not in hidden}


def _overlaps(things: Sequence[TrueThing], boxes: Sequence[Box]) -> np.ndarray:
    overlaps = [[Box(*thing.box).iou(box) for box in boxes] for thing in things]
    return np.array(overlaps, float).reshape(len(things), len(boxes))
