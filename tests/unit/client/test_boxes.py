import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoppable.client import box_at
from shoppable.v1 import orchestrator_pb2

EDGES = ("left", "top", "right", "bottom")


def found(segments, boxes) -> orchestrator_pb2.ShoppableObject:
    """An object from spans, and edges by time."""
    item = orchestrator_pb2.ShoppableObject()
    for start_s, end_s in segments:
        segment = item.segments.add()
        segment.start.FromNanoseconds(round(start_s * 1e9))
        segment.end.FromNanoseconds(round(end_s * 1e9))
    for time_s, edges in boxes:
        timed = item.boxes.add()
        timed.time.FromNanoseconds(round(time_s * 1e9))
        timed.box.left, timed.box.top, timed.box.right, timed.box.bottom = edges
    return item


THERE_TWICE = found(
    [(1, 3.2), (5, 5.2)],
    [(1, (0.1, 0.1, 0.3, 0.3)), (2, (0.3, 0.1, 0.5, 0.3)), (3, (0.3, 0.3, 0.5, 0.5)), (5, (0.8, 0.8, 0.9, 0.9))],
)


@pytest.mark.parametrize(
    ("time_s", "edges"),
    [
        (1, (0.1, 0.1, 0.3, 0.3)),
        (1.25, (0.15, 0.1, 0.35, 0.3)),
        (2.5, (0.3, 0.2, 0.5, 0.4)),
        (3.1, (0.3, 0.3, 0.5, 0.5)),  # seen for the last time at 3, there until 3.2
        (5.1, (0.8, 0.8, 0.9, 0.9)),
    ],
)
def test_between_two_boxes_of_a_segment_lies_a_straight_line(time_s, edges):
    box = box_at(THERE_TWICE, time_s)
    assert [getattr(box, edge) for edge in EDGES] == pytest.approx(edges)


@pytest.mark.parametrize("time_s", [0, 0.999, 3.2, 4, 5.2, 99])
def test_outside_of_its_segments_an_object_is_nowhere(time_s):
    assert box_at(THERE_TWICE, time_s) is None


def test_a_segment_without_boxes_shows_nothing():
    assert box_at(found([(0, 1)], []), 0.5) is None


@given(
    st.lists(st.tuples(st.floats(0.01, 5), st.tuples(*[st.floats(0, 1, width=32)] * 4)), min_size=1, max_size=20),
    st.floats(0, 1),
)
def test_at_its_own_moment_a_box_is_itself_and_between_two_no_edge_is_beyond_both(steps, share):
    times, boxes = [], []
    for elapsed, edges in steps:
        times.append(round((times[-1] if times else 0) + elapsed, 6))
        boxes.append((times[-1], edges))
    item = found([(times[0], times[-1] + 1)], boxes)
    for time_s, edges in boxes:
        assert [getattr(box_at(item, time_s), edge) for edge in EDGES] == pytest.approx(edges)
    for (start_s, one), (end_s, other) in itertools.pairwise(boxes):
        middle = box_at(item, start_s + share * (end_s - start_s))
        for number, edge in enumerate(EDGES):
            low, high = sorted((one[number], other[number]))
            assert low - 1e-6 <= getattr(middle, edge) <= high + 1e-6
