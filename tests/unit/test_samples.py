"""The sample film, catalogue and ground truth belong together; what they show is not judged here."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

SAMPLES = Path(__file__).parents[2] / "samples"
FRAMES = 168
CUT = 84  # first frame of the second scene
PHOTO_SIZE = (384, 384)


@pytest.fixture(scope="module")
def products() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLES / "catalog.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SAMPLES / "ground_truth.json").read_text("utf-8"))
    return loaded


def test_catalogue_has_33_products_with_ids_of_their_own(products: list[dict[str, Any]]) -> None:
    assert len(products) == 33
    assert len({product["product_id"] for product in products}) == 33


def test_every_product_has_what_a_shop_shows(products: list[dict[str, Any]]) -> None:
    for product in products:
        assert all(product[field] for field in ("title", "description", "category", "brand", "url", "attributes"))
        price = product["price"]
        assert price["currency_code"] == "EUR"
        assert price["units"] > 0
        assert 0 <= price["nanos"] < 10**9


def test_every_product_has_two_pictures_that_decode(products: list[dict[str, Any]]) -> None:
    for product in products:
        assert len(product["images"]) == 2
        for image in product["images"]:
            with Image.open(SAMPLES / image) as picture:
                picture.load()
                assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", PHOTO_SIZE)


def test_no_picture_is_left_over(products: list[dict[str, Any]]) -> None:
    named = {image for product in products for image in product["images"]}
    assert named == {f"catalog/{path.name}" for path in (SAMPLES / "catalog").iterdir()}


def test_truth_has_every_frame_of_the_film_once_and_in_order(truth: dict[str, Any]) -> None:
    with av.open(str(SAMPLES / truth["film"])) as film:
        stream = film.streams.video[0]
        assert (stream.width, stream.height) == (truth["width"], truth["height"])
        times = [frame.time for frame in film.decode(stream)]
    assert len(times) == len(truth["frames"]) == FRAMES
    assert [frame["frame"] for frame in truth["frames"]] == list(range(FRAMES))
    assert [frame["time"] for frame in truth["frames"]] == pytest.approx(times, abs=1e-3)


def test_products_in_the_truth_are_the_catalogue_s(products: list[dict[str, Any]], truth: dict[str, Any]) -> None:
    categories = {product["product_id"]: product["category"] for product in products}
    seen = {seen["product_id"]: seen["category"] for frame in truth["frames"] for seen in frame["products"]}
    assert len(seen) == 11
    assert seen.items() <= categories.items()


def test_boxes_lie_in_the_frame_and_shares_between_0_and_1(truth: dict[str, Any]) -> None:
    for frame in truth["frames"]:
        ids = [product["product_id"] for product in frame["products"]]
        assert len(ids) == len(set(ids)), frame["frame"]
        for product in frame["products"]:
            left, top, right, bottom = product["box"]
            assert 0 <= left < right <= truth["width"]
            assert 0 <= top < bottom <= truth["height"]
            assert 0 < product["visibility"] <= 1


def test_no_product_is_in_view_on_both_sides_of_the_cut(truth: dict[str, Any]) -> None:
    desk, lounge = (
        {product["product_id"] for frame in frames for product in frame["products"]}
        for frames in (truth["frames"][:CUT], truth["frames"][CUT:])
    )
    assert desk
    assert lounge
    assert not desk & lounge


@pytest.mark.parametrize("product_id", ["mug-teal", "bottle-green-cider"])
def test_product_that_the_camera_passes_twice_has_a_gap(truth: dict[str, Any], product_id: str) -> None:
    frames = [
        frame["frame"]
        for frame in truth["frames"]
        if any(product["product_id"] == product_id for product in frame["products"])
    ]
    gaps = [(before, after) for before, after in itertools.pairwise(frames) if after > before + 1]
    assert len(gaps) == 1
