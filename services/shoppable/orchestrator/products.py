"""Lists the products of a video, each once, whichever objects are it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shoppable.v1 import common_pb2, orchestrator_pb2, product_matcher_pb2

_MAX_PRODUCTS = 10_000
# A film without end must fill neither the memory nor the message.
_MAX_OBJECTS = 1_000  # of one product
_MAX_ENTRIES = 100_000  # ids and spans, of all products

_Span = tuple[int, int]  # nanoseconds, half-open


@dataclass
class _Found:
    title: str
    confidence: float = 0.0
    object_ids: list[str] = field(default_factory=list)
    spans: list[_Span] = field(default_factory=list)  # in order, apart from each other


class FoundProducts:
    """The products of the objects that were added."""

    def __init__(self) -> None:
        self._found: dict[str, _Found] = {}
        self._entries = 0

    def add(self, item: orchestrator_pb2.ShoppableObject) -> None:
        """Take in a final object; one that is no match changes nothing."""
        if item.decision != product_matcher_pb2.MATCH_DECISION_MATCH or not item.products:
            return
        product = item.products[0].product
        if product.name not in self._found and len(self._found) == _MAX_PRODUCTS:
            return
        if self._entries >= _MAX_ENTRIES:
            return
        found = self._found.setdefault(product.name, _Found(product.title))
        if len(found.object_ids) == _MAX_OBJECTS:
            return
        found.object_ids.append(item.object_id)
        found.confidence = max(found.confidence, item.confidence)
        spans = [(segment.start.ToNanoseconds(), segment.end.ToNanoseconds()) for segment in item.segments]
        joined = _union([*found.spans, *spans])
        self._entries += 1 + len(joined) - len(found.spans)
        found.spans = joined

    def listed(self) -> list[orchestrator_pb2.FoundProduct]:
        """Return the products in order of first appearance."""
        ordered = sorted(self._found.items(), key=lambda pair: (pair[1].spans[:1], pair[0]))
        return [
            orchestrator_pb2.FoundProduct(
                product=name,
                title=found.title,
                confidence=found.confidence,
                object_ids=found.object_ids,
                segments=[_segment(span) for span in found.spans],
            )
            for name, found in ordered
        ]


def _union(spans: Sequence[_Span]) -> list[_Span]:
    joined: list[_Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _segment(span: _Span) -> common_pb2.VideoSegment:
    segment = common_pb2.VideoSegment()
    segment.start.FromNanoseconds(span[0])
    segment.end.FromNanoseconds(span[1])
    return segment
