"""What may be offered, and what a live stream or a later rematch needs: messages to domain values and back."""

from google.protobuf.duration_pb2 import Duration

from shoppable.orchestrator.domain import FoundObject, MatchOutcome, OfferPolicy, SensitiveRange, Withheld
from shoppable.orchestrator.lookups import MAX_LOOKS
from shoppable.orchestrator.offers import seen_s
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2, orchestrator_pb2, product_matcher_pb2

REMATCH_VERSION = 1
_MAX_NAMES = 100
_MIN_LAG_S, _MAX_LAG_S, _DEFAULT_LAG_S = 0.1, 60.0, 2.0


def read_offers(
    message: orchestrator_pb2.OfferOptions, settings: OrchestratorSettings, violations: Violations, *, prefix: str
) -> OfferPolicy:
    """Join what the caller wants with what the operator demands. Whether categories exist, the detector knows."""
    names = message.excluded_categories
    field = f"{prefix}excluded_categories"
    violations.check(len(names) <= _MAX_NAMES, field, f"must have at most {_MAX_NAMES} entries")
    for index, name in enumerate(names[:_MAX_NAMES]):
        violations.check(bool(name), f"{field}[{index}]", "must not be empty")
    area = violations.optional_number(
        message, "min_area", low=0, high=1, default=settings.min_offer_area, prefix=prefix
    )
    seen = violations.optional_duration(message, "min_seen", prefix=prefix)
    return OfferPolicy(
        opt_out=message.opt_out,
        excluded_categories=frozenset(names) | frozenset(settings.excluded_categories),
        min_area=area,
        min_seen_s=settings.min_offer_seen_s if seen is None else seen.total_seconds(),
    )


def read_max_lag(options: orchestrator_pb2.AnnotateOptions, violations: Violations) -> float | None:
    """Return the most lag of a live stream in seconds; None for a film."""
    if not options.HasField("live"):
        return None
    lag = violations.optional_duration(options.live, "max_lag", prefix="options.live.")
    lag_s = _DEFAULT_LAG_S if lag is None else lag.total_seconds()
    violations.check(
        _MIN_LAG_S <= lag_s <= _MAX_LAG_S, "options.live.max_lag", f"must be {_MIN_LAG_S:g}..{_MAX_LAG_S:g} seconds"
    )
    return lag_s


def write_rematch_state(found: FoundObject) -> orchestrator_pb2.RematchState:
    """Return what finding an object's products again needs. What is withheld for good has no views."""
    state = orchestrator_pb2.RematchState(
        version=REMATCH_VERSION,
        category=found.category,
        area=max(seen.box.area for seen in found.observations),
        seen=write_duration(seen_s(found.segments)),
    )
    if found.withheld in {None, Withheld.TOO_LITTLE_SEEN}:
        state.views.extend(found.match.embeddings[:MAX_LOOKS] if found.match else ())
    elif found.withheld:
        state.withheld = found.withheld.value
    return state


def write_match(
    match: MatchOutcome | None, message: orchestrator_pb2.ShoppableObject | orchestrator_pb2.RematchedObject
) -> None:
    """Write what the matcher said into an object's message, or why it could not; nothing if it was not asked."""
    if match is None:
        return
    if match.failure is not None:
        message.match_status.CopyFrom(match.failure)
        return
    message.products.extend(match.products)
    message.decision = match.decision.value if match.decision else product_matcher_pb2.MATCH_DECISION_NO_MATCH
    message.confidence = match.confidence or 0.0


def write_sensitive_range(item: SensitiveRange) -> orchestrator_pb2.SensitiveRange:
    """Return a span as a message."""
    segment = common_pb2.VideoSegment(
        start=write_duration(item.segment.start_s), end=write_duration(item.segment.end_s)
    )
    return orchestrator_pb2.SensitiveRange(segment=segment, score=item.score, reason=item.reason.value)


def write_duration(seconds: float) -> Duration:
    """Return a Duration, to the microsecond: finer than any container's clock that is kept in a float."""
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1e6))
    return duration
