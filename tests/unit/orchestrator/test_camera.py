import numpy as np
import pytest

from shoppable.orchestrator.camera import STILL, Camera
from support.moving_scenes import SCENES, Stage

CHANCE = np.random.default_rng(0)
WIDE = np.kron(CHANCE.integers(0, 256, (60, 100, 3)), np.ones((12, 12, 1))).astype(np.uint8)  # 720 x 1200


def window(left: int, top: int):
    return WIDE[top : top + 360, left : left + 640]


@pytest.mark.parametrize(("right", "down"), [(0, 0), (64, 0), (-40, 30), (150, -90)])
def test_a_picture_that_moved_is_followed(right, down):
    camera = Camera()
    assert camera.shift(window(250, 150)) == STILL
    dx, dy = camera.shift(window(250 - right, 150 - down))
    assert dx * 640 == pytest.approx(right, abs=5)  # a step is 5 pixels
    assert dy * 360 == pytest.approx(down, abs=5)


@pytest.mark.parametrize(
    "other",
    [np.zeros((360, 640, 3), np.uint8), CHANCE.integers(0, 256, (360, 640, 3)).astype(np.uint8), window(500, 300)],
)
def test_a_picture_that_has_nothing_in_common_moved_nowhere(other):
    camera = Camera()
    camera.shift(window(0, 0))
    assert camera.shift(other) == STILL


@pytest.mark.parametrize("name", ["thrown", "crossing", "occlusion"])
def test_what_moves_before_a_wall_is_not_the_camera(samples, name):
    camera = Camera()
    scene = next(scene for scene in SCENES if scene.name == name)
    assert {camera.shift(shot.pixels) for shot in Stage(samples).shots(scene, 5)} == {STILL}


def test_after_it_was_told_to_forget_the_first_picture_is_at_rest():
    camera = Camera()
    camera.shift(window(250, 150))
    camera.forget()
    assert camera.shift(window(200, 150)) == STILL
