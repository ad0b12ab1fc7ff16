"""What may be offered: the rules that are judged before and after a thing is matched. Knows no transport.

Two questions have two answers. Before matching: may this track's pictures be looked up at all? Afterwards, of the whole
object: may its products be told? What the first refuses never leaves this service.
"""

from collections.abc import Callable, Sequence

from shoppable.orchestrator.domain import OfferPolicy, Segment, Withheld

# Why a span of time is barred, if it is.
Barred = Callable[[Sequence[Segment]], Withheld | None]


def nothing_barred(_segments: Sequence[Segment]) -> Withheld | None:
    """Answer for a video that no classifier watches."""
    return None


class OfferGate:
    """The rules for the objects of one video."""

    def __init__(self, policy: OfferPolicy, barred: Barred = nothing_barred) -> None:
        self._policy = policy
        self._barred = barred

    def before_matching(self, category: str, segments: Sequence[Segment]) -> Withheld | None:
        """Return why a thing must not be looked up, as far as is known now."""
        if self._policy.opt_out:
            return Withheld.OPTED_OUT
        if category in self._policy.excluded_categories:
            return Withheld.EXCLUDED_CATEGORY
        return self._barred(segments)

    def before_telling(self, category: str, segments: Sequence[Segment], *, area: float) -> Withheld | None:
        """Return why an object's products must not be told; `area` is the largest share of the frame it covered."""
        return self.before_matching(category, segments) or self.too_little(area, seen_s(segments))

    def too_little(self, area: float, seconds: float) -> Withheld | None:
        """Return TOO_LITTLE_SEEN for what is too small or too short."""
        too_small = area < self._policy.min_area or seconds < self._policy.min_seen_s
        return Withheld.TOO_LITTLE_SEEN if too_small else None


def seen_s(segments: Sequence[Segment]) -> float:
    """Return for how long an object was there, to the microsecond, as the contract's times are."""
    return round(sum(segment.end_s - segment.start_s for segment in segments), 6)
