"""How well the sightings of a frame continue the tracks so far: matrices, a row for a track, a column for a sighting.

Likeness adds overlap with the predicted box, closeness to it, and colour: at five frames a second a moving object may
no longer overlap its own last box.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shoppable.orchestrator.domain import Box

Matrix = npt.NDArray[np.float64]

# Shares of the likeness; they add up to 1.
_OVERLAP, _CLOSENESS, _COLOUR = 0.5, 0.2, 0.3
_MIN_LIKENESS = 0.35
_MAX_SIZE_RATIO = 3.0  # between two sightings; beyond, it is another thing
SAME_PLACE = 0.7  # overlap from which things of two categories are one under two names
_TINY = 1e-9


def as_continued(predicted: Matrix, still: Matrix, seen: Matrix, colours: Matrix, same_category: Matrix) -> Matrix:
    """Return how well each sighting continues each track, 0..1; 0 if it cannot.

    Boxes are [tracks, 4] where each should be if it goes on moving, and if it stood still, and [sightings, 4].
    """
    ratio = _areas(seen)[None, :] / np.maximum(_areas(still), _TINY)[:, None]
    reach = np.hypot(*_sides(predicted).T)[:, None]
    apart = _centres(predicted)[:, None] - _centres(seen)[None, :]
    closeness = 1 - np.hypot(apart[..., 0], apart[..., 1]) / np.maximum(reach, _TINY)
    overlap = np.maximum(overlaps(predicted, seen), overlaps(still, seen))
    likeness = _OVERLAP * overlap + _CLOSENESS * closeness + _COLOUR * colours
    possible = (
        same_category.astype(bool)
        & (ratio >= 1 / _MAX_SIZE_RATIO)
        & (ratio <= _MAX_SIZE_RATIO)
        & (closeness > 0)  # no further than its own diagonal from where it should be
        & (likeness >= _MIN_LIKENESS)
    )
    # What cannot be must not be worth anything to an assignment that is best in sum.
    return np.where(possible, likeness, 0.0)


def under_another_name(predicted: Matrix, still: Matrix, seen: Matrix) -> Matrix:
    """Return how well each sighting stands at each track's place, 0..1; 0 if it does not."""
    overlap = np.maximum(overlaps(predicted, seen), overlaps(still, seen))
    return np.where(overlap >= SAME_PLACE, overlap, 0.0)


def matrix(boxes: Sequence[Box]) -> Matrix:
    """Return boxes as [n, 4]."""
    return np.array(boxes, np.float64).reshape(-1, 4)


def overlaps(some: Matrix, others: Matrix) -> Matrix:
    """Return intersection over union of each pair, 0..1."""
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0.0), axis=2)
    union = _areas(some)[:, None] + _areas(others)[None, :] - both
    return np.asarray(both / np.maximum(union, _TINY))


def _sides(boxes: Matrix) -> Matrix:
    return boxes[:, 2:] - boxes[:, :2]


def _areas(boxes: Matrix) -> Matrix:
    return np.asarray(np.prod(np.maximum(_sides(boxes), 0.0), axis=1))


def _centres(boxes: Matrix) -> Matrix:
    return (boxes[:, :2] + boxes[:, 2:]) / 2
