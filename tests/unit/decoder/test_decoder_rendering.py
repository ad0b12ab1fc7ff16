"""How true pictures are that were resized, against swscale's slowest and most exact way."""

import itertools

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from shoppable.decoder.adapters.rendering import Renderer
from shoppable.decoder.geometry import UPRIGHT

SIZE = (320, 180)


def decibels(found: list[np.ndarray], exact: list[np.ndarray]) -> float:
    """Return the ratio of peak signal to noise."""
    noise = np.mean((np.stack(found).astype(float) - np.stack(exact)) ** 2)
    return float(10 * np.log10(255**2 / noise))


def test_resizing_before_conversion_is_about_as_true_as_both_at_once(samples):
    with av.open(str(samples / "film.mp4")) as film:
        pictures = list(itertools.islice(film.decode(video=0), 0, 160, 20))
    exactly = Interpolation.AREA | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
    exact_reformat, plain_reformat = VideoReformatter().reformat, VideoReformatter().reformat
    exact = [exact_reformat(each, *SIZE, "rgb24", interpolation=exactly).to_ndarray() for each in pictures]
    at_once = [plain_reformat(each, *SIZE, "rgb24").to_ndarray() for each in pictures]
    renderer = Renderer(longest_side=SIZE[0], pixel_aspect=None, bottom_field_first=False)
    rendered = [renderer.render(each, UPRIGHT) for each in pictures]
    assert decibels(rendered, exact) > decibels(at_once, exact) - 1
    # Brightness, on which most of detection and matching rests, loses nothing.
    luma = np.array([0.2126, 0.7152, 0.0722])
    exact_luma, found, before = ([each @ luma for each in kind] for kind in (exact, rendered, at_once))
    assert decibels(found, exact_luma) > decibels(before, exact_luma)
