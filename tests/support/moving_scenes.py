"""Short made clips with known truth, to judge how well things keep their identity: what moves where, and who is whom.

A scene is a function of time, so it can be drawn at any rate, and is the same each time. Positions are shares of the
frame as a camera at rest sees it; a thing's place is that of its middle.
"""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from support.sprites import Pixels, Sprite, sprite

WIDTH, HEIGHT = 640, 360
_WORLD = 3  # the background is so many frames wide and high
Place = tuple[float, float]


@dataclass(frozen=True)
class Actor:
    """A thing: a product of the catalogue, its height as share of the frame's, and where it is, None while away."""

    product: str
    height: float
    place: Callable[[float], Place | None]


@dataclass(frozen=True)
class Camera:
    """Where the camera looks: shift of its middle, and how much it magnifies."""

    x: float = 0.0
    y: float = 0.0
    zoom: float = 1.0


@dataclass(frozen=True)
class Scene:
    """A clip. Actors are given from the back to the front."""

    name: str
    seconds: float
    actors: Sequence[Actor]
    camera: Callable[[float], Camera] = lambda _: Camera()
    cuts: Sequence[float] = ()


@dataclass(frozen=True)
class TrueThing:
    """A thing in one frame: who, its whole outline's box clipped to the frame, and what share of it can be seen."""

    who: int
    label: str
    category: str
    box: tuple[float, float, float, float]
    visibility: float


@dataclass(frozen=True)
class Shot:
    """One frame of a scene with its truth."""

    time_s: float
    pixels: Pixels
    things: Sequence[TrueThing]
    after_cut: bool


def still(x: float, y: float) -> Callable[[float], Place | None]:
    return lambda _: (x, y)


def line(start: Place, end: Place, seconds: float, *, begin: float = 0.0) -> Callable[[float], Place | None]:
    """From one place to another at a steady speed, at rest before and after."""

    def place(time_s: float) -> Place:
        share = min(max((time_s - begin) / seconds, 0.0), 1.0)
        return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])

    return place


def during(begin: float, end: float, place: Callable[[float], Place | None]) -> Callable[[float], Place | None]:
    return lambda time_s: place(time_s) if begin <= time_s < end else None


def _throw(time_s: float) -> Place:
    """Up and down in an arc, in 1.6 s, then still."""
    share = min(max((time_s - 1.0) / 1.6, 0.0), 1.0)
    return 0.12 + 0.72 * share, 0.75 - 1.9 * share * (1 - share)


def _moved_unseen(time_s: float) -> Place | None:
    """Here for 3 s, away for as long, then there."""
    return (0.85, 0.5) if time_s < 3 else None if time_s < 6 else (0.12, 0.55)


def _shaken(time_s: float) -> Camera:
    """A camera in an unsteady hand: several swings that do not repeat, up to a tenth of the frame."""
    x = 0.05 * math.sin(7.1 * time_s) + 0.035 * math.sin(17.3 * time_s + 1) + 0.015 * math.sin(31 * time_s)
    y = 0.05 * math.sin(8.3 * time_s + 2) + 0.035 * math.sin(15.1 * time_s)
    return Camera(x, y)


def _zoomed(time_s: float) -> Camera:
    """In to 2.6 times within 2 s, held, and out again."""
    share = min(max(time_s - 1, 0) / 2, 1) - min(max(time_s - 5, 0) / 2, 1)
    return Camera(0.06 * share, 0.02 * share, 1 + 1.6 * share)


def _rows(time_s: float, index: int) -> Place:
    """Ten bottles in two rows; the second of each row is taken, and put down at the row's end."""
    row, column = divmod(index, 5)
    x, y = 0.14 + 0.15 * column, (0.3, 0.72)[row]
    if column == 1:
        share = min(max((time_s - 2 - row) / 2, 0.0), 1.0)
        return x + 0.6 * share, y - 0.5 * share * (1 - share)
    return x, y


