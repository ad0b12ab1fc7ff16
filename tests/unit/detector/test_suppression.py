"""Suppression against the plainest reference that one can write."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shoppable.detector.boxes import areas, overlaps
from shoppable.detector.suppression import suppress

Box = tuple[float, float, float, float]
# A coarse grid, so that boxes do overlap and scores do tie.
EDGES = st.integers(0, 12).map(float)
BOXES = st.tuples(EDGES, EDGES, EDGES, EDGES)
CANDIDATES = st.lists(st.tuples(BOXES, st.integers(0, 5).map(lambda n: n / 5), st.integers(0, 2)), max_size=25)


def plain_iou(a: Box, b: Box) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    shared = width * height
    together = sum(max(box[2] - box[0], 0) * max(box[3] - box[1], 0) for box in (a, b)) - shared
    return shared / together if together > 0 else 0


def plain_suppression(candidates: list[tuple[Box, float, int]], iou: float) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(candidates)), key=lambda index: -candidates[index][1]):
        box, _, of_class = candidates[index]
        if all(of_class != candidates[other][2] or plain_iou(box, candidates[other][0]) <= iou for other in kept):
            kept.append(index)
    return kept


@given(candidates=CANDIDATES, iou=st.sampled_from([0.0, 0.3, 0.5, 0.6, 1.0]))
def test_suppression_keeps_what_the_plain_one_keeps(candidates: list[tuple[Box, float, int]], iou: float) -> None:
    boxes = np.array([box for box, _, _ in candidates], np.float64).reshape(-1, 4)
    scores = np.array([score for _, score, _ in candidates], np.float64)
    classes = np.array([of_class for _, _, of_class in candidates], np.intp)

    assert suppress(boxes, scores, classes, iou=iou).tolist() == plain_suppression(candidates, iou)


@given(first=st.lists(BOXES, max_size=8), second=st.lists(BOXES, max_size=8))
def test_overlaps_are_those_of_each_pair(first: list[Box], second: list[Box]) -> None:
    found = overlaps(np.array(first).reshape(-1, 4), np.array(second).reshape(-1, 4))

    assert found.shape == (len(first), len(second))
    assert found.tolist() == [[pytest.approx(plain_iou(a, b)) for b in second] for a in first]


@given(arrays.arrays(np.float32, st.tuples(st.integers(0, 9), st.just(4)), elements=st.floats(-10, 10, width=32)))
def test_areas_and_overlaps_stay_in_their_ranges(boxes: npt.NDArray[np.float32]) -> None:
    assert (areas(boxes) >= 0).all()
    found = overlaps(boxes, boxes)
    assert ((found >= 0) & (found <= 1 + 1e-5)).all()


def test_nothing_is_suppressed_to_nothing() -> None:
    assert suppress(np.empty((0, 4)), np.empty(0), np.empty(0, np.intp), iou=0.6).tolist() == []
