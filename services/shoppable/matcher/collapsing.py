"""Making one product of those in a ranked list that have nearly the same picture.

What "nearly the same" is, `duplicates` says. A product joins the group of the best one before it that it is a copy of:
copies of copies do not chain, or a row of variants would end as one product.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shoppable.matcher.convert_upserts import MAX_IMAGES
from shoppable.matcher.duplicates import MIN_SIMILARITY, SAME_COLOURS
from shoppable.matcher.filters import PRODUCT, AnyOf
from shoppable.matcher.ports import IndexedImage, VectorIndex
from shoppable.matcher.products import Product
from shoppable.matcher.scoring import Candidate, with_margins


@dataclass(frozen=True)
class Collapse:
    """Which of several products with the same picture stays: by what it says for a key, the first of these values."""

    key: str
    preferred: tuple[str, ...] = ()
    min_similarity: float = MIN_SIMILARITY

    def place(self, product: Product) -> int:
        """Return how preferred a product is: 0 most."""
        value = product.said_of(self.key)
        return self.preferred.index(value) if value in self.preferred else len(self.preferred)


@dataclass(frozen=True)
class LeftOut:
    """A product for which another stands."""

    product: Product
    candidate: Candidate


async def collapsed(
    index: VectorIndex, store: str, ranked: Sequence[Candidate], collapse: Collapse
) -> tuple[list[Candidate], Mapping[str, Sequence[LeftOut]]]:
    """Return one candidate of each group, with margins between groups, and by its product's id what it stands for."""
    ids = [candidate.product_id for candidate in ranked]
    if not ids:
        return [], {}
    products = await index.get_products(store, ids)
    of_these = (AnyOf(PRODUCT, tuple(ids)),)
    images, _ = await index.images_after(store, "", len(ids) * MAX_IMAGES, of_these)
    copies = _copies(images, collapse.min_similarity)
    groups: list[list[Candidate]] = []
    for candidate in ranked:
        if candidate.product_id not in products:  # deleted a moment ago
            continue
        group = next((one for one in groups if (one[0].product_id, candidate.product_id) in copies), None)
        if group:
            group.append(candidate)
        else:
            groups.append([candidate])
    kept, left_out = [], {}
    for group in groups:
        # The first of the most preferred: a group is in the order of the list.
        stays = min(group, key=lambda candidate: collapse.place(products[candidate.product_id]))
        kept.append(stays)
        left_out[stays.product_id] = [LeftOut(products[one.product_id], one) for one in group if one is not stays]
    return with_margins(kept), left_out


def _copies(images: Sequence[IndexedImage], min_similarity: float) -> set[tuple[str, str]]:
    """Return the pairs of products, both ways, that have nearly the same picture."""
    if not images:
        return set()
    embeddings, colours = (
        np.stack([getattr(image.vectors, name) for image in images]) for name in ("embedding", "colour")
    )
    alike = (embeddings @ embeddings.T >= min_similarity) & (colours @ colours.T >= SAME_COLOURS)
    return {(images[one].product_id, images[other].product_id) for one, other in np.argwhere(alike)}
