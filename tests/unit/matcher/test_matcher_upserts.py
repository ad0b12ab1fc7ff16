"""Upserting over a real embedded index and a model that counts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from shoppable.matcher import upsert_writer
from shoppable.matcher.adapters.qdrant_edge import QdrantEdgeIndex, open_edge_index
from shoppable.matcher.filters import ProductFilter
from shoppable.matcher.keeping import CatalogKeeper
from shoppable.matcher.locks import CatalogLocks
from shoppable.matcher.pictures import PictureReader
from shoppable.matcher.ports import Counts
from shoppable.matcher.products import now
from shoppable.matcher.replacing import Replacer, UpsertTarget
from shoppable.matcher.upserts import Outcome, RowResult, StreamLimits, Upserter
from shoppable.runtime.errors import NotFoundError, UnavailableError
from shoppable.v1 import common_pb2
from support.catalog_points import LATER, change_of
from support.catalogs import FakeEmbedder, Upsert, upsert_of

LIMITS = StreamLimits(products_in_work=4, bytes_in_work=2**20, batch=3, attribute_keys=4, embeds=2)


class Shop:
    """A catalogue `shop` and what works on it."""

    def __init__(self, index: QdrantEdgeIndex, pictures: PictureReader, limits: StreamLimits = LIMITS) -> None:
        self.index, self.embedder, self.locks = index, FakeEmbedder(), CatalogLocks()
        self.keeper = CatalogKeeper(index, self.embedder, self.locks, Replacer(index, self.locks))
        self.upserter = Upserter(index, self.embedder, pictures, self.locks, limits)

    async def upsert(self, *upserts: Upsert) -> dict[int, RowResult]:
        return {result.row: result async for result in self.run(stream(upserts))}

    async def run(self, upserts: AsyncIterator[Upsert]) -> AsyncIterator[RowResult]:
        target = UpsertTarget(self.index, await self.keeper.find("shop"))
        async with contextlib.aclosing(self.upserter.run(target, upserts)) as results:
            async for result in results:
                yield result


async def stream(upserts: Iterable[Upsert]) -> AsyncIterator[Upsert]:
    for upsert in upserts:
        yield upsert


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        with contextlib.closing(PictureReader(threads=2, max_pixels=10**6, side=8)) as pictures:
            made = Shop(index, pictures)
            await made.keeper.create("shop", "")
            yield made


def outcomes(results: dict[int, RowResult]) -> list[Outcome]:
    return [results[row].outcome for row in sorted(results)]


async def test_a_repeated_import_neither_embeds_nor_writes(shop: Shop) -> None:
    upserts = [upsert_of(f"p{row}", row=row, images=2) for row in range(10)]
    assert outcomes(await shop.upsert(*upserts)) == [Outcome.CREATED] * 10
    before = await shop.index.get_catalog("shop")
    again = await shop.upsert(*upserts)
    assert outcomes(again) == [Outcome.UNCHANGED] * 10
    assert shop.embedder.embedded == 20
    assert await shop.index.get_catalog("shop") == before
    assert all(0 < result.revision <= before.revision for result in again.values() if before)


async def test_only_new_pictures_are_embedded(shop: Shop) -> None:
    await shop.upsert(upsert_of("a", images=3, seed=1))
    changed = upsert_of("a", images=3, seed=1, brand="new")
    assert outcomes(await shop.upsert(changed)) == [Outcome.UPDATED]
    assert shop.embedder.embedded == 3
    changed.product.images[1].image.CopyFrom(upsert_of("b", seed=77).product.images[0].image)
    assert outcomes(await shop.upsert(changed)) == [Outcome.UPDATED]
    assert shop.embedder.embedded == 4
    del changed.product.images[1:]
    assert outcomes(await shop.upsert(changed)) == [Outcome.UPDATED]
    assert shop.embedder.embedded == 4
    assert await shop.index.count("shop") == Counts(products=1, images=1)


async def test_times_and_revisions_follow_the_changes(shop: Shop) -> None:
    first = (await shop.upsert(upsert_of("a")))[1]
    before = await shop.keeper.get_product("shop", "a")
    second = (await shop.upsert(upsert_of("a", brand="new")))[1]
    after = await shop.keeper.get_product("shop", "a")
    assert second.revision > first.revision
    assert (before.revision, after.revision) == (first.revision, second.revision)
    assert before.created == after.created
    assert before.updated < after.updated  # type: ignore[operator]


async def test_times_do_not_run_backwards_when_the_clock_is_put_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.upsert(upsert_of("a"))
    before = await shop.keeper.get_product("shop", "a")
    monkeypatch.setattr(upsert_writer, "now", lambda: now() - timedelta(hours=1))
    await shop.upsert(upsert_of("a", brand="new"), upsert_of("b", row=2))
    after, other = [await shop.keeper.get_product("shop", product) for product in ("a", "b")]
    assert before.updated <= after.updated  # type: ignore[operator]
    assert before.updated <= other.created <= other.updated  # type: ignore[operator]
    assert before.revision < after.revision


async def test_the_last_row_of_a_product_wins(shop: Shop) -> None:
    big = upsert_of("a", row=1, images=16, brand="first")
    rows = [big, *(upsert_of("a", row=row, brand=f"brand {row}", seed=1) for row in range(2, 30))]
    assert len(await shop.upsert(*rows)) == 29
    assert (await shop.keeper.get_product("shop", "a")).brand == "brand 29"
    assert await shop.index.count("shop") == Counts(products=1, images=1)


async def test_streams_at_the_same_time_leave_whole_products(shop: Shop) -> None:
    streams = [[upsert_of(f"p{n}", row=n, images=1 + s, brand=f"s{s}", seed=n) for n in range(12)] for s in range(3)]
    for results in await asyncio.gather(*(shop.upsert(*one) for one in streams)):
        assert all(result.error is None for result in results.values())
    for number in range(12):
        stored = await shop.index.stored_images("shop", f"p{number}")
        assert len({image.content_hash for image in stored}) == 1
        assert len(stored) == 1 + int(stored[0].product.brand[1:])


async def test_bad_products_fail_alone_with_all_that_is_wrong(shop: Shop) -> None:
    broken = upsert_of("broken", row=2, images=3)
    broken.product.images[1].image.data = b"no picture"
    broken.product.images[2].image.data = broken.product.images[2].image.data[:60]
    many = upsert_of("many words", row=3, images=0, brand="x" * 201, uri="ftp://x", availability=99, title="")
    many.product.attributes["not a key"] = "x" * 501
    many.product.price.currency_code, many.product.price.units, many.product.price.nanos = "eur", -1, -1
    results = await shop.upsert(upsert_of("a", row=1), broken, many, upsert_of("b", row=4))
    assert outcomes(results) == [Outcome.CREATED, Outcome.FAILED, Outcome.FAILED, Outcome.CREATED]
    fields = {row: [violation.field for violation in results[row].error.violations] for row in (2, 3)}  # type: ignore[union-attr]
    assert fields[2] == ["product.images[1].image", "product.images[2].image"]
    assert set(fields[3]) == {
        "product_id", "product.title", "product.brand", "product.uri", "product.availability", "product.images",
        "product.price.currency_code", "product.price.units", "product.price.nanos", 'product.attributes["not a key"]',
    }  # fmt: skip


@pytest.mark.parametrize(
    ("upsert", "field"),
    [
        (Upsert(row=1), "product_id"),
        (Upsert(row=1, product={"name": "catalogs/other/products/a"}), "product.name"),  # type: ignore[arg-type]
        (Upsert(row=1, product={"name": "a"}), "product.name"),  # type: ignore[arg-type]
        (Upsert(row=1, product_id="b", product={"name": "catalogs/shop/products/a"}), "product_id"),  # type: ignore[arg-type]
        (upsert_of("a", images=17), "product.images"),
    ],
)  # fmt: skip
async def test_ids_and_counts_that_are_wrong(shop: Shop, upsert: Upsert, field: str) -> None:
    result = (await shop.upsert(upsert))[1]
    assert result.outcome is Outcome.FAILED
    assert field in [violation.field for violation in result.error.violations]  # type: ignore[union-attr]


async def test_a_product_may_have_its_id_in_its_name_only(shop: Shop) -> None:
    upsert = upsert_of("a")
    upsert.product.name, upsert.product_id = "catalogs/shop/products/a", ""
    assert (await shop.upsert(upsert))[1].outcome is Outcome.CREATED
    assert (await shop.keeper.get_product("shop", "a")).title == "Product a"


async def test_images_with_one_id_are_refused(shop: Shop) -> None:
    upsert = upsert_of("a", images=2)
    upsert.product.images[0].image_id = "2"
    result = (await shop.upsert(upsert))[1]
    assert [violation.field for violation in result.error.violations] == ["product.images[1].image_id"]  # type: ignore[union-attr]


async def test_too_many_attributes_fail_the_product_that_brings_them(shop: Shop) -> None:
    rows = [upsert_of(f"p{row}", row=row, attributes={f"k{row}": "x"}) for row in range(1, 7)]
    results = await shop.upsert(*rows)
    failed = [result for result in results.values() if result.outcome is Outcome.FAILED]
    assert len(failed) == 2
    assert all(result.error.code is grpc.StatusCode.FAILED_PRECONDITION for result in failed)  # type: ignore[union-attr]
    assert all(result.error.reason == "TOO_MANY_ATTRIBUTES" for result in failed)  # type: ignore[union-attr]
    assert len((await shop.keeper.find("shop")).attribute_keys) == 4
    known = (await shop.keeper.find("shop")).attribute_keys[0]
    assert outcomes(await shop.upsert(upsert_of("q", attributes={known: "y"}))) == [Outcome.CREATED]


async def test_a_write_that_broke_off_is_repaired_by_the_next_import(shop: Shop) -> None:
    await shop.upsert(upsert_of("a", images=2))
    upsert = upsert_of("a", images=2, brand="new")
    await shop.upsert(upsert)
    # As a crash between its two writes would leave it: a picture that the product has no more.
    stale = (await shop.index.stored_images("shop", "a"))[0]
    await _write_stale_image(shop, stale.content_hash)
    assert await shop.index.count("shop") == Counts(products=1, images=3)
    assert outcomes(await shop.upsert(upsert)) == [Outcome.UPDATED]
    assert await shop.index.count("shop") == Counts(products=1, images=2)


async def _write_stale_image(shop: Shop, content_hash: str) -> None:
    change = change_of("a", images=("x", "y"))
    half = replace(change, points=change.points[1:], content_hash=content_hash)
    record = await shop.index.advance("shop", attribute_keys=set(), updated=LATER)
    await shop.index.write("shop", [half], revision=record.revision)


async def test_an_embedder_that_is_away_ends_the_stream_and_keeps_what_was_answered(shop: Shop) -> None:
    answered: list[RowResult] = []

    async def upserts() -> AsyncIterator[Upsert]:
        yield upsert_of("a", row=1)
        while not answered:
            await asyncio.sleep(0)
        shop.embedder.failure = UnavailableError("away", reason="INFERENCE_UNAVAILABLE")
        yield upsert_of("b", row=2)

    with pytest.raises(UnavailableError):
        async for result in shop.run(upserts()):
            answered.append(result)
    assert [result.product_id for result in answered] == ["a"]
    assert await shop.index.product_ids("shop") == ["a"]


async def test_a_catalogue_deleted_under_a_stream_ends_it(shop: Shop) -> None:
    async def upserts() -> AsyncIterator[Upsert]:
        yield upsert_of("a", row=1)
        await shop.keeper.delete("shop", force=True)
        yield upsert_of("b", row=2)

    with pytest.raises(NotFoundError):
        async for _ in shop.run(upserts()):
            pass


async def test_an_abandoned_stream_leaves_nothing_running(shop: Shop) -> None:
    before = asyncio.all_tasks()
    results = shop.run(stream(upsert_of(f"p{row}", row=row) for row in range(100)))
    await anext(results)
    await results.aclose()  # type: ignore[attr-defined]
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("limits", [StreamLimits(3, 2**20, 2, 9, 2), StreamLimits(100, 1000, 2, 9, 2)])
async def test_a_slow_reader_of_answers_holds_the_stream_back(tmp_path: Path, limits: StreamLimits) -> None:
    taken = 0

    async def upserts() -> AsyncIterator[Upsert]:
        nonlocal taken
        for row in range(60):
            taken += 1
            yield padded(row)

    async with open_edge_index(tmp_path, timeout_s=10) as index:
        with contextlib.closing(PictureReader(threads=2, max_pixels=10**6, side=8)) as pictures:
            shop = Shop(index, pictures, limits)
            await shop.keeper.create("shop", "")
            ahead = 0
            answered = 0
            async for _ in shop.run(upserts()):
                answered += 1
                await asyncio.sleep(0.002)
                ahead = max(ahead, taken - answered)
    assert answered == taken == 60
    assert ahead <= 6


def padded(row: int) -> Upsert:
    """A product whose picture has at least 400 bytes."""
    upsert = upsert_of(f"p{row}", row=row)
    image: common_pb2.Image = upsert.product.images[0].image
    image.data += b"\0" * max(0, 400 - len(image.data))
    return upsert


async def test_listing_survives_changes_between_pages(shop: Shop) -> None:
    await shop.upsert(*(upsert_of(f"p{row:02}", row=row) for row in range(20)))

    async def page(after: str) -> tuple[Sequence[str], str]:
        record = await shop.keeper.find("shop")
        found = await shop.keeper.list_products(record, ProductFilter(), after=after, limit=8)
        return [product.product_id for product in found.products], found.last_id

    first, last_id = await page("")
    await shop.keeper.delete_product("shop", first[-1])
    await shop.keeper.delete_product("shop", "p10")
    await shop.upsert(upsert_of("p09x"), upsert_of("p00x", row=2))
    second, last_id = await page(last_id)
    third, end = await page(last_id)
    assert [*first, *second, *third] == [f"p{row:02}" for row in range(10)] + ["p09x"] + [
        f"p{row:02}" for row in range(11, 20)
    ]
    assert end == ""
