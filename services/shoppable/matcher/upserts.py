"""Upserting a stream of products: several in work at a time, few in memory, written in batches, answered when durable.

A product's way: its lock; reading and checking; comparing with what is stored; decoding and embedding the pictures
that are new; one write together with its neighbours; the answer. What ends the stream is the embedder or the index
being away; what is wrong with one product is that product's answer.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum

from shoppable.matcher import centring
from shoppable.matcher.convert_upserts import IncomingProduct, read_upsert, upsert_id
from shoppable.matcher.locks import CatalogLocks
from shoppable.matcher.pictures import PictureReader
from shoppable.matcher.ports import (
    Embedder,
    Floats,
    ImagePoint,
    ImageVectors,
    Pixels,
    ProductChange,
    StoredImage,
    VectorIndex,
)
from shoppable.matcher.replacing import UpsertTarget
from shoppable.matcher.upsert_writer import UpsertWriter
from shoppable.runtime import metrics
from shoppable.runtime.errors import (
    FailedPreconditionError,
    InvalidRequestError,
    ServiceError,
    Violation,
)
from shoppable.v1 import product_catalog_pb2


class Outcome(Enum):
    """What became of a product."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    FAILED = "failed"


@dataclass(frozen=True)
class RowResult:
    """What became of one product of a stream."""

    row: int
    product_id: str
    outcome: Outcome
    revision: int
    error: ServiceError | None = None


@dataclass(frozen=True)
class StreamLimits:
    """How much of one stream is in memory, and how much is written at a time."""

    products_in_work: int
    bytes_in_work: int
    batch: int
    attribute_keys: int
    embeds: int  # pictures at the embedder at a time, of all streams: the rest of its places is for matching


class _Window:
    """Room for products in work, by number and by bytes; one is let in whatever its size."""

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._sizes: list[int] = []
        self._changed = asyncio.Condition()

    async def enter(self, size: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_room(size))
            self._sizes.append(size)

    async def leave(self, size: int) -> None:
        async with self._changed:
            self._sizes.remove(size)
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        if not self._sizes:
            return True
        fits = sum(self._sizes) + size <= self._limits.bytes_in_work
        return fits and len(self._sizes) < self._limits.products_in_work


class Upserter:
    """Takes streams of products into catalogues."""

    def __init__(
        self,
        index: VectorIndex,
        embedder: Embedder,
        pictures: PictureReader,
        locks: CatalogLocks,
        limits: StreamLimits,
    ) -> None:
        self._index = index
        self._embedder = embedder
        self._pictures = pictures
        self._locks = locks
        self._limits = limits
        self._embeds = asyncio.Semaphore(limits.embeds)

    async def run(
        self, target: UpsertTarget, products: AsyncIterator[product_catalog_pb2.ProductUpsert]
    ) -> AsyncGenerator[RowResult, None]:
        """Yield each product's result as soon as it is known, in any order.

        Raises:
            ServiceError: The stream cannot go on. What was yielded before is durable.
        """
        results: asyncio.Queue[tuple[RowResult, int] | BaseException | None] = asyncio.Queue()
        window = _Window(self._limits)
        writer = UpsertWriter(self._index, self._locks, target, self._limits.batch, self._limits.attribute_keys)
        tasks: set[asyncio.Task[None]] = set()

        async def take(message: product_catalog_pb2.ProductUpsert, size: int) -> None:
            try:
                results.put_nowait((await self._take(target, message, writer), size))
            except Exception as error:  # to be raised where the stream is answered
                results.put_nowait(error)

        async def read() -> None:
            try:
                async for message in products:
                    size = sum(len(image.image.data) for image in message.product.images)
                    await window.enter(size)
                    task = asyncio.create_task(take(message, size))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                while tasks:
                    await asyncio.wait(tasks)
                results.put_nowait(None)
            except Exception as error:  # a message that is wrong: after the answers of those before it
                while tasks:
                    await asyncio.wait(tasks)
                results.put_nowait(error)

        reader = asyncio.create_task(read(), name="upsert reader")
        try:
            while (item := await results.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                result, size = item
                metrics.PRODUCTS_UPSERTED.labels(result.outcome.value).inc()
                yield result
                # Only now: a caller that reads no answers cannot make us hold more and more of them.
                await window.leave(size)
        finally:
            await _cancel([reader, *tasks, writer.task])

    async def _take(
        self, target: UpsertTarget, message: product_catalog_pb2.ProductUpsert, writer: UpsertWriter
    ) -> RowResult:
        record = target.record
        product_id = upsert_id(message)
        # First of all: two rows of one product are to end with the later one.
        async with self._locks.product(target.lock_name, product_id):
            try:
                incoming = await asyncio.to_thread(read_upsert, message, record.catalog_id)
                stored = await self._index.stored_images(record.store, product_id)
                if _is_same(incoming, stored):
                    revision = stored[0].product.revision
                    return RowResult(message.row, product_id, Outcome.UNCHANGED, revision)
                change = await self._change(incoming, stored, rooted=record.rooted)
                created = stored[0].product.created if stored else None
                revision = await writer.write(change, created)
            except (InvalidRequestError, FailedPreconditionError) as error:
                if isinstance(error, FailedPreconditionError) and error.reason != "TOO_MANY_ATTRIBUTES":
                    raise
                return RowResult(message.row, product_id, Outcome.FAILED, 0, error)
        return RowResult(message.row, product_id, Outcome.UPDATED if stored else Outcome.CREATED, revision)

    async def _change(self, incoming: IncomingProduct, stored: Sequence[StoredImage], *, rooted: bool) -> ProductChange:
        """Return what is to be written; only pictures that are new are decoded and embedded."""
        product = incoming.product
        before = {image.image_id: image.digest for image in stored}
        new = [place for place, image in enumerate(product.images) if before.get(image.image_id) != image.digest]
        read = await asyncio.gather(
            *(self._pictures.read(incoming.images[place].image, incoming.images[place].field) for place in new)
        )
        wrong = [result for result in read if isinstance(result, Violation)]
        if wrong:
            raise InvalidRequestError(wrong)
        good = [result for result in read if not isinstance(result, Violation)]
        embeddings = await asyncio.gather(*(self._embed(picture) for picture, _ in good))
        vectors = {
            place: ImageVectors(centring.rooted(embedding) if rooted else embedding, colour)
            for place, embedding, (_, colour) in zip(new, embeddings, good, strict=True)
        }
        wanted = {image.image_id for image in product.images}
        return ProductChange(
            product=product,
            content_hash=product.content_hash(),
            points=[ImagePoint(image, ordinal, vectors.get(ordinal)) for ordinal, image in enumerate(product.images)],
            stale_image_ids=[image_id for image_id in before if image_id not in wanted],
        )

    async def _embed(self, picture: Pixels) -> Floats:
        async with self._embeds:
            (embedding,) = await self._embedder.embed([picture])
        return embedding


def _is_same(incoming: IncomingProduct, stored: Sequence[StoredImage]) -> bool:
    """Tell whether the product is stored, whole: a write that broke off half way leaves a difference here."""
    content_hash = incoming.product.content_hash()
    wanted = {(image.image_id, image.digest) for image in incoming.product.images}
    return (
        bool(stored)
        and {(image.image_id, image.digest) for image in stored} == wanted
        and all(image.content_hash == content_hash for image in stored)
    )


async def _cancel(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
