"""The object detector on labelled photos of everyday scenes: a floor under what it finds, not a benchmark."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from shoppable.v1 import common_pb2
from shoppable.v1 import object_detector_pb2 as pb
from support.detecting import COCO, detector

PHOTOS = 40
# At the default threshold the COCO model finds 0.30 of all labelled things of these photos, many of them a few pixels
# large, and 0.68 of what it says is right.
LEAST_RECALL = 0.27
LEAST_PRECISION = 0.65
Box = tuple[float, float, float, float]


def overlap(a: Box, b: Box) -> float:
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def truth_of(path: Path, labels: Sequence[str]) -> list[tuple[str, Box]]:
    """Read lines of class, centre x, centre y, width, height, as shares of the photo; no file means no things."""
    things: list[tuple[str, Box]] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        number, x, y, width, height = map(float, line.split())
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        things.append((labels[int(number)], box))
    return things


def count_right(found: Sequence[pb.Detection], truth: Sequence[tuple[str, Box]]) -> int:
    """Count detections, best first, that overlap a thing of their label by half, each thing once."""
    left = list(truth)
    right = 0
    for detection in found:
        box = (detection.box.left, detection.box.top, detection.box.right, detection.box.bottom)
        same = [thing for thing in left if thing[0] == detection.label]
        best = max(same, key=lambda thing: overlap(box, thing[1]), default=None)
        if best is not None and overlap(box, best[1]) >= 0.5:
            left.remove(best)
            right += 1
    return right


async def test_things_in_photos_are_found_and_mostly_right(triton_endpoint: str, shared_data: Path) -> None:
    folder = shared_data / "coco128"
    paths = sorted((folder / "images").glob("*.jpg"))[:PHOTOS]
    if len(paths) < PHOTOS:
        pytest.skip(f"needs the labelled photos in {folder}")
    async with detector(triton_endpoint) as service:
        model = await service.stub.GetDetectionModel(pb.GetDetectionModelRequest(name=COCO))
        photos = (common_pb2.Image(data=path.read_bytes()) for path in paths)
        answers = await service.stream(photos, models=[COCO], include_not_for_sale=True)
    labels = [label.label for label in model.model.labels]

    right = found = things = 0
    for path, answer in zip(paths, answers[1:], strict=True):
        truth = truth_of(folder / "labels" / f"{path.stem}.txt", labels)
        things += len(truth)
        found += len(answer.frame.result.detections)
        right += count_right(answer.frame.result.detections, truth)

    assert right / things >= LEAST_RECALL, (right, found, things)
    assert right / found >= LEAST_PRECISION, (right, found, things)