SCENES = (
    Scene(
        "crossing",
        8,
        [
            Actor("mug-navy-plain", 0.26, line((0.05, 0.32), (0.95, 0.36), 6, begin=1)),
            Actor("mug-teal", 0.28, line((0.95, 0.36), (0.05, 0.32), 6, begin=1)),
            Actor("bottle-green-cider", 0.4, line((0.15, 0.72), (0.85, 0.72), 5, begin=1)),
            Actor("bottle-green-cider", 0.4, line((0.85, 0.75), (0.15, 0.75), 5, begin=1)),
        ],
    ),
    Scene(
        "occlusion",
        9,
        [
            Actor("mug-teal", 0.24, line((0.05, 0.6), (0.95, 0.6), 6, begin=0.5)),
            Actor("bottle-amber-burgundy", 0.4, line((0.95, 0.35), (0.3, 0.4), 7, begin=1)),
            Actor("teddy-honey", 0.4, still(0.15, 0.3)),
            Actor("laptop-rose-13", 0.46, still(0.45, 0.6)),
            Actor("couch-teal-2", 0.34, line((0.72, 0.42), (0.66, 0.42), 9)),
        ],
    ),
    Scene(
        "cut and return",
        9,
        [
            *(
                Actor(product, height, lambda t, x=x, y=y: None if 3 <= t < 5.5 else (x, y))
                for product, height, x, y in (
                    ("mug-teal", 0.3, 0.2, 0.6),
                    ("bottle-green-cider", 0.45, 0.45, 0.5),
                    ("bowl-charcoal", 0.22, 0.7, 0.65),
                )
            ),
            Actor("teddy-honey", 0.5, during(3, 5.5, still(0.25, 0.5))),
            Actor("clock-white-walnut", 0.35, during(3, 5.5, still(0.55, 0.35))),
            Actor("mug-navy-plain", 0.3, during(3, 5.5, still(0.72, 0.6))),
        ],
        camera=lambda t: Camera(0.06, -0.03, 1.1) if t >= 5.5 else Camera(),
        cuts=(3, 5.5),
    ),
    Scene(
        "alike across cuts",
        9,
        [
            *(Actor("mug-teal", 0.24, lambda t, x=x: None if 3 <= t < 5.5 else (x, 0.6)) for x in (0.2, 0.45, 0.7)),
            Actor("laptop-rose-13", 0.5, during(3, 5.5, still(0.5, 0.5))),
        ],
        camera=lambda t: Camera(0.05, 0.08) if t >= 5.5 else Camera(),
        cuts=(3, 5.5),
    ),
    Scene(
        "zoom",
        9,
        [
            Actor("vase-cobalt-cylinder", 0.34, still(0.2, 0.4)),
            Actor("mug-teal", 0.2, still(0.45, 0.5)),
            Actor("mug-navy-plain", 0.2, still(0.63, 0.55)),
            Actor("teddy-honey", 0.36, still(0.86, 0.45)),
        ],
        camera=_zoomed,
    ),
    Scene(
        "ten alike",
        8,
        [Actor("bottle-green-cider", 0.36, lambda t, index=index: _rows(t, index)) for index in range(10)],
        camera=lambda t: Camera(0.05 * math.sin(t)),
    ),
    Scene(
        "shake",
        8,
        [
            Actor("clock-white-walnut", 0.3, still(0.3, 0.25)),
            Actor("mug-teal", 0.24, still(0.2, 0.65)),
            Actor("mug-teal", 0.24, still(0.42, 0.68)),
            Actor("mug-navy-plain", 0.24, still(0.64, 0.66)),
            Actor("bottle-amber-burgundy", 0.42, still(0.82, 0.45)),
        ],
        camera=_shaken,
    ),
    Scene(
        "away and back",
        10,
        [
            Actor("laptop-rose-13", 0.4, still(0.5, 0.65)),
            Actor("mug-teal", 0.26, lambda t: (-0.2 + 0.9 * abs(t - 5) / 3.5, 0.3)),
            Actor("bottle-amber-burgundy", 0.42, _moved_unseen),
        ],
    ),
    Scene(
        "thrown",
        5,
        [
            Actor("teddy-honey", 0.3, _throw),
            Actor("couch-rust-2", 0.34, still(0.5, 0.75)),
            Actor("mug-teal", 0.2, line((0.9, 0.2), (0.1, 0.25), 1.6, begin=2.5)),
        ],
    ),
)


