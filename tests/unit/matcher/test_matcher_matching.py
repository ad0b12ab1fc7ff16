"""Matching over a real embedded index and made-up embeddings."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shoppable.matcher import colour
from shoppable.matcher.adapters.qdrant_edge import QdrantEdgeIndex, open_edge_index
from shoppable.matcher.calibration import Decision
from shoppable.matcher.catalogs import CatalogRecord
from shoppable.matcher.collapsing import Collapse
from shoppable.matcher.embedders import Embedders
from shoppable.matcher.filters import ProductFilter
from shoppable.matcher.matching import Matcher, MatchOptions, ThingResult
from shoppable.matcher.ports import Floats, ProductChange, Query, Space, View
from shoppable.runtime.errors import DeadlineExceededError, UnavailableError
from support.catalog_points import SIZE, change_of, record_of, store, unit, vector_of
from support.catalogs import FakeEmbedder


class Shop:
    """A catalogue and a matcher on it."""

    def __init__(self, index: QdrantEdgeIndex) -> None:
        self.index, self.embedder = index, FakeEmbedder()
        self.matcher = Matcher(index, Embedders(self.embedder), queries_in_work=4, min_revision_wait_s=0.2)

    async def record(self) -> CatalogRecord:
        return await self.index.get_catalog("shop") or record_of()

    async def match(self, *queries: Query, **options: object) -> Sequence[ThingResult]:
        wanted = MatchOptions(**options)  # type: ignore[arg-type]
        return (await self.matcher.match(await self.record(), queries, wanted)).results


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        await index.create_catalog(record_of())
        yield Shop(index)


def given(vector: Floats, **fields: str) -> Query:
    return Query([View(embedding=vector)], **fields)


def near(vector: Floats, number: int, *, share: float = 0.05) -> Floats:
    return unit(vector + share * vector_of(number))


async def test_many_pictures_of_few_products_do_not_hide_the_others(shop: Shop) -> None:
    target = vector_of(1)
    ids = [str(number) for number in range(16)]
    crowd = [
        change_of(f"many{n}", images=ids, embeddings={i: near(target, n * 16 + int(i)) for i in ids}) for n in range(20)
    ]
    alone = [change_of(f"alone{n}") for n in range(30)]
    await store(shop.index, *crowd, *alone)
    (result,) = await shop.match(given(target), max_products=45)
    found = [match.product.product_id for match in result.matches]
    assert len(set(found)) == 45
    assert set(found[:20]) == {f"many{n}" for n in range(20)}
    (all_of_them,) = await shop.match(given(target), max_products=100)
    assert len(all_of_them.matches) == 50


async def test_scores_are_exact_though_the_first_search_is_cut_off(shop: Shop) -> None:
    target, other = vector_of(1), vector_of(2)
    await store(shop.index, *(change_of(f"p{n}", images=("1", "2")) for n in range(60)))
    (result,) = await shop.match(Query([View(embedding=target), View(embedding=other)]), max_products=1)
    first = result.matches[0].candidate
    expected = []
    for n in range(60):
        own = [vector_of(sum(f"p{n}/{image}".encode())) for image in ("1", "2")]
        expected.append(float(np.mean([max(float(view @ one) for one in own) for view in (target, other)])))
    assert first.similarity == pytest.approx(max(expected), abs=1e-4)
    assert first.margin == pytest.approx(np.diff(sorted(expected)[-2:])[0], abs=1e-4)


async def test_a_hint_moves_a_near_tie(shop: Shop) -> None:
    target = vector_of(1)
    await store(
        shop.index,
        change_of("a", embeddings={"1": near(target, 3, share=0.010)}, category="mugs"),
        change_of("b", embeddings={"1": near(target, 3, share=0.011)}, category="vases"),
    )
    (plain, hinted) = await shop.match(given(target), given(target, category_hint="vases"))
    assert plain.matches[0].product.product_id == "a"
    assert hinted.matches[0].product.product_id == "b"


async def test_nothing_to_find_is_no_match(shop: Shop) -> None:
    await store(shop.index, change_of("a"))
    (result,) = await shop.match(given(vector_of(1)), wanted=ProductFilter(brands=("x",)))
    assert (list(result.matches), result.decision, result.error) == ([], Decision.NO_MATCH, None)


async def test_a_query_that_fails_alone_has_its_own_error(shop: Shop) -> None:
    await store(shop.index, change_of("a"))
    shop.embedder.failure = UnavailableError("away", reason="INFERENCE_UNAVAILABLE")
    picture = View(picture=np.zeros((8, 8, 3), np.uint8), colour=None)
    failed, good = await shop.match(Query([picture]), given(vector_of(1)))
    assert failed.error is shop.embedder.failure
    assert failed.decision is Decision.NO_MATCH
    assert good.error is None
    assert good.matches


async def test_when_all_queries_fail_the_call_does(shop: Shop) -> None:
    shop.embedder.failure = UnavailableError("away", reason="INFERENCE_UNAVAILABLE")
    picture = View(picture=np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UnavailableError):
        await shop.match(Query([picture]), Query([picture]))


async def test_a_product_deleted_meanwhile_is_left_out(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await store(shop.index, change_of("a"), change_of("b"))
    search = shop.index.search

    async def search_and_delete(catalog_id: str, space: Space, *args: object, **options: object) -> object:
        found = await search(catalog_id, space, *args, **options)  # type: ignore[arg-type]
        await shop.index.delete_product("shop", "a", revision=3)
        return found

    monkeypatch.setattr(shop.index, "search", search_and_delete)
    (result,) = await shop.match(given(vector_of(1)))
    assert [match.product.product_id for match in result.matches] == ["b"]


async def test_a_call_without_time_says_so(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await store(shop.index, change_of("a"))

    async def late(*args: object, **options: object) -> object:
        raise DeadlineExceededError

    monkeypatch.setattr(shop.index, "search", late)
    with pytest.raises(DeadlineExceededError):
        await shop.match(given(vector_of(1, size=SIZE)))


async def test_copies_of_a_picture_count_as_one_product_and_the_preferred_seller_stays(shop: Shop) -> None:
    target = vector_of(1)
    colours = vector_of(2, size=colour.SIZE)

    def offer(
        product_id: str, seller: str, number: int, *, share: float = 0.01, tint: Floats = colours
    ) -> ProductChange:
        change = change_of(
            product_id, images=("1", "2"), embeddings={"2": near(target, number, share=share)},
            attributes={"seller": seller},
        )  # fmt: skip
        points = [
            replace(point, vectors=replace(point.vectors, colour=tint)) for point in change.points if point.vectors
        ]
        return replace(change, points=points)

    await store(
        shop.index,
        offer("copy", "nobody", 10),
        offer("maker", "maker", 11),
        offer("shop", "shop", 12),
        offer("other-colour", "maker", 13, tint=-colours),
        offer("alike", "maker", 14, share=0.9),
        change_of("far", attributes={"seller": "maker"}),
    )
    (plain,) = await shop.match(given(target), max_products=6)
    collapse = Collapse("seller", ("gone", "maker", "shop"))
    (result,) = await shop.match(given(target), max_products=6, collapse=collapse)
    assert {match.product.product_id for match in plain.matches} == {
        match.product.product_id for match in result.matches
    } | {"copy", "shop"}
    stands = {match.product.product_id: [one.product.product_id for one in match.left_out] for match in result.matches}
    assert sorted(stands.pop("maker")) == ["copy", "shop"]
    assert not any(stands.values()), "other colours and other things stay"
    of_maker = next(match for match in plain.matches if match.product.product_id == "maker")
    of_kept = next(match for match in result.matches if match.product.product_id == "maker")
    assert of_kept.candidate.similarity == of_maker.candidate.similarity
    assert (of_kept.candidate.margin or 0) >= (of_maker.candidate.margin or 0)
    (unsaid,) = await shop.match(given(target), max_products=1, collapse=Collapse("seller"))
    assert unsaid.matches[0].product.product_id == plain.matches[0].product.product_id
    assert len(unsaid.matches) == 1
