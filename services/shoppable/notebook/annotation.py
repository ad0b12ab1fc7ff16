"""What a notebook gets: the answer as messages, as rows for a table, and as pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shoppable.notebook import picture
from shoppable.v1 import product_matcher_pb2

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from PIL.Image import Image

    from shoppable.v1 import orchestrator_pb2

Value = str | float | int | bool | None


@dataclass(frozen=True)
class Annotation:
    """The shoppable objects of a video.

    Attributes:
        response: All of the answer.
        video: What was annotated.
    """

    response: orchestrator_pb2.AnnotateVideoResponse = field(repr=False)
    video: Path | str
    _decoder: Callable[[], str] = field(repr=False)  # where to ask for frames

    @property
    def objects(self) -> Sequence[orchestrator_pb2.ShoppableObject]:
        """The objects, in order of their first appearance."""
        return self.response.objects

    @property
    def summary(self) -> orchestrator_pb2.AnnotateSummary:
        """How it went."""
        return self.response.summary

    def to_records(self) -> list[dict[str, Value]]:
        """Return a row for each object, for `pandas.DataFrame` and the like.

        Times are in seconds. `product`, its id, brand, price and currency are those of the surest product, and None
        where no product of the catalogue is good enough; `decision` is "match", "similar", "no_match", or None if
        nothing was asked for or the matching failed.
        """
        return [_record(item) for item in self.objects]

    def show(self, time: float | None = None) -> Image:
        """Return the picture at a time, in seconds, with the objects and their products drawn in.

        Args:
            time: From the video's start; default the moment at which the most objects can be seen.

        Raises:
            ValueError: The video has no frame there.
            ShoppableError: The video cannot be read again.
        """
        moment = picture.busiest(self.objects) if time is None else time
        return picture.draw(picture.frame_at(self._decoder(), self.video, moment), self.objects, moment)


def _record(item: orchestrator_pb2.ShoppableObject) -> dict[str, Value]:
    decision = product_matcher_pb2.MatchDecision.Name(item.decision).removeprefix("MATCH_DECISION_").lower()
    named = item.decision in (product_matcher_pb2.MATCH_DECISION_MATCH, product_matcher_pb2.MATCH_DECISION_SIMILAR)
    product = item.products[0].product if named and item.products else None
    priced = product is not None and product.HasField("price")
    return {
        "object_id": item.object_id,
        "label": item.label,
        "category": item.category,
        "start_s": _seconds(item.segments[0].start) if item.segments else None,
        "end_s": _seconds(item.segments[-1].end) if item.segments else None,
        "segments": len(item.segments),
        "detection_score": item.detection_score,
        "decision": None if decision == "unspecified" else decision,
        "confidence": item.confidence if item.HasField("confidence") else None,
        "product_id": product.name.rpartition("/")[2] if product else None,
        "product": product.title if product else None,
        "brand": product.brand if product else None,
        "price": product.price.units + product.price.nanos / 1e9 if product and priced else None,
        "currency": product.price.currency_code if product and priced else None,
        "url": product.uri if product else None,
    }


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
