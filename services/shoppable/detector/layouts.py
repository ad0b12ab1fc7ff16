"""Reads what a model puts out: one function for each layout that a manifest may name."""

from collections.abc import Callable, Mapping

import numpy as np

from shoppable.detector.boxes import Floats
from shoppable.detector.detections import Candidates

# Takes the output for one picture, without the batch dimension; boxes come back in pixels of the input.
Layout = Callable[[Floats], Candidates]


class LayoutError(Exception):
    """The output does not have the layout; the text says what is wrong."""


def check_candidates_shape(shape: tuple[int, ...]) -> None:
    """Check an output's shape, without the batch dimension; -1 is a free dimension.

    Raises:
        LayoutError: It is not [K, 6].
    """
    if len(shape) != 2 or shape[1] != 6:
        raise LayoutError(f"the output must be [K, 6] for the layout 'candidates', and is {list(shape)}")


def read_candidates(output: Floats) -> Candidates:
    """Read [K, 6]: x1, y1, x2, y2, score, class. Rows with a number that is not finite are left out."""
    check_candidates_shape(output.shape)
    rows = output[np.isfinite(output).all(axis=1)]
    return Candidates(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.intp))


LAYOUTS: Mapping[str, Layout] = {"candidates": read_candidates}
SHAPE_CHECKS: Mapping[str, Callable[[tuple[int, ...]], None]] = {"candidates": check_candidates_shape}
