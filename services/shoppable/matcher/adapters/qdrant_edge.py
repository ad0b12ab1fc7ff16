"""The embedded index: Qdrant's engine in this process, one shard a catalogue, in a folder that it owns.

Every operation runs in one thread: Edge blocks, and does not go faster with several. So operations happen one after
the other, and a reader never sees half of a write.
"""

import asyncio
import contextlib
import errno
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import structlog

from shoppable.matcher.adapters.edge_catalog import EdgeCatalog, panics_as_errors
from shoppable.matcher.adapters.edge_folder import FolderLock
from shoppable.matcher.catalogs import CatalogRecord
from shoppable.matcher.filters import Condition
from shoppable.matcher.names import catalog_of_store
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
from shoppable.runtime import metrics
from shoppable.runtime.call import remaining_s
from shoppable.runtime.errors import DeadlineExceededError, FailedPreconditionError, ServiceError, UnavailableError
from shoppable.runtime.spans import asking

_log = structlog.get_logger(__name__)
T = TypeVar("T")
_CATALOGS = "catalogs"
_FLUSH_INTERVAL_S = 5.0  # as Qdrant's server does it


@contextlib.asynccontextmanager
async def open_edge_index(folder: Path, *, timeout_s: float) -> AsyncIterator["QdrantEdgeIndex"]:
    """Open all catalogues of a folder, and close them at the end.

    Raises:
        RuntimeError: Another process owns the folder, or a catalogue cannot be opened.
        OSError: The folder cannot be made or written.
    """
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(FolderLock(folder).release)
        index = QdrantEdgeIndex(folder / _CATALOGS, timeout_s=timeout_s)
        stack.push_async_callback(index.close)
        await index.open()
        flushing = asyncio.create_task(index.flush_for_ever(), name="flush")
        stack.callback(flushing.cancel)
        yield index


