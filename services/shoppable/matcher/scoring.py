"""From the likeness of pictures to an order of products. What each part brought is in the package's README."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shoppable.matcher import hints
from shoppable.matcher.ports import ImageHit

# Likeness of colour counts this much beside likeness of the embeddings: chosen on the grocery training photos and the
# sample film together.
COLOUR_WEIGHT = 0.2


@dataclass(frozen=True)
class ViewHits:
    """What one view of a thing is like: images and cosines of embeddings; and of colours, if the view has any."""

    images: Sequence[ImageHit]
    colours: Mapping[tuple[str, str], float] | None  # by product and image id


@dataclass(frozen=True)
class Candidate:
    """A product that a thing may be.

    `similarity` is the mean over the views of each view's best image, -1..1. `score` orders; it is the similarity and
    what a hint is worth. `margin` is by how much the score exceeds the best other product's. `agreeing_views` is how
    many of the `views` are by themselves more like this product than like any other.
    """

    product_id: str
    similarity: float
    score: float
    view_index: int
    image_id: str
    image_uri: str
    view_similarity: float
    views: int
    agreeing_views: int
    margin: float | None = None


def likeness(embedding: float, colour: float | None) -> float:
    """Return the likeness of two pictures, -1..1, from the cosines of their embeddings and, if known, their colours."""
    return embedding if colour is None else (embedding + COLOUR_WEIGHT * colour) / (1 + COLOUR_WEIGHT)


def rank(views: Sequence[ViewHits], *, category_hint: str = "") -> list[Candidate]:
    """Return the products that were found, the most similar first, with their margins.

    A product is judged by the views that found it; callers ask for all images of all candidates in every view.
    """
    best: dict[str, dict[int, tuple[float, ImageHit]]] = {}
    for index, view in enumerate(views):
        for image in view.images:
            colour = None
            if view.colours is not None:
                colour = view.colours.get((image.product_id, image.image_id))
            value = likeness(image.similarity, colour)
            of_product = best.setdefault(image.product_id, {})
            if index not in of_product or value > of_product[index][0]:
                of_product[index] = (value, image)
    alike = [_most_alike(best, index) for index in range(len(views))]
    candidates = [
        _candidate(found, category_hint, views=len(views), agreeing_views=alike.count(product_id))
        for product_id, found in best.items()
    ]
    return with_margins(candidates)


def _most_alike(best: Mapping[str, Mapping[int, tuple[float, ImageHit]]], view: int) -> str | None:
    """Return the product that one view by itself is most like; None if it found nothing."""
    values = [(-found[view][0], product_id) for product_id, found in best.items() if view in found]
    return min(values)[1] if values else None


def _candidate(
    found: Mapping[int, tuple[float, ImageHit]], category_hint: str, *, views: int, agreeing_views: int
) -> Candidate:
    similarity = sum(value for value, _ in found.values()) / len(found)
    view_index = max(found, key=lambda index: (found[index][0], -index))
    image = found[view_index][1]
    return Candidate(
        product_id=image.product_id,
        similarity=_clamped(similarity),
        score=similarity + hints.worth(category_hint, image.category),
        view_index=view_index,
        image_id=image.image_id,
        image_uri=image.image_uri,
        view_similarity=_clamped(image.similarity),
        views=views,
        agreeing_views=agreeing_views,
    )


def with_margins(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return candidates in order of their scores, with their margins among themselves."""
    candidates = sorted(candidates, key=lambda candidate: (-candidate.score, candidate.product_id))
    if len(candidates) < 2:
        return candidates
    first, second = candidates[0].score, candidates[1].score
    return [
        replace(candidate, margin=candidate.score - (second if place == 0 else first))
        for place, candidate in enumerate(candidates)
    ]


def _clamped(cosine: float) -> float:
    """Undo what rounding adds: a picture is not more like itself than 1."""
    return min(1.0, max(-1.0, cosine))
