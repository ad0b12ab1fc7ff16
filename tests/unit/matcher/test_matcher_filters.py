"""What a filter means, and that Qdrant means the same by its conditions."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoppable.matcher.adapters.qdrant_edge import QdrantEdgeIndex, open_edge_index
from shoppable.matcher.filters import ProductFilter
from shoppable.matcher.products import Price, Product
from support.catalog_points import change_of, record_of, store

TEXTS = ("", "a", "A", "b c", "ü", "true", "1")
KEYS = ("color", "1", "a-b", "x_y")
CURRENCIES = ("EUR", "USD")

prices = st.builds(
    Price, st.sampled_from(CURRENCIES), st.integers(0, 3), st.sampled_from((0, 1, 10_000_000, 999_999_999))
)
texts = st.sampled_from(TEXTS)
products = st.fixed_dictionaries(
    {
        "category": texts,
        "brand": texts,
        "price": st.none() | prices,
        "availability": st.integers(0, 5),
        "attributes": st.dictionaries(st.sampled_from(KEYS), texts),
    }
)
some = st.lists(texts, max_size=2).map(tuple)
bounds = st.none() | prices.map(lambda price: price.amount)
flat_filters = st.builds(
    ProductFilter,
    categories=some,
    brands=some,
    currency_code=st.sampled_from(("", *CURRENCIES)),
    min_price=bounds,
    max_price=bounds,
    availabilities=st.lists(st.integers(0, 5), max_size=2).map(tuple),
    attributes=st.lists(
        st.tuples(st.sampled_from(KEYS), st.lists(texts, min_size=1, max_size=3).map(tuple)), max_size=2
    ).map(tuple),
    attribute_texts=st.lists(
        st.tuples(st.sampled_from(KEYS), st.sampled_from(("a", "A", "b", "b c", " ", "ü", "ru"))), max_size=1
    ).map(tuple),
)


def _composed(inner: st.SearchStrategy[ProductFilter]) -> st.SearchStrategy[ProductFilter]:
    parts = st.lists(inner, max_size=2).map(tuple)
    return st.builds(ProductFilter, categories=some, any_of=parts, all_of=parts, none_of=parts)


filters = flat_filters | st.recursive(flat_filters, _composed, max_leaves=6)


class Shop:
    """An index with 200 products of all kinds, for tests that are not async themselves."""

    def __init__(self, folder: Path, kinds: list[dict[str, object]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._opened = open_edge_index(folder, timeout_s=10)
        self.products: dict[str, Product] = {}
        self._loop.run_until_complete(self._fill(kinds))

    async def _fill(self, kinds: list[dict[str, object]]) -> None:
        self._index: QdrantEdgeIndex = await self._opened.__aenter__()
        await self._index.create_catalog(record_of())
        changes = [change_of(f"p{number}", **fields) for number, fields in enumerate(kinds)]  # type: ignore[arg-type]
        self.products = {change.product.product_id: change.product for change in changes}
        await store(self._index, *changes)
        await self._index.advance("shop", attribute_keys=set(KEYS), updated=record_of().updated)

    def find(self, wanted: ProductFilter) -> set[str]:
        ids = list(self.products)
        found = self._loop.run_until_complete(self._index.get_products("shop", ids, wanted.conditions()))
        return set(found)

    def close(self) -> None:
        self._loop.run_until_complete(self._opened.__aexit__(None, None, None))
        self._loop.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    kinds: list[dict[str, object]] = []
    for number in range(200):
        price = None if number % 7 == 0 else Price(CURRENCIES[number % 2], number % 4, (0, 1, 10_000_000)[number % 3])
        attributes = {key: TEXTS[(number + place) % 7] for place, key in enumerate(KEYS) if (number >> place) % 2}
        kinds.append(
            {
                "category": TEXTS[number % 7],
                "brand": TEXTS[number // 7 % 7],
                "price": price,
                "availability": number % 6,
                "attributes": attributes,
            }
        )
    made = Shop(tmp_path_factory.mktemp("filters"), kinds)
    yield made
    made.close()


@settings(max_examples=200, deadline=None)
@given(filters)
def test_qdrant_finds_what_the_rule_wants(shop: Shop, wanted: ProductFilter) -> None:
    assert shop.find(wanted) == {key for key, product in shop.products.items() if wanted.matches(product)}


def test_no_filter_wants_everything(shop: Shop) -> None:
    assert ProductFilter().conditions() == ()
    assert len(shop.find(ProductFilter())) == len(shop.products)


@given(prices, prices)
def test_amounts_keep_the_order_of_money(one: Price, other: Price) -> None:
    assert (one.amount < other.amount) == ((one.units, one.nanos) < (other.units, other.nanos))


@given(filters)
def test_canonical_text_does_not_depend_on_order(wanted: ProductFilter) -> None:
    turned = ProductFilter(
        wanted.categories[::-1],
        wanted.brands[::-1],
        wanted.currency_code,
        wanted.min_price,
        wanted.max_price,
        wanted.availabilities[::-1],
        wanted.attributes[::-1],
        wanted.attribute_texts[::-1],
        wanted.any_of[::-1],
        wanted.all_of[::-1],
        wanted.none_of[::-1],
    )
    assert turned.canonical() == wanted.canonical()
