"""Finding pictures of different products that are nearly the same.

Each image asks the index for its nearest neighbours, a batch of images at a time, so that the work grows with the
number of images and not with that of pairs. The embedding finds them; colours tell a copy from the same thing in
another colour. Vectors are compared as stored: means would only shift what is nearly equal.
"""

from collections.abc import AsyncIterator, Sequence, Set
from dataclasses import dataclass

from shoppable.matcher.convert_upserts import MAX_IMAGES
from shoppable.matcher.filters import PRODUCT, AnyOf, Condition
from shoppable.matcher.ports import IndexedImage, Space, VectorIndex
from shoppable.matcher.products import Product

# The README tells how the two were chosen.
MIN_SIMILARITY = 0.92  # of embeddings, unless a caller says otherwise
SAME_COLOURS = 0.97
_BATCH = 64  # images whose neighbours are asked for at a time
# Nearest images looked at for each; a picture that was copied more often shows through its copies' neighbours.
_NEIGHBOURS = 32


@dataclass(frozen=True)
class Likeness:
    """Two images of different products, and how like they are, -1..1; the product with the lower id comes first."""

    first: tuple[Product, str]
    second: tuple[Product, str]
    similarity: float


@dataclass(frozen=True)
class _Pair:
    first: tuple[str, str]  # product and image id
    second: tuple[str, str]
    similarity: float


class DuplicateFinder:
    """Goes through one catalogue's images."""

    def __init__(self, index: VectorIndex, store: str, where: Sequence[Condition]) -> None:
        self._index = index
        self._store = store
        self._where = where

    async def find(self, *, min_similarity: float, differing_in: str) -> AsyncIterator[Likeness]:
        """Yield what is nearly the same, as it is found, each pair of images once.

        Args:
            min_similarity: Lowest cosine.
            differing_in: What two products must both say, and say differently: "brand", or an attribute's key; "" for
                any two products.

        Raises:
            ServiceError: The index failed.
        """
        after = ""
        while True:
            images, after = await self._index.images_after(self._store, after, _BATCH, self._where)
            pairs = await self._pairs(images, min_similarity)
            ids = list(dict.fromkeys(product_id for pair in pairs for product_id, _ in (pair.first, pair.second)))
            products: dict[str, Product] = {}
            for start in range(0, len(ids), 1000):
                products |= await self._index.get_products(self._store, ids[start : start + 1000])
            for pair in pairs:
                one, other = products.get(pair.first[0]), products.get(pair.second[0])
                if one and other and _differ(one, other, differing_in):  # else one was deleted a moment ago
                    yield Likeness((one, pair.first[1]), (other, pair.second[1]), pair.similarity)
            if not after:
                return

    async def _pairs(self, images: Sequence[IndexedImage], min_similarity: float) -> list[_Pair]:
        if not images:
            return []
        answers = await self._index.search(
            self._store,
            Space.EMBEDDING,
            [image.vectors.embedding for image in images],
            where=self._where,
            limit=_NEIGHBOURS,
        )
        found: list[_Pair] = []
        for image, hits in zip(images, answers, strict=True):
            # Each of two images finds the other; one of them is to tell it.
            own = (image.product_id, image.image_id)
            near = [hit for hit in hits if hit.similarity >= min_similarity and own[0] < hit.product_id]
            alike = await self._alike_in_colour(image, {hit.product_id for hit in near})
            found += [
                _Pair(own, (hit.product_id, hit.image_id), min(1.0, hit.similarity))
                for hit in near
                if (hit.product_id, hit.image_id) in alike
            ]
        return found

    async def _alike_in_colour(self, image: IndexedImage, product_ids: Set[str]) -> set[tuple[str, str]]:
        """Return those images of some products that have the colours of this one."""
        if not product_ids:
            return set()
        (hits,) = await self._index.search(
            self._store,
            Space.COLOUR,
            [image.vectors.colour],
            where=(AnyOf(PRODUCT, tuple(sorted(product_ids))),),
            limit=len(product_ids) * MAX_IMAGES,
        )
        return {(hit.product_id, hit.image_id) for hit in hits if hit.similarity >= SAME_COLOURS}


def _differ(one: Product, other: Product, key: str) -> bool:
    if not key:
        return True
    values = one.said_of(key), other.said_of(key)
    return all(values) and values[0] != values[1]
