"""How true confidences are, and how well they tell the known from the unknown. Arrays of one number a query."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 10
_DRAWS = 400
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Queries of about one confidence."""

    confidence: float
    right: float
    share: float


@dataclass(frozen=True)
class CalibrationError:
    """An expected calibration error, and what chance does to it.

    `by_chance` is its mean where the outcomes are drawn from the confidences: what an exactly right probability shows
    on so few queries. `low` and `high` are the bounds of 90 % of the errors of queries drawn again with replacement;
    each of these is larger by about what chance adds.
    """

    value: float
    by_chance: float
    low: float
    high: float


def reliability(confident: Numbers, right: Numbers, weights: Numbers | None = None) -> list[Bin]:
    """Return the ten equal bins that have queries."""
    weights = np.ones(len(right)) if weights is None else weights
    bins = np.clip((confident * BINS).astype(int), 0, BINS - 1)
    return [
        Bin(
            float(np.average(confident[bins == one], weights=weights[bins == one])),
            float(np.average(right[bins == one], weights=weights[bins == one])),
            float(weights[bins == one].sum() / weights.sum()),
        )
        for one in range(BINS)
        if (bins == one).any()
    ]


def equal_bins(confident: Numbers, right: Numbers, weights: Numbers) -> float:
    """Return the error over ten bins of equal width (Naeini et al., AAAI 2015)."""
    bins = np.clip((confident * BINS).astype(int), 0, BINS - 1)
    differences = np.bincount(bins, weights=weights * (confident - right), minlength=BINS)
    return float(np.abs(differences).sum() / weights.sum())


def equal_parts(confident: Numbers, right: Numbers, weights: Numbers) -> float:
    """Return the error over ten bins with as many queries each (Nguyen and O'Connor, EMNLP 2015)."""
    parts = np.array_split(np.argsort(confident, kind="stable"), BINS)
    differences = [abs((weights * (confident - right))[part].sum()) for part in parts]
    return float(sum(differences) / weights.sum())


def calibration_error(
    confident: Numbers,
    right: Numbers,
    weights: Numbers | None = None,
    *,
    over: Callable[[Numbers, Numbers, Numbers], float] = equal_bins,
) -> CalibrationError:
    """Return the error with what chance does to it."""
    weights = np.ones(len(right)) if weights is None else weights
    chance = np.random.default_rng(0)
    by_chance = [over(confident, (chance.random(len(confident)) < confident) * 1.0, weights) for _ in range(_DRAWS)]
    again = [
        over(confident[drawn], right[drawn], weights[drawn])
        for drawn in (chance.integers(0, len(right), len(right)) for _ in range(_DRAWS))
    ]
    low, high = np.quantile(again, (0.05, 0.95))
    return CalibrationError(over(confident, right, weights), float(np.mean(by_chance)), float(low), float(high))


def auroc(known: Numbers, unknown: Numbers) -> float:
    """Return the chance that a thing in the catalogue is surer than one that is not (Mann and Whitney's statistic)."""
    above = (known[:, None] > unknown[None]).mean() + 0.5 * (known[:, None] == unknown[None]).mean()
    return float(above)
