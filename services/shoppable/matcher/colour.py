"""A thing's colours as a vector, with the wall behind it taken out.

The embedder was trained to tell kinds of things apart and half ignores colour: it takes a teal mug for the navy one. A
colour histogram of the whole picture makes crops of a film worse, because it mostly describes the wall. So the colours
that dominate the picture's border are taken for background, and what differs from them, near the middle, is counted in
a coarse CIELAB histogram. Two such vectors compare by their dot product (the Bhattacharyya coefficient), 0..1.

What it brings is in the package's README; what it cannot do: a thing of its background's colour.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_SIDE = 96  # pixels: enough for colours, and 1.5 ms of work
_BORDER = 5  # pixels of the scaled picture
_CELL = 12.0  # CIELAB units: the width of a cell in which border pixels count as one colour
_DOMINANT_SHARE = 0.04  # of the border's pixels
# Distance in CIELAB from the nearest background colour: below is background, above foreground, linear between.
_NEAR, _FAR = 6.0, 20.0
_CENTRE_SIGMA = 0.25  # of the side
# With less of the centre's weight than this left, the thing is taken to have its background's colour.
_LEAST_FOREGROUND = 0.05
_HUE_BINS, _LIGHT_BINS = 8, 3
_AB_RANGE = 80.0  # a and b beyond are counted in the outermost bins

SIZE = _HUE_BINS * _HUE_BINS * _LIGHT_BINS

_RGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32)
_D65_WHITE = np.array([0.9505, 1.0, 1.089], np.float32)


def _centre_weights() -> Floats:
    offsets = (np.arange(_SIDE) - (_SIDE - 1) / 2) / (_SIDE * _CENTRE_SIGMA)
    bell = np.exp(-(offsets**2) / 2)
    weights: Floats = np.outer(bell, bell).astype(np.float32)
    return weights


_CENTRE = _centre_weights()
_IS_BORDER = np.pad(np.zeros((_SIDE - 2 * _BORDER,) * 2, bool), _BORDER, constant_values=True)
_CELL_CODE = np.array([1, 64, 64 * 64])  # cells of L, a and b lie within -32..31


def describe(picture: Image.Image) -> Floats:
    """Return the colours of an RGB picture: SIZE numbers of 0..1, of length 1. Blocking."""
    scaled = picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    lab = _to_lab(np.asarray(scaled))
    return _histogram(lab, _foreground(lab))


def _to_lab(rgb: Pixels) -> Floats:
    values = rgb.astype(np.float32) / 255
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    xyz = linear @ _RGB_TO_XYZ.T / _D65_WHITE
    bent = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = bent[..., 0], bent[..., 1], bent[..., 2]
    lab: Floats = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)
    return lab


def _foreground(lab: Floats) -> Floats:
    """Return each pixel's weight, 0..1: how much it differs from the border, and how near it is to the middle."""
    border = lab[_IS_BORDER]
    # A cell as one number, which sorts much faster than three.
    cells = np.floor(border / _CELL).astype(np.int64) @ _CELL_CODE
    _, cell_of_pixel, counts = np.unique(cells, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(cell_of_pixel, weights=channel) for channel in border.T], axis=1)
    dominant = (sums / counts[:, None])[counts > _DOMINANT_SHARE * len(border)].astype(np.float32)
    if not len(dominant):
        return _CENTRE
    # The squared distance by its binomial: a product of matrices, and nothing so large as pixels times colours times 3.
    squared = (lab**2).sum(-1)[..., None] - 2 * lab @ dominant.T + (dominant**2).sum(-1)
    nearest = np.sqrt(np.maximum(squared.min(-1), 0))
    weights: Floats = np.clip((nearest - _NEAR) / (_FAR - _NEAR), 0, 1) * _CENTRE
    return weights if weights.sum() >= _LEAST_FOREGROUND * _CENTRE.sum() else _CENTRE


def _histogram(lab: Floats, weights: Floats) -> Floats:
    """Count pixels, each shared among the bins nearest to it, so that a small shift of colour changes little."""
    counted = weights > 0
    share, kept = weights[counted].astype(np.float64), lab[counted]
    lightness = np.clip(kept[:, 0] / 100 * _LIGHT_BINS - 0.5, 0, _LIGHT_BINS - 1.001)
    a, b = (
        np.clip((kept[:, axis] + _AB_RANGE) / (2 * _AB_RANGE) * _HUE_BINS - 0.5, 0, _HUE_BINS - 1.001)
        for axis in (1, 2)
    )
    # The eight bins around a pixel, as (index, weight), split along one axis after the other.
    around = [(np.zeros(len(share), np.int64), share)]
    for position, bins in ((a, _HUE_BINS), (b, _HUE_BINS), (lightness, _LIGHT_BINS)):
        low = position.astype(np.int64)
        above = position - low
        around = [
            (index * bins + low + upper, weight * (above if upper else 1 - above))
            for index, weight in around
            for upper in (0, 1)
        ]
    counts = np.sum([np.bincount(index, weights=weight, minlength=SIZE) for index, weight in around], axis=0)
    result: Floats = np.sqrt(counts / counts.sum()).astype(np.float32)
    return result
