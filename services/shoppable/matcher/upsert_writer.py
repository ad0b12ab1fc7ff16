"""Gathers the products of one stream into batches, and writes each batch under one revision."""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime

from shoppable.matcher.catalogs import CatalogRecord
from shoppable.matcher.locks import CatalogLocks
from shoppable.matcher.ports import ProductChange, VectorIndex
from shoppable.matcher.products import now
from shoppable.matcher.replacing import UpsertTarget
from shoppable.runtime.errors import FailedPreconditionError


@dataclass(frozen=True)
class _Waiting:
    change: ProductChange
    created: datetime | None
    written: "asyncio.Future[int]"


class UpsertWriter:
    """Writes changes of one catalogue. Its task ends when it is cancelled."""

    def __init__(
        self, index: VectorIndex, locks: CatalogLocks, target: UpsertTarget, batch: int, max_attribute_keys: int
    ) -> None:
        self._index = index
        self._locks = locks
        self._target = target
        self._batch = batch
        self._max_attribute_keys = max_attribute_keys
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self.task = asyncio.create_task(self._write_for_ever(), name="upsert writer")

    async def write(self, change: ProductChange, created: datetime | None) -> int:
        """Return the revision that holds the change, once it is durable.

        Raises:
            FailedPreconditionError: The catalogue's products would carry too many different attributes.
            ServiceError: The index failed; the batch may be written in part.
        """
        written: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Waiting(change, created, written))
        return await written

    async def _write_for_ever(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            # What came while the last batch was written goes together; nobody waits for a batch to fill.
            while len(batch) < self._batch and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            try:
                async with self._locks.catalog(self._target.lock_name):
                    await self._write(batch)
            except Exception as error:  # it is each waiting product's error
                for waiting in batch:
                    if not waiting.written.done():
                        waiting.written.set_exception(error)

    async def _write(self, batch: list[_Waiting]) -> None:
        taken, keys = self._admit(batch, await self._target.latest())
        if not taken:
            return
        record = await self._target.advance(keys, now())
        changes = [
            replace(
                waiting.change,
                product=waiting.change.product.stored(
                    created=waiting.created or record.updated, updated=record.updated, revision=record.revision
                ),
            )
            for waiting in taken
        ]
        await self._index.write(record.store, changes, revision=record.revision)
        for waiting in taken:
            if not waiting.written.done():
                waiting.written.set_result(record.revision)

    def _admit(self, batch: list[_Waiting], record: CatalogRecord) -> tuple[list[_Waiting], set[str]]:
        """Return those that stay within the limit of attribute keys, and all keys with theirs; refuse the others."""
        keys, taken = set(record.attribute_keys), []
        for waiting in batch:
            with_its = keys | set(waiting.change.product.attributes or {})
            if len(with_its) <= max(self._max_attribute_keys, len(keys)):
                keys = with_its
                taken.append(waiting)
            elif not waiting.written.done():
                new = ", ".join(sorted(with_its - keys))
                waiting.written.set_exception(
                    FailedPreconditionError(
                        f"the products of a catalogue carry at most {self._max_attribute_keys} different attributes,"
                        f" and this product would add: {new}",
                        reason="TOO_MANY_ATTRIBUTES",
                        metadata={"limit": str(self._max_attribute_keys)},
                    )
                )
        return taken, keys
