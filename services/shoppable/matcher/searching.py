"""Looking for products by words, by a picture, by another product, or by words and one of these together.

Words are ranked by BM25 (Qdrant's text index). Pictures are ranked as a match ranks them, without saying how sure that
is. Both together are merged by their ranks (reciprocal rank fusion; Cormack, Clarke and Büttcher, SIGIR 2009), since
their scores have no common scale: a product scores 1 / (60 + rank) in each list that holds it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shoppable.matcher.catalogs import CatalogRecord, require_words
from shoppable.matcher.centring import squared
from shoppable.matcher.comparing import Comparer, Look
from shoppable.matcher.convert_upserts import MAX_IMAGES
from shoppable.matcher.embedders import Embedders
from shoppable.matcher.filters import PRODUCT, AnyOf, Condition, NoneOf, ProductFilter
from shoppable.matcher.fits import fit_of
from shoppable.matcher.names import product_name
from shoppable.matcher.ports import VectorIndex, View
from shoppable.matcher.products import Product
from shoppable.matcher.scoring import rank
from shoppable.matcher.texts import folded
from shoppable.matcher.thinning import Diversity
from shoppable.runtime.errors import NotFoundError

_RANK_CONSTANT = 60
# Ranks below these are worth next to nothing in a merged list.
_LEAST_LOOKED_AT, _LOOKED_AT = 100, 4


@dataclass(frozen=True)
class SearchOptions:
    """What is wanted; at least one of text, view and product_id is set, and not both of the last two."""

    text: str = ""
    view: View | None = None
    product_id: str = ""
    wanted: ProductFilter = field(default_factory=ProductFilter)
    max_products: int = 10
    diversity: Diversity | None = None


@dataclass(frozen=True)
class Found:
    """A product, and why it was found: what is None did not find it."""

    product: Product
    score: float
    text_score: float | None = None
    similarity: float | None = None


class Searcher:
    """Looks for products in one catalogue at a time."""

    def __init__(self, index: VectorIndex, embedders: Embedders) -> None:
        self._index = index
        self._embedders = embedders

    async def search(self, record: CatalogRecord, options: SearchOptions) -> list[Found]:
        """Return the products, the best first.

        Raises:
            FailedPreconditionError: Words are asked for, and the catalogue keeps none.
            NotFoundError: The product to be like does not exist.
            ServiceError: The embedder or the index failed.
        """
        where = options.wanted.conditions()
        most = max(_LEAST_LOOKED_AT, _LOOKED_AT * options.max_products)
        by_text, by_likeness = None, None
        if options.text:
            by_text = await self._by_text(record, options.text, where, most)
        if options.view or options.product_id:
            by_likeness = await self._by_likeness(record, options, where, most)
        lists = [ranked for ranked in (by_text, by_likeness) if ranked is not None]
        scores = lists[0] if len(lists) == 1 else fused(lists)
        ordered = sorted(scores, key=lambda product_id: (-scores[product_id], product_id))
        return await self._found(record, options, where, [(key, scores[key]) for key in ordered], by_text, by_likeness)

    async def _by_text(
        self, record: CatalogRecord, text: str, where: Sequence[Condition], most: int
    ) -> dict[str, float]:
        require_words(record)
        hits = await self._index.search_text(record.store, folded(text), where=where, limit=most)
        return {hit.product_id: hit.score for hit in hits}

    async def _by_likeness(
        self, record: CatalogRecord, options: SearchOptions, where: Sequence[Condition], most: int
    ) -> dict[str, float]:
        if options.product_id:
            itself: tuple[Condition, ...] = (AnyOf(PRODUCT, (options.product_id,)),)
            looks = await self._looks_of(record, options.product_id, itself)
            where = (*where, NoneOf((itself,)))
        else:
            looks = await self._looks_at(record, options.view)
        views = await Comparer(self._index, record, fit_of(record).centring).compare(looks, where=where, enough=most)
        return {candidate.product_id: candidate.similarity for candidate in rank(views)}

    async def _looks_at(self, record: CatalogRecord, view: View | None) -> list[Look]:
        if view is None or view.picture is None:
            return []
        (embedding,) = await (await self._embedders.of(record)).embed([view.picture])
        return [Look(embedding, view.colour)]

    async def _looks_of(self, record: CatalogRecord, product_id: str, itself: Sequence[Condition]) -> list[Look]:
        images, _ = await self._index.images_after(record.store, "", MAX_IMAGES, itself)
        if not images:
            name = product_name(record.catalog_id, product_id)
            raise NotFoundError("product", name, f"{name} does not exist")
        given = squared if record.rooted else (lambda embedding: embedding)
        return [Look(given(image.vectors.embedding), image.vectors.colour) for image in images]

    async def _found(
        self,
        record: CatalogRecord,
        options: SearchOptions,
        where: Sequence[Condition],
        ordered: Sequence[tuple[str, float]],
        by_text: dict[str, float] | None,
        by_likeness: dict[str, float] | None,
    ) -> list[Found]:
        # Some may be left out for the sake of others of the same seller.
        ordered = ordered[: options.max_products * (_LOOKED_AT if options.diversity else 1)]
        products = await self._index.get_products(record.store, [product_id for product_id, _ in ordered], where)
        found = [
            Found(products[key], score, (by_text or {}).get(key), (by_likeness or {}).get(key))
            for key, score in ordered
            if key in products  # else it was deleted a moment ago
        ]
        if options.diversity:
            found = options.diversity.thin(found)
        return found[: options.max_products]


def fused(lists: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the merged scores of lists of scores, each ordered by itself."""
    scores: dict[str, float] = {}
    for ranked in lists:
        ordered = sorted(ranked, key=lambda key: (-ranked[key], key))
        for place, key in enumerate(ordered, start=1):
            scores[key] = scores.get(key, 0.0) + 1 / (_RANK_CONSTANT + place)
    return scores
