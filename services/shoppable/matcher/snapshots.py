"""Backing up a catalogue, and making one of a backup: products with their vectors, so that nothing is embedded again.

A backup is a stream of parts in order of products' ids. That order is what keeps memory small: a restored stream that
keeps to it names no product twice.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from shoppable.matcher.catalogs import CatalogRecord
from shoppable.matcher.ports import ProductChange, VectorIndex
from shoppable.matcher.products import now
from shoppable.matcher.replacing import StagedTarget
from shoppable.runtime.errors import InvalidRequestError, Violation

_BATCH = 64  # products; with 16 images each, a few megabytes


@dataclass(frozen=True)
class End:
    """What a backup ends with."""

    products: int
    images: int
    revision: int


async def read_catalog(index: VectorIndex, record: CatalogRecord) -> AsyncIterator[ProductChange | End]:
    """Yield a catalogue's products in order of their ids, then an end.

    Products that come meanwhile are left out, and those that go are too.
    """
    ids = await index.product_ids(record.store)
    products = images = 0
    for start in range(0, len(ids), _BATCH):
        for change in await index.stored_products(record.store, ids[start : start + _BATCH]):
            products, images = products + 1, images + len(change.points)
            yield change
    latest = await index.get_catalog(record.catalog_id)
    yield End(products, images, (latest or record).revision)


async def fill(
    index: VectorIndex, target: StagedTarget, parts: AsyncIterator[ProductChange | End], *, max_attribute_keys: int
) -> AsyncIterator[int]:
    """Write a backup's products to a staged catalogue; yield how many are written, now and then.

    Raises:
        InvalidRequestError: The end is missing or disagrees, products are out of order, or attributes too many.
    """
    products = images = 0
    last, end = "", None
    batch: list[ProductChange] = []
    async for part in parts:
        if end is not None:
            raise _wrong("record", "must not follow the end")
        if isinstance(part, End):
            end = part
            continue
        product_id = part.product.product_id
        if product_id <= last:
            raise _wrong("record.product.product_id", f"must be in order, each once: {product_id} follows {last}")
        last = product_id
        products, images = products + 1, images + len(part.points)
        batch.append(part)
        if len(batch) == _BATCH:
            await _write(index, target, batch, max_attribute_keys)
            batch = []
            yield products
    if end is None:
        raise _wrong("record.end", f"must come last: the backup was cut off after {products} products")
    if (end.products, end.images) != (products, images):
        said = f"{end.products} products with {end.images} images"
        raise _wrong("record.end", f"says {said}, and {products} with {images} came")
    await _write(index, target, batch, max_attribute_keys)
    # Revisions of the catalogue that was backed up may have been told to callers, up to its end.
    target.record = replace(target.record, revision=max(target.record.revision, end.revision), updated=now())


async def _write(
    index: VectorIndex, target: StagedTarget, batch: Sequence[ProductChange], max_attribute_keys: int
) -> None:
    if not batch:
        return
    keys = {key for change in batch for key in change.product.attributes or {}} | set(target.record.attribute_keys)
    if len(keys) > max_attribute_keys:
        raise _wrong("record.product.product.attributes", f"must be at most {max_attribute_keys} different ones")
    record = await target.advance(keys, now())
    await index.write(record.store, batch, revision=record.revision)


def _wrong(field: str, rule: str) -> InvalidRequestError:
    return InvalidRequestError([Violation(field, rule)])
