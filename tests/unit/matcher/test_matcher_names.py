"""How names are written."""

import pytest

from shoppable.matcher import names


@pytest.mark.parametrize("good", ["a", "shop", "shop-1", "a" * 63, "s1-2-3"])
def test_catalog_ids_that_are_taken(good: str) -> None:
    assert names.parse_catalog_name(names.catalog_name(good)) == good


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "catalogs",
        "catalogs/",
        "catalogs/1a",
        "catalogs/a-",
        "catalogs/A",
        "catalogs/a/b",
        "shops/a",
        "a",
        f"catalogs/{'a' * 64}",
        "catalogs/ä",
        "catalogs/a\n",
        "catalogs/..",
        "catalogs/a/../b",
        " catalogs/a",
    ],
)
def test_catalog_names_that_are_refused(bad: str) -> None:
    assert names.parse_catalog_name(bad) is None


@pytest.mark.parametrize("good", ["1", "mug-teal", "A_b.c~d", "..", "x" * 128])
def test_product_ids_that_are_taken(good: str) -> None:
    assert names.parse_product_name(names.product_name("shop", good)) == ("shop", good)


@pytest.mark.parametrize(
    "bad",
    [
        "catalogs/shop/products/",
        "catalogs/shop/products/a/b",
        "catalogs/Shop/products/a",
        "catalogs/shop/items/a",
        f"catalogs/shop/products/{'x' * 129}",
        "catalogs/shop/products/ä",
        "catalogs/shop/products/a b",
    ],
)
def test_product_names_that_are_refused(bad: str) -> None:
    assert names.parse_product_name(bad) is None


def test_point_ids_never_change() -> None:
    # Stored catalogues depend on this value: if it changes, a repeated import doubles every picture.
    assert names.point_id("mug-teal", "1") == "d3d4db15-9cc9-5742-b35a-ef9b2deef17c"
    assert names.point_id("mug", "teal-1") != names.point_id("mug-teal", "1")
