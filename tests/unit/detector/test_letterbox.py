import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoppable.detector.letterbox import Letterbox
from shoppable.detector.manifest import InputSpec

SIDES = st.integers(1, 5000)
INPUTS = st.sampled_from([(512, 512), (300, 300), (640, 384), (8, 8)])
SHARES = st.floats(0, 1, width=32)


@given(width=SIDES, height=SIDES, size=INPUTS)
def test_picture_fills_one_side_lies_in_the_middle_and_keeps_its_aspect(
    width: int, height: int, size: tuple[int, int]
) -> None:
    box = Letterbox.fit(width, height, input_width=size[0], input_height=size[1])

    assert box.width == size[0] or box.height == size[1]
    assert 1 <= box.width <= size[0]
    assert 1 <= box.height <= size[1]
    assert abs((size[0] - box.width) - 2 * box.left) <= 1
    assert abs((size[1] - box.height) - 2 * box.top) <= 1
    scale = min(size[0] / width, size[1] / height)
    assert abs(box.width - width * scale) <= 1
    assert abs(box.height - height * scale) <= 1


@given(width=SIDES, height=SIDES, size=INPUTS, shares=st.lists(st.tuples(SHARES, SHARES, SHARES, SHARES), max_size=5))
def test_boxes_come_back_to_where_they_were(
    width: int, height: int, size: tuple[int, int], shares: list[tuple[float, float, float, float]]
) -> None:
    box = Letterbox.fit(width, height, input_width=size[0], input_height=size[1])
    there = np.array(shares, np.float64).reshape(-1, 4)

    in_input = there * [box.width, box.height, box.width, box.height] + [box.left, box.top, box.left, box.top]

    assert np.allclose(box.to_picture(in_input), there, atol=1e-9)


@pytest.mark.parametrize(
    ("width", "height"), [(640, 360), (360, 640), (512, 512), (16, 16), (1, 1), (3000, 1), (1, 3000), (1920, 1080)]
)
def test_picture_is_drawn_where_the_letterbox_says_and_the_rest_is_black(width: int, height: int) -> None:
    box = Letterbox.fit(width, height, input_width=512, input_height=512)
    drawn = box.draw(np.full((height, width, 3), 200, np.uint8))

    assert drawn.shape == (1, 512, 512, 3)
    assert drawn.dtype == np.uint8
    inside = np.zeros((512, 512), np.bool_)
    inside[box.top : box.top + box.height, box.left : box.left + box.width] = True
    assert (drawn[0][inside] == 200).all()
    assert (drawn[0][~inside] == 0).all()


def test_drawn_picture_keeps_its_orientation_and_its_colours() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:50, :100] = (255, 0, 0)
    picture[50:, 100:] = (0, 0, 255)
    box = Letterbox.fit(200, 100, input_width=300, input_height=300)

    drawn = box.draw(picture)[0]

    assert drawn[box.top + 10, 10].tolist() == [255, 0, 0]
    assert drawn[box.top + box.height - 10, 290].tolist() == [0, 0, 255]


def test_boxes_are_cut_at_the_edges_and_what_lies_outside_or_is_no_number_goes() -> None:
    box = Letterbox.fit(100, 100, input_width=512, input_height=512)
    boxes = np.array(
        [
            [-0.5, 0.2, 0.5, 1.5],  # partly outside
            [1.1, 0.1, 1.5, 0.5],  # outside
            [0.5, 0.5, 0.505, 0.9],  # half a pixel wide
            [0.5, 0.5, 0.4, 0.9],  # inside out
            [np.nan, 0.1, 0.5, 0.5],
            [-np.inf, 0.1, 0.5, 0.5],
        ]
    )

    clipped, kept = box.clip(boxes)

    assert kept.tolist() == [True, False, False, False, False, False]
    assert clipped.dtype == np.float32
    assert clipped[0].tolist() == pytest.approx([0, 0.2, 0.5, 1])


def test_box_of_the_whole_of_the_smallest_picture_stays() -> None:
    box = Letterbox.fit(1, 1, input_width=512, input_height=512)

    _, kept = box.clip(box.to_picture(np.array([[0.0, 0, 512, 512]])))

    assert kept.all()


def test_picture_can_lie_at_the_top_left_with_a_grey_rest() -> None:
    form = InputSpec(align="top-left", padding=114)
    box = Letterbox.fit(40, 20, input_width=64, input_height=64, form=form)

    drawn = box.draw(np.full((20, 40, 3), 7, np.uint8))

    assert (box.left, box.top, box.width, box.height) == (0, 0, 64, 32)
    assert (drawn[0, :32] == 7).all()
    assert (drawn[0, 32:] == 114).all()
    assert box.to_picture(np.array([[0, 0, 64, 32]])).tolist() == [[0, 0, 1, 1]]


@given(width=SIDES, height=SIDES, size=INPUTS)
def test_stretched_picture_fills_the_input(width: int, height: int, size: tuple[int, int]) -> None:
    box = Letterbox.fit(width, height, input_width=size[0], input_height=size[1], form=InputSpec(fit="stretch"))

    assert (box.left, box.top, box.width, box.height) == (0, 0, *size)
    assert box.to_picture(np.array([[0, 0, size[0] / 2, size[1]]])).tolist() == [[0, 0, 0.5, 1]]
