import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoppable.orchestrator.camera import STILL
from shoppable.orchestrator.domain import Box, Detection
from shoppable.orchestrator.tracking import Sighting, Tracker

RED, BLUE = np.eye(2, dtype=np.float32)


def sighting(
    left: float, top: float = 0.4, *, size: float = 0.1, score: float = 0.8, colours=RED, category="drinkware"
):
    box = Box(left, top, left + size, top + size)
    return Sighting(Detection("cup", category, box, score), colours)


def tracker() -> Tracker:
    return Tracker(max_gap_s=1.0)


def test_a_thing_that_moves_steadily_is_one_track():
    follow = tracker()
    for step in range(10):
        follow.update(step * 0.2, [sighting(0.05 + 0.08 * step)], scene_cut=False)
    assert [len(track.observations) for track in follow.finish()] == [10]


def test_two_things_that_cross_keep_their_identities_by_colour_and_motion():
    follow = tracker()
    for step in range(11):
        pair = [sighting(0.1 + 0.06 * step, colours=RED), sighting(0.7 - 0.06 * step, colours=BLUE)]
        follow.update(step * 0.2, pair if step % 2 else pair[::-1], scene_cut=False)
    tracks = follow.finish()
    assert len(tracks) == 2
    for track in tracks:
        lefts = [observation.box.left for observation in track.observations]
        assert lefts in (sorted(lefts), sorted(lefts, reverse=True))


def test_a_hard_cut_ends_all_tracks_even_if_a_like_thing_is_at_the_same_place():
    follow = tracker()
    follow.update(0.0, [sighting(0.4)], scene_cut=False)
    step = follow.update(0.2, [sighting(0.4)], scene_cut=True)
    assert len(step.ended) == 1
    assert step.assigned[0] not in step.ended


def test_a_short_occlusion_does_not_end_a_track_and_a_long_one_does():
    follow = tracker()
    follow.update(0.0, [sighting(0.4)], scene_cut=False)
    follow.update(0.4, [], scene_cut=False)
    assert follow.update(0.9, [sighting(0.4)], scene_cut=False).ended == []
    follow.update(1.5, [], scene_cut=False)
    assert len(follow.update(2.1, [sighting(0.4)], scene_cut=False).ended) == 1


def test_frames_that_are_far_apart_miss_nothing():
    follow = tracker()
    for index in range(4):
        follow.update(index * 30.0, [sighting(0.4)], scene_cut=False)
    assert [track.seen for track in follow.finish()] == [4]


def test_no_more_than_a_bounded_number_of_things_is_followed_and_what_is_given_up_is_told():
    follow, ended = tracker(), []
    for index in range(6):
        flicker = [sighting(0.008 * place, 0.15 * index, size=0.006) for place in range(100)]
        ended += follow.update(index * 0.04, flicker, scene_cut=False).ended
        assert len(follow.active) <= 300  # of which 100 are new
    assert len(ended) + len(follow.finish()) == 600


def test_a_camera_that_jumps_by_a_things_own_width_confuses_no_row_of_things_that_are_alike():
    follow = tracker()
    for index in range(6):
        shift = 0.15 if index % 2 else 0.0
        row = [sighting(0.1 + 0.15 * place + shift) for place in range(4)]
        follow.update(index * 0.2, row, scene_cut=False, shift=(0.15 if index % 2 else -0.15, 0.0) if index else STILL)
    for track in follow.finish():
        lefts = [observation.box.left for observation in track.observations]
        assert lefts[0::2] == pytest.approx([lefts[0]] * 3)
        assert lefts[1::2] == pytest.approx([lefts[0] + 0.15] * 3)


def test_a_thing_that_changes_its_name_for_a_moment_stays_one_track_of_its_usual_category():
    follow = tracker()
    for index in range(6):
        category = "vases" if index in (2, 3) else "bottles"
        follow.update(index * 0.2, [sighting(0.4, category=category)], scene_cut=False)
    (track,) = follow.finish()
    assert len(track.observations) == 6
    assert track.category == "bottles"


def test_a_thing_with_two_names_in_one_frame_is_one_track():
    follow = tracker()
    for index in range(3):
        names = [sighting(0.4, category="vases", score=0.4), sighting(0.405, category="bottles", score=0.6)]
        follow.update(index * 0.2, names, scene_cut=False)
    (track,) = follow.finish()
    assert track.category == "bottles"


def test_things_of_other_categories_near_each_other_are_two_tracks():
    follow = tracker()
    follow.update(0.0, [sighting(0.4, category="drinkware")], scene_cut=False)
    follow.update(0.2, [sighting(0.44, category="bottles")], scene_cut=False)
    assert len(follow.finish()) == 2


@given(
    st.lists(
        st.lists(st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.01, 0.1), st.floats(0, 1)), max_size=6),
        max_size=12,
    ),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_no_sighting_is_lost_or_used_twice_and_times_rise_within_each_track(frames, cuts):
    follow, ended, assigned = tracker(), [], 0
    for index, boxes in enumerate(frames):
        sightings = [sighting(x, y, size=size, score=score) for x, y, size, score in boxes]
        step = follow.update(index * 0.3, sightings, scene_cut=cuts[index])
        ended += step.ended
        given_out = [track for track in step.assigned if track is not None]
        assigned += len(given_out)
        assert len({track.track_id for track in given_out}) == len(given_out)
        followed = [item.detection.box for track, item in zip(step.assigned, sightings, strict=True) if track]
        for track, item in zip(step.assigned, sightings, strict=True):
            assert track or any(item.detection.box.iou(box) >= 0.7 for box in followed)
    ended += follow.finish()
    assert len({track.track_id for track in ended}) == len(ended)
    assert sum(len(track.observations) for track in ended) == assigned
    for track in ended:
        times = [observation.time_s for observation in track.observations]
        assert times == sorted(set(times))
