"""COCO's average precision of detections on a folder of labelled photos, computed by COCO's own code.

The folder has `images/*.jpg` and `labels/*.txt`: a line for each thing with its class number and its box's middle and
size as shares of the photo (YOLO's form). A photo without a file of labels has no things.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Box = tuple[float, float, float, float]  # left, top, right, bottom as shares of the photo


@dataclass(frozen=True)
class Photo:
    """A labelled photo: its file, its upright size in pixels, the class and box of each thing."""

    path: Path
    width: int
    height: int
    things: Sequence[tuple[int, Box]]


@dataclass(frozen=True)
class Found:
    """A detection: class number, box, score."""

    number: int
    box: Box
    score: float


@dataclass(frozen=True)
class Precision:
    """Average precision over the classes: at overlaps from 0.5 to 0.95, and at 0.5."""

    mean: float
    at_50: float


def read_photos(folder: Path, most: int | None = None) -> list[Photo]:
    """Read a folder, the first `most` photos by name."""
    photos = []
    for path in sorted((folder / "images").glob("*.jpg"))[:most]:
        with Image.open(path) as picture:
            width, height = ImageOps.exif_transpose(picture).size
        labels = folder / "labels" / f"{path.stem}.txt"
        lines = labels.read_text().splitlines() if labels.exists() else []
        photos.append(Photo(path, width, height, [_thing(line) for line in lines if line.strip()]))
    return photos


def _thing(line: str) -> tuple[int, Box]:
    number, x, y, width, height = line.split()
    half_width, half_height = float(width) / 2, float(height) / 2
    return int(number), (
        float(x) - half_width,
        float(y) - half_height,
        float(x) + half_width,
        float(y) + half_height,
    )


def precision(photos: Sequence[Photo], found: Mapping[Path, Sequence[Found]]) -> Precision:
    """Return the average precision of what was found in photos, over the classes that they show."""
    truth, answers = COCO(), []
    annotations = []
    for number, photo in enumerate(photos, start=1):
        for kind, box in photo.things:
            rectangle = _rectangle(box, photo)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": kind,
                    "bbox": rectangle,
                    "area": rectangle[2] * rectangle[3],
                    "iscrowd": 0,
                }
            )
        answers += [
            {"image_id": number, "category_id": one.number, "bbox": _rectangle(one.box, photo), "score": one.score}
            for one in found[photo.path]
        ]
    if not annotations or not answers:
        return Precision(0.0, 0.0)
    truth.dataset = {
        "images": [
            {"id": number, "width": photo.width, "height": photo.height} for number, photo in enumerate(photos, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": number} for number in sorted({kind for photo in photos for kind, _ in photo.things})],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        truth.createIndex()
        scores = COCOeval(truth, truth.loadRes(answers), "bbox")
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    return Precision(float(scores.stats[0]), float(scores.stats[1]))


def _rectangle(box: Box, photo: Photo) -> list[float]:
    left, top, right, bottom = box
    return [
        left * photo.width,
        top * photo.height,
        (right - left) * photo.width,
        (bottom - top) * photo.height,
    ]
