"""ProductMatcherService: the request in, the pipeline's answer out."""

from typing import Any

from shoppable.matcher.convert_filters import check_attributes, check_key
from shoppable.matcher.convert_match import check_queries, opted_out, outcome_to_message, read_options, read_queries
from shoppable.matcher.convert_search import found_to_message, read_search
from shoppable.matcher.embedders import Embedders
from shoppable.matcher.keeping import CatalogKeeper
from shoppable.matcher.lookups import named_catalog
from shoppable.matcher.matching import Matcher
from shoppable.matcher.pictures import PictureReader
from shoppable.matcher.searching import Searcher
from shoppable.runtime.validation import Violations
from shoppable.v1 import product_matcher_pb2, product_matcher_pb2_grpc


class ProductMatcherServicer(product_matcher_pb2_grpc.ProductMatcherServiceServicer):
    """Answers MatchProducts and SearchProducts."""

    def __init__(
        self,
        matcher: Matcher,
        searcher: Searcher,
        keeper: CatalogKeeper,
        embedders: Embedders,
        pictures: PictureReader,
        *,
        max_queries: int,
    ) -> None:
        self._matcher = matcher
        self._searcher = searcher
        self._keeper = keeper
        self._embedders = embedders
        self._pictures = pictures
        self._max_queries = max_queries

    async def MatchProducts(  # noqa: N802  # gRPC's name
        self, request: product_matcher_pb2.MatchProductsRequest, context: Any
    ) -> product_matcher_pb2.MatchProductsResponse:
        """Find the products that each thing may be."""
        violations = Violations()
        options = read_options(request, violations)
        well_formed = check_queries(request, violations, max_queries=self._max_queries)
        record = await named_catalog(self._keeper, request.catalog, "catalog", violations)
        check_attributes(options.wanted, record.attribute_keys, "filter", violations)
        if options.diversity:
            check_key(options.diversity.key, record.attribute_keys, "diversity.key", violations)
        if options.collapse:
            check_key(options.collapse.key, record.attribute_keys, "collapse.key", violations)
        queries = []
        if well_formed:  # no more is decoded than may be sent
            queries = await read_queries(request, violations, self._pictures, record.embedder)
        violations.raise_if_any()
        if request.offers_opt_out:
            return opted_out(record, len(queries))
        # Only what must be embedded now needs the embedder, and its being the catalogue's.
        if any(view.embedding is None for query in queries for view in query.views):
            await self._embedders.of(record)
        if request.HasField("min_revision"):
            record = await self._matcher.at_revision(record, request.min_revision)
        outcome = await self._matcher.match(record, queries, options)
        return outcome_to_message(record.catalog_id, outcome, include_embeddings=request.include_embeddings)

    async def SearchProducts(  # noqa: N802  # gRPC's name
        self, request: product_matcher_pb2.SearchProductsRequest, context: Any
    ) -> product_matcher_pb2.SearchProductsResponse:
        """Look for products by words, a picture or another product."""
        violations = Violations()
        options = await read_search(request, violations, self._pictures)
        record = await named_catalog(self._keeper, request.catalog, "catalog", violations)
        check_attributes(options.wanted, record.attribute_keys, "filter", violations)
        if options.diversity:
            check_key(options.diversity.key, record.attribute_keys, "diversity.key", violations)
        violations.raise_if_any()
        if options.view:
            await self._embedders.of(record)
        if request.HasField("min_revision"):
            record = await self._matcher.at_revision(record, request.min_revision)
        return found_to_message(record, await self._searcher.search(record, options))
