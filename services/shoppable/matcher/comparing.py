"""Looking for what a thing is like, in one catalogue: candidates first, then all their images, exactly.

Two rounds. The first finds candidates by the embedding alone, asking for more images until enough different products
came back. The second asks for every image of the candidates, in both spaces and for every view, so that scores and
margins are exact and not what a cut-off list happens to hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shoppable.matcher import convert_upserts
from shoppable.matcher.catalogs import CatalogRecord
from shoppable.matcher.centring import Centring, rooted
from shoppable.matcher.filters import PRODUCT, AnyOf, Condition
from shoppable.matcher.ports import Floats, ImageHit, Space, VectorIndex
from shoppable.matcher.scoring import ViewHits

_IMAGES_PER_PRODUCT = 4  # a first guess; more are asked for where products have more pictures


@dataclass(frozen=True, eq=False)
class Look:
    """A view's vectors: the embedding as the model gave it, and the colours if they are known."""

    embedding: Floats
    colour: Floats | None


class Comparer:
    """Compares views with one catalogue's images."""

    def __init__(self, index: VectorIndex, record: CatalogRecord, centring: Centring | None) -> None:
        self._index = index
        self._record = record
        self._centring = centring

    async def compare(self, looks: Sequence[Look], *, where: Sequence[Condition], enough: int) -> list[ViewHits]:
        """Return, for each view, all images of the `enough` products nearest to any view; empty if there are none."""
        embeddings = [rooted(look.embedding) if self._record.rooted else look.embedding for look in looks]
        product_ids = await self._candidates(embeddings, where, enough)
        if not product_ids:
            return []
        of_these = (AnyOf(PRODUCT, tuple(product_ids)),)
        limit = len(product_ids) * convert_upserts.MAX_IMAGES
        by_embedding = await self._likenesses(Space.EMBEDDING, embeddings, of_these, limit)
        known = [look.colour for look in looks if look.colour is not None]
        by_colour = iter(await self._likenesses(Space.COLOUR, known, of_these, limit) if known else [])
        return [
            ViewHits(images, None if look.colour is None else _by_image(next(by_colour)))
            for look, images in zip(looks, by_embedding, strict=True)
        ]

    async def _candidates(self, embeddings: Sequence[Floats], where: Sequence[Condition], enough: int) -> list[str]:
        """Return the products nearest to any view: enough of them, or all that there are."""
        centring = self._centring
        wanted = [centring.aim(Space.EMBEDDING, one).direction for one in embeddings] if centring else embeddings
        limit = enough * _IMAGES_PER_PRODUCT
        while True:
            answers = await self._index.search(self._record.store, Space.EMBEDDING, wanted, where=where, limit=limit)
            nearest = [list(dict.fromkeys(hit.product_id for hit in hits))[:enough] for hits in answers]
            if all(len(found) >= enough or len(hits) < limit for found, hits in zip(nearest, answers, strict=True)):
                return _interleaved(nearest, enough)
            limit *= 4

    async def _likenesses(
        self, space: Space, vectors: Sequence[Floats], where: Sequence[Condition], limit: int
    ) -> list[list[ImageHit]]:
        """Return the images that fulfil the conditions, at most `limit`, with their likeness to each vector."""
        search, store, centring = self._index.search, self._record.store, self._centring
        if centring is None:
            return await search(store, space, vectors, where=where, limit=limit)
        aims = [centring.aim(space, vector) for vector in vectors]
        wanted = [aim.direction for aim in aims] + [centring.references.of(space)]
        *found, near_mean = await search(store, space, wanted, where=where, limit=limit)
        along_mean = _by_image(near_mean)
        return [
            [
                replace(
                    hit,
                    similarity=centring.likeness(space, aim, hit.similarity, along_mean[hit.product_id, hit.image_id]),
                )
                for hit in hits
                if (hit.product_id, hit.image_id) in along_mean  # else it was written between two searches
            ]
            for aim, hits in zip(aims, found, strict=True)
        ]


def _by_image(hits: Sequence[ImageHit]) -> Mapping[tuple[str, str], float]:
    return {(hit.product_id, hit.image_id): hit.similarity for hit in hits}


def _interleaved(lists: Sequence[Sequence[str]], most: int) -> list[str]:
    """Return the first of each list, then the second of each, and so on, without repeats: at most `most`."""
    longest = max(map(len, lists), default=0)
    in_turn = (found[place] for place in range(longest) for found in lists if place < len(found))
    return list(dict.fromkeys(in_turn))[:most]