class QdrantEdgeIndex:
    """A VectorIndex in a folder; see `open_edge_index`."""

    def __init__(self, folder: Path, *, timeout_s: float) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="edge")
        self._catalogs: dict[str, EdgeCatalog] = {}
        self._stores: dict[str, EdgeCatalog] = {}  # those of the catalogues, and those not yet or no longer theirs
        self._unflushed: set[str] = set()

    async def open(self) -> None:
        """Open what is there, and clear away what a crash left half made or half deleted."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._open)

    async def close(self) -> None:
        """Write everything out and close."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown()

    async def flush_for_ever(self) -> None:
        """Write out what has changed, every few seconds."""
        while True:
            await asyncio.sleep(_FLUSH_INTERVAL_S)
            for store in tuple(self._unflushed):
                self._unflushed.discard(store)
                catalog = self._stores.get(store)
                if catalog:
                    try:
                        await self._run("flush", catalog.flush)
                    except ServiceError as error:  # the next one may succeed; writes are answered for themselves
                        _log.warning("cannot flush", store=store, error=str(error))

    async def check(self) -> None:
        """Raise unless the index answers: all its work is done in order, so an answer means that it moves."""
        await self._run("check", lambda: None)

    async def list_catalogs(self) -> list[CatalogRecord]:
        """Return all catalogues in order of their ids."""
        return [self._catalogs[catalog_id].record for catalog_id in sorted(self._catalogs)]

    async def get_catalog(self, catalog_id: str) -> CatalogRecord | None:
        """Return a catalogue; None if there is none."""
        catalog = self._catalogs.get(catalog_id)
        return catalog.record if catalog else None

    async def create_catalog(self, record: CatalogRecord) -> bool:
        """Make an empty catalogue; return False if there is one of this id."""

        def create() -> bool:
            if self._of(record.catalog_id):
                return False
            self._place(record, EdgeCatalog.create(self._folder / record.catalog_id, record))
            return True

        return await self._run("create_catalog", create)

    async def delete_catalog(self, catalog_id: str) -> bool:
        """Delete a catalogue and its images; return False if there is none."""

        def delete() -> bool:
            catalog = self._catalogs.pop(catalog_id, None)
            if catalog is None:
                return False
            for store in self._of(catalog_id):
                other = self._stores.pop(store)
                if other is not catalog:
                    other.discard()
            catalog.delete()
            return True

        return await self._run("delete_catalog", delete)

    async def stage(self, record: CatalogRecord) -> None:
        """Make the empty store that a record names; see VectorIndex."""
        pending = replace(record, pending=True)

        def stage() -> None:
            folder = self._folder / record.catalog_id
            new = record.catalog_id not in self._catalogs and not self._of(record.catalog_id)
            self._stores[record.store] = (EdgeCatalog.create if new else EdgeCatalog.stage)(folder, pending)

        await self._run("stage", stage)

    async def promote(self, record: CatalogRecord, *, expected: int | None) -> bool:
        """Make a record, whose store was staged, a catalogue's; see VectorIndex."""

        def promote() -> bool:
            before = self._catalogs.get(record.catalog_id)
            if (before.record.revision if before else None) != expected:
                return False
            store = self._store(record.store)
            store.promote(record, before)
            self._place(record, store)
            return True

        promoted = await self._run("promote", promote)
        self._unflushed.add(record.store)
        return promoted

    async def discard(self, store: str) -> None:
        """Delete a store that is no catalogue's."""

        def discard() -> None:
            if store in self._stores and self._stores[store] not in self._catalogs.values():
                self._stores.pop(store).discard()
                catalog_id = catalog_of_store(store)
                if not self._of(catalog_id):  # it never got its name
                    shutil.rmtree(self._folder / catalog_id, ignore_errors=True)

        await self._run("discard", discard)

    async def count(self, store: str) -> Counts:
        """Count products and images."""
        return await self._on(store, "count", EdgeCatalog.count)

    async def advance(
        self, catalog_id: str, *, attribute_keys: Set[str], updated: datetime, fit: str | None = None
    ) -> CatalogRecord:
        """Take the next revision, for a write that follows; see VectorIndex."""

        def advance() -> CatalogRecord:
            catalog = self._catalogs.get(catalog_id)
            if catalog is None:
                raise CatalogGoneError(catalog_id)
            return catalog.advance(attribute_keys=attribute_keys, updated=updated, fit=fit)

        return await self._run("advance", advance)

    async def index_attributes(self, store: str, keys: Set[str]) -> None:
        """Let filters ask for these attributes."""
        await self._on(store, "index_attributes", lambda catalog: catalog.index_attributes(keys))

    async def write(self, store: str, changes: Sequence[ProductChange], *, revision: int) -> None:
        """Store products."""
        await self._on(store, "write", lambda catalog: catalog.write(changes))
        self._unflushed.add(store)

    async def delete_product(self, store: str, product_id: str, *, revision: int) -> None:
        """Delete all images of a product."""
        await self._on(store, "delete_product", lambda catalog: catalog.delete_product(product_id))
        self._unflushed.add(store)

    async def stored_images(self, store: str, product_id: str) -> list[StoredImage]:
        """Return what is stored of a product; empty if there is no such product."""
        return await self._on(store, "stored_images", lambda catalog: catalog.stored_images(product_id))

    async def stored_products(self, store: str, product_ids: Sequence[str]) -> list[ProductChange]:
        """Return all that is stored of some products, vectors too."""
        return await self._on(store, "stored_products", lambda catalog: catalog.stored_products(product_ids))

    async def get_products(
        self, store: str, product_ids: Sequence[str], where: Sequence[Condition] = ()
    ) -> dict[str, Product]:
        """Return those products that exist and fulfil the conditions."""
        return await self._on(store, "get_products", lambda catalog: catalog.get_products(product_ids, where))

    async def product_ids(self, store: str) -> list[str]:
        """Return the ids of all products, in order."""
        return await self._on(store, "product_ids", EdgeCatalog.product_ids)

    async def some_vectors(self, store: str, limit: int) -> list[ImageVectors]:
        """Return the vectors of at most so many images."""
        return await self._on(store, "some_vectors", lambda catalog: catalog.some_vectors(limit))

    async def images_after(
        self, store: str, after: str, limit: int, where: Sequence[Condition] = ()
    ) -> tuple[list[IndexedImage], str]:
        """Return images in the order of their points; see VectorIndex."""
        return await self._on(store, "images_after", lambda catalog: catalog.images_after(after, limit, where))

    async def search(
        self, store: str, space: Space, vectors: Sequence[Floats], *, where: Sequence[Condition], limit: int
    ) -> list[list[ImageHit]]:
        """Return the most similar images for each vector."""
        return await self._on(store, "search", lambda catalog: catalog.search(space, vectors, where=where, limit=limit))

    async def search_text(self, store: str, text: str, *, where: Sequence[Condition], limit: int) -> list[TextHit]:
        """Return the products that hold any word of a text, the best first."""
        return await self._on(store, "search_text", lambda catalog: catalog.search_text(text, where=where, limit=limit))

    async def _on(self, store: str, operation: str, work: Callable[[EdgeCatalog], T]) -> T:
        return await self._run(operation, lambda: work(self._store(store)))

    def _store(self, store: str) -> EdgeCatalog:
        catalog = self._stores.get(store)
        if catalog is None:
            raise CatalogGoneError(catalog_of_store(store))
        return catalog

    def _of(self, catalog_id: str) -> list[str]:
        return [store for store in self._stores if catalog_of_store(store) == catalog_id]

    def _place(self, record: CatalogRecord, catalog: EdgeCatalog) -> None:
        self._stores[record.store] = self._catalogs[record.catalog_id] = catalog

    async def _run(self, operation: str, work: Callable[[], T]) -> T:
        def run() -> T:
            with panics_as_errors():
                return work()

        limit_s = remaining_s(self._timeout_s)
        with metrics.INDEX_SECONDS.labels(operation).time(), asking("qdrant", operation):
            future = asyncio.get_running_loop().run_in_executor(self._executor, run)
            try:
                return await asyncio.wait_for(future, limit_s)
            except TimeoutError as error:
                if limit_s < self._timeout_s:
                    raise DeadlineExceededError from error
                raise UnavailableError(
                    f"the index did not finish within {self._timeout_s:g} s: it is busy; try again after the delay",
                    reason="INDEX_UNAVAILABLE",
                ) from error
            except ServiceError:
                raise
            except Exception as error:  # Edge raises bare Exception
                raise _translate(operation, error) from error

    def _open(self) -> None:
        self._folder.mkdir(exist_ok=True)
        started = time.perf_counter()
        for folder in sorted(self._folder.iterdir()):
            # Half made, half deleted, or empty. A folder that lost its record holds images all the same: it is opened,
            # which fails.
            if (
                folder.name.startswith(".")
                or EdgeCatalog.is_pending(folder)
                or not any(path.is_file() for path in folder.rglob("*"))
            ):
                shutil.rmtree(folder, ignore_errors=True)
            else:
                catalog = EdgeCatalog.open(folder)
                self._place(catalog.record, catalog)
        seconds = round(time.perf_counter() - started, 3)
        _log.info("catalogues opened", catalogs=len(self._catalogs), seconds=seconds, folder=str(self._folder))

    def _close(self) -> None:
        for store, catalog in self._stores.items():
            try:
                catalog.close()
            except Exception:  # the others are to be closed too; its log has what was answered
                _log.exception("cannot close", store=store)
        self._stores.clear()
        self._catalogs.clear()


def _translate(operation: str, error: Exception) -> ServiceError:
    _log.error("the index failed", operation=operation, error=str(error))
    full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
    if full or "No space left" in str(error) or "Read-only file system" in str(error):
        return FailedPreconditionError(
            "the disk under the catalogues takes no more: make room; what was answered before is kept",
            reason="STORAGE_FULL",
        )
    return UnavailableError(
        "the index could not do this now; its log says why; try again after the delay", reason="INDEX_UNAVAILABLE"
    )
