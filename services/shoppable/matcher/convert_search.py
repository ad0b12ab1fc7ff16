"""A search, from the contract's message to the domain's values, and what was found back."""

from collections.abc import Sequence

from shoppable.matcher.catalogs import CatalogRecord
from shoppable.matcher.convert import product_to_message
from shoppable.matcher.convert_filters import read_filter
from shoppable.matcher.convert_match import MAX_PRODUCTS, read_diversity
from shoppable.matcher.names import PRODUCT_NAME_RULE, parse_product_name
from shoppable.matcher.pictures import PictureReader
from shoppable.matcher.ports import View
from shoppable.matcher.searching import Found, SearchOptions
from shoppable.matcher.texts import has_words
from shoppable.runtime.errors import Violation
from shoppable.runtime.validation import Violations
from shoppable.v1 import product_matcher_pb2 as messages

_MAX_TEXT, _PRODUCTS = 500, 10


async def read_search(
    request: messages.SearchProductsRequest, violations: Violations, pictures: PictureReader
) -> SearchOptions:
    """Return what is looked for; which attributes and products there are is checked elsewhere."""
    if request.text:
        right = violations.check(len(request.text) <= _MAX_TEXT, "text", f"must be at most {_MAX_TEXT} characters")
        violations.check(not right or has_words(request.text), "text", "must hold a letter or a digit")
    like = request.WhichOneof("like")
    violations.check(bool(request.text or like), "text", "must be set, or image, or product")
    most = violations.optional_number(request, "max_products", low=1, high=MAX_PRODUCTS, default=_PRODUCTS)
    violations.optional_number(request, "min_revision", low=0, high=2**63 - 1, default=0)
    return SearchOptions(
        text=request.text,
        view=await _view(request, violations, pictures) if like == "image" else None,
        product_id=_product_id(request, violations) if like == "product" else "",
        wanted=read_filter(request.filter, "filter", violations),
        max_products=int(most),
        diversity=read_diversity(request, violations),
    )


def found_to_message(record: CatalogRecord, found: Sequence[Found]) -> messages.SearchProductsResponse:
    """Return the answer."""
    return messages.SearchProductsResponse(
        products=[
            messages.SearchHit(
                product=product_to_message(record.catalog_id, one.product),
                score=one.score,
                text_score=one.text_score,
                similarity=one.similarity,
            )
            for one in found
        ],
        catalog_revision=record.revision,
    )


async def _view(
    request: messages.SearchProductsRequest, violations: Violations, pictures: PictureReader
) -> View | None:
    read = await pictures.read(request.image, "image")
    if isinstance(read, Violation):
        violations.add(read.field, read.description)
        return None
    return View(picture=read[0], colour=read[1])


def _product_id(request: messages.SearchProductsRequest, violations: Violations) -> str:
    catalog = request.catalog.removeprefix("catalogs/")
    ids = parse_product_name(request.product)
    violations.check(ids is not None, "product", PRODUCT_NAME_RULE)
    violations.check(ids is None or ids[0] == catalog, "product", f"must be of {request.catalog}")
    return ids[1] if ids else ""
