"""Making a catalogue whole beside its name, and putting it in place at once: for restoring and for reindexing.

Until then nobody sees it, and what breaks off leaves nothing. What was there before is kept a while for those who still
read it, and then deleted.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime

import structlog

from shoppable.matcher.catalogs import CatalogRecord
from shoppable.matcher.locks import CatalogLocks
from shoppable.matcher.names import catalog_name, new_generation
from shoppable.matcher.ports import CatalogGoneError, VectorIndex
from shoppable.runtime.errors import FailedPreconditionError, ServiceError

_log = structlog.get_logger(__name__)
# Longer than any call reads a catalogue; a call that reads on finds it gone.
_GRACE_S = 60.0


class UpsertTarget:
    """Where a stream of products goes: a catalogue as it was when the stream began."""

    def __init__(self, index: VectorIndex, record: CatalogRecord) -> None:
        self._index = index
        self.record = record

    @property
    def lock_name(self) -> str:
        """What is to be locked for it: all that is written to a catalogue has its id in common."""
        return self.record.catalog_id

    async def latest(self) -> CatalogRecord:
        """Return the record as it is now.

        Raises:
            CatalogGoneError: The catalogue was deleted.
            FailedPreconditionError: It was replaced: what is embedded for the old one may not fit the new one.
        """
        latest = await self._index.get_catalog(self.record.catalog_id)
        if latest is None:
            raise CatalogGoneError(self.record.catalog_id)
        return self._same(latest)

    async def advance(self, attribute_keys: set[str], updated: datetime) -> CatalogRecord:
        """Take the next revision; see VectorIndex."""
        advanced = await self._index.advance(self.record.catalog_id, attribute_keys=attribute_keys, updated=updated)
        return self._same(advanced)

    def _same(self, latest: CatalogRecord) -> CatalogRecord:
        if latest.store != self.record.store:
            raise FailedPreconditionError(
                f"{catalog_name(latest.catalog_id)} was replaced meanwhile: send the rest again",
                reason="CATALOG_REPLACED",
            )
        return latest


class StagedTarget(UpsertTarget):
    """A catalogue that is being made beside its name."""

    def __init__(self, index: VectorIndex, record: CatalogRecord, before: CatalogRecord | None) -> None:
        super().__init__(index, record)
        self.before = before  # what it is to replace

    @property
    def lock_name(self) -> str:
        """Its store's name: it keeps nobody from writing to the catalogue that is there."""
        return self.record.store

    async def latest(self) -> CatalogRecord:
        """Return the record as it is now: nobody else changes it."""
        return self.record

    async def advance(self, attribute_keys: set[str], updated: datetime) -> CatalogRecord:
        """Take the next revision."""
        await self._index.index_attributes(self.record.store, attribute_keys - set(self.record.attribute_keys))
        self.record = self.record.advanced(attribute_keys=attribute_keys, updated=updated)
        return self.record


class Replacer:
    """Stages catalogues and puts them in place."""

    def __init__(self, index: VectorIndex, locks: CatalogLocks, *, grace_s: float = _GRACE_S) -> None:
        self._index = index
        self._locks = locks
        self._grace_s = grace_s
        self._retiring: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def staging(self, record: CatalogRecord, before: CatalogRecord | None) -> AsyncIterator[StagedTarget]:
        """Make an empty catalogue beside its name, and delete it again unless it was put in place.

        Its revisions begin after those of what it replaces.
        """
        revision = max(record.revision, before.revision if before else 0)
        staged = replace(record, generation=new_generation(), revision=revision)
        await self._index.stage(staged)
        target = StagedTarget(self._index, staged, before)
        try:
            yield target
        finally:
            latest = await self._in_own_time(lambda: self._index.get_catalog(staged.catalog_id))
            if latest is None or latest.store != staged.store:
                await self._in_own_time(lambda: self._index.discard(staged.store))

    async def put(self, target: StagedTarget) -> CatalogRecord:
        """Put a staged catalogue in place, and return its record.

        Raises:
            FailedPreconditionError: What it was to replace has changed since, or something has taken its name.
        """
        before = target.before
        record = replace(target.record, revision=target.record.revision + (1 if before else 0))
        async with self._locks.catalog(record.catalog_id):
            if not await self._index.promote(record, expected=before.revision if before else None):
                name = catalog_name(record.catalog_id)
                raise FailedPreconditionError(
                    f"{name} was changed meanwhile, and is as it was left: repeat the call",
                    reason="CATALOG_CHANGED",
                    metadata={"catalog": name},
                )
        if before:
            task = asyncio.create_task(self._retire(before.store), context=contextvars.Context())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        return record

    async def close(self) -> None:
        """Stop waiting: what was replaced is cleared away by the next process."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    async def _retire(self, store: str) -> None:
        await asyncio.sleep(self._grace_s)
        await self._in_own_time(lambda: self._index.discard(store))

    async def _in_own_time(self, work: Callable[[], Awaitable[CatalogRecord | None]]) -> CatalogRecord | None:
        """Do what is to be done though the call's time is over or its caller has gone; a failure is logged."""

        async def run() -> CatalogRecord | None:
            try:
                return await work()
            except ServiceError as error:
                _log.warning("a store that is no catalogue's is left over", error=str(error))
                return None

        return await asyncio.shield(asyncio.create_task(run(), context=contextvars.Context()))
