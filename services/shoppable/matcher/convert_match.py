"""A match request, from the contract's message to the pipeline's values, and its results back."""

import asyncio
import math
from collections.abc import Sequence

import numpy as np

from shoppable.matcher import colour
from shoppable.matcher.calibration import Decision, Thresholds
from shoppable.matcher.catalogs import CatalogRecord, ModelIdentity
from shoppable.matcher.collapsing import Collapse
from shoppable.matcher.convert import model_to_message, product_to_message
from shoppable.matcher.convert_filters import read_filter
from shoppable.matcher.duplicates import MIN_SIMILARITY
from shoppable.matcher.matching import Match, MatchOptions, MatchOutcome, ThingResult
from shoppable.matcher.pictures import PictureReader
from shoppable.matcher.ports import Floats, Query, View
from shoppable.matcher.thinning import Diversity
from shoppable.runtime.errors import Violation, to_status
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2, product_matcher_pb2

MAX_VIEWS = 8
MAX_PRODUCTS = 100
_MAX_HINT = 200
_MAX_PREFERRED = 100
_DEFAULTS = Thresholds()
# float32 embeddings that were sent and rounded: their length is 1 within this.
_LENGTH_TOLERANCE = 1e-3
_DECISIONS = {
    Decision.MATCH: product_matcher_pb2.MATCH_DECISION_MATCH,
    Decision.SIMILAR: product_matcher_pb2.MATCH_DECISION_SIMILAR,
    Decision.NO_MATCH: product_matcher_pb2.MATCH_DECISION_NO_MATCH,
}


def read_options(request: product_matcher_pb2.MatchProductsRequest, violations: Violations) -> MatchOptions:
    """Return what is wanted; which attributes there are is checked elsewhere."""
    max_products = violations.optional_number(request, "max_products", low=1, high=MAX_PRODUCTS, default=5)
    min_confidence = violations.optional_number(request, "min_confidence", low=0, high=1, default=0)
    match = violations.optional_number(request, "match_confidence", low=0, high=1, default=_DEFAULTS.match)
    similar = violations.optional_number(
        request, "similar_confidence", low=0, high=match, default=min(_DEFAULTS.similar, match)
    )
    violations.optional_number(request, "min_revision", low=0, high=2**63 - 1, default=0)
    return MatchOptions(
        wanted=read_filter(request.filter, "filter", violations),
        max_products=int(max_products),
        min_confidence=min_confidence,
        thresholds=Thresholds(match=match, similar=similar),
        diversity=read_diversity(request, violations),
        collapse=_read_collapse(request, violations),
    )


def read_diversity(
    request: product_matcher_pb2.MatchProductsRequest | product_matcher_pb2.SearchProductsRequest,
    violations: Violations,
) -> Diversity | None:
    """Return how products are to differ, if it is asked for; which keys there are is checked elsewhere."""
    if not request.HasField("diversity"):
        return None
    most = request.diversity.max_products if request.diversity.HasField("max_products") else 1
    rule = f"must be in 1..{MAX_PRODUCTS}, and is {most}"
    violations.check(1 <= most <= MAX_PRODUCTS, "diversity.max_products", rule)
    return Diversity(request.diversity.key, most)


def _read_collapse(request: product_matcher_pb2.MatchProductsRequest, violations: Violations) -> Collapse | None:
    if not request.HasField("collapse"):
        return None
    asked = request.collapse
    rule = f"must be at most {_MAX_PREFERRED}, all different"
    different = len(set(asked.preferred)) == len(asked.preferred) <= _MAX_PREFERRED
    violations.check(different, "collapse.preferred", rule)
    similarity = violations.optional_number(
        asked, "min_similarity", low=0.5, high=1, default=MIN_SIMILARITY, prefix="collapse."
    )
    return Collapse(asked.key, tuple(asked.preferred), similarity)


def check_queries(
    request: product_matcher_pb2.MatchProductsRequest, violations: Violations, *, max_queries: int
) -> bool:
    """Note what is wrong with the number and the form of the queries; return whether nothing is. Decodes nothing."""
    count = len(request.queries)
    right = violations.check(1 <= count <= max_queries, "queries", f"must be 1..{max_queries}, and is {count}")
    for number, query in enumerate(request.queries[: max_queries + 1]):
        at = f"queries[{number}]"
        views = len(query.views)
        right &= violations.check(1 <= views <= MAX_VIEWS, f"{at}.views", f"must be 1..{MAX_VIEWS}, and is {views}")
        right &= violations.check(
            len(query.category_hint) <= _MAX_HINT, f"{at}.category_hint", f"must be at most {_MAX_HINT} characters"
        )
        for place, view in enumerate(query.views[: MAX_VIEWS + 1]):
            right &= violations.check(
                view.WhichOneof("view") is not None, f"{at}.views[{place}]", "must have an image or an embedding"
            )
    return right


