"""The index on a Qdrant server, over gRPC: one collection a catalogue, and one that is the registry of catalogues.

A catalogue's record is a point of the registry, not the collection's metadata: a point can be changed on the condition
that nobody else has changed it, which keeps revisions growing with several matchers on one server (Qdrant 1.16 or
later; an older one ignores the condition). The registry is also the list of catalogues, in one scroll.
"""

import secrets
from collections.abc import Callable, Sequence, Set
from datetime import datetime
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from shoppable.matcher import colour
from shoppable.matcher.adapters import payload
from shoppable.matcher.adapters.qdrant_calls import QdrantCalls, conditions
from shoppable.matcher.adapters.qdrant_collections import CollectionOptions
from shoppable.matcher.adapters.qdrant_operations import operations_of
from shoppable.matcher.catalogs import CatalogRecord
from shoppable.matcher.filters import FIRST_IMAGES, PRODUCT, AnyOf, Condition, attribute_field
from shoppable.matcher.names import catalog_of_store, catalog_point_id, generation_age_s
from shoppable.matcher.ports import (
    CatalogGoneError,
    Counts,
    Floats,
    ImageHit,
    ImageVectors,
    IndexedImage,
    ProductChange,
    Space,
    StoredImage,
    TextHit,
)
from shoppable.matcher.products import Product
from shoppable.runtime.errors import UnavailableError

_SCROLL = 1000
_MAX_CATALOGS = 10_000
_ABANDONED_S = 86_400  # a store that was staged longer ago and is in no place
_REVISION = "revision"
_REGISTRY_VECTOR: dict[str, Any] = {"none": [1.0]}  # points want a vector
# Another matcher has come first so many times in a row: something is wrong.
_MAX_ATTEMPTS = 20


