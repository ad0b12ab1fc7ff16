"""The product matcher and its catalogue, through our own client."""

import asyncio
from collections.abc import Sequence

import grpc
import structlog

from shoppable.client import CatalogClient, MatcherClient, ShoppableError
from shoppable.orchestrator.adapters.retrying import RetryBudget
from shoppable.orchestrator.domain import Decision, MatchOptions, MatchOutcome, View
from shoppable.orchestrator.errors import as_status, upstream_error
from shoppable.runtime.call import remaining_s
from shoppable.runtime.images import raw_image, write_jpeg
from shoppable.v1 import common_pb2, product_catalog_pb2, product_matcher_pb2

_log = structlog.get_logger(__name__)
_CHECK_TIMEOUT_S = 10.0
_JPEG_QUALITY = 92
# Field paths of the matcher's requests, and what they are called in ours.
_FIELDS = {
    "filter": "options.product_filter",
    "catalog": "options.catalog",
    "name": "options.catalog",
    "max_products": "options.max_products_per_object",
    "min_confidence": "options.min_product_confidence",
    "match_confidence": "options.match_confidence",
    "min_revision": "options.min_catalog_revision",
}
# Failures that every other thing of the video would meet too.
_FATAL = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
}
# Failures that may pass.
_PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
_RETRY_DELAY_S = 0.25


class MatcherAdapter:
    """A ProductMatcher."""

    def __init__(
        self, matcher: MatcherClient, catalog: CatalogClient, *, jpeg: bool, timeout_s: float, patience_s: float
    ) -> None:
        self._matcher = matcher
        self._catalog = catalog
        self._jpeg = jpeg
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._budget = RetryBudget()  # of all videos
        # Shared by all videos: once patience is over, each further thing fails at once until the matcher is well again.
        self._away_since: float | None = None

    async def check(self, options: MatchOptions) -> None:
        """Raise if the catalogue, filter or revision cannot be used; pass if the matcher cannot be asked now.

        The matcher judges them by a search for something that no picture looks like, which needs no inference.
        """
        try:
            catalog = await self._catalog.get_catalog(options.catalog, timeout_s=remaining_s(_CHECK_TIMEOUT_S))
            nothing = product_matcher_pb2.Embedding(
                model=catalog.embedder, values=[1.0, *[0.0] * (catalog.embedding_size - 1)]
            )
            await self._matcher.match(_request([nothing], "", options), timeout_s=remaining_s(self._timeout_s))
        except ShoppableError as error:
            if error.code in _FATAL:
                raise upstream_error(error, "product matcher", fields=_FIELDS) from error

    async def embedder(self, catalog: str) -> tuple[common_pb2.ModelVersion, int]:
        """Return the model of a catalogue's embeddings, and how many values one has. Raises ServiceError."""
        try:
            found = await self._catalog.get_catalog(catalog, timeout_s=remaining_s(_CHECK_TIMEOUT_S))
        except ShoppableError as error:
            raise upstream_error(error, "product matcher", fields=_FIELDS) from error
        return found.embedder, found.embedding_size

    async def match(
        self,
        looks: Sequence[View] | Sequence[product_matcher_pb2.Embedding],
        category: str,
        options: MatchOptions,
    ) -> MatchOutcome:
        """Return what a thing may be, by its views or by their embeddings."""
        request = _request(looks, category, options, jpeg=self._jpeg)
        try:
            answer = await self._ask(request)
        except ShoppableError as error:
            if error.code in _FATAL:
                raise upstream_error(error, "product matcher", fields=_FIELDS) from error
            return MatchOutcome(failure=as_status(error, "product matcher"))
        result = answer.results[0]
        return MatchOutcome(
            products=tuple(result.products),
            decision=Decision(result.decision),
            embeddings=tuple(result.embeddings),
            catalog_revision=answer.catalog_revision,
            embedder=answer.embedder,
        )

    async def _ask(
        self, request: product_matcher_pb2.MatchProductsRequest
    ) -> product_matcher_pb2.MatchProductsResponse:
        """Ask about one thing; again, while the matcher is away or full, for `patience_s` since it was last well."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                answer = await self._matcher.match(request, timeout_s=remaining_s(self._timeout_s))
                if answer.results[0].HasField("status"):
                    raise ShoppableError.from_status(answer.results[0].status)
            except ShoppableError as error:
                if error.code not in _PASSING:
                    raise
                self._away_since = self._away_since or loop.time()
                if loop.time() - self._away_since >= self._patience_s:
                    raise
                _log.warning("the matcher is away; asking again", reason=error.reason)
                await self._budget.wait(error.retry_after_s or _RETRY_DELAY_S)
            else:
                self._away_since = None
                self._budget.succeeded()
                return answer


def _request(
    looks: Sequence[View] | Sequence[product_matcher_pb2.Embedding],
    category: str,
    options: MatchOptions,
    *,
    jpeg: bool = False,
) -> product_matcher_pb2.MatchProductsRequest:
    views = [_view(look, jpeg=jpeg) for look in looks]
    return product_matcher_pb2.MatchProductsRequest(
        catalog=options.catalog,
        queries=[product_matcher_pb2.MatchQuery(views=views, category_hint=category)],
        filter=options.product_filter or product_catalog_pb2.ProductFilter(),
        max_products=options.max_products,
        min_confidence=options.min_confidence,
        match_confidence=options.match_confidence,
        min_revision=options.min_revision,
        include_embeddings=True,
    )


def _view(look: View | product_matcher_pb2.Embedding, *, jpeg: bool) -> product_matcher_pb2.MatchView:
    if isinstance(look, product_matcher_pb2.Embedding):
        return product_matcher_pb2.MatchView(embedding=look)
    image = write_jpeg(look.crop, quality=_JPEG_QUALITY) if jpeg else raw_image(look.crop)
    return product_matcher_pb2.MatchView(image=image)
