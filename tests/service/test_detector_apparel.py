"""Regions of clothes and the categories they are of, through the service; Triton is a stand-in that sees a person."""

from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest

from shoppable.client import DetectorClient
from shoppable.v1 import object_detector_pb2 as pb
from support.detecting import COCO, WEARABLES, Detector, detector, grey, packaged_models
from support.fake_triton import Array, FakeTriton

PERSON, CUP = 0, 41  # of COCO
FOOTWEAR = 18  # of the wearables
# In pixels of an input of 512 x 512; the picture fills it. A person of 160 x 470, a cup beside.
COCO_ROWS = [(100, 20, 260, 490, 0.9, PERSON), (400, 400, 450, 450, 0.8, CUP)]


@pytest.fixture
def triton() -> FakeTriton:
    return FakeTriton(packaged_models())


@pytest.fixture
async def service(triton: FakeTriton) -> AsyncIterator[Detector]:
    async def answer(model: str, images: Array) -> Array:
        output = np.zeros((len(images), 100, 6), np.float32)
        if model == COCO:
            output[:, : len(COCO_ROWS)] = COCO_ROWS
        return output

    triton.answer = answer
    async with triton.serving() as endpoint, detector(endpoint) as served:
        yield served


PICTURE = grey(90, width=512, height=512)


async def test_regions_come_only_when_asked_for_and_say_what_they_are(service: Detector) -> None:
    plain = (await service.detect(PICTURE)).results[0].detections
    asked = (await service.detect(PICTURE, derive_apparel_regions=True)).results[0].detections
    streamed = (await service.stream([PICTURE], derive_apparel_regions=True))[1].frame.result.detections

    assert [found.label for found in plain] == ["cup"]
    assert not plain[0].HasField("derivation")
    assert [(found.label, found.category, found.HasField("derivation")) for found in asked] == [
        ("upper body", "apparel-upper", True),
        ("lower body", "apparel-lower", True),
        ("feet", "footwear", True),
        ("whole outfit", "apparel-outfit", True),
        ("cup", "drinkware", False),
    ]
    assert list(streamed) == list(asked)
    feet = asked[2]
    assert (feet.for_sale, feet.model, round(feet.score, 3)) == (True, COCO, 0.9)
    assert (feet.derivation.region, feet.derivation.source_label) == (pb.APPAREL_REGION_FEET, "person")
    source = feet.derivation.source_box
    assert (source.left, source.top, source.right, source.bottom) == pytest.approx(
        (100 / 512, 20 / 512, 260 / 512, 490 / 512)
    )
    assert (feet.box.left, feet.box.bottom) == pytest.approx((source.left, source.bottom))
    assert feet.box.top == pytest.approx((20 + 0.86 * 470) / 512)


async def test_shoes_that_a_model_saw_take_the_place_of_the_feet(service: Detector, triton: FakeTriton) -> None:
    coco_only = triton.answer
    assert coco_only is not None

    async def answer(model: str, images: Array) -> Array:
        output = await coco_only(model, images)
        if model == WEARABLES:
            output[:, 0] = np.array([150, 455, 200, 485, 0, 0]) * 300 / 512
            output[:, 0, 4:] = 0.6, FOOTWEAR
        return output

    triton.answer = answer
    found = (await service.detect(PICTURE, derive_apparel_regions=True, categories=["footwear"])).results[0].detections

    assert [(one.label, one.model, one.HasField("derivation")) for one in found] == [("footwear", WEARABLES, False)]


async def test_categories_are_asked_for_with_all_that_is_a_part_of_them(service: Detector) -> None:
    async def labels(*categories: str) -> set[str]:
        answer = await service.detect(PICTURE, categories=categories, derive_apparel_regions=True)
        return {found.label for found in answer.results[0].detections}

    assert await labels("apparel") == {"upper body", "lower body", "whole outfit"}
    assert await labels("fashion") == {"upper body", "lower body", "whole outfit", "feet"}
    assert await labels("home", "apparel-lower") == {"cup", "lower body"}
    assert await labels("electronics") == set()


async def test_categories_can_be_listed_for_a_menu(service: Detector) -> None:
    listed = (await DetectorClient(service.channel).list_categories(timeout_s=10)).categories
    by_id = {category.id: category for category in listed}

    assert [category.id for category in listed] == sorted(by_id)
    assert all(not category.parent or category.parent in by_id for category in listed)
    assert by_id["drinkware"] == pb.Category(
        id="drinkware",
        display_name="Cups, mugs and glasses",
        parent="kitchen",
        labels=["coffee cup", "cup", "mug", "wine glass"],
    )
    assert (by_id["fashion"].parent, list(by_id["fashion"].labels)) == ("", [])
    assert list(by_id["footwear"].derived_regions) == [pb.APPAREL_REGION_FEET]
    # Each category that a detection can have is in the menu.
    models = (await service.stub.ListDetectionModels(pb.ListDetectionModelsRequest())).models
    assert {label.category for model in models for label in model.labels} - {""} <= by_id.keys()


async def test_detector_with_a_taxonomy_of_its_own_lists_that_one_and_derives_nothing(
    triton: FakeTriton, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "taxonomy.toml").write_text('[categories]\ntassen = "Tassen"\n')
    (folder / "shoppable.toml").write_text(
        f'name = "{WEARABLES}"\nlabels = ["mug"]\nmin_score = 0.5\n[output]\nlayout = "candidates"\n'
        '[taxonomy]\nmug = "tassen"\n'
    )
    settings = {"models": (folder / "shoppable.toml",), "taxonomy_file": folder / "taxonomy.toml"}
    async with triton.serving() as endpoint, detector(endpoint, **settings) as service:
        listed = (await service.stub.ListCategories(pb.ListCategoriesRequest())).categories
        with pytest.raises(grpc.aio.AioRpcError, match="no categories for derived regions") as raised:
            await service.detect(PICTURE, derive_apparel_regions=True)

    assert list(listed) == [pb.Category(id="tassen", display_name="Tassen", labels=["mug"])]
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
