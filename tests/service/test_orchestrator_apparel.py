"""Clothes on people, through the orchestrator: a real decoder, detector and Triton, and a photo that moves."""

from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from shoppable.client import ShoppableError
from shoppable.v1 import object_detector_pb2 as pb
from support.decoder_calls import running_decoder
from support.detecting import WEARABLES, detector, packaged_models
from support.fake_triton import FakeTriton
from support.orchestrating import ScriptedDecoder, ScriptedMatcher, objects, orchestrating, told
from support.videos import Clip, encode

PHOTO = "coco128/images/000000000510.jpg"  # one person who stands, whole
SIZE = (480, 360)
REGIONS = {
    "upper body": (pb.APPAREL_REGION_UPPER_BODY, "apparel-upper"),
    "lower body": (pb.APPAREL_REGION_LOWER_BODY, "apparel-lower"),
    "feet": (pb.APPAREL_REGION_FEET, "footwear"),
    "whole outfit": (pb.APPAREL_REGION_WHOLE_OUTFIT, "apparel-outfit"),
}


@pytest.fixture
def film(shared_data: Path, tmp_path: Path) -> Path:
    """Two seconds in which the camera goes over a photo of one person, from left to right."""
    photo = Image.open(shared_data / PHOTO).convert("RGB")
    height = round(photo.height * (SIZE[0] + 40) / photo.width)
    pixels = np.asarray(photo.resize((SIZE[0] + 40, height)))[: SIZE[1]]

    def draw(number: int, width: int, height: int) -> np.ndarray:
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[: len(pixels)] = pixels[:, 4 * number : 4 * number + width]
        return canvas

    path = tmp_path / "film.mp4"
    path.write_bytes(encode(Clip(frames=10, rate=5, size=SIZE, draw=draw)))
    return path


async def test_regions_of_a_person_are_objects_that_go_with_the_person(triton_endpoint: str, film: Path) -> None:
    matcher = ScriptedMatcher()
    async with (
        running_decoder(film.parent) as decoder,
        detector(triton_endpoint) as boxes,
        orchestrating(decoder=decoder.address, detector=boxes.address, matcher=matcher) as client,
    ):
        plain = objects(await told(client, film.as_uri()))
        asked = matcher.asked.copy()
        found = objects(await told(client, film.as_uri(), derive_apparel_regions=True))
        feet = objects(await told(client, film.as_uri(), derive_apparel_regions=True, categories=["footwear"]))

    assert not any(item.HasField("derivation") for item in plain)
    derived = {item.label: item for item in found if item.HasField("derivation")}
    assert len(derived) == sum(item.HasField("derivation") for item in found)  # each is one object
    assert {"upper body", "lower body", "whole outfit"} <= derived.keys() <= REGIONS.keys()
    for label, item in derived.items():
        assert (item.derivation.region, item.category) == REGIONS[label]
        assert item.derivation.source_label == "person"
        assert item.decision  # looked up by its own category
    assert len({item.derivation.person_id for item in derived.values()}) == 1
    assert set(matcher.asked) - set(asked) >= {item.category for item in derived.values()}
    # They move with the picture: 36 of 480 pixels to the left, and box_tolerance to each side.
    first, last = derived["upper body"].boxes[0], derived["upper body"].boxes[-1]
    assert last.box.left - first.box.left == pytest.approx(-36 / 480, abs=0.03)
    # What the models see is what it was without.
    assert sorted(item.label for item in found if not item.HasField("derivation")) == sorted(
        item.label for item in plain
    )
    assert {item.category for item in feet} <= {"footwear"}


async def test_a_taxonomy_without_such_categories_is_a_violation_of_the_callers_field(tmp_path: Path) -> None:
    (tmp_path / "taxonomy.toml").write_text('[categories]\ntassen = "Tassen"\n')
    (tmp_path / "shoppable.toml").write_text(
        f'name = "{WEARABLES}"\nlabels = ["mug"]\nmin_score = 0.5\n[output]\nlayout = "candidates"\n'
        '[taxonomy]\nmug = "tassen"\n'
    )
    settings = {"models": (tmp_path / "shoppable.toml",), "taxonomy_file": tmp_path / "taxonomy.toml"}
    async with (
        FakeTriton(packaged_models()).serving() as triton,
        detector(triton, **settings) as boxes,
        orchestrating(decoder=ScriptedDecoder(5), detector=boxes.address) as client,
    ):
        with pytest.raises(ShoppableError) as caught:
            await told(client, derive_apparel_regions=True)

    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [item.field for item in caught.value.violations] == ["options.derive_apparel_regions"]
