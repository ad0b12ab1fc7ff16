"""Hard cuts, and what is none."""

import io

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from shoppable.decoder.cuts import CutDetector, change_between, impression_of


def scene(seed: int, size: tuple[int, int] = (360, 640)) -> np.ndarray:
    """Patches of colours about a tone of their own, as rooms have one."""
    random = np.random.default_rng(seed)
    tone = random.integers(0, 256, 3)
    patches = np.clip(tone + random.normal(0, 40, (9, 16, 3)), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(patches).resize(size[::-1], Image.Resampling.BICUBIC))


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    return change_between(impression_of(before), impression_of(after)).is_cut


def test_another_scene_is_a_cut():
    assert is_cut(scene(1), scene(2))


def test_the_first_frame_is_never_a_cut():
    assert not CutDetector().is_cut(scene(1))


@pytest.mark.parametrize("shift", [10, 60, 120])
def test_a_pan_is_no_cut(shift):
    wide = scene(1, (360, 800))
    assert not is_cut(wide[:, :640], wide[:, shift : shift + 640])


@pytest.mark.parametrize("factor", [0.6, 1.3])
def test_light_that_changes_is_no_cut(factor):
    lit = np.asarray(ImageEnhance.Brightness(Image.fromarray(scene(1))).enhance(factor))
    assert not is_cut(scene(1), lit)


def test_a_flat_picture_compares():
    assert not is_cut(np.zeros((90, 160, 3), np.uint8), np.zeros((90, 160, 3), np.uint8))


@given(st.integers(1, 40), st.integers(1, 40))
def test_any_size_has_an_impression(height, width):
    impression = impression_of(np.zeros((height, width, 3), np.uint8))
    assert impression.colours.sum() == pytest.approx(1)


def sampled_cuts(path, per_second: int) -> list[float]:
    detector, cuts, last = CutDetector(), [], -1
    with av.open(io.BytesIO(path.read_bytes())) as container:
        for frame in container.decode(video=0):
            interval = int((frame.time + 1e-6) * per_second)
            if interval > last:
                last = interval
                if detector.is_cut(frame.to_ndarray(format="rgb24")):
                    cuts.append(frame.time)
    return cuts


@pytest.mark.parametrize("per_second", [1, 2, 5, 12])
def test_the_sample_film_has_its_one_cut(samples, per_second):
    assert sampled_cuts(samples / "film.mp4", per_second) == [7.0]


@pytest.mark.parametrize("per_second", [1, 5])
def test_moving_hands_are_no_cut(shared_data, per_second):
    assert sampled_cuts(shared_data / "videos" / "bottle-detection.mp4", per_second) == []
