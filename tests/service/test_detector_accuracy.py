"""The detector's precision is that of its models: a quick guard. `make eval-detection` measures on all photos."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from coco_scores import read_photos
from direct_detector import DirectDetector
from eval_detection import COCO, MOST_DIFFERENCE, Service, count_shoes, precision, service_on

from shoppable.local.locations import MODEL_REPOSITORY

PHOTOS = 24
_ANY_SCORE = 0.001
# Of these photos' 0.43. This is not to find out how good the model is, but whether something has become worse.
LEAST_PRECISION = 0.40
LEAST_SHOES = 14
# On few photos a handful of things that only one of the models sees moves precision by about this much.
CHANCE = 0.005


@pytest.fixture
async def service(triton_endpoint: str, shared_data: Path) -> AsyncIterator[Service]:
    async with service_on(triton_endpoint) as served:
        yield served


async def test_precision_through_the_service_is_that_of_the_model_file(service: Service, shared_data: Path) -> None:
    photos = read_photos(shared_data / "coco128", PHOTOS)
    if len(photos) < PHOTOS:
        pytest.skip(f"needs the labelled photos in {shared_data / 'coco128'}")
    direct = DirectDetector(MODEL_REPOSITORY / COCO / "1" / "model.onnx")

    asked = precision(photos, await service.classes(photos, models=[COCO], min_score=_ANY_SCORE))
    alone = precision(photos, {photo.path: direct(photo.path, min_score=_ANY_SCORE) for photo in photos})

    assert abs(asked.mean - alone.mean) < MOST_DIFFERENCE, (asked, alone)
    assert abs(asked.at_50 - alone.at_50) < MOST_DIFFERENCE, (asked, alone)
    assert asked.mean >= LEAST_PRECISION, asked


async def test_second_model_takes_nothing_from_the_first_and_finds_shoes(service: Service, shared_data: Path) -> None:
    photos = read_photos(shared_data / "coco128", PHOTOS)
    shoes = sorted((shared_data / "clothing" / "shoes").glob("*.jpg"))
    if len(photos) < PHOTOS or len(shoes) < 15:
        pytest.skip(f"needs coco128 and clothing/shoes in {shared_data}")

    fused = precision(photos, await service.classes(photos))
    alone = precision(photos, await service.classes(photos, models=[COCO]))

    assert fused.mean > alone.mean - CHANCE, (fused, alone)
    assert await count_shoes(service, shoes[:15]) >= LEAST_SHOES
