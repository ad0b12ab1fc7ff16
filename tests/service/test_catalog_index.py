"""What every index must do: one suite for Qdrant Edge and for the adapter of a Qdrant server.

The server's adapter runs on the client's own engine in memory; with SHOPPABLE_TEST_QDRANT=host:port it runs on a real
server as well, in collections of its own that are deleted afterwards.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from shoppable.matcher import colour
from shoppable.matcher.adapters import qdrant_calls
from shoppable.matcher.adapters.qdrant_edge import open_edge_index
from shoppable.matcher.adapters.qdrant_server import QdrantServerIndex
from shoppable.matcher.filters import ProductFilter
from shoppable.matcher.names import new_generation
from shoppable.matcher.ports import CatalogGoneError, Counts, Space, VectorIndex
from shoppable.matcher.texts import folded
from support.catalog_points import LATER, SIZE, change_of, euros, record_of, store, unit, vector_of

REAL = "SHOPPABLE_TEST_QDRANT"
TIMEOUT_S = 10.0


@pytest.fixture(params=["edge", "server in memory", "real server"])
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorIndex]:
    if request.param == "edge":
        async with open_edge_index(tmp_path, timeout_s=TIMEOUT_S) as edge:
            yield edge
    elif request.param == "server in memory":
        yield QdrantServerIndex(AsyncQdrantClient(":memory:"), prefix="test", timeout_s=TIMEOUT_S)
    else:
        endpoint = os.environ.get(REAL)
        if not endpoint:
            pytest.skip(f"needs a Qdrant server: set {REAL}=host:port of its gRPC interface")
        async with qdrant_calls.connect(endpoint, api_key=None, tls=False, timeout_s=TIMEOUT_S) as client:
            prefix = f"test-{secrets.token_hex(4)}"
            try:
                yield QdrantServerIndex(client, prefix=prefix, timeout_s=TIMEOUT_S)
            finally:
                for collection in (await client.get_collections()).collections:
                    if collection.name.startswith(f"{prefix}."):
                        await client.delete_collection(collection.name)


@pytest.fixture
async def shop(index: VectorIndex) -> VectorIndex:
    """An index with the empty catalogue `shop`."""
    assert await index.create_catalog(record_of())
    return index


async def test_a_catalogue_comes_back_as_it_was_made(index: VectorIndex) -> None:
    await index.check()
    assert await index.get_catalog("shop") is None
    assert await index.create_catalog(record_of())
    assert await index.get_catalog("shop") == record_of()
    assert await index.count("shop") == Counts()


async def test_a_catalogue_is_made_once(shop: VectorIndex) -> None:
    assert not await shop.create_catalog(record_of(size=SIZE + 1))
    assert await shop.get_catalog("shop") == record_of()


async def test_catalogues_are_listed_in_order(index: VectorIndex) -> None:
    for catalog_id in ("shop-b", "shop", "a"):
        await index.create_catalog(record_of(catalog_id))
    assert [record.catalog_id for record in await index.list_catalogs()] == ["a", "shop", "shop-b"]


async def test_a_deleted_catalogue_is_gone_and_its_id_is_free(shop: VectorIndex) -> None:
    await store(shop, change_of("a"))
    assert await shop.delete_catalog("shop")
    assert not await shop.delete_catalog("shop")
    assert await shop.get_catalog("shop") is None
    assert await shop.list_catalogs() == []
    assert await shop.create_catalog(record_of())
    assert await shop.count("shop") == Counts()


async def test_what_works_on_a_missing_catalogue_says_so(index: VectorIndex) -> None:
    for work in (
        index.count("shop"),
        index.advance("shop", attribute_keys=set(), updated=LATER),
        index.write("shop", [change_of("a")], revision=2),
        index.delete_product("shop", "a", revision=2),
        index.stored_images("shop", "a"),
        index.get_products("shop", ["a"]),
        index.product_ids("shop"),
        index.some_vectors("shop", 1),
        index.images_after("shop", "", 1),
        index.search("shop", Space.EMBEDDING, [vector_of(1)], where=(), limit=1),
        index.search_text("shop", "mug", where=(), limit=1),
        index.stored_products("shop", ["a"]),
    ):
        with pytest.raises(CatalogGoneError) as caught:
            await work
        assert caught.value.resource_name == "catalogs/shop"


async def test_a_product_comes_back_as_it_was_written(shop: VectorIndex) -> None:
    change = change_of(
        "mug", images=("1", "side"), brand="Halden", category="drinkware", price=euros(16, 500_000_000),
        availability=1, attributes={"color": "teal", "1": "x", "a-b_c": ""}, description="Teal ☕", uri="https://s.example/m",
    )  # fmt: skip
    await store(shop, change)
    found = await shop.get_products("shop", ["mug", "other"])
    stored = await shop.stored_images("shop", "mug")
    assert list(found) == ["mug"]
    got = found["mug"]
    assert got.content_hash() != change.content_hash  # the digests of pictures are with the pictures
    assert (got.title, got.brand, got.price, got.attributes) == (
        change.product.title,
        "Halden",
        euros(16, 500_000_000),
        change.product.attributes,
    )
    assert (got.created, got.updated, got.revision) == (change.product.created, LATER, 2)
    assert [(image.image_id, image.uri) for image in got.images] == [("1", "1.jpg"), ("side", "side.jpg")]
    assert {(image.image_id, image.digest, image.content_hash) for image in stored} == {
        ("1", "digest 1", change.content_hash),
        ("side", "digest side", change.content_hash),
    }
    assert await shop.count("shop") == Counts(products=1, images=2)


async def test_stored_vectors_can_be_read_again(shop: VectorIndex) -> None:
    assert await shop.some_vectors("shop", 3) == []
    change = change_of("mug", images=("1", "2", "3"))
    await store(shop, change)
    written = {tuple(np.round(p.vectors.embedding, 4)): p.vectors.colour for p in change.points if p.vectors}
    read = await shop.some_vectors("shop", 10)
    assert len(read) == 3
    for vectors in read:
        colours = written.pop(tuple(np.round(vectors.embedding, 4)))
        assert vectors.colour == pytest.approx(colours, abs=1e-5)
    assert len(await shop.some_vectors("shop", 2)) == 2


async def test_images_come_once_page_by_page_while_others_come_and_go(shop: VectorIndex) -> None:
    assert await shop.images_after("shop", "", 5) == ([], "")
    stay = [change_of(f"stay{number}", images=("1", "2"), brand="b") for number in range(10)]
    await store(shop, *stay, *(change_of(f"go{number}") for number in range(10)))
    seen, after, page = [], "", 0
    while True:
        images, after = await shop.images_after("shop", after, 3)
        seen += images
        if not after:
            break
        assert len(images) == 3
        if page < 10:
            await shop.delete_product("shop", f"go{page}", revision=3)
            await store(shop, change_of(f"new{page}"))
        page += 1
    keys = [(image.product_id, image.image_id) for image in seen]
    assert len(set(keys)) == len(keys)
    assert {key for key in keys if key[0].startswith("stay")} == {
        (change.product.product_id, image) for change in stay for image in ("1", "2")
    }
    first = next(image for image in seen if (image.product_id, image.image_id) == ("stay0", "1"))
    assert first.vectors.embedding == pytest.approx(vector_of(sum(b"stay0/1")), abs=1e-5)
    some, after = await shop.images_after("shop", "", 100, ProductFilter(brands=("b",)).conditions())
    assert (len(some), after) == (20, "")


async def test_a_fit_stays_until_another_is_given(shop: VectorIndex) -> None:
    taken = await shop.advance("shop", attribute_keys=set(), updated=LATER, fit="learned")
    await shop.write("shop", [], revision=taken.revision)
    assert await shop.get_catalog("shop") == taken
    after = await store(shop, change_of("a"))
    assert (taken.fit, after.fit) == ("learned", "learned")
    forgotten = await shop.advance("shop", attribute_keys=set(), updated=LATER, fit="")
    assert forgotten.fit == ""


async def test_revisions_only_grow_and_attributes_add_up(shop: VectorIndex) -> None:
    first = await store(shop, change_of("a", attributes={"size": "m"}))
    skipped = await shop.advance("shop", attribute_keys=set(), updated=LATER)
    second = await store(shop, change_of("b", attributes={"color": "red"}))
    assert 1 < first.revision < skipped.revision < second.revision
    got = await shop.get_catalog("shop")
    assert got is not None
    assert (got.revision, got.attribute_keys, got.updated) == (second.revision, ("color", "size"), LATER)


async def test_the_same_product_again_replaces_it(shop: VectorIndex) -> None:
    await store(shop, change_of("a", images=("1", "2", "3"), brand="old"))
    await store(shop, change_of("a", images=("2", "4"), brand="new", stale=("1", "3")))
    assert await shop.count("shop") == Counts(products=1, images=2)
    assert {image.image_id for image in await shop.stored_images("shop", "a")} == {"2", "4"}
    assert (await shop.get_products("shop", ["a"]))["a"].brand == "new"


async def test_a_change_without_vectors_keeps_those_stored(shop: VectorIndex) -> None:
    await store(shop, change_of("a", images=("1", "2"), attributes={"color": "red"}))
    await store(shop, change_of("a", images=("1", "2"), vectors=False, price=euros(3), attributes={}))
    for space, size in ((Space.EMBEDDING, SIZE), (Space.COLOUR, colour.SIZE)):
        (hits,) = await shop.search("shop", space, [vector_of(sum(b"a/2"), size=size)], where=(), limit=2)
        assert (hits[0].image_id, hits[0].similarity) == ("2", pytest.approx(1, abs=1e-5))
    gone = ProductFilter(attributes=(("color", ("red",)),)).conditions()
    assert await shop.get_products("shop", ["a"], gone) == {}


async def test_a_deleted_product_is_gone_with_all_its_images(shop: VectorIndex) -> None:
    await store(shop, change_of("a", images=("1", "2")), change_of("b"))
    record = await shop.advance("shop", attribute_keys=set(), updated=LATER)
    await shop.delete_product("shop", "a", revision=record.revision)
    assert await shop.count("shop") == Counts(products=1, images=1)
    assert await shop.stored_images("shop", "a") == []
    got = await shop.get_catalog("shop")
    assert got is not None
    assert got.revision == record.revision


async def test_search_orders_by_cosine_and_keeps_to_its_limit(shop: VectorIndex) -> None:
    def at(degrees: float) -> np.ndarray:
        return unit([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), *[0] * (SIZE - 2)])

    changes = [change_of(f"p{degrees}", embeddings={"1": at(degrees)}, category="c") for degrees in (60, 0, 30, 180)]
    await store(shop, *changes)
    near, far = await shop.search("shop", Space.EMBEDDING, [at(0), at(180)], where=(), limit=3)
    assert [hit.product_id for hit in near] == ["p0", "p30", "p60"]
    assert [hit.similarity for hit in near] == pytest.approx([1, np.cos(np.pi / 6), 0.5], abs=1e-5)
    assert (far[0].product_id, far[0].image_id, far[0].image_uri, far[0].category) == ("p180", "1", "1.jpg", "c")


async def test_filters_are_applied_before_the_limit(shop: VectorIndex) -> None:
    one = vector_of(7)
    await store(
        shop,
        *(change_of(f"no{number}", embeddings={"1": one}) for number in range(20)),
        change_of("yes", brand="wanted", price=euros(5), availability=2, attributes={"color": "red"}),
    )
    wanted = ProductFilter(
        brands=("wanted", "else"),
        currency_code="EUR",
        min_price=5.0,
        max_price=5.0,
        availabilities=(1, 2),
        attributes=(("color", ("blue", "red")),),
    )
    (hits,) = await shop.search("shop", Space.EMBEDDING, [one], where=wanted.conditions(), limit=3)
    assert [hit.product_id for hit in hits] == ["yes"]


async def test_filters_compose(shop: VectorIndex) -> None:
    await store(
        shop,
        change_of("red-s", brand="x", attributes={"color": "dark red", "size": "S"}),
        change_of("red-m", brand="y", attributes={"color": "red", "size": "M"}),
        change_of("blue", brand="x", attributes={"color": "blue"}),
        change_of("none", brand="z"),
    )
    ids = ["red-s", "red-m", "blue", "none"]

    async def found(**parts: Any) -> set[str]:
        return set(await shop.get_products("shop", ids, ProductFilter(**parts).conditions()))

    red = ProductFilter(attribute_texts=(("color", "red"),))
    small, of_x = ProductFilter(attributes=(("size", ("S",)),)), ProductFilter(brands=("x",))
    assert await found(all_of=(red,)) == {"red-s", "red-m"}
    assert await found(attribute_texts=(("color", "k r"),)) == {"red-s"}
    assert await found(attribute_texts=(("color", "RED"),)) == set()
    assert await found(any_of=(small, of_x)) == {"red-s", "blue"}
    assert await found(none_of=(small, of_x)) == {"red-m", "none"}
    assert await found(all_of=(red, of_x), none_of=(ProductFilter(brands=("y",)),)) == {"red-s"}
    assert await found(brands=("x", "z"), none_of=(ProductFilter(brands=("x",), all_of=(red,)),)) == {"blue", "none"}
    assert await found(any_of=(ProductFilter(any_of=(small,)), ProductFilter(none_of=(red,)))) == {
        "red-s",
        "blue",
        "none",
    }


async def test_words_are_ranked_by_how_rare_they_are_and_how_much_of_the_text_they_are(shop: VectorIndex) -> None:
    await store(
        shop,
        change_of("both", title="Teal mug", images=("1", "2", "3")),
        change_of("long", title="Mug", description="Stoneware, for coffee, tea, soup and all else that is hot. " * 5),
        change_of("brand", title="Cup", brand="Mug & Söhne", category="c"),
        change_of("none", title="Plate", description="mugs are others"),
    )
    hits = await shop.search_text("shop", "teal mug", where=(), limit=10)
    assert [hit.product_id for hit in hits][0::3] == ["both"]
    assert {hit.product_id for hit in hits} == {"both", "brand", "long"}
    assert len(hits) == 3, "one for each product, however many images it has"
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[-1].score > 0
    assert len(await shop.search_text("shop", "teal mug", where=(), limit=2)) == 2
    of_c = ProductFilter(categories=("c",)).conditions()
    assert [hit.product_id for hit in await shop.search_text("shop", "mug", where=of_c, limit=1)] == ["brand"]
    assert await shop.search_text("shop", "sofa", where=(), limit=10) == []


async def test_words_follow_what_a_product_says(shop: VectorIndex) -> None:
    assert await shop.search_text("shop", "cafe", where=(), limit=10) == []
    await store(shop, change_of("a", title="CAFÉ table", images=("1", "2")))
    assert [hit.product_id for hit in await shop.search_text("shop", folded("Café"), where=(), limit=10)] == ["a"]
    await store(shop, change_of("a", title="Desk", images=("2", "1"), vectors=False))
    assert await shop.search_text("shop", "cafe", where=(), limit=10) == []
    assert [hit.product_id for hit in await shop.search_text("shop", "desk", where=(), limit=10)] == ["a"]
    record = await shop.advance("shop", attribute_keys=set(), updated=LATER)
    await shop.delete_product("shop", "a", revision=record.revision)
    assert await shop.search_text("shop", "desk", where=(), limit=10) == []


async def test_search_of_an_empty_catalogue_finds_nothing(shop: VectorIndex) -> None:
    assert await shop.search("shop", Space.EMBEDDING, [vector_of(1)], where=(), limit=5) == [[]]


async def test_ids_are_in_order_and_complete(shop: VectorIndex) -> None:
    ids = [f"p{number:04}" for number in range(1500)]
    for start in range(0, len(ids), 500):
        await store(shop, *(change_of(product_id) for product_id in reversed(ids[start : start + 500])))
    assert await shop.product_ids("shop") == ids


async def test_catalogues_do_not_see_each_other(shop: VectorIndex) -> None:
    await shop.create_catalog(record_of("other"))
    await store(shop, change_of("a"))
    assert await shop.product_ids("other") == []
    assert (await shop.get_catalog("other") or record_of()).revision == 1


async def test_concurrent_revisions_are_all_different(shop: VectorIndex) -> None:
    records = await asyncio.gather(
        *(shop.advance("shop", attribute_keys={f"k{number}"}, updated=LATER) for number in range(5))
    )
    assert len({record.revision for record in records}) == 5
    await store(shop, change_of("a"))
    got = await shop.get_catalog("shop")
    assert got is not None
    assert got.attribute_keys == ("k0", "k1", "k2", "k3", "k4")


async def test_a_staged_catalogue_is_seen_by_nobody_until_it_takes_the_place(shop: VectorIndex) -> None:
    before = await store(shop, change_of("old", attributes={"size": "m"}))
    staged = replace(record_of(size=SIZE + 1), generation=new_generation(), revision=9, attribute_keys=("color",))
    await shop.stage(staged)
    await shop.index_attributes(staged.store, {"weight"})
    change = change_of("new", embeddings={"1": vector_of(1, size=SIZE + 1)}, attributes={"color": "red"})
    await shop.write(staged.store, [change], revision=9)
    assert await shop.list_catalogs() == [before]
    assert await shop.product_ids(before.store) == ["old"]
    assert not await shop.promote(staged, expected=before.revision - 1)
    assert not await shop.promote(staged, expected=None)
    assert await shop.get_catalog("shop") == before
    assert await shop.promote(staged, expected=before.revision)
    assert await shop.get_catalog("shop") == staged
    assert await shop.list_catalogs() == [staged]
    assert await shop.product_ids(staged.store) == ["new"]
    assert await shop.product_ids(before.store) == ["old"], "for those who still read it"
    red = ProductFilter(attributes=(("color", ("red",)),)).conditions()
    (hits,) = await shop.search(staged.store, Space.EMBEDDING, [vector_of(1, size=SIZE + 1)], where=red, limit=3)
    assert [hit.product_id for hit in hits] == ["new"]
    await shop.discard(before.store)
    await shop.discard(before.store)
    with pytest.raises(CatalogGoneError):
        await shop.product_ids(before.store)
    after = await shop.advance("shop", attribute_keys={"size"}, updated=LATER)
    assert (after.revision, after.store) == (10, staged.store)
    await shop.write(after.store, [change_of("more", embeddings={"1": vector_of(2, size=SIZE + 1)})], revision=10)
    assert await shop.product_ids(staged.store) == ["more", "new"]
    assert await shop.delete_catalog("shop")
    assert await shop.create_catalog(record_of())
    assert await shop.product_ids("shop") == []


async def test_a_staged_catalogue_of_a_new_name_appears_whole_or_leaves_nothing(index: VectorIndex) -> None:
    for keep in (False, True):
        staged = replace(record_of(), generation=new_generation())
        await index.stage(staged)
        await index.write(staged.store, [change_of("a", images=("1", "2"))], revision=1)
        assert await index.get_catalog("shop") is None
        assert await index.list_catalogs() == []
        if keep:
            assert await index.promote(staged, expected=None)
            assert await index.count(staged.store) == Counts(products=1, images=2)
        else:
            await index.discard(staged.store)
    assert not await index.create_catalog(record_of())
    assert await index.get_catalog("shop") == staged


async def test_all_that_is_stored_of_products_comes_back_whole(shop: VectorIndex) -> None:
    changes = [change_of(f"p{number}", images=("b", "a", "c"), brand="x") for number in (2, 0, 1)]
    await store(shop, *changes)
    found = await shop.stored_products("shop", ["p0", "p2", "missing"])
    assert [change.product.product_id for change in found] == ["p0", "p2"]
    for change in found:
        written = next(one for one in changes if one.product.product_id == change.product.product_id)
        assert change.content_hash == written.content_hash
        assert [point.image for point in change.points] == [point.image for point in written.points]
        assert [point.ordinal for point in change.points] == [0, 1, 2]
        for point, original in zip(change.points, written.points, strict=True):
            assert point.vectors
            assert original.vectors
            assert point.vectors.embedding == pytest.approx(original.vectors.embedding, abs=1e-6)
            assert point.vectors.colour == pytest.approx(original.vectors.colour, abs=1e-6)
