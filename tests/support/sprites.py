"""Things cut out of pictures, to be set into made scenes.

The sample catalogue's pictures are always there. Where the shared test data is, photos of real things can take their
places: same scenes, same names, other looks.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

Pixels = npt.NDArray[np.uint8]

_BRIGHT, _GREY = 175, 26  # a studio's background: at least so bright, and no more colourful than this
_ICONIC = "grocery/iconic-images-and-descriptions"
# Photos of whole things on white, in place of the catalogue's. The detector knows apples and oranges, but no cartons.
_PHOTOS = {
    "bottle-amber-burgundy": ("orange", "food", "Fruit/Orange"),
    "bottle-green-cider": ("apple", "food", "Fruit/Apple/Granny-Smith"),
    "mug-teal": ("apple", "food", "Fruit/Apple/Red-Delicious"),
    "mug-navy-plain": ("banana", "food", "Fruit/Banana"),
}


@dataclass(frozen=True, eq=False)
class Sprite:
    """A thing without its background: what a detector calls it, its pixels, and how much each covers, 0..1."""

    label: str
    category: str
    pixels: Pixels
    alpha: npt.NDArray[np.float32]

    @property
    def aspect(self) -> float:
        """Width to height."""
        return self.pixels.shape[1] / self.pixels.shape[0]


_KINDS = {
    "bottle": ("bottle", "bottles"),
    "bowl": ("bowl", "tableware"),
    "chair": ("chair", "seating"),
    "clock": ("clock", "clocks"),
    "couch": ("couch", "seating"),
    "laptop": ("laptop", "computers"),
    "mug": ("cup", "drinkware"),
    "plant": ("potted plant", "vases-and-plants"),
    "teddy": ("teddy bear", "toys"),
    "tv": ("tv", "tv-and-monitors"),
    "vase": ("vase", "vases-and-plants"),
}


@cache
def sprite(samples: Path, name: str, shared_data: Path | None = None) -> Sprite:
    """Return a product of the sample catalogue by its id; a photo in its place if there is one in the shared data."""
    if shared_data and name in _PHOTOS:
        label, category, path = _PHOTOS[name]
        (photo,) = (shared_data / _ICONIC / path).glob("*.jpg")
        return cut_out(photo, label, category)
    label, category = _KINDS[name.partition("-")[0]]
    return cut_out(samples / "catalog" / f"{name}-1.jpg", label, category)


def cut_out(path: Path, label: str, category: str) -> Sprite:
    """Return the largest thing of a picture with a bright grey background."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    spread = pixels.max(2).astype(np.int16) - pixels.min(2)
    regions, _ = ndimage.label((pixels.min(2) >= _BRIGHT) & (spread <= _GREY))
    rim = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    thing = ndimage.binary_fill_holes(~np.isin(regions, np.unique(rim[rim > 0])))
    thing = ndimage.binary_opening(thing, iterations=2)
    parts, count = ndimage.label(thing)
    largest = 1 + int(np.argmax(ndimage.sum_labels(thing, parts, np.arange(1, count + 1))))
    mask = parts == largest
    (rows, columns) = ndimage.find_objects(mask.astype(np.int8))[0]
    alpha = ndimage.gaussian_filter(mask.astype(np.float32), 0.7)[rows, columns]
    return Sprite(label, category, pixels[rows, columns].copy(), alpha)