class QdrantServerIndex:
    """A VectorIndex on a Qdrant server. The client is the caller's to close."""

    def __init__(
        self,
        client: AsyncQdrantClient,
        *,
        prefix: str,
        timeout_s: float,
        options: CollectionOptions = CollectionOptions(),  # noqa: B008  # frozen
    ) -> None:
        self._calls = QdrantCalls(client, timeout_s=timeout_s)
        self._client = client
        self._prefix = prefix
        self._options = options
        self._registry = f"{prefix}.catalogs"
        self._registry_exists = False

    async def check(self) -> None:
        """Raise unless the server answers a read of the registry."""
        await self._require_registry()
        await self._calls.call("check", lambda: self._client.count(self._registry, exact=False))

    async def list_catalogs(self) -> list[CatalogRecord]:
        """Return all catalogues in order of their ids."""
        await self._require_registry()
        points = await self._scroll_all(self._registry, (), None, most=_MAX_CATALOGS)
        return sorted((CatalogRecord.from_json(point["record"]) for point in points), key=lambda r: r.catalog_id)

    async def get_catalog(self, catalog_id: str) -> CatalogRecord | None:
        """Return a catalogue; None if there is none."""
        await self._require_registry()
        found = await self._calls.call(
            "get_catalog", lambda: self._client.retrieve(self._registry, [catalog_point_id(catalog_id)])
        )
        return CatalogRecord.from_json((found[0].payload or {})["record"]) if found else None

    async def create_catalog(self, record: CatalogRecord) -> bool:
        """Make an empty catalogue; return False if there is one of this id. It exists once the registry has it."""
        if await self.get_catalog(record.catalog_id):
            return False
        # What is there without an entry in the registry is left over from a deletion that broke off.
        await self.discard(record.store)
        await self._make(record)
        return await self._put_record(record, expected=None)

    async def delete_catalog(self, catalog_id: str) -> bool:
        """Delete a catalogue and its images; return False if there is none."""
        record = await self.get_catalog(catalog_id)
        if record is None:
            return False
        await self._calls.call(
            "delete_catalog",
            lambda: self._client.delete(
                self._registry, models.PointIdsList(points=[catalog_point_id(catalog_id)]), wait=True
            ),
        )
        await self.discard(record.store)
        return True

    async def stage(self, record: CatalogRecord) -> None:
        """Make the empty store that a record names, and clear away what broke off long ago; see VectorIndex."""
        current = await self.get_catalog(record.catalog_id)
        there = await self._calls.call("stage", self._client.get_collections)
        first = self._collection(f"{record.catalog_id}.")
        for name in (one.name for one in there.collections if one.name.startswith(first)):
            store = name.removeprefix(self._collection(""))
            old = generation_age_s(name.removeprefix(first)) > _ABANDONED_S
            if old and (current is None or store != current.store):
                await self.discard(store)
        await self._make(record)

    async def promote(self, record: CatalogRecord, *, expected: int | None) -> bool:
        """Make a record, whose store was staged, a catalogue's: one change of one point, which all matchers see."""
        return await self._put_record(record, expected=expected)

    async def discard(self, store: str) -> None:
        """Delete a store that is no catalogue's."""
        await self._calls.call("discard", lambda: self._client.delete_collection(self._collection(store)))

    async def count(self, store: str) -> Counts:
        """Count products and images."""
        collection = self._collection(store)
        products = await self._on(
            store, "count", lambda: self._client.count(collection, conditions((FIRST_IMAGES,)), exact=True)
        )
        images = await self._on(store, "count", lambda: self._client.count(collection, exact=True))
        return Counts(products=products.count, images=images.count)

    async def advance(
        self, catalog_id: str, *, attribute_keys: Set[str], updated: datetime, fit: str | None = None
    ) -> CatalogRecord:
        """Take the next revision, for a write that follows; see VectorIndex."""
        for _ in range(_MAX_ATTEMPTS):
            before = await self.get_catalog(catalog_id)
            if before is None:
                raise CatalogGoneError(catalog_id)
            record = before.advanced(attribute_keys=frozenset(attribute_keys), updated=updated, fit=fit)
            await self.index_attributes(record.store, set(record.attribute_keys) - set(before.attribute_keys))
            if await self._put_record(record, expected=before.revision):
                return record
        raise UnavailableError("too many writers change this catalogue; try again", reason="INDEX_BUSY")

    async def index_attributes(self, store: str, keys: Set[str]) -> None:
        """Let filters ask for these attributes."""
        for key in sorted(keys):
            await self._calls.index(self._collection(store), attribute_field(key), models.PayloadSchemaType.KEYWORD)

    async def write(self, store: str, changes: Sequence[ProductChange], *, revision: int) -> None:
        """Store products: in one request, so that the server does it in order."""
        operations = operations_of(changes)
        if operations:
            await self._on(
                store,
                "write",
                lambda: self._client.batch_update_points(self._collection(store), operations, wait=True),
            )

    async def delete_product(self, store: str, product_id: str, *, revision: int) -> None:
        """Delete all images of a product."""
        selector = models.FilterSelector(filter=conditions((AnyOf(PRODUCT, (product_id,)),)) or models.Filter())
        await self._on(
            store,
            "delete_product",
            lambda: self._client.delete(self._collection(store), selector, wait=True),
        )

    async def stored_images(self, store: str, product_id: str) -> list[StoredImage]:
        """Return what is stored of a product; empty if there is no such product."""
        where = (AnyOf(PRODUCT, (product_id,)),)
        found = await self._scroll_catalog(store, where, payload.STORED_FIELDS)
        return [payload.stored_image_of(point) for point in found]

    async def stored_products(self, store: str, product_ids: Sequence[str]) -> list[ProductChange]:
        """Return all that is stored of some products, vectors too."""
        collection, wanted = self._collection(store), (AnyOf(PRODUCT, tuple(product_ids)),)
        found: list[tuple[dict[str, Any], Any]] = []
        offset: Any = None
        while True:
            start = offset
            points, offset = await self._on(
                store,
                "stored_products",
                lambda start=start: self._client.scroll(  # type: ignore[misc]
                    collection,
                    scroll_filter=conditions(wanted),
                    limit=_SCROLL,
                    offset=start,
                    with_payload=list(payload.WHOLE_FIELDS),
                    with_vectors=True,
                ),
            )
            found.extend((point.payload or {}, point.vector) for point in points)
            if offset is None:
                return payload.changes_of(found)

    async def get_products(
        self, store: str, product_ids: Sequence[str], where: Sequence[Condition] = ()
    ) -> dict[str, Product]:
        """Return those products that exist and fulfil the conditions."""
        if not product_ids:
            return {}
        wanted = (FIRST_IMAGES, AnyOf(PRODUCT, tuple(product_ids)), *where)
        found = await self._scroll_catalog(store, wanted, payload.PRODUCT_FIELDS)
        return {product.product_id: product for product in map(payload.product_of, found)}

    async def product_ids(self, store: str) -> list[str]:
        """Return the ids of all products, in order."""
        found = await self._scroll_catalog(store, (FIRST_IMAGES,), (PRODUCT,))
        return sorted(point[PRODUCT] for point in found)

    async def some_vectors(self, store: str, limit: int) -> list[ImageVectors]:
        """Return the vectors of at most so many images."""
        collection = self._collection(store)
        points, _ = await self._on(
            store,
            "some_vectors",
            lambda: self._client.scroll(collection, limit=limit, with_payload=False, with_vectors=True),
        )
        return [payload.vectors_of(point.vector) for point in points]

    async def images_after(
        self, store: str, after: str, limit: int, where: Sequence[Condition] = ()
    ) -> tuple[list[IndexedImage], str]:
        """Return images in the order of their points; see VectorIndex."""
        points, following = await self._on(
            store,
            "images_after",
            lambda: self._client.scroll(
                self._collection(store),
                scroll_filter=conditions(where),
                offset=after or None,
                limit=limit,
                with_payload=list(payload.IMAGE_FIELDS),
                with_vectors=True,
            ),
        )
        return [payload.indexed_image_of(point.payload, point.vector) for point in points], str(following or "")

    async def search(
        self, store: str, space: Space, vectors: Sequence[Floats], *, where: Sequence[Condition], limit: int
    ) -> list[list[ImageHit]]:
        """Return the most similar images for each vector: one round trip for all."""
        requests = [
            models.QueryRequest(
                query=vector.tolist(),
                using=space.value,
                filter=conditions(where),
                limit=limit,
                params=self._options.of_search(),
                with_payload=list(payload.HIT_FIELDS),
            )
            for vector in vectors
        ]
        found = await self._on(
            store, "search", lambda: self._client.query_batch_points(self._collection(store), requests)
        )
        return [[payload.hit_of(point.payload, point.score) for point in answer.points] for answer in found]

    async def search_text(self, store: str, text: str, *, where: Sequence[Condition], limit: int) -> list[TextHit]:
        """Return the products that hold any word of a text, the best first."""
        found = await self._on(
            store,
            "search_text",
            lambda: self._client.query_points(
                self._collection(store),
                models.TextQuery(text=text),
                using=payload.TEXT,
                query_filter=conditions(where),
                limit=limit,
                with_payload=[PRODUCT],
            ),
        )
        return [payload.text_hit_of(point.payload, point.score) for point in found.points]

    def _collection(self, store: str) -> str:
        return f"{self._prefix}.catalog.{store}"

    async def _on(self, store: str, operation: str, call: Callable[[], Any]) -> Any:
        return await self._calls.call(operation, call, missing=CatalogGoneError(catalog_of_store(store)))

    async def _require_registry(self) -> None:
        if self._registry_exists:
            return
        if not await self._calls.call("check", lambda: self._client.collection_exists(self._registry)):
            sizes = {name: len(vector) for name, vector in _REGISTRY_VECTOR.items()}
            how = CollectionOptions(replicas=self._options.replicas).of_collection(sizes)
            await self._calls.create(self._registry, how)
        # A server in strict mode takes no conditions on what is not indexed.
        await self._calls.index(self._registry, _REVISION, models.PayloadSchemaType.INTEGER)
        self._registry_exists = True

    async def _make(self, record: CatalogRecord) -> None:
        collection = self._collection(record.store)
        sizes = {Space.EMBEDDING.value: record.embedder.size, Space.COLOUR.value: colour.SIZE}
        await self._calls.create(collection, self._options.of_collection(sizes))
        for fields, kind in (
            (payload.KEYWORDS, models.PayloadSchemaType.KEYWORD),
            (payload.FLOATS, models.PayloadSchemaType.FLOAT),
            (payload.INTEGERS, models.PayloadSchemaType.INTEGER),
        ):
            for field in fields:
                await self._calls.index(collection, field, kind)
        words = models.TextIndexParams(type=models.TextIndexType.TEXT, scoring=True)
        await self._calls.index(collection, payload.TEXT, words)
        await self.index_attributes(record.store, set(record.attribute_keys))

    async def _put_record(self, record: CatalogRecord, *, expected: int | None) -> bool:
        """Write a record if the stored one has the expected revision (None: if there is none); tell whether."""
        identifier, writer = catalog_point_id(record.catalog_id), secrets.token_hex(8)
        point = models.PointStruct(
            id=identifier,
            vector=_REGISTRY_VECTOR,
            payload={"record": record.to_json(), _REVISION: record.revision, "writer": writer},
        )
        unchanged = models.FieldCondition(key=_REVISION, match=models.MatchValue(value=expected or 0))
        await self._calls.call(
            "put_record",
            lambda: self._client.upsert(
                self._registry,
                [point],
                wait=True,
                # Insert only where there is none; else the condition keeps a record of another revision as it is.
                **(
                    {"update_mode": models.UpdateMode.INSERT_ONLY}
                    if expected is None
                    else {"update_filter": models.Filter(must=[unchanged])}
                ),
            ),
        )
        found = await self._calls.call("put_record", lambda: self._client.retrieve(self._registry, [identifier]))
        return bool(found) and (found[0].payload or {})["writer"] == writer

    async def _scroll_catalog(
        self, store: str, where: Sequence[Condition], fields: Sequence[str]
    ) -> list[dict[str, Any]]:
        missing = CatalogGoneError(catalog_of_store(store))
        return await self._scroll_all(self._collection(store), where, fields, missing=missing)

    async def _scroll_all(
        self,
        collection: str,
        where: Sequence[Condition],
        fields: Sequence[str] | None,
        *,
        most: int | None = None,
        missing: Exception | None = None,
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        offset: Any = None
        while most is None or len(found) < most:
            start = offset
            points, offset = await self._calls.call(
                "scroll",
                lambda start=start: self._client.scroll(  # type: ignore[misc]
                    collection,
                    scroll_filter=conditions(where),
                    limit=_SCROLL,
                    offset=start,
                    with_payload=True if fields is None else list(fields),
                ),
                missing=missing,
            )
            found.extend(point.payload or {} for point in points)
            if offset is None:
                break
        return found
