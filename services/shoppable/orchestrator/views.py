"""What a crop looks like and how good a view it is; and the few best views of a track, spread in time."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from shoppable.orchestrator.domain import Box, Pixels, Vector, View

_COLOUR_SIDE = 24  # pixels: colours need no detail
_HUE_BINS, _SATURATION_BINS, _VALUE_BINS = 12, 4, 4
_SHARP_SIDE = 96  # pixels: sharpness is compared at one size
_HALF_AREA = 96.0**2  # pixels: a crop of this size counts half of the largest
_HALF_SHARPNESS = 80.0  # variance of the Laplacian that counts half; blurred crops of film have 5..50
_MAX_SIDE = 640  # pixels, of a view that is kept: more than any model or thumbnail uses
_MARGIN = 0.01  # share of the frame: a box nearer than this to its edge may be cut off
_CUT_OFF_FACTOR = 0.5


def crop(pixels: Pixels, box: Box) -> Pixels:
    """Cut a box out of a frame, as a copy of at least one pixel a side."""
    height, width = pixels.shape[:2]
    left, top = min(int(box.left * width), width - 1), min(int(box.top * height), height - 1)
    right = min(max(math.ceil(box.right * width), left + 1), width)
    bottom = min(max(math.ceil(box.bottom * height), top + 1), height)
    return pixels[top:bottom, left:right].copy()


def colours(view: Pixels) -> Vector:
    """Return the square roots of a crop's colour histogram, centre first: a vector of length 1.

    The dot product of two is their Bhattacharyya coefficient, 0..1. The middle weighs more, for a crop's rim is
    background.
    """
    small = Image.fromarray(view).resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX).convert("HSV")
    hue, saturation, value = (np.asarray(band, np.int32).ravel() for band in small.split())
    vivid = (saturation > 40) & (value > 40)
    bins = np.where(
        vivid,
        (hue * _HUE_BINS // 256) * _SATURATION_BINS + saturation * _SATURATION_BINS // 256,
        _HUE_BINS * _SATURATION_BINS + value * _VALUE_BINS // 256,
    )
    histogram = np.bincount(bins, weights=_CENTRE_WEIGHTS, minlength=_HUE_BINS * _SATURATION_BINS + _VALUE_BINS)
    return np.asarray(np.sqrt(histogram / histogram.sum()), np.float32)


def _centre_weights() -> npt.NDArray[np.float64]:
    axis = np.linspace(-1, 1, _COLOUR_SIDE)
    distance = np.hypot(*np.meshgrid(axis, axis))
    return np.asarray(np.exp(-((distance / 0.7) ** 2)), np.float64).ravel()


_CENTRE_WEIGHTS = _centre_weights()


def quality(view: Pixels, box: Box, *, score: float, others: Sequence[Box]) -> float:
    """Rate a crop as a view of its object, 0..1: sure, large, sharp, wholly in the frame, not covered by `others`."""
    height, width = view.shape[:2]
    size = width * height / (width * height + _HALF_AREA)
    sharp = sharpness(view)
    whole = 1.0 if min(box.left, box.top, 1 - box.right, 1 - box.bottom) >= _MARGIN else _CUT_OFF_FACTOR
    covered = max((box.intersection(other) / box.area for other in others if box.area > 0), default=0.0)
    return score * size * sharp / (sharp + _HALF_SHARPNESS) * whole * (1 - 0.5 * min(covered, 1.0))


def sharpness(view: Pixels) -> float:
    """Return the variance of a crop's Laplacian at one common size: the usual measure of focus (Pech-Pacheco 2000)."""
    grey = Image.fromarray(view).convert("L")
    if max(grey.size) > _SHARP_SIDE:
        grey.thumbnail((_SHARP_SIDE, _SHARP_SIDE), Image.Resampling.BILINEAR)
    values = np.asarray(grey, np.float32)
    if min(values.shape) < 3:
        return 0.0
    laplacian = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:] - 4 * values[1:-1, 1:-1]
    return float(laplacian.var())


def _fitted(view: Pixels) -> Pixels:
    """Return a crop, made smaller if it is larger than any that is used."""
    if max(view.shape[:2]) <= _MAX_SIDE:
        return view
    picture = Image.fromarray(view)
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    return np.asarray(picture)


class BestViews:
    """The best views of one track: at most `limit`, none closer in time than `spread_s`."""

    def __init__(self, *, limit: int, spread_s: float = 0.4) -> None:
        self._limit = limit
        self._spread_s = spread_s
        self._kept: list[View] = []

    def offer(self, view: View) -> None:
        """Take a view in if it is better than what is kept."""
        near = [kept for kept in self._kept if abs(kept.time_s - view.time_s) < self._spread_s]
        if any(kept.quality >= view.quality for kept in near):
            return
        self._kept = [kept for kept in self._kept if all(kept is not other for other in near)]
        self._kept.append(replace(view, crop=_fitted(view.crop)))
        self._kept.sort(key=lambda kept: kept.quality, reverse=True)
        del self._kept[self._limit :]

    def best_first(self) -> Sequence[View]:
        """Return the views, best first."""
        return tuple(self._kept)
