"""Finds the products of objects again, by what an earlier answer carried: no decoding, no detection, no inference."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from shoppable.orchestrator.domain import MatchOptions, MatchOutcome, OfferPolicy, Withheld
from shoppable.orchestrator.offers import OfferGate
from shoppable.orchestrator.ports import ObjectDetector, ProductMatcher
from shoppable.runtime.errors import FailedPreconditionError, to_status
from shoppable.runtime.validation import Violations
from shoppable.v1 import common_pb2, product_matcher_pb2

_NO_VIEWS = to_status(
    FailedPreconditionError(
        "no view of this object was embedded when the video was annotated: annotate it again", reason="NO_VIEWS"
    )
)


@dataclass(frozen=True)
class SeenObject:
    """What is known of an object of an earlier answer."""

    object_id: str
    category: str
    views: Sequence[product_matcher_pb2.Embedding]
    area: float  # share of the frame
    seen_s: float
    withheld: Withheld | None


@dataclass(frozen=True)
class Rematched:
    """What the object may be now."""

    object_id: str
    match: MatchOutcome | None
    withheld: Withheld | None


@dataclass(frozen=True)
class RematchRequest:
    """Objects and what is wanted of them."""

    objects: Sequence[SeenObject]
    options: MatchOptions
    offers: OfferPolicy
    asked_to_exclude: Sequence[str] = ()


class Rematcher:
    """The use case."""

    def __init__(self, detector: ObjectDetector, matcher: ProductMatcher, *, at_a_time: int) -> None:
        self._detector = detector
        self._matcher = matcher
        self._at_a_time = at_a_time

    async def rematch(self, request: RematchRequest) -> list[Rematched]:
        """Return a result for each object, in their order.

        Raises:
            InvalidRequestError: A category, filter or view cannot be used.
            FailedPreconditionError: The views are another embedder's.
            ServiceError: The matcher or its catalogue cannot be used.
        """
        if request.asked_to_exclude:
            await self._check_categories(request.asked_to_exclude)
        gate = OfferGate(request.offers)
        withheld = [
            item.withheld or gate.before_matching(item.category, ()) or gate.too_little(item.area, item.seen_s)
            for item in request.objects
        ]
        wanted = [item for item, reason in zip(request.objects, withheld, strict=True) if reason is None]
        if wanted:
            await self._matcher.check(request.options)
            await self._check_views(request)
        slots = asyncio.Semaphore(self._at_a_time)

        async def one(item: SeenObject, reason: Withheld | None) -> Rematched:
            if reason is not None:
                return Rematched(item.object_id, None, reason)
            if not item.views:
                return Rematched(item.object_id, MatchOutcome(failure=_NO_VIEWS), None)
            async with slots:
                return Rematched(
                    item.object_id, await self._matcher.match(item.views, item.category, request.options), None
                )

        # A task group cancels the rest if one finds that the catalogue is gone, or the caller is.
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(one(item, reason)) for item, reason in zip(request.objects, withheld, strict=True)
                ]
        except* Exception as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _check_categories(self, names: Sequence[str]) -> None:
        known = await self._detector.categories()
        violations = Violations()
        for index, name in enumerate(names):
            field = f"offers.excluded_categories[{index}]"
            violations.check(name in known, field, f"must be one of {', '.join(sorted(known))}")
        violations.raise_if_any()

    async def _check_views(self, request: RematchRequest) -> None:
        model, size = await self._matcher.embedder(request.options.catalog)
        violations = Violations()
        for number, item in enumerate(request.objects):
            for place, view in enumerate(item.views):
                if view.model != model:
                    raise _other_embedder(view.model, model)
                field = f"objects[{number}].state.views[{place}].values"
                violations.check(len(view.values) == size, field, f"must be {size} numbers, and is {len(view.values)}")
        violations.raise_if_any()


def _other_embedder(theirs: common_pb2.ModelVersion, ours: common_pb2.ModelVersion) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"the objects were embedded by {theirs.name} version {theirs.version}, and the catalogue by {ours.name} version"
        f" {ours.version}: annotate the video again",
        reason="EMBEDDER_MISMATCH",
        metadata={"embedder": f"{theirs.name}/{theirs.version}", "catalog_embedder": f"{ours.name}/{ours.version}"},
    )
