"""Learning a catalogue's fit from labelled pictures: the means, what to overlook, and how sure a likeness is."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shoppable.matcher.calibration import MARGIN_BOUND, Logistic
from shoppable.matcher.centring import Centring, Means, Nuisance
from shoppable.matcher.ports import ImageVectors

# So many pictures weigh as much as what is known before. References: chosen on the grocery training photos and the
# sample film; queries: five photos bring most of what hundreds do.
REFERENCES_PRIOR, QUERIES_PRIOR = 150, 5
# Of the ways in which pictures of one product differ, so many are damped: those by as much as they vary beyond so many
# times the average. Chosen on the grocery training photos by fifths; 50 labels gain from it as 500 do.
_NUISANCES, _USUAL_VARIANCES = 8, 20
_NUISANCE_PICTURES = 2000  # more do not change it
_NUISANCE_PRIOR = 20  # pictures: as many are half believed
# What is known before counts for so many labelled things, spread over the coefficients by how far they may move.
_PRIOR_STRENGTH = 10.0
_PRIOR_SPREAD = np.array([2.0, 4.0, 8.0])
_STEPS = 60


@dataclass(frozen=True)
class Example:
    """The first product of a labelled thing, and whether it is the right one."""

    score: float
    margin: float | None
    right: bool
    weight: float = 1.0


def fit_means(images: Sequence[ImageVectors], prior: Means | None, *, prior_images: float) -> Means:
    """Return the means of stored vectors, drawn towards what is known before."""
    own = Means(
        np.mean([image.embedding for image in images], axis=0, dtype=np.float64).astype(np.float32),
        np.mean([image.colour for image in images], axis=0, dtype=np.float64).astype(np.float32),
    )
    return own if prior is None else own.towards(prior, prior_images / (prior_images + len(images)))


def fit_centring(
    references: Sequence[ImageVectors], seen: Sequence[tuple[str, ImageVectors]], known: Means | None
) -> Centring:
    """Return what a catalogue's references, and pictures seen with their product's id or "", teach about comparing.

    `known` is what is known of references before.
    """
    own = fit_means(references, known, prior_images=REFERENCES_PRIOR)
    if not seen:
        return Centring(own, own)
    queries = fit_means([vectors for _, vectors in seen], own, prior_images=QUERIES_PRIOR)
    by_product: dict[str, list[ImageVectors]] = defaultdict(list)
    for product_id, vectors in seen:
        if product_id:
            by_product[product_id].append(vectors)
    return Centring(own, queries, fit_nuisance(list(by_product.values()), queries))


def fit_nuisance(products: Sequence[Sequence[ImageVectors]], mean: Means) -> Nuisance | None:
    """Return how pictures of one product differ, given pictures of several; None if there are no two of any."""
    every_nth = max(1, math.ceil(sum(map(len, products)) / _NUISANCE_PICTURES))
    rest = []
    for pictures in products[::every_nth]:
        if len(pictures) > 1:
            away = np.stack([picture.embedding for picture in pictures[:_NUISANCE_PICTURES]]) - mean.embedding
            away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
            # Pictures lie nearer to their own mean than to the product's true one.
            rest.append((away - away.mean(axis=0)) * np.sqrt(len(away) / (len(away) - 1)))
    if not rest:
        return None
    differences = np.concatenate(rest).astype(np.float64)
    _, spread, directions = np.linalg.svd(differences, full_matrices=False)
    usual = _USUAL_VARIANCES * float((spread**2).sum()) / differences.shape[1]
    # Copies of a picture do not differ, and then there is no direction.
    large = spread[:_NUISANCES] > 1e-4
    if not large.any():
        return None
    believed = len(differences) / (len(differences) + _NUISANCE_PRIOR)
    kept = 1 - believed * (1 - usual / (usual + spread[:_NUISANCES][large] ** 2))
    return Nuisance(directions[:_NUISANCES][large].astype(np.float32), kept.astype(np.float32))


def fit_logistic(examples: Sequence[Example], prior: Logistic) -> Logistic:
    """Return the most probable logistic function given what is known before (Platt's scaling, with a prior).

    Newton's method; a weight that would become negative is held at 0, so that confidence never falls with likeness.
    """
    rows = np.array(
        [(1.0, one.score, max(-MARGIN_BOUND, min(MARGIN_BOUND, one.margin or 0.0))) for one in examples], np.float64
    ).reshape(-1, 3)
    right = np.array([one.right for one in examples], np.float64)
    weight = np.array([one.weight for one in examples], np.float64)
    start = np.array([prior.intercept, prior.score, prior.margin])
    free = np.ones(3, bool)
    while True:
        found = _newton(rows, right, weight, start, free)
        negative = free & (found < 0) & np.array([False, True, True])
        if not negative.any():
            return Logistic(*(round(float(value), 4) for value in found))
        free &= ~negative


def _newton(
    rows: npt.NDArray[np.float64],
    right: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64],
    prior: npt.NDArray[np.float64],
    free: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    held = _PRIOR_STRENGTH / _PRIOR_SPREAD**2 / 3
    found = np.where(free, prior, 0.0)
    for _ in range(_STEPS):
        sure = 1 / (1 + np.exp(-np.clip(rows @ found, -30, 30)))
        slope = rows.T @ (weight * (sure - right)) + held * (found - prior)
        curve = (rows * (weight * sure * (1 - sure))[:, None]).T @ rows + np.diag(held)
        step = np.zeros(3)
        step[free] = np.linalg.solve(curve[np.ix_(free, free)], slope[free])
        found = found - np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-6:
            break
    return found
