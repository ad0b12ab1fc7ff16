"""Regions of clothes go with the people whom they were derived from, and with nothing else."""

import numpy as np
import pytest

from shoppable.orchestrator.domain import Box, Derivation, DetectedFrame, Detection, Frame, Observation, Segment
from shoppable.orchestrator.following import EndedTrack, Follower
from shoppable.orchestrator.identity import Identities
from shoppable.v1 import common_pb2
from shoppable.v1.object_detector_pb2 import APPAREL_REGION_FEET, APPAREL_REGION_LOWER_BODY, APPAREL_REGION_UPPER_BODY

PICTURE = np.random.default_rng(0).integers(0, 256, (90, 160, 3)).astype(np.uint8)
UPPER, LOWER, FEET = APPAREL_REGION_UPPER_BODY, APPAREL_REGION_LOWER_BODY, APPAREL_REGION_FEET
REGIONS = {
    UPPER: ("upper body", "apparel-upper", 0.1, 0.5),
    LOWER: ("lower body", "apparel-lower", 0.4, 0.95),
    FEET: ("feet", "footwear", 0.86, 1.0),
}
STEP_S = 0.2


def region(person: Box, which: int) -> Detection:
    label, category, first, last = REGIONS[which]
    height = person.bottom - person.top
    box = Box(person.left, person.top + first * height, person.right, person.top + last * height)
    return Detection(label, category, box, 0.8, Derivation(which, "person", person))


def dressed(left: float, *, top: float = 0.1, regions=(UPPER, LOWER, FEET)) -> list[Detection]:
    """A person at a place, who is there by the regions alone."""
    return [region(Box(left, top, left + 0.15, top + 0.7), which) for which in regions]


def followed(film, *, cuts=()) -> list[EndedTrack]:
    follower = Follower(max_gap_s=1.0, min_observations=2, views_per_object=2, read_pixels=lambda _: PICTURE)
    ended = []
    for index, seen in enumerate(film):
        frame = Frame(index, index * STEP_S, common_pb2.Image(), scene_cut=index in cuts)
        ended += follower.take(DetectedFrame(frame, seen))
    return ended + follower.finish()


def by_region(ended) -> dict[int, list[EndedTrack]]:
    found: dict[int, list[EndedTrack]] = {}
    for item in ended:
        found.setdefault(item.track.worn.region, []).append(item)
    return found


def test_each_region_of_a_person_is_one_track_and_tells_whose_it_is():
    ended = followed([dressed(0.1 + 0.02 * n) for n in range(10)])

    tracks = {item.track.worn.region: item.track for item in ended}
    assert len(ended) == len(tracks) == 3
    assert {track.seen for track in tracks.values()} == {10}
    assert {track.worn.person_id for track in tracks.values()} == {"person-1"}
    assert {region: track.category for region, track in tracks.items()} == {
        which: category for which, (_, category, _, _) in REGIONS.items()
    }
    assert len({track.track_id for track in tracks.values()}) == 3
    assert all(item.views for item in ended)


def test_regions_of_two_people_who_pass_each_other_stay_with_them():
    film = [dressed(0.05 + 0.04 * n) + dressed(0.8 - 0.04 * n, top=0.2) for n in range(19)]
    ended = by_region(followed(film))

    for which, tracks in ended.items():
        assert len(tracks) == 2, which
        for item in tracks:
            first, last = item.track.first.box, item.track.last.box
            went = last.left - first.left
            assert abs(went) == pytest.approx(0.72), which
            assert first.top == pytest.approx(last.top), which  # each has a height of its own
    # What goes right is the first one's, whichever region it is.
    right = [item.track.worn.person_id for tracks in ended.values() for item in tracks if item.track.velocity[0] > 0]
    assert len(right) == 3
    assert len(set(right)) == 1


def test_what_a_model_sees_is_not_linked_with_what_none_saw_at_the_same_place():
    shirt = region(Box(0.4, 0.1, 0.55, 0.8), UPPER)
    seen = Detection("shirt", shirt.category, shirt.box, 0.9)
    # The detector leaves the region out where a model sees the garment, which it does in every other frame.
    film = [[seen] if number % 2 else [shirt] for number in range(12)]
    ended = followed(film)

    assert sorted((item.track.worn is None, item.track.seen) for item in ended) == [(False, 6), (True, 6)]
    identities = Identities(reentry_window_s=5.0)
    assert len({identities.add(item, None).object_id for item in ended}) == 2


def test_a_seen_thing_before_a_person_is_a_thing_of_its_own():
    bag = Detection("handbag", "bags", Box(0.41, 0.4, 0.54, 0.6), 0.9)
    alone = followed([[bag] for _ in range(8)])
    carried = followed([[bag, *dressed(0.4)] for _ in range(8)])

    bags = [item for item in carried if item.track.worn is None]
    assert [(item.track.seen, item.segment, item.views[0].quality) for item in bags] == [
        (item.track.seen, item.segment, item.views[0].quality) for item in alone
    ]


def test_a_region_that_is_gone_for_long_ends_though_its_person_goes_on():
    film = [dressed(0.3, regions=(UPPER, FEET) if n < 5 or n >= 15 else (UPPER,)) for n in range(20)]
    ended = by_region(followed(film))

    assert [item.segment for item in ended[FEET]] == [
        Segment(0.0, pytest.approx(1.0)),
        Segment(3.0, pytest.approx(4.0)),
    ]
    assert [item.segment for item in ended[UPPER]] == [Segment(0.0, pytest.approx(4.0))]
    assert {item.track.worn.person_id for tracks in ended.values() for item in tracks} == {"person-1"}


def test_a_person_who_is_missed_for_a_moment_keeps_the_tracks():
    film = [[] if number in (4, 5) else dressed(0.3) for number in range(10)]
    ended = followed(film)

    assert [item.track.seen for item in ended] == [8, 8, 8]


def test_a_cut_ends_the_tracks_and_who_comes_back_is_recognised():
    film = [dressed(0.3, regions=(UPPER,)) for _ in range(10)]
    ended = followed(film, cuts={5})

    assert [item.segment for item in ended] == [Segment(0.0, pytest.approx(1.0)), Segment(1.0, pytest.approx(2.0))]
    assert [item.track.worn.person_id for item in ended] == ["person-1", "person-2"]
    identities = Identities(reentry_window_s=5.0)
    found = [identities.add(item, None) for item in ended]
    assert found[0] is found[1]
    assert found[0].worn.person_id == "person-1"


def test_boxes_of_a_region_are_where_the_detector_said():
    film = [dressed(0.1 + 0.05 * n, regions=(LOWER,)) for n in range(4)]
    (only,) = followed(film)

    assert list(only.track.observations) == [
        Observation(pytest.approx(n * STEP_S), film[n][0].box, 0.8, "lower body") for n in range(4)
    ]
