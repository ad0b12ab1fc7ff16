"""Searches over a real embedded index and made-up embeddings: words, pictures, and both merged."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shoppable.matcher.adapters.qdrant_edge import QdrantEdgeIndex, open_edge_index
from shoppable.matcher.centring import rooted, squared
from shoppable.matcher.embedders import Embedders
from shoppable.matcher.filters import ProductFilter
from shoppable.matcher.ports import View
from shoppable.matcher.searching import Found, Searcher, SearchOptions, fused
from shoppable.matcher.texts import folded, has_words
from shoppable.matcher.thinning import Diversity
from shoppable.runtime.errors import FailedPreconditionError, NotFoundError
from support.catalog_points import change_of, record_of, store, unit, vector_of
from support.catalogs import FakeEmbedder

RECORD = replace(record_of(), worded=True)
PICTURE = np.full((8, 8, 3), 7, np.uint8)


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[QdrantEdgeIndex]:
    async with open_edge_index(tmp_path, timeout_s=10) as index:
        await index.create_catalog(RECORD)
        yield index


async def search(index: QdrantEdgeIndex, **options: object) -> list[Found]:
    return await Searcher(index, Embedders(FakeEmbedder())).search(RECORD, SearchOptions(**options))  # type: ignore[arg-type]


def ids(found: list[Found]) -> list[str]:
    return [one.product.product_id for one in found]


async def looks() -> np.ndarray:
    (vector,) = await FakeEmbedder().embed([PICTURE])
    return vector


async def test_words_and_a_picture_together_put_first_what_both_find(index: QdrantEdgeIndex) -> None:
    seen = await looks()
    await store(
        index,
        change_of("said", title="Red mug", embeddings={"1": -seen}),
        *(change_of(f"lamp{n}", embeddings={"1": unit(seen + vector_of(n))}) for n in range(6)),
        change_of("seen", title="Vase", embeddings={"1": seen}),
        change_of("both", title="Mug", description="red, for tea", embeddings={"1": unit(seen + 0.2 * vector_of(5))}),
    )
    view = View(picture=PICTURE)
    assert ids(await search(index, text="red mug"))[0] == "said"
    assert ids(await search(index, view=view))[0] == "seen"
    found = await search(index, view=view, text="RED mug!")
    assert ids(found)[:3] == ["both", "said", "seen"]
    by_id = {one.product.product_id: one for one in found}
    assert by_id["both"].score == pytest.approx(1 / 62 + 1 / 62)
    assert by_id["seen"].text_score is None
    assert by_id["seen"].similarity == pytest.approx(1, abs=1e-5)
    assert (by_id["said"].text_score or 0) > (by_id["both"].text_score or 0) > 0


async def test_products_like_another_do_not_hold_itself(index: QdrantEdgeIndex) -> None:
    one = vector_of(3)
    near = {f"near{n}": change_of(f"near{n}", embeddings={"1": unit(one + n * 0.1 * vector_of(9))}) for n in (2, 1)}
    await store(index, change_of("it", embeddings={"1": one}), *near.values(), change_of("far", embeddings={"1": -one}))
    assert ids(await search(index, product_id="it")) == ["near1", "near2", "far"]
    with pytest.raises(NotFoundError):
        await search(index, product_id="missing")


async def test_filters_limits_and_diversity_hold_in_a_search(index: QdrantEdgeIndex) -> None:
    shops = [change_of(f"p{n}", title="Mug", brand=f"b{n % 2}", category="c" if n else "d") for n in range(9)]
    await store(index, *shops)
    of_c = ProductFilter(categories=("c",))
    assert "p0" not in ids(await search(index, text="mug", wanted=of_c, max_products=9))
    assert len(await search(index, text="mug", max_products=4)) == 4
    found = await search(index, text="mug", diversity=Diversity("brand", 1), max_products=5)
    assert [one.product.brand for one in found] in (["b0", "b1"], ["b1", "b0"])


async def test_a_catalogue_without_words_says_so(index: QdrantEdgeIndex) -> None:
    with pytest.raises(FailedPreconditionError) as caught:
        await Searcher(index, Embedders(FakeEmbedder())).search(record_of(), SearchOptions(text="mug"))
    assert caught.value.reason == "CATALOG_TOO_OLD"


def test_merging_is_by_rank_alone() -> None:
    assert fused([{"a": 100.0, "b": 99.0}, {"b": 0.2, "c": 0.1}]) == pytest.approx(
        {"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62}
    )


def test_accents_and_capitals_are_alike() -> None:
    assert folded("Crème BRÛLÉE") == folded("creme brulee") == "creme brulee"
    assert folded("Straße") == "strasse"
    assert has_words("№ 5")
    assert not has_words("… ☕ !")


def test_roots_can_be_squared_again() -> None:
    embedding = vector_of(4, size=100)
    assert squared(rooted(embedding)) == pytest.approx(embedding, abs=1e-5)
