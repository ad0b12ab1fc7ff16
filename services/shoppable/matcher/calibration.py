"""From likeness to probability: a logistic function of a product's score and of its margin to the best other one.

The coefficients are data: a catalogue's own, those of the package for the embedder that the suite brings, or, for any
other, those of plain cosines (`confidence.json`); `fits` chooses. Both have weights of at least 0, so confidence never
falls when likeness or margin grow; and since of two products the one with the higher score has the higher margin,
confidence keeps their order.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from importlib import resources
from typing import Any

# Margins beyond say no more than these.
MARGIN_BOUND = 0.3
_FORMAT = 1


class Decision(Enum):
    """What a confidence comes to."""

    MATCH = "match"
    SIMILAR = "similar"
    NO_MATCH = "no_match"


@dataclass(frozen=True)
class Thresholds:
    """Confidences from which a product is a MATCH, and SIMILAR: 0 <= similar <= match <= 1."""

    match: float = 0.75
    similar: float = 0.2

    def decide(self, confidence: float) -> Decision:
        """Return what a confidence comes to."""
        if confidence >= self.match:
            return Decision.MATCH
        return Decision.SIMILAR if confidence >= self.similar else Decision.NO_MATCH


@dataclass(frozen=True)
class Logistic:
    """The coefficients of one logistic function."""

    intercept: float
    score: float
    margin: float

    def __call__(self, score: float, margin: float | None) -> float:
        """Return the probability, 0..1; no margin counts as none either way."""
        bounded = max(-MARGIN_BOUND, min(MARGIN_BOUND, margin or 0.0))
        logit = self.intercept + self.score * score + self.margin * bounded
        return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


@dataclass(frozen=True)
class Calibration:
    """How sure a score is: with colours in it, and without where only embeddings were given."""

    with_colour: Logistic
    plain: Logistic

    def confidence(self, score: float, margin: float | None, *, with_colour: bool) -> float:
        """Return the probability that a product of this score and margin is the right one."""
        return (self.with_colour if with_colour else self.plain)(score, margin)

    def confidences(self, ranked: Sequence[tuple[float, float | None]], *, with_colour: bool) -> list[float]:
        """Return the probability of each of a thing's products, by score and margin, in their order.

        What is fitted is the first product's. One thing is one product: the others share what is left.
        """
        sure = [self.confidence(score, margin, with_colour=with_colour) for score, margin in ranked]
        return sure[:1] + [min(one, 1 - sure[0]) for one in sure[1:]]

    def to_json(self) -> dict[str, Any]:
        """Return it as `parse_calibration` reads it."""
        return {"format": _FORMAT, "with_colour": asdict(self.with_colour), "plain": asdict(self.plain)}


def load_calibration() -> Calibration:
    """Return the calibration that the package brings."""
    text = resources.files("shoppable.matcher").joinpath("confidence.json").read_text(encoding="utf-8")
    return parse_calibration(json.loads(text))


def parse_calibration(values: dict[str, Any]) -> Calibration:
    """Read a calibration.

    Raises:
        ValueError: It is none, or would let confidence fall with likeness.
    """
    try:
        if values["format"] != _FORMAT:
            raise ValueError(f"a calibration of format {values['format']} cannot be read")
        functions = [
            Logistic(**{name: float(values[kind][name]) for name in ("intercept", "score", "margin")})
            for kind in ("with_colour", "plain")
        ]
    except (KeyError, TypeError) as error:
        raise ValueError("this is no calibration") from error
    if not all(
        math.isfinite(one.intercept) and 0 <= one.score < math.inf and 0 <= one.margin < math.inf for one in functions
    ):
        raise ValueError("a calibration's weights must be 0 or more")
    return Calibration(*functions)
