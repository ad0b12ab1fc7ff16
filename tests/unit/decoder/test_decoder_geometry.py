"""Orientation and size."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoppable.decoder.geometry import UPRIGHT, fit, orientation_of, square_size

ONE = 65536
STORED = np.arange(6, dtype=np.uint8).reshape(2, 3)
MATRICES = {  # the display matrix's a, b, u, c, d; clockwise degrees; the upright picture
    "upright": ((ONE, 0, 0, 0, ONE), 0, STORED),
    "a quarter clockwise": ((0, ONE, 0, -ONE, 0), 90, np.rot90(STORED, -1)),
    "upside down": ((-ONE, 0, 0, 0, -ONE), 180, np.rot90(STORED, 2)),
    "a quarter anticlockwise": ((0, -ONE, 0, ONE, 0), 270, np.rot90(STORED)),
    "mirrored": ((-ONE, 0, 0, 0, ONE), 0, STORED[:, ::-1]),
}


@pytest.mark.parametrize("name", MATRICES)
def test_display_matrix_turns_the_picture(name):
    matrix, degrees, upright = MATRICES[name]
    orientation = orientation_of(matrix)
    assert orientation.rotation_degrees == degrees
    assert np.array_equal(orientation.turn(STORED), upright)
    assert orientation.size(3, 2) == upright.shape[::-1]


def test_a_matrix_that_is_cut_short_turns_nothing():
    assert orientation_of([]) == UPRIGHT


sides = st.integers(1, 16384)


@given(sides, sides, st.integers(16, 8192))
def test_fit_never_enlarges_and_keeps_within_the_longest_side(width, height, longest):
    fitted = fit(width, height, longest)
    assert 1 <= fitted[0] <= width
    assert 1 <= fitted[1] <= height
    assert max(fitted) == min(max(width, height), longest)


@given(sides, sides, st.fractions(min_value=0, max_value=10**6))
def test_square_pixels_never_enlarge(width, height, aspect):
    square = square_size(width, height, aspect)
    assert 1 <= square[0] <= width
    assert 1 <= square[1] <= height


def test_an_anamorphic_picture_gets_its_shape():
    assert square_size(720, 576, Fraction(16, 11)) == (720, 396)
    assert square_size(720, 480, Fraction(8, 9)) == (640, 480)
    assert square_size(640, 360, None) == (640, 360)