async def read_queries(
    request: product_matcher_pb2.MatchProductsRequest,
    violations: Violations,
    pictures: PictureReader,
    embedder: ModelIdentity,
) -> list[Query]:
    """Decode the pictures and check the embeddings; with violations, the result is not to be used."""
    return list(
        await asyncio.gather(
            *(
                _read_query(query, f"queries[{number}]", violations, pictures, embedder)
                for number, query in enumerate(request.queries)
            )
        )
    )


def outcome_to_message(
    catalog_id: str, outcome: MatchOutcome, *, include_embeddings: bool
) -> product_matcher_pb2.MatchProductsResponse:
    """Return the answer."""
    model = model_to_message(outcome.embedder)
    return product_matcher_pb2.MatchProductsResponse(
        results=[
            _result_to_message(catalog_id, result, outcome.embedder if include_embeddings else None)
            for result in outcome.results
        ],
        catalog_revision=outcome.revision,
        embedder=model,
    )


def opted_out(record: CatalogRecord, queries: int) -> product_matcher_pb2.MatchProductsResponse:
    """Return the answer to a caller that must not be offered anything: nothing was looked up."""
    nothing = product_matcher_pb2.MatchResult(
        decision=product_matcher_pb2.MATCH_DECISION_NO_MATCH, withheld=common_pb2.WITHHELD_REASON_OPTED_OUT
    )
    return product_matcher_pb2.MatchProductsResponse(
        results=[nothing] * queries, catalog_revision=record.revision, embedder=model_to_message(record.embedder)
    )


async def _read_query(
    query: product_matcher_pb2.MatchQuery,
    field: str,
    violations: Violations,
    pictures: PictureReader,
    embedder: ModelIdentity,
) -> Query:
    views = await asyncio.gather(
        *(
            _read_view(view, f"{field}.views[{place}]", violations, pictures, embedder)
            for place, view in enumerate(query.views)
        )
    )
    return Query(views, query.category_hint)


async def _read_view(
    view: product_matcher_pb2.MatchView,
    field: str,
    violations: Violations,
    pictures: PictureReader,
    embedder: ModelIdentity,
) -> View:
    if view.WhichOneof("view") == "embedding":
        return _read_embedding(view.embedding, f"{field}.embedding", violations, embedder)
    read = await pictures.read(view.image, f"{field}.image")
    if isinstance(read, Violation):
        violations.add(read.field, read.description)
        return View()
    picture, colours = read
    return View(picture=picture, colour=colours)


def _read_embedding(
    message: product_matcher_pb2.Embedding, field: str, violations: Violations, embedder: ModelIdentity
) -> View:
    given = (message.model.name, message.model.version)
    violations.check(
        given == (embedder.name, embedder.version),
        f"{field}.model",
        f"must be {embedder.name} version {embedder.version}, as the catalogue's",
    )
    return View(
        embedding=_read_vector(message.values, f"{field}.values", violations, size=embedder.size),
        colour=_read_vector(message.colors, f"{field}.colors", violations, size=colour.SIZE)
        if message.colors
        else None,
    )


def _read_vector(values: Sequence[float], field: str, violations: Violations, *, size: int) -> Floats | None:
    """Return a vector of length 1, or None with a violation."""
    if not violations.check(len(values) == size, field, f"must be {size} numbers, and is {len(values)}"):
        return None
    vector: Floats = np.fromiter(values, np.float32, size)
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not violations.check(math.isfinite(length), field, "must be finite"):
        return None
    violations.check(abs(length - 1) <= _LENGTH_TOLERANCE, field, f"must have length 1, and has {length:.4g}")
    return vector


def _result_to_message(
    catalog_id: str, result: ThingResult, with_embeddings_of: ModelIdentity | None
) -> product_matcher_pb2.MatchResult:
    message = product_matcher_pb2.MatchResult(
        products=[_match_to_message(catalog_id, match) for match in result.matches],
        decision=_DECISIONS[result.decision],
    )
    if with_embeddings_of:
        model = model_to_message(with_embeddings_of)
        message.embeddings.extend(
            product_matcher_pb2.Embedding(
                model=model, values=values.tolist(), colors=[] if colours is None else colours.tolist()
            )
            for values, colours in zip(result.embeddings, result.colours, strict=True)
        )
    if result.error:
        message.status.CopyFrom(to_status(result.error))
    return message


def _match_to_message(catalog_id: str, match: Match) -> product_matcher_pb2.ProductMatch:
    candidate = match.candidate
    return product_matcher_pb2.ProductMatch(
        product=product_to_message(catalog_id, match.product),
        similarity=candidate.similarity,
        confidence=match.confidence,
        decision=_DECISIONS[match.decision],
        evidence=product_matcher_pb2.MatchEvidence(
            view_index=candidate.view_index,
            image_id=candidate.image_id,
            image_uri=candidate.image_uri,
            view_similarity=candidate.view_similarity,
            margin=candidate.margin,
            views=candidate.views,
            agreeing_views=candidate.agreeing_views,
        ),
        collapsed=[
            product_matcher_pb2.CollapsedProduct(
                product=product_to_message(catalog_id, one.product), similarity=one.candidate.similarity
            )
            for one in match.left_out
        ],
    )
