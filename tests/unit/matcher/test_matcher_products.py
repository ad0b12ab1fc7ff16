"""When two products are the same."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shoppable.matcher.products import Price, Product, ReferenceImage, digest_of

PRODUCT = Product(
    product_id="mug-teal",
    title="Lagoon mug, teal",
    brand="Halden Clay",
    category="drinkware",
    price=Price("EUR", 16, 500_000_000),
    uri="https://shop.example/p/mug-teal",
    availability=1,
    attributes={"color": "teal", "material": "stoneware"},
    images=(ReferenceImage("1", "catalog/1.jpg", "aa"), ReferenceImage("2", "catalog/2.jpg", "bb")),
)


def test_hash_never_changes() -> None:
    # Stored products depend on it: if it changes, every product of every catalogue is written again.
    assert PRODUCT.content_hash() == "a2c95f1267795d77a934338404f65f7331b2ed05bb652ea55384475c8ef3e63b"


def test_hash_ignores_the_order_of_attributes_and_what_the_server_adds() -> None:
    turned = replace(PRODUCT, attributes=dict(reversed(list((PRODUCT.attributes or {}).items()))))
    time = datetime(2026, 1, 1, tzinfo=UTC)
    assert turned.stored(created=time, updated=time, revision=7).content_hash() == PRODUCT.content_hash()


@pytest.mark.parametrize(
    "change",
    [
        {"product_id": "mug"},
        {"title": "Lagoon mug"},
        {"description": "x"},
        {"brand": ""},
        {"category": "mugs"},
        {"price": None},
        {"price": Price("USD", 16, 500_000_000)},
        {"price": Price("EUR", 16)},
        {"uri": ""},
        {"availability": 2},
        {"attributes": {"color": "teal"}},
        {"attributes": None},
        {"images": PRODUCT.images[:1]},
        {"images": PRODUCT.images[::-1]},
        {"images": (ReferenceImage("1", "", "aa"), PRODUCT.images[1])},
        {"images": (ReferenceImage("1", "catalog/1.jpg", "cc"), PRODUCT.images[1])},
    ],
)
def test_hash_tells_every_change(change: dict[str, object]) -> None:
    assert replace(PRODUCT, **change).content_hash() != PRODUCT.content_hash()  # type: ignore[arg-type]


def test_digest_tells_raw_pictures_of_other_shape_apart() -> None:
    assert digest_of(b"x", layout="rgb24 2x3") != digest_of(b"x", layout="rgb24 3x2")
