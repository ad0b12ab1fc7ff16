"""RematchProducts: messages to domain values, with all checks; and back."""

from collections.abc import Sequence

import numpy as np

from shoppable.orchestrator.convert_offers import REMATCH_VERSION, read_offers, write_match
from shoppable.orchestrator.domain import MatchOptions, Withheld
from shoppable.orchestrator.lookups import MAX_LOOKS
from shoppable.orchestrator.rematching import Rematched, RematchRequest, SeenObject
from shoppable.orchestrator.settings import OrchestratorSettings
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2, orchestrator_pb2

_MAX_TEXT = 200
_LENGTH_TOLERANCE = 1e-3  # of a vector of length 1 that was sent and rounded
_LASTING = {
    reason.value: reason
    for reason in (
        Withheld.OPTED_OUT,
        Withheld.EXCLUDED_CATEGORY,
        Withheld.SENSITIVE_CONTENT,
        Withheld.UNCLASSIFIED_CONTENT,
    )
}


def read_rematch(
    request: orchestrator_pb2.RematchProductsRequest, settings: OrchestratorSettings, violations: Violations
) -> RematchRequest:
    """Check a request. How many values an embedding has, the catalogue knows."""
    count = len(request.objects)
    most = settings.rematch_objects
    violations.check(1 <= count <= most, "objects", f"must be 1..{most}, and is {count}")
    violations.check(bool(request.catalog), "catalog", "must be set")
    max_products = violations.optional_number(request, "max_products_per_object", low=1, high=100, default=5)
    min_confidence = violations.optional_number(request, "min_product_confidence", low=0, high=1, default=0)
    match_confidence = violations.optional_number(request, "match_confidence", low=0, high=1, default=0)
    min_revision = violations.optional_number(request, "min_catalog_revision", low=0, high=2**63 - 1, default=0)
    return RematchRequest(
        objects=[
            _read_object(item, f"objects[{number}]", violations) for number, item in enumerate(request.objects[:most])
        ],
        options=MatchOptions(
            catalog=request.catalog,
            product_filter=request.product_filter if request.HasField("product_filter") else None,
            max_products=int(max_products),
            min_confidence=min_confidence,
            match_confidence=match_confidence if request.HasField("match_confidence") else None,
            min_revision=int(min_revision) if request.HasField("min_catalog_revision") else None,
        ),
        offers=read_offers(request.offers, settings, violations, prefix="offers."),
        asked_to_exclude=tuple(request.offers.excluded_categories),
    )


def _read_object(item: orchestrator_pb2.RematchObject, field: str, violations: Violations) -> SeenObject:
    state = item.state
    violations.check(len(item.object_id) <= _MAX_TEXT, f"{field}.object_id", f"must be at most {_MAX_TEXT} characters")
    if violations.check(item.HasField("state"), f"{field}.state", "must be set"):
        field = f"{field}.state"
        violations.check(
            state.version == REMATCH_VERSION,
            f"{field}.version",
            f"must be {REMATCH_VERSION}, and is {state.version}: annotate the video again",
        )
        violations.check(
            len(state.category) <= _MAX_TEXT, f"{field}.category", f"must be at most {_MAX_TEXT} characters"
        )
        violations.check(0 <= state.area <= 1, f"{field}.area", "must be in 0..1")
        violations.check(
            not state.withheld or state.withheld in _LASTING, f"{field}.withheld", "must be a lasting reason, or unset"
        )
        if violations.check(len(state.views) <= MAX_LOOKS, f"{field}.views", f"must be at most {MAX_LOOKS}"):
            for place, view in enumerate(state.views):
                _check_vector(view.values, f"{field}.views[{place}].values", violations)
                if view.colors:
                    _check_vector(view.colors, f"{field}.views[{place}].colors", violations)
    seen = violations.optional_duration(state, "seen", prefix=f"{field}.")
    return SeenObject(
        object_id=item.object_id,
        category=state.category,
        views=tuple(state.views),
        area=state.area,
        seen_s=seen.total_seconds() if seen else 0.0,
        withheld=_LASTING.get(state.withheld),
    )


def _check_vector(values: Sequence[float], field: str, violations: Violations) -> None:
    length = float(np.linalg.norm(np.fromiter(values, np.float64, len(values))))
    # Also NaN and infinity are no such length.
    violations.check(abs(length - 1) <= _LENGTH_TOLERANCE, field, f"must have length 1, and has {length:.4g}")


def write_rematch(results: Sequence[Rematched]) -> orchestrator_pb2.RematchProductsResponse:
    """Return the answer."""
    response = orchestrator_pb2.RematchProductsResponse(objects=map(_write_object, results))
    searched = next((item.match for item in results if item.match and not item.match.failure), None)
    if searched and searched.embedder:
        response.embedder.CopyFrom(searched.embedder)
        response.catalog_revision = searched.catalog_revision or 0
    return response


def _write_object(item: Rematched) -> orchestrator_pb2.RematchedObject:
    message = orchestrator_pb2.RematchedObject(
        object_id=item.object_id,
        withheld=item.withheld.value if item.withheld else common_pb2.WITHHELD_REASON_UNSPECIFIED,
    )
    write_match(item.match, message)
    return message
