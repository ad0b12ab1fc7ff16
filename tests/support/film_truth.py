"""The sample film's ground truth, and how a list of objects compares to it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shoppable.client import box_at
from shoppable.v1 import common_pb2, orchestrator_pb2, product_matcher_pb2

_SEEN = 0.5  # visible share from which a product is counted as in the picture
_SAME_BOX = 0.5  # intersection over union


@dataclass(frozen=True)
class TrueProduct:
    """A product of the film: by frame time, its box where it is at least half visible."""

    product_id: str
    boxes: dict[float, common_pb2.BoundingBox]
    frame_s: float

    def seconds(self) -> float:
        return len(self.boxes) * self.frame_s


def read_truth(samples: Path) -> list[TrueProduct]:
    """Return the film's products."""
    truth = json.loads((samples / "ground_truth.json").read_text())
    width, height = truth["width"], truth["height"]
    products: dict[str, dict[float, common_pb2.BoundingBox]] = {}
    for frame in truth["frames"]:
        for seen in frame["products"]:
            if seen["visibility"] >= _SEEN:
                left, top, right, bottom = seen["box"]
                box = common_pb2.BoundingBox(
                    left=left / width, top=top / height, right=right / width, bottom=bottom / height
                )
                products.setdefault(seen["product_id"], {})[frame["frame"] / truth["fps"]] = box
    return [TrueProduct(name, boxes, 1 / truth["fps"]) for name, boxes in products.items()]


def seconds(duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def iou(one: common_pb2.BoundingBox, other: common_pb2.BoundingBox) -> float:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    both = max(0.0, width) * max(0.0, height)
    areas = sum((box.right - box.left) * (box.bottom - box.top) for box in (one, other))
    return both / (areas - both)


def object_of(
    product: TrueProduct, objects: Iterable[orchestrator_pb2.ShoppableObject]
) -> orchestrator_pb2.ShoppableObject | None:
    """Return the object that is the product: which lies on it in most frames, and in half of those that show itself."""

    def hits(found: orchestrator_pb2.ShoppableObject) -> int:
        boxes = ((box_at(found, time_s), truth) for time_s, truth in product.boxes.items())
        return sum(box is not None and iou(box, truth) >= _SAME_BOX for box, truth in boxes)

    best = max(objects, key=hits, default=None)
    if best is None:
        return None
    shown_s = sum(seconds(segment.end) - seconds(segment.start) for segment in best.segments)
    return best if hits(best) * product.frame_s >= shown_s / 2 else None


def overlap_in_time(product: TrueProduct, found: orchestrator_pb2.ShoppableObject) -> float:
    """Return intersection over union of the times when the product is there and when the object is said to be."""
    spans = [(seconds(segment.start), seconds(segment.end)) for segment in found.segments]
    said = sum(end - start for start, end in spans)
    both = sum(product.frame_s for time_s in product.boxes if any(start <= time_s < end for start, end in spans))
    return both / (said + product.seconds() - both)


@dataclass(frozen=True)
class Score:
    """How right a list is. `found` and `named` count products of the film; the others count what the list claims."""

    products: int
    found: int  # followed as one object
    ranked_first: int  # ... and the right product is its first
    named: int  # ... and called a match
    claims: int  # objects called a match
    wrong_claims: Sequence[str]

    @property
    def recall(self) -> float:
        return self.named / self.products

    @property
    def precision(self) -> float:
        return 1 - len(self.wrong_claims) / self.claims if self.claims else 1.0


def score(truth: Sequence[TrueProduct], objects: Sequence[orchestrator_pb2.ShoppableObject]) -> Score:
    """Compare a list with the truth."""
    claims = {
        item.object_id: item.products[0].product.name.rpartition("/")[2]
        for item in objects
        if item.decision == product_matcher_pb2.MATCH_DECISION_MATCH
    }
    pairs = [(product, object_of(product, objects)) for product in truth]
    right = {item.object_id: product.product_id for product, item in pairs if item}
    first = [
        item.object_id
        for product, item in pairs
        if item and item.products and item.products[0].product.name.endswith(f"/{product.product_id}")
    ]
    return Score(
        products=len(truth),
        found=len(right),
        ranked_first=len(first),
        named=sum(name in claims for name in first),
        claims=len(claims),
        wrong_claims=[f"{name} as {claim}" for name, claim in claims.items() if right.get(name) != claim],
    )
