import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from shoppable.orchestrator.domain import Box, View
from shoppable.orchestrator.views import BestViews, colours, crop, quality, sharpness
from support.moving_scenes import SCENES, Stage

NOISE = np.random.default_rng(1).integers(0, 256, (80, 80, 3)).astype(np.uint8)
INSIDE = Box(0.3, 0.3, 0.6, 0.6)


def test_a_sharp_view_is_better_than_a_flat_one():
    assert sharpness(NOISE) > sharpness(np.full_like(NOISE, 90)) == 0.0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"score": 0.4}, "less sure"),
        ({"box": Box(0.0, 0.3, 0.3, 0.6)}, "cut off by the frame"),
        ({"others": [Box(0.3, 0.3, 0.6, 0.45)]}, "half covered"),
        ({"view": NOISE[:20, :20]}, "smaller"),
    ],
)
def test_a_worse_view_rates_lower(change, why):
    usual = {"view": NOISE, "box": INSIDE, "score": 0.9, "others": []}
    assert quality(**(usual | change)) < quality(**usual), why


@pytest.mark.parametrize("name", ["mug-teal", "bottle-green-cider", "teddy-honey", "laptop-rose-13", "couch-teal-2"])
def test_real_pictures_rate_lower_the_more_they_are_blurred(samples, name):
    picture = Image.open(samples / "catalog" / f"{name}-1.jpg").resize((160, 160))
    ratings = [
        quality(np.asarray(picture.filter(ImageFilter.GaussianBlur(radius))), INSIDE, score=0.9, others=[])
        for radius in (0, 0.7, 1.5, 3, 6)
    ]
    assert ratings == sorted(ratings, reverse=True)
    assert ratings[3] < 0.6 * ratings[0]


def test_of_a_film_in_which_the_focus_comes_and_goes_the_views_in_focus_are_kept(samples):
    scene = next(scene for scene in SCENES if scene.name == "zoom")
    shots = [shot for shot in Stage(samples).shots(scene, 10) if shot.time_s < 1]  # before the zoom
    in_focus = {2, 7}
    views = BestViews(limit=2)
    for index, shot in enumerate(shots):
        picture = Image.fromarray(shot.pixels)
        pixels = np.asarray(picture if index in in_focus else picture.filter(ImageFilter.GaussianBlur(2)))
        mug = next(thing for thing in shot.things if thing.who == 1)
        view = crop(pixels, Box(*mug.box))
        views.offer(View(shot.time_s, Box(*mug.box), view, quality(view, Box(*mug.box), score=0.9, others=[])))
    assert {round(view.time_s * 10) for view in views.best_first()} == in_focus


def test_colours_of_a_picture_equal_themselves_and_differ_from_others():
    red, blue = np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    assert colours(red) @ colours(red) == pytest.approx(1.0)
    assert colours(red) @ colours(blue) == pytest.approx(0.0)


@given(st.tuples(*[st.floats(0, 1)] * 4), st.integers(1, 50), st.integers(1, 50))
def test_a_crop_has_at_least_one_pixel_and_is_a_copy(edges, width, height):
    frame = np.zeros((height, width, 3), np.uint8)
    left, right = sorted(edges[:2])
    top, bottom = sorted(edges[2:])
    view = crop(frame, Box(left, top, right, bottom))
    assert 1 <= view.shape[0] <= height
    assert 1 <= view.shape[1] <= width
    assert not np.shares_memory(view, frame)


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 1)), max_size=40))
def test_best_views_are_few_spread_in_time_and_hold_the_best(offers):
    views = BestViews(limit=4, spread_s=0.4)
    for time_s, rating in offers:
        views.offer(View(time_s, INSIDE, NOISE, rating))
    kept = views.best_first()
    assert len(kept) <= 4
    times = sorted(view.time_s for view in kept)
    assert all(later - earlier >= 0.4 for earlier, later in itertools.pairwise(times))
    if offers:
        assert kept[0].quality == max(rating for _, rating in offers)


@pytest.mark.parametrize(
    ("height", "width", "kept"), [(2160, 3840, (360, 640)), (1200, 100, (640, 53)), (50, 60, (50, 60))]
)
def test_a_view_is_kept_no_larger_than_any_use_of_it(height, width, kept):
    views = BestViews(limit=4)
    views.offer(View(0.0, INSIDE, np.zeros((height, width, 3), np.uint8), 0.5))
    assert views.best_first()[0].crop.shape[:2] == kept
