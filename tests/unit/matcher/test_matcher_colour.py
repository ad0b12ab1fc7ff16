"""Colours without the wall behind."""

import numpy as np
import pytest
from PIL import Image

from shoppable.matcher import colour

TEAL, NAVY, CREAM, BROWN = (30, 130, 130), (25, 35, 90), (240, 230, 210), (150, 100, 60)


def scene(thing: tuple[int, int, int], wall: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGB", (90, 120), wall)
    picture.paste(thing, (25, 35, 65, 90))
    return picture


def test_the_same_picture_is_1() -> None:
    one = colour.describe(scene(TEAL, CREAM))
    assert one.shape == (colour.SIZE,)
    assert float(one @ one) == pytest.approx(1, abs=1e-5)


def test_the_thing_counts_and_the_wall_does_not() -> None:
    seen = colour.describe(scene(TEAL, BROWN))
    assert seen @ colour.describe(scene(TEAL, CREAM)) > 0.9
    assert seen @ colour.describe(scene(NAVY, BROWN)) < 0.6


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (2, 3)])
def test_any_size_has_colours(size: tuple[int, int]) -> None:
    found = colour.describe(Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)))
    assert np.isfinite(found).all()
    assert float(found @ found) == pytest.approx(1, abs=1e-5)


def test_a_plain_picture_has_its_colour() -> None:
    plain = colour.describe(Image.new("RGB", (50, 50), TEAL))
    assert plain @ colour.describe(scene(TEAL, CREAM)) > 0.9
