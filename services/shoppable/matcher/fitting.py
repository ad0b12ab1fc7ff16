"""Learning a catalogue's fit from labelled pictures: the means, and how sure a likeness is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shoppable.matcher.calibration import MARGIN_BOUND, Logistic
from shoppable.matcher.centring import Centring, Means
from shoppable.matcher.ports import ImageVectors

# So many pictures weigh as much as what is known before. References: chosen on the grocery training photos and the
# sample film; queries: five photos bring most of what hundreds do.
REFERENCES_PRIOR, QUERIES_PRIOR = 150, 5
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


def fit_centring(references: Sequence[ImageVectors], seen: Sequence[ImageVectors], known: Means | None) -> Centring:
    """Return what a catalogue's references, and pictures seen of things, teach about comparing.

    `known` is what is known of references before.
    """
    own = fit_means(references, known, prior_images=REFERENCES_PRIOR)
    return Centring(own, fit_means(seen, own, prior_images=QUERIES_PRIOR) if seen else own)


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