class Stage:
    """Draws scenes. `shared_data` puts photos in the places of some of the catalogue's pictures."""

    def __init__(self, samples: Path, shared_data: Path | None = None) -> None:
        self._samples, self._shared = samples, shared_data
        self._sized = lru_cache(512)(self._resize)

    def shots(self, scene: Scene, frames_per_second: float) -> list[Shot]:
        """Return the scene's frames at a rate."""
        shots, shown = [], -1.0
        for number in range(round(scene.seconds * frames_per_second)):
            time_s = number / frames_per_second
            pixels, things = self._draw(scene, time_s)
            shots.append(Shot(time_s, pixels, things, any(shown < cut <= time_s for cut in scene.cuts)))
            shown = time_s
        return shots

    def film(self, scene: Scene, frames_per_second: int = 25) -> bytes:
        """Return the scene as an MP4 file with H.264."""
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=frames_per_second)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            stream.options = {"crf": "20", "preset": "veryfast", "threads": "1"}  # one thread: the same bytes each time
            for shot in self.shots(scene, frames_per_second):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(shot.pixels, format="rgb24")))
            container.mux(stream.encode(None))
        return file.getvalue()

    def _draw(self, scene: Scene, time_s: float) -> tuple[Pixels, list[TrueThing]]:
        camera = scene.camera(time_s)
        canvas = _background(sum(time_s >= cut for cut in scene.cuts), camera).astype(np.float32)
        owner = np.full((HEIGHT, WIDTH), -1, np.int16)
        seen: list[tuple[int, Sprite, tuple[float, float, float, float], int]] = []
        for who, actor in enumerate(scene.actors):
            place = actor.place(time_s)
            if place is None:
                continue
            thing = sprite(self._samples, actor.product, self._shared)
            high = actor.height * camera.zoom * HEIGHT
            wide = high * thing.aspect
            left = ((place[0] - 0.5 - camera.x) * camera.zoom + 0.5) * WIDTH - wide / 2
            top = ((place[1] - 0.5 - camera.y) * camera.zoom + 0.5) * HEIGHT - high / 2
            pixels, alpha = self._sized(thing, round(wide), round(high))
            _paste(canvas, owner, pixels, alpha, round(left), round(top), who)
            seen.append((who, thing, (left, top, left + wide, top + high), int((alpha > 0.5).sum())))
        things = []
        for who, thing, (left, top, right, bottom), whole in seen:
            visible = int((owner == who).sum()) / max(whole, 1)
            box = (max(left / WIDTH, 0.0), max(top / HEIGHT, 0.0), min(right / WIDTH, 1.0), min(bottom / HEIGHT, 1.0))
            if box[0] < box[2] and box[1] < box[3]:
                things.append(TrueThing(who, thing.label, thing.category, box, visible))
        return canvas.astype(np.uint8), things

    @staticmethod
    def _resize(thing: Sprite, wide: int, high: int) -> tuple[Pixels, npt.NDArray[np.float32]]:
        pixels = Image.fromarray(thing.pixels).resize((wide, high), Image.Resampling.BILINEAR)
        return np.asarray(pixels), np.asarray(Image.fromarray(thing.alpha).resize((wide, high)))


def _paste(
    canvas: npt.NDArray[np.float32],
    owner: npt.NDArray[np.int16],
    pixels: Pixels,
    alpha: npt.NDArray[np.float32],
    left: int,
    top: int,
    who: int,
) -> None:
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + pixels.shape[1], WIDTH), min(top + pixels.shape[0], HEIGHT)
    if x0 >= x1 or y0 >= y1:
        return
    part = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    share = alpha[part][..., None]
    canvas[y0:y1, x0:x1] = share * pixels[part] + (1 - share) * canvas[y0:y1, x0:x1]
    owner[y0:y1, x0:x1][alpha[part] > 0.5] = who


def _background(which: int, camera: Camera) -> Pixels:
    world = _world(which)
    high, wide = world.shape[:2]
    middle_x, middle_y = wide / 2 + camera.x * WIDTH, high / 2 + camera.y * HEIGHT
    half_x, half_y = WIDTH / camera.zoom / 2, HEIGHT / camera.zoom / 2
    window = (middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y)
    return np.asarray(Image.fromarray(world).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box=window))


@lru_cache
def _world(which: int) -> Pixels:
    """A wall with soft spots and grain: something for a camera to move over."""
    chance = np.random.default_rng(which)
    high, wide = HEIGHT * _WORLD, WIDTH * _WORLD
    spots = ndimage.zoom(chance.normal(0, 14, (12, 20)), (high / 12, wide / 20), order=1)
    grain = chance.normal(0, 3, (high, wide))
    tone = np.array([(196, 186, 170), (150, 160, 172)][which % 2])
    return np.clip(tone + (spots + grain)[..., None], 0, 255).astype(np.uint8)
