"""How good matches of labelled things are."""

from collections.abc import Sequence
from dataclasses import dataclass

from shoppable.matcher.calibration import Decision, Thresholds

_BINS = 10


@dataclass(frozen=True)
class Answer:
    """How sure a thing's first product was, and at which place, from 0, the right one; None if it was not found."""

    confidence: float
    place: int | None
    for_sale: bool
    weight: float = 1.0


@dataclass(frozen=True)
class Quality:
    """Shares of 0..1; `match_precision` is None where nothing is called a match."""

    recall_at_1: float
    recall_at_5: float
    calibration_error: float
    match_rate: float
    match_precision: float | None


def quality_of(answers: Sequence[Answer]) -> Quality:
    """Return the quality; of no answers, or none for sale, shares are 0."""
    sold = [one for one in answers if one.for_sale]
    called = [one for one in answers if _is_called(one)]
    return Quality(
        recall_at_1=_share([one.place == 0 for one in sold]),
        recall_at_5=_share([one.place is not None and one.place < 5 for one in sold]),
        calibration_error=calibration_error([(one.confidence, one.place == 0, one.weight) for one in answers]),
        match_rate=_share([_is_called(one) for one in sold]),
        match_precision=sum(one.weight for one in called if one.place == 0) / sum(one.weight for one in called)
        if called
        else None,
    )


def calibration_error(answers: Sequence[tuple[float, bool, float]]) -> float:
    """Return the expected calibration error over ten equal bins of (confidence, right, weight).

    Naeini et al., AAAI 2015; 0 of no answers.
    """
    # The distance of a bin's means times the bin's share: the sum of differences over all answers.
    differences = [0.0] * _BINS
    for confidence, right, weight in answers:
        differences[min(_BINS - 1, int(confidence * _BINS))] += weight * (confidence - right)
    weights = sum(weight for _, _, weight in answers)
    return sum(map(abs, differences)) / weights if weights else 0.0


def _is_called(answer: Answer) -> bool:
    return Thresholds().decide(answer.confidence) is Decision.MATCH


def _share(holds: Sequence[bool]) -> float:
    return sum(holds) / max(1, len(holds))
