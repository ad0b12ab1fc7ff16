"""Matching: embed the views of each thing, compare them with the catalogue, order its products, say how sure it is."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from shoppable.matcher.calibration import Decision, Thresholds
from shoppable.matcher.catalogs import CatalogRecord, ModelIdentity
from shoppable.matcher.collapsing import Collapse, LeftOut, collapsed
from shoppable.matcher.comparing import Comparer, Look
from shoppable.matcher.embedders import Embedders
from shoppable.matcher.filters import ProductFilter
from shoppable.matcher.fits import fit_of
from shoppable.matcher.names import catalog_name
from shoppable.matcher.ports import Floats, Query, VectorIndex, View
from shoppable.matcher.products import Product
from shoppable.matcher.scoring import Candidate, rank
from shoppable.matcher.thinning import Diversity
from shoppable.runtime import metrics
from shoppable.runtime.call import remaining_s
from shoppable.runtime.errors import FailedPreconditionError, ServiceError

_log = structlog.get_logger(__name__)
# The second round can turn the order of the first: more products than asked for are looked at, at least so many.
_MIN_CANDIDATES = 32
_LOOKED_AT_TO_THIN = 4
_REVISION_POLL_S = 0.05
# Left of the deadline for the answer that the revision was not reached.
_ANSWER_S = 0.1


@dataclass(frozen=True)
class MatchOptions:
    """What is wanted of a match."""

    wanted: ProductFilter = field(default_factory=ProductFilter)
    max_products: int = 5
    min_confidence: float = 0.0
    thresholds: Thresholds = field(default_factory=Thresholds)
    diversity: Diversity | None = None
    collapse: Collapse | None = None

    @property
    def looked_at(self) -> int:
        """Products to look at: more than are wanted where some of them will be left out."""
        return self.max_products * (_LOOKED_AT_TO_THIN if self.diversity or self.collapse else 1)


@dataclass(frozen=True)
class Match:
    """A product that a thing may be, and how sure that is."""

    product: Product
    candidate: Candidate
    confidence: float
    decision: Decision
    left_out: Sequence[LeftOut] = ()  # what it stands for


@dataclass(frozen=True)
class ThingResult:
    """What one thing may be; or why that could not be found out."""

    matches: Sequence[Match] = ()
    decision: Decision = Decision.NO_MATCH
    embeddings: Sequence[Floats] = ()  # of the views
    colours: Sequence[Floats | None] = ()  # of the views
    error: ServiceError | None = None


@dataclass(frozen=True)
class MatchOutcome:
    """The results in the order of the queries, and what they were made with."""

    results: Sequence[ThingResult]
    revision: int
    embedder: ModelIdentity


class Matcher:
    """Finds products."""

    def __init__(
        self,
        index: VectorIndex,
        embedders: Embedders,
        *,
        queries_in_work: int,
        min_revision_wait_s: float,
    ) -> None:
        self._index = index
        self._embedders = embedders
        self._queries_in_work = queries_in_work
        self._min_revision_wait_s = min_revision_wait_s

    async def match(self, record: CatalogRecord, queries: Sequence[Query], options: MatchOptions) -> MatchOutcome:
        """Return a result for each query; a query that fails alone has its error in its result.

        Raises:
            ServiceError: All queries failed; it is the first one's error.
        """
        slots = asyncio.Semaphore(self._queries_in_work)

        async def one(query: Query) -> ThingResult:
            async with slots:
                try:
                    return await self._match_one(record, query, options)
                except ServiceError as error:
                    return ThingResult(error=error)

        tasks = [asyncio.create_task(one(query)) for query in queries]
        try:
            results = await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # the caller has gone, or one found that the catalogue has
                task.cancel()
        first_error = next((result.error for result in results if result.error), None)
        if first_error and all(result.error for result in results):
            raise first_error
        for result in results:
            metrics.QUERIES_MATCHED.labels("failed" if result.error else result.decision.value).inc()
        return MatchOutcome(results, revision=record.revision, embedder=record.embedder)

    async def at_revision(self, record: CatalogRecord, revision: int) -> CatalogRecord:
        """Return the catalogue's record as soon as it has reached a revision.

        Raises:
            FailedPreconditionError: It has not within the call's time, or the server's limit.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + remaining_s(self._min_revision_wait_s + _ANSWER_S) - _ANSWER_S
        latest: CatalogRecord | None = record
        while latest is not None and latest.revision < revision:
            if loop.time() >= end_s:
                raise FailedPreconditionError(
                    f"{catalog_name(record.catalog_id)} is at revision {latest.revision} and has not reached"
                    f" {revision}: repeat the call once the write that makes it has been answered",
                    reason="REVISION_NOT_REACHED",
                    metadata={"revision": str(latest.revision), "min_revision": str(revision)},
                )
            await asyncio.sleep(_REVISION_POLL_S)
            latest = await self._index.get_catalog(record.catalog_id)
        return latest or record

    async def _match_one(self, record: CatalogRecord, query: Query, options: MatchOptions) -> ThingResult:
        store, fit = record.store, fit_of(record)
        embeddings = await self._embeddings(record, query.views)
        colours = [view.colour for view in query.views]
        where = options.wanted.conditions()
        looks = [Look(embedding, colour) for embedding, colour in zip(embeddings, colours, strict=True)]
        views = await Comparer(self._index, record, fit.centring).compare(
            looks, where=where, enough=max(options.looked_at + 1, _MIN_CANDIDATES)
        )
        ranked = rank(views, category_hint=query.category_hint)[: options.looked_at]
        left_out: Mapping[str, Sequence[LeftOut]] = {}
        if options.collapse:
            ranked, left_out = await collapsed(self._index, store, ranked, options.collapse)
        sure = fit.calibration.confidences(
            [(candidate.score, candidate.margin) for candidate in ranked],
            with_colour=all(colour is not None for colour in colours),
        )
        judged = list(zip(ranked, sure, strict=True))
        kept = [(candidate, sure) for candidate, sure in judged if sure >= options.min_confidence]
        products = await self._index.get_products(store, [candidate.product_id for candidate, _ in kept], where)
        matches = [
            Match(
                products[candidate.product_id],
                candidate,
                sure,
                options.thresholds.decide(sure),
                left_out.get(candidate.product_id, ()),
            )
            for candidate, sure in kept
            if candidate.product_id in products  # else it was deleted a moment ago
        ]
        if options.diversity:
            matches = options.diversity.thin(matches)
        matches = matches[: options.max_products]
        return ThingResult(
            matches=matches,
            decision=matches[0].decision if matches else Decision.NO_MATCH,
            embeddings=embeddings,
            colours=colours,
        )

    async def _embeddings(self, record: CatalogRecord, views: Sequence[View]) -> list[Floats]:
        pictures = [view.picture for view in views if view.embedding is None and view.picture is not None]
        # Only what must be embedded now needs the catalogue's embedder.
        made = iter(await (await self._embedders.of(record)).embed(pictures) if pictures else [])
        return [view.embedding if view.embedding is not None else next(made) for view in views]
