import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoppable.orchestrator.domain import Box, Observation
from shoppable.orchestrator.thinning import ThinnedBoxes

EDGE = st.floats(0, 1, width=32)
WALKS = st.lists(st.tuples(st.floats(0.01, 2), st.tuples(EDGE, EDGE, EDGE, EDGE)), min_size=1, max_size=60)


def thinned(seen, tolerance):
    kept = ThinnedBoxes(tolerance)
    for item in seen:
        kept.add(item)
    return kept.boxes()


def between(kept, time_s):
    """The box on the straight line at a time, edge by edge."""
    times = [item.time_s for item in kept]
    return [np.interp(time_s, times, [item.box[edge] for item in kept]) for edge in range(4)]


def walk(steps):
    times = np.cumsum([elapsed for elapsed, _ in steps])
    return [Observation(float(time_s), Box(*box), 0.8, "cup") for time_s, (_, box) in zip(times, steps, strict=True)]


@given(WALKS, st.floats(0.001, 0.3))
def test_a_straight_line_between_kept_boxes_is_within_the_tolerance_of_every_box_seen(steps, tolerance):
    seen = walk(steps)
    kept = thinned(seen, tolerance)
    assert kept[0] is seen[0]
    assert kept[-1] is seen[-1]
    assert set(kept) <= set(seen)
    for item in seen:
        assert between(kept, item.time_s) == pytest.approx(list(item.box), abs=tolerance + 1e-6)


@given(WALKS)
def test_without_tolerance_all_are_kept(steps):
    seen = walk(steps)
    assert thinned(seen, 0.0) == seen


def test_what_stands_still_for_an_hour_or_moves_steadily_is_two_boxes():
    tremble = np.random.default_rng(0).uniform(-0.004, 0.004, (18_000, 4))
    still = [
        Observation(i / 5, Box(*(np.array([0.2, 0.2, 0.4, 0.5]) + edges)), 0.8, "cup")
        for i, edges in enumerate(tremble)
    ]
    assert len(thinned(still, 0.01)) == 2
    steady = [Observation(i / 5, Box(i / 100, 0.2, i / 100 + 0.1, 0.4), 0.8, "cup") for i in range(80)]
    assert len(thinned(steady, 0.001)) == 2


def test_a_turn_is_kept():
    there = [Observation(i / 5, Box(0.1 + 0.02 * i, 0.2, 0.3 + 0.02 * i, 0.4), 0.8, "cup") for i in range(11)]
    back = [Observation(2 + i / 5, Box(0.3 - 0.02 * i, 0.2, 0.5 - 0.02 * i, 0.4), 0.8, "cup") for i in range(1, 11)]
    assert [item.time_s for item in thinned([*there, *back], 0.005)] == pytest.approx([0, 2, 4])


def test_a_circle_takes_about_as_many_boxes_as_a_polygon_within_the_tolerance_has_corners():
    angles = np.linspace(0, 2 * math.pi, 400)
    seen = [
        Observation(float(a), Box(0.5 + 0.2 * math.cos(a), 0.5 + 0.2 * math.sin(a), 0.9, 0.9), 0.8, "cup")
        for a in angles
    ]
    least = math.pi / math.acos(1 - 2 * 0.01 / 0.2)  # corners beyond and before the circle by the tolerance each
    assert least <= len(thinned(seen, 0.01)) <= 3 * least
