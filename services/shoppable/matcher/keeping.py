"""Keeping catalogues: making, showing, listing and deleting them and their products. Upserts are in `upserts`."""

import bisect
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

from shoppable.matcher.catalogs import CatalogRecord, require_embedder
from shoppable.matcher.duplicates import DuplicateFinder, Likeness
from shoppable.matcher.filters import ProductFilter
from shoppable.matcher.locks import CatalogLocks
from shoppable.matcher.names import catalog_name, product_name
from shoppable.matcher.ports import CatalogGoneError, Counts, Embedder, ProductChange, VectorIndex
from shoppable.matcher.products import Product, now
from shoppable.matcher.replacing import Replacer, UpsertTarget
from shoppable.matcher.snapshots import End, fill, read_catalog
from shoppable.runtime.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError

_IDS_CACHED = 8  # catalogues
# Ids looked at in one step when a filter leaves out products.
_LEAST_CHUNK, _MOST_CHUNK = 64, 1000


@dataclass(frozen=True)
class Page:
    """Products of a list, and whether more may follow."""

    products: Sequence[Product]
    last_id: str = ""  # empty on the last page


class CatalogKeeper:
    """Keeps catalogues."""

    def __init__(self, index: VectorIndex, embedder: Embedder, locks: CatalogLocks, replacer: Replacer) -> None:
        self._index = index
        self._embedder = embedder
        self._locks = locks
        self._replacer = replacer
        self._ids: OrderedDict[tuple[str, int], list[str]] = OrderedDict()

    async def create(self, catalog_id: str, display_name: str) -> CatalogRecord:
        """Make an empty catalogue for the running embedder.

        Raises:
            AlreadyExistsError: There is one of this id.
            UnavailableError: The embedder or the index cannot be reached.
        """
        record = await self._create(catalog_id, display_name)
        if record is None:
            name = catalog_name(catalog_id)
            raise AlreadyExistsError("catalog", name, f"{name} exists")
        return record

    @contextlib.asynccontextmanager
    async def replacing(self, catalog_id: str, *, create: bool) -> AsyncIterator[UpsertTarget]:
        """Give an empty catalogue beside one of this id, for the running embedder; put it in place at the end.

        Raises:
            NotFoundError: There is none, and none may be made.
            FailedPreconditionError: The catalogue has changed meanwhile.
        """
        before = await self._index.get_catalog(catalog_id)
        if before is None and not create:
            raise CatalogGoneError(catalog_id)
        embedder, time = await self._embedder.identity(), now()
        record = CatalogRecord(
            catalog_id,
            before.display_name if before else "",
            embedder,
            created=before.created if before else time,
            updated=time,
            rooted=True,
            worded=True,
            fit=before.fit if before and before.embedder == embedder and before.rooted else "",
        )
        async with self._replacer.staging(record, before) as target:
            yield target
            await self._replacer.put(target)

    @contextlib.asynccontextmanager
    async def adding(self, catalog_id: str, *, create: bool) -> AsyncIterator[UpsertTarget]:
        """Give a catalogue to be written to, made now if it is missing and may be made.

        Raises:
            NotFoundError: There is none, and none may be made.
            FailedPreconditionError: It is of another embedder.
        """
        record = await (self.find_or_create if create else self.find)(catalog_id)
        require_embedder(record, await self._embedder.identity())
        yield UpsertTarget(self._index, record)

    async def find_or_create(self, catalog_id: str) -> CatalogRecord:
        """Return a catalogue, made now if it is missing."""
        record = await self._index.get_catalog(catalog_id) or await self._create(catalog_id, "")
        return record or await self.find(catalog_id)

    async def find(self, catalog_id: str) -> CatalogRecord:
        """Return a catalogue's record.

        Raises:
            NotFoundError: There is none.
        """
        record = await self._index.get_catalog(catalog_id)
        if record is None:
            raise CatalogGoneError(catalog_id)
        return record

    async def counted(self, record: CatalogRecord) -> tuple[CatalogRecord, Counts]:
        """Return the record with how much the catalogue holds."""
        return record, await self._index.count(record.store)

    async def list_catalogs(self, *, after: str, limit: int) -> tuple[list[tuple[CatalogRecord, Counts]], str]:
        """Return a page of catalogues, and the last id if more follow."""
        records = [record for record in await self._index.list_catalogs() if record.catalog_id > after]
        page, counted = records[:limit], []
        for record in page:
            try:
                counted.append(await self.counted(record))
            except CatalogGoneError:  # deleted a moment ago
                continue
        return counted, page[-1].catalog_id if len(records) > limit else ""

    async def delete(self, catalog_id: str, *, force: bool) -> None:
        """Delete a catalogue.

        Raises:
            NotFoundError: There is none.
            FailedPreconditionError: It holds products, and `force` is not set.
        """
        async with self._locks.catalog(catalog_id):
            count = (await self._index.count((await self.find(catalog_id)).store)).products
            if count and not force:
                raise FailedPreconditionError(
                    f"{catalog_name(catalog_id)} holds {count} products: delete them first, or set force",
                    reason="CATALOG_NOT_EMPTY",
                    metadata={"product_count": str(count)},
                )
            if not await self._index.delete_catalog(catalog_id):
                raise CatalogGoneError(catalog_id)

    async def get_product(self, catalog_id: str, product_id: str) -> Product:
        """Return a product.

        Raises:
            NotFoundError: There is no such product, or no such catalogue.
        """
        record = await self.find(catalog_id)
        found = await self._index.get_products(record.store, [product_id])
        if product_id not in found:
            raise _no_product(catalog_id, product_id)
        return found[product_id]

    async def list_products(self, record: CatalogRecord, wanted: ProductFilter, *, after: str, limit: int) -> Page:
        """Return the products after an id that a filter wants, in order of their ids."""
        ids = await self._ordered_ids(record)
        where = wanted.conditions()
        chunk = min(_MOST_CHUNK, max(_LEAST_CHUNK, limit + 1))
        found: list[Product] = []
        start = bisect.bisect_right(ids, after)
        while start < len(ids) and len(found) <= limit:
            some = ids[start : start + chunk]
            by_id = await self._index.get_products(record.store, some, where)
            found.extend(by_id[product_id] for product_id in some if product_id in by_id)
            start += chunk
        page = found[:limit]
        return Page(page, last_id=page[-1].product_id if len(found) > limit else "")

    def duplicates(
        self, record: CatalogRecord, wanted: ProductFilter, *, min_similarity: float, differing_in: str
    ) -> AsyncIterator[Likeness]:
        """Yield pictures of different products that are nearly the same; see DuplicateFinder."""
        finder = DuplicateFinder(self._index, record.store, wanted.conditions())
        return finder.find(min_similarity=min_similarity, differing_in=differing_in)

    def backup(self, record: CatalogRecord) -> AsyncIterator[ProductChange | End]:
        """Yield a catalogue's products, with their vectors, and an end; see `snapshots`."""
        return read_catalog(self._index, record)

    async def restore(
        self,
        record: CatalogRecord,
        parts: AsyncIterator[ProductChange | End],
        *,
        replace: bool,
        max_attribute_keys: int,
    ) -> AsyncGenerator[int | CatalogRecord, None]:
        """Make a catalogue of a backup, at once when it has ended; yield how many products are read, then its record.

        Raises:
            AlreadyExistsError: There is one of this name, and it is not to be replaced.
            InvalidRequestError: The backup is not whole, or wrong.
            FailedPreconditionError: The catalogue has changed meanwhile.
        """
        before = await self._index.get_catalog(record.catalog_id)
        if before and not replace:
            name = catalog_name(record.catalog_id)
            raise AlreadyExistsError("catalog", name, f"{name} exists")
        async with self._replacer.staging(record, before) as target:
            async for count in fill(self._index, target, parts, max_attribute_keys=max_attribute_keys):
                yield count
            yield await self._replacer.put(target)

    async def delete_product(self, catalog_id: str, product_id: str) -> int:
        """Delete a product; return the catalogue's revision without it.

        Raises:
            NotFoundError: There is no such product, or no such catalogue.
        """
        async with self._locks.product(catalog_id, product_id):
            record = await self.find(catalog_id)
            if not await self._index.stored_images(record.store, product_id):
                raise _no_product(catalog_id, product_id)
            async with self._locks.catalog(catalog_id):
                record = await self._index.advance(catalog_id, attribute_keys=frozenset(), updated=now())
                await self._index.delete_product(record.store, product_id, revision=record.revision)
        return record.revision

    async def _create(self, catalog_id: str, display_name: str) -> CatalogRecord | None:
        embedder = await self._embedder.identity()
        time = now()
        record = CatalogRecord(catalog_id, display_name, embedder, created=time, updated=time, rooted=True, worded=True)
        async with self._locks.catalog(catalog_id):
            return record if await self._index.create_catalog(record) else None

    async def _ordered_ids(self, record: CatalogRecord) -> list[str]:
        """Return all products' ids in order: read once a revision, since Qdrant cannot order by a text."""
        # A catalogue that was deleted and made again begins at revision 1 again: the time tells them apart.
        key = (f"{record.store}@{record.created.isoformat()}", record.revision)
        ids = self._ids.get(key)
        if ids is None:
            ids = await self._index.product_ids(record.store)
            # Only if nothing was written meanwhile is this the list of that revision.
            if await self._index.get_catalog(record.catalog_id) == record:
                self._ids[key] = ids
                while len(self._ids) > _IDS_CACHED:
                    self._ids.popitem(last=False)
        else:
            self._ids.move_to_end(key)
        return ids


def _no_product(catalog_id: str, product_id: str) -> NotFoundError:
    name = product_name(catalog_id, product_id)
    return NotFoundError("product", name, f"{name} does not exist")
