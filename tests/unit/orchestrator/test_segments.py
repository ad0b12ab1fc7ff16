"""What holds of objects and their segments whatever is seen: over random films, through following and identity."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoppable.orchestrator.domain import Box, DetectedFrame, Detection, Frame, Segment
from shoppable.orchestrator.following import Follower
from shoppable.orchestrator.identity import Identities
from shoppable.v1 import common_pb2

MAX_GAP_S = 1.0
PICTURE = np.random.default_rng(0).integers(0, 256, (36, 64, 3)).astype(np.uint8)
CORNER = st.integers(0, 7)  # a coarse grid, so that things meet, part, and come back
FRAMES = st.lists(
    st.tuples(
        st.sampled_from([0.04, 0.2, 0.21, 0.9, 1.5]),  # since the frame before
        st.booleans(),  # a cut; thinned out below
        st.lists(st.tuples(CORNER, CORNER, st.sampled_from(["cup", "bottle"])), max_size=4, unique=True),
    ),
    max_size=30,
)


def film(frames):
    time_s, found = 0.0, []
    for index, (elapsed, cut, things) in enumerate(frames):
        time_s += elapsed
        seen = [
            Detection(label, label, Box(x / 10, y / 10, x / 10 + 0.2, y / 10 + 0.25), 0.8) for x, y, label in things
        ]
        frame = Frame(index, time_s, common_pb2.Image(), scene_cut=cut and index % 5 == 0)
        found.append(DetectedFrame(frame, seen))
    return found


def objects_of(film, tolerance=0.0):
    follower = Follower(
        max_gap_s=MAX_GAP_S,
        min_observations=1,
        views_per_object=2,
        read_pixels=lambda _: PICTURE,
        box_tolerance=tolerance,
    )
    identities = Identities(reentry_window_s=5.0)
    found = {}
    for ended in [*(track for frame in film for track in follower.take(frame)), *follower.finish()]:
        item = identities.add(ended, None)
        found[item.object_id] = item
    return list(found.values())


@settings(max_examples=60, deadline=None)
@given(FRAMES)
def test_segments_of_an_object_are_apart_hold_all_its_boxes_and_cross_no_cut(frames):
    seen = film(frames)
    cuts = [item.frame.time_s for item in seen if item.frame.scene_cut]
    for item in objects_of(seen):
        segments = item.segments(MAX_GAP_S)
        for earlier, later in itertools.pairwise(segments):
            assert earlier.end_s <= later.start_s + 1e-6
        for segment in segments:
            assert segment.start_s < segment.end_s
            assert not any(segment.start_s < cut < segment.end_s for cut in cuts)
        times = [box.time_s for box in item.observations()]
        assert times == sorted(times)
        for time_s in times:
            assert sum(segment.start_s <= time_s < segment.end_s for segment in segments) == 1
        for segment in segments:
            assert segment.start_s in times


@settings(max_examples=60, deadline=None)
@given(FRAMES)
def test_two_things_seen_at_one_moment_are_never_one_object_and_nothing_is_in_two(frames):
    seen = film(frames)
    taken = set()
    for item in objects_of(seen):
        times = [box.time_s for box in item.observations()]
        assert len(times) == len(set(times))
        for box in item.observations():
            assert (box.time_s, box.label, box.box) not in taken
            taken.add((box.time_s, box.label, box.box))


@settings(max_examples=40, deadline=None)
@given(FRAMES, st.floats(0.005, 0.2))
def test_thinning_changes_no_segment_and_keeps_its_first_and_last_box(frames, tolerance):
    seen = film(frames)
    whole, thin = objects_of(seen), objects_of(seen, tolerance)
    assert [item.segments(MAX_GAP_S) for item in whole] == [item.segments(MAX_GAP_S) for item in thin]
    assert [item.detection_score for item in whole] == [item.detection_score for item in thin]
    for one, other in zip(whole, thin, strict=True):
        assert one.observations()[0] == other.observations()[0]
        assert one.observations()[-1] == other.observations()[-1]
        assert set(other.observations()) <= set(one.observations())


def still(times, *, cut_at=None):
    cup = Detection("cup", "cup", Box(0.3, 0.3, 0.5, 0.6), 0.8)
    return [
        DetectedFrame(Frame(n, t, common_pb2.Image(), scene_cut=t == cut_at), [cup] if here else [])
        for n, (t, here) in enumerate(times)
    ]


@pytest.mark.parametrize(
    ("times", "cut_at", "spans"),
    [
        ([(0, 1), (0.2, 1), (0.4, 0), (0.6, 1), (0.8, 1)], None, [(0, 1.0)]),  # a short gap parts nothing
        ([(0, 1), (0.2, 1), (0.4, 0), (1.6, 0), (2.4, 1), (2.6, 1)], None, [(0, 0.4), (2.4, 2.8)]),
        ([(0, 1), (0.2, 1), (0.4, 1), (0.6, 1)], 0.4, [(0, 0.4), (0.4, 0.8)]),  # a cut parts what it parts
        ([(0, 1), (0.04, 1), (0.54, 0), (3, 0)], None, [(0, 0.54)]),  # to the next frame, not the next interval
        ([(0, 1), (30, 1), (60, 0)], None, [(0, 31.0)]),  # nobody looked between; after the last, not for long
    ],
)
def test_a_segment_ends_where_the_thing_is_not_seen_any_more(times, cut_at, spans):
    (item,) = objects_of(still([(float(t), bool(here)) for t, here in times], cut_at=cut_at))
    assert item.segments(MAX_GAP_S) == [Segment(pytest.approx(start), pytest.approx(end)) for start, end in spans]
