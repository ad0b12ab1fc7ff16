"""Puts a feed into a catalogue: pictures are loaded ahead of the stream, and every row is accounted for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shoppable.cli.failures import in_words
from shoppable.cli.feed_names import FieldNames
from shoppable.cli.feeds import BrokenRow, FeedProduct, FeedRow, Problem, read_feed
from shoppable.cli.images import ImageError, ImageLoader
from shoppable.client.catalog import CatalogClient
from shoppable.client.errors import ShoppableError
from shoppable.v1 import product_catalog_pb2 as pb

_AHEAD = 8  # products whose pictures are loaded before they are due
_PRODUCT_BYTES = 24 * 2**20  # below what a server takes in one message by default


@dataclass
class ImportReport:
    """What became of a feed."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    revision: int = 0
    broken: list[BrokenRow] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Rows that were answered for, well or not."""
        return self.created + self.updated + self.unchanged + len(self.broken)


async def import_feed(
    client: CatalogClient,
    feed: Path,
    *,
    catalog: str,
    names: FieldNames | None = None,
    pictures: Path | None = None,
    allow_private: bool = False,
    replace: bool = False,
    on_row: Callable[[ImportReport], None] = lambda _: None,
) -> ImportReport:
    """Send a feed's products to a catalogue, which is made if it is not there.

    `names` is what the feed calls its fields; `pictures` is the folder or the archive of its pictures, by default the
    feed's own folder.

    With `replace` the feed becomes all that an existing catalogue has, at once, if every row can be taken.

    A row that fails does not stop the others. The server leaves products alone that are as they were, so an import
    that broke off is resumed by running it again.

    Raises:
        FeedError: The feed as a whole cannot be read.
        ShoppableError: The stream broke off; what was answered before is kept.
        ArchiveError: The archive cannot be read.
        OSError: The feed cannot be read.
    """
    report = ImportReport()
    outgoing = _Outgoing(read_feed(feed, names), report, on_row, whole=replace)
    config = pb.UpsertProductsConfig(
        catalog=f"catalogs/{catalog}", create_catalog_if_missing=not replace, replace_catalog=replace
    )
    async with ImageLoader(pictures or feed.parent, allow_private=allow_private) as loader:
        try:
            async for response in client.upsert_products(config, outgoing.upserts(loader)):
                if response.WhichOneof("response") == "summary":
                    report.revision = response.summary.revision
                else:
                    _account(response.result, outgoing.sent.pop(response.result.row, None), report)
                    on_row(report)
        finally:
            await outgoing.stop()
    if outgoing.failure is not None:
        raise outgoing.failure
    unanswered = (Problem("", "the server did not answer for it"),)
    report.broken += [BrokenRow(row.line, row.product_id, unanswered) for row in outgoing.sent.values()]
    report.broken.sort(key=lambda row: row.line)
    return report


class IncompleteFeedError(Exception):
    """Rows of a feed that was to be a whole catalogue cannot be sent; the report has them."""


class _Outgoing:
    """The products on their way to the server."""

    def __init__(
        self, rows: Iterator[FeedRow], report: ImportReport, on_row: Callable[[ImportReport], None], *, whole: bool
    ) -> None:
        self.sent: dict[int, FeedProduct] = {}
        # gRPC ends a call whose requests raise, and keeps the reason to itself.
        self.failure: Exception | None = None
        self._rows = rows
        self._report = report
        self._on_row = on_row
        self._whole = whole  # a feed that cannot be sent whole must not end well
        self._waiting: list[tuple[FeedProduct, asyncio.Task[pb.ProductUpsert | BrokenRow]]] = []

    async def upserts(self, loader: ImageLoader) -> AsyncIterator[pb.ProductUpsert]:
        """Yield products with their pictures, in order; the next ones are being loaded meanwhile."""
        try:
            while await self._fill(loader):
                row, task = self._waiting[0]
                upsert = await task
                self._waiting.pop(0)
                if isinstance(upsert, BrokenRow):
                    self._reject(upsert)
                else:
                    self.sent[row.line] = row
                    yield upsert
            self._require_whole()
        except Exception as error:
            self.failure = error
            if self._whole:  # which cancels the call
                raise

    async def stop(self) -> None:
        """Give up what is being loaded."""
        for _, task in self._waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in self._waiting), return_exceptions=True)

    async def _fill(self, loader: ImageLoader) -> bool:
        """Begin to load what comes next, and return whether anything is left."""
        while len(self._waiting) < _AHEAD:
            row = await asyncio.to_thread(next, self._rows, None)
            if row is None:
                break
            if isinstance(row, BrokenRow):
                self._reject(row)
            else:
                self._waiting.append((row, asyncio.create_task(_with_images(row, loader))))
        return bool(self._waiting)

    def _require_whole(self) -> None:
        if self._whole and self._report.broken:
            raise IncompleteFeedError

    def _reject(self, row: BrokenRow) -> None:
        self._report.broken.append(row)
        self._on_row(self._report)


async def _with_images(row: FeedProduct, loader: ImageLoader) -> pb.ProductUpsert | BrokenRow:
    """Load a row's pictures; all that cannot be had are told at once."""
    results = await asyncio.gather(*(loader.load(image) for image in row.images), return_exceptions=True)
    problems = []
    upsert = pb.ProductUpsert(row=row.line, product_id=row.product_id, product=row.product)
    for reference, result in zip(row.images, results, strict=True):
        if isinstance(result, ImageError):
            problems.append(Problem("images", f"{reference}: {result}"))
        elif isinstance(result, BaseException):
            raise result
        else:
            image = upsert.product.images.add(uri=result.uri)
            image.image.data = result.data
    if not problems and upsert.ByteSize() > _PRODUCT_BYTES:
        problems.append(Problem("images", f"are larger than {_PRODUCT_BYTES // 2**20} MiB together"))
    return BrokenRow(row.line, row.product_id, tuple(problems)) if problems else upsert


def _account(result: pb.UpsertResult, row: FeedProduct | None, report: ImportReport) -> None:
    match result.outcome:
        case pb.UPSERT_OUTCOME_CREATED:
            report.created += 1
        case pb.UPSERT_OUTCOME_UPDATED:
            report.updated += 1
        case pb.UPSERT_OUTCOME_UNCHANGED:
            report.unchanged += 1
        case _:
            error = ShoppableError.from_status(result.status)
            problems = [Problem(violation.field, violation.description) for violation in error.violations]
            product_id = row.product_id if row else result.product_id
            report.broken.append(BrokenRow(result.row, product_id, tuple(problems or [Problem("", in_words(error))])))
