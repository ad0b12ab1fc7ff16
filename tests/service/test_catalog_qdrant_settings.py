"""What a Qdrant server is asked for, on the client's own engine: how collections are made, and what is indexed."""

from collections.abc import Iterable
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient, models

from shoppable.matcher import colour
from shoppable.matcher.adapters.qdrant_collections import CollectionOptions
from shoppable.matcher.adapters.qdrant_server import QdrantServerIndex
from shoppable.matcher.filters import ProductFilter
from shoppable.matcher.ports import Space
from support.catalog_points import LATER, SIZE, change_of, euros, record_of, store, vector_of


class Recorded(AsyncQdrantClient):
    """The client in memory, which keeps what it is asked for."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self.collections: dict[str, dict[str, Any]] = {}
        self.indexed: set[tuple[str, str]] = set()
        self.asked: set[tuple[str, str]] = set()
        self.searches: list[models.QueryRequest] = []

    async def create_collection(self, collection_name: str, **how: Any) -> bool:  # type: ignore[override]
        self.collections[collection_name] = how
        return await super().create_collection(collection_name, **how)

    async def create_payload_index(self, collection_name: str, field_name: str, *rest: Any, **how: Any) -> Any:
        self.indexed.add((collection_name, field_name))
        return await super().create_payload_index(collection_name, field_name, *rest, **how)

    async def scroll(self, collection_name: str, scroll_filter: Any = None, **how: Any) -> Any:
        self._note(collection_name, scroll_filter)
        return await super().scroll(collection_name, scroll_filter, **how)

    async def count(self, collection_name: str, count_filter: Any = None, **how: Any) -> Any:
        self._note(collection_name, count_filter)
        return await super().count(collection_name, count_filter, **how)

    async def delete(self, collection_name: str, points_selector: Any, **how: Any) -> Any:
        self._note(collection_name, getattr(points_selector, "filter", None))
        return await super().delete(collection_name, points_selector, **how)

    async def upsert(self, collection_name: str, points: Any, **how: Any) -> Any:
        self._note(collection_name, how.get("update_filter"))
        return await super().upsert(collection_name, points, **how)

    async def query_batch_points(self, collection_name: str, requests: Any, **how: Any) -> Any:
        for request in requests:
            self._note(collection_name, request.filter)
        self.searches += requests
        return await super().query_batch_points(collection_name, requests, **how)

    async def query_points(self, collection_name: str, *rest: Any, **how: Any) -> Any:
        self._note(collection_name, how.get("query_filter"))
        return await super().query_points(collection_name, *rest, **how)

    def _note(self, collection: str, wanted: models.Filter | None) -> None:
        self.asked |= {(collection, field) for field in _fields(wanted)}


def _fields(wanted: Any) -> Iterable[str]:
    if isinstance(wanted, models.FieldCondition):
        yield wanted.key
    elif isinstance(wanted, models.Filter):
        for part in (wanted.must, wanted.should, wanted.must_not):
            for condition in part if isinstance(part, list) else [part]:
                yield from _fields(condition)


def index_on(client: AsyncQdrantClient, **options: Any) -> QdrantServerIndex:
    return QdrantServerIndex(client, prefix="test", timeout_s=10, options=CollectionOptions(**options))


async def test_a_collection_is_made_as_its_operator_wants_it() -> None:
    client = Recorded()
    full = {"shards": 3, "replicas": 2, "on_disk": True, "quantization": "scalar", "hnsw_m": 32}
    await index_on(client, **full, hnsw_ef_construct=200).create_catalog(record_of())
    how = client.collections["test.catalog.shop"]
    assert {name: params.size for name, params in how["vectors_config"].items()} == {
        Space.EMBEDDING.value: SIZE,
        Space.COLOUR.value: colour.SIZE,
    }
    assert all(params.distance is models.Distance.COSINE for params in how["vectors_config"].values())
    assert all(params.on_disk for params in how["vectors_config"].values())
    assert (how["shard_number"], how["replication_factor"]) == (3, 2)
    assert (how["hnsw_config"].m, how["hnsw_config"].ef_construct, how["hnsw_config"].on_disk) == (32, 200, True)
    scalar = how["quantization_config"].scalar
    assert (scalar.type, scalar.always_ram) == (models.ScalarType.INT8, True)
    registry = client.collections["test.catalogs"]
    assert (registry["replication_factor"], registry["quantization_config"]) == (2, None)


async def test_by_default_nothing_is_quantized_or_on_disk() -> None:
    client = Recorded()
    await index_on(client).create_catalog(record_of())
    how = client.collections["test.catalog.shop"]
    assert how["quantization_config"] is None
    assert not any(params.on_disk for params in how["vectors_config"].values())


@pytest.mark.parametrize("quantization", ["scalar", "binary"])
async def test_what_is_found_among_quantized_vectors_is_compared_again_in_full(quantization: str) -> None:
    client = Recorded()
    index = index_on(client, quantization=quantization, oversampling=3.0, hnsw_ef=128)
    await index.create_catalog(record_of())
    await store(index, change_of("a"))
    await index.search("shop", Space.EMBEDDING, [vector_of(1), vector_of(2)], where=(), limit=1)
    assert len(client.searches) == 2
    for search in client.searches:
        assert search.params is not None
        assert search.params.hnsw_ef == 128
        assert search.params.quantization == models.QuantizationSearchParams(rescore=True, oversampling=3.0)


async def test_a_server_in_strict_mode_is_asked_for_nothing_that_is_not_indexed() -> None:
    client = Recorded()
    index = index_on(client)
    await index.create_catalog(record_of())
    await store(index, change_of("a", price=euros(1), attributes={"color": "red"}), change_of("b"))
    wanted = ProductFilter(
        ("c",), ("b",), "EUR", 1.0, 2.0, (1,), (("color", ("red",)),), (("color", "r"),),
        any_of=(ProductFilter(brands=("x",)),), none_of=(ProductFilter(categories=("y",)),),
    ).conditions()  # fmt: skip
    await index.count("shop")
    await index.product_ids("shop")
    await index.stored_images("shop", "a")
    await index.stored_products("shop", ["a"])
    await index.get_products("shop", ["a", "b"], wanted)
    await index.images_after("shop", "", 5, wanted)
    await index.search("shop", Space.EMBEDDING, [vector_of(1)], where=wanted, limit=3)
    await index.search_text("shop", "product", where=wanted, limit=3)
    record = await index.advance("shop", attribute_keys=set(), updated=LATER)
    await index.delete_product("shop", "a", revision=record.revision)
    assert ("test.catalogs", "revision") in client.asked
    assert ("test.catalog.shop", "attribute_color") in client.asked
    assert client.asked <= client.indexed
