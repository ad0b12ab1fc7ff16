"""What the orchestrator speaks of. Times are seconds from the video's start; boxes are normalised to 0..1."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from google.rpc import status_pb2

from shoppable.v1 import common_pb2, object_detector_pb2, product_catalog_pb2, product_matcher_pb2

Pixels = npt.NDArray[np.uint8]  # [height, width, 3], RGB
Vector = npt.NDArray[np.float32]  # [n], of length 1
Region: TypeAlias = object_detector_pb2.ApparelRegion.ValueType


class Box(NamedTuple):
    """A box; the origin is the frame's top left corner."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Share of the frame that it covers, 0..1."""
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def intersection(self, other: "Box") -> float:
        """Return the area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    @property
    def centre(self) -> tuple[float, float]:
        """Its middle."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def distance(self, other: "Box") -> float:
        """Return how far the middles are from each other, in frame widths and heights, 0..1.42."""
        (x, y), (other_x, other_y) = self.centre, other.centre
        return math.hypot(other_x - x, other_y - y)

    def iou(self, other: "Box") -> float:
        """Return intersection over union, 0..1."""
        both = self.intersection(other)
        union = self.area + other.area - both
        return both / union if union > 0 else 0.0


@dataclass(frozen=True)
class Derivation:
    """Whence comes a detection that no model made: where a garment is on a person, told from the person's box."""

    region: Region
    label: str  # of the person
    box: Box  # of the person


@dataclass(frozen=True)
class Detection:
    """An object seen in one frame, or derived from one."""

    label: str
    category: str
    box: Box
    score: float  # 0..1
    derivation: Derivation | None = None  # None: a model saw it


@dataclass(frozen=True)
class Frame:
    """A sampled frame; `image` goes on to the detector as it came."""

    index: int
    time_s: float
    image: common_pb2.Image
    scene_cut: bool


@dataclass(frozen=True)
class DecodeSummary:
    """How decoding ended."""

    damaged_packets: int
    truncated: bool
    end_s: float | None


@dataclass(frozen=True)
class DetectedFrame:
    """A frame with what was found in it, or with why nothing could be looked for."""

    frame: Frame
    detections: Sequence[Detection]
    failure: status_pb2.Status | None = None


@dataclass(frozen=True)
class Worn:
    """Where a derived object is worn, and on whom."""

    region: Region
    label: str  # of the person
    person_id: str  # within the answer


class Observation(NamedTuple):
    """One sighting of an object."""

    time_s: float
    box: Box
    score: float
    label: str


@dataclass(frozen=True)
class View:
    """A good look at an object."""

    time_s: float
    box: Box
    crop: Pixels
    quality: float  # 0..1, comparable within one object only


class Decision(Enum):
    """What can be said of a thing; the values are the contract's."""

    MATCH = product_matcher_pb2.MATCH_DECISION_MATCH
    SIMILAR = product_matcher_pb2.MATCH_DECISION_SIMILAR
    NO_MATCH = product_matcher_pb2.MATCH_DECISION_NO_MATCH


@dataclass(frozen=True)
class MatchOutcome:
    """What the matcher said of one thing.

    Product matches stay messages: the orchestrator ranks and passes them on, and reads little of them.
    """

    products: Sequence[product_matcher_pb2.ProductMatch] = ()
    decision: Decision | None = None
    embeddings: Sequence[product_matcher_pb2.Embedding] = ()
    failure: status_pb2.Status | None = None
    catalog_revision: int | None = None
    embedder: common_pb2.ModelVersion | None = None

    @property
    def best_product(self) -> str | None:
        """Name of the first product if it is a MATCH."""
        return self.products[0].product.name if self.products and self.decision is Decision.MATCH else None

    @property
    def confidence(self) -> float | None:
        """Probability that the first product is right, 0 without one; None if the matching failed."""
        if self.failure is not None:
            return None
        return self.products[0].confidence if self.products else 0.0


@dataclass(frozen=True)
class Segment:
    """A span of time, half-open."""

    start_s: float
    end_s: float


class Withheld(Enum):
    """Why a thing is offered nothing; the values are the contract's."""

    OPTED_OUT = common_pb2.WITHHELD_REASON_OPTED_OUT
    EXCLUDED_CATEGORY = common_pb2.WITHHELD_REASON_EXCLUDED_CATEGORY
    SENSITIVE_CONTENT = common_pb2.WITHHELD_REASON_SENSITIVE_CONTENT
    UNCLASSIFIED_CONTENT = common_pb2.WITHHELD_REASON_UNCLASSIFIED_CONTENT
    TOO_LITTLE_SEEN = common_pb2.WITHHELD_REASON_TOO_LITTLE_SEEN


@dataclass(frozen=True)
class SensitiveRange:
    """A span in which nothing is offered; no score if no frame of it could be judged."""

    segment: Segment
    reason: Withheld
    score: float | None


@dataclass(frozen=True)
class OfferPolicy:
    """What may be offered; the operator's part and the caller's taken together."""

    opt_out: bool = False
    excluded_categories: frozenset[str] = frozenset()
    min_area: float = 0.0  # share of the frame
    min_seen_s: float = 0.0


@dataclass(frozen=True)
class MatchOptions:
    """What is wanted of the matcher."""

    catalog: str
    product_filter: product_catalog_pb2.ProductFilter | None = None
    max_products: int = 5
    min_confidence: float = 0.0
    match_confidence: float | None = None
    min_revision: int | None = None


@dataclass(frozen=True)
class Options:
    """What is wanted of a video, with defaults filled in."""

    sampling: common_pb2.FrameSampling
    start_s: float | None = None
    end_s: float | None = None
    longest_side: int = 640
    detection_models: Sequence[str] = ()
    min_detection_score: float | None = None
    derive_apparel: bool = False
    categories: Sequence[str] = ()
    max_objects: int | None = None
    matching: MatchOptions | None = None  # None: objects are found and not matched
    thumbnails: bool = True
    provisional: bool = False
    offers: OfferPolicy = OfferPolicy()
    asked_to_exclude: Sequence[str] = ()  # the caller's own part of offers.excluded_categories
    rematch_state: bool = False
    max_lag_s: float | None = None  # of a live stream; None: all frames are looked at
    timeout_s: float | None = None  # for the whole if the caller sets no deadline; None: the settings'
    box_tolerance: float = 0.01  # share of the frame, see `thinning`
    min_object_confidence: float | None = None


@dataclass(frozen=True)
class FoundObject:
    """A thing in the video, as it is reported."""

    object_id: str
    label: str
    category: str
    detection_score: float
    segments: Sequence[Segment]
    observations: Sequence[Observation]  # those that are kept: between them lie straight lines
    best_view: View
    match: MatchOutcome | None
    final: bool
    withheld: Withheld | None = None
    supersedes: Sequence[str] = ()
    worn: Worn | None = None  # None: a model saw it


@dataclass(frozen=True)
class Progress:
    """How far the work is."""

    time_s: float
    fraction: float | None
    frames_sampled: int
    frames_detected: int
    objects_final: int
    frames_dropped: int = 0
    segments_matched: int = 0


@dataclass(frozen=True)
class StageTiming:
    """Where the time went in one stage."""

    stage: str
    busy_s: float
    items: int
    failed: int


@dataclass(frozen=True)
class Summary:
    """How the work went."""

    video: common_pb2.VideoInfo
    frames_sampled: int
    frames_failed: int
    objects: int
    objects_unmatched: int
    decoding: DecodeSummary
    detection_models: Sequence[common_pb2.ModelVersion]
    embedder: common_pb2.ModelVersion | None
    catalog_revision: int | None
    elapsed_s: float
    stages: Sequence[StageTiming]
    failures: Sequence[status_pb2.Status] = field(default=())
    objects_withheld: int = 0
    sensitive_ranges: Sequence[SensitiveRange] = ()
    opted_out: bool = False
    frames_dropped: int = 0
    objects_left_out: int = 0


Event = common_pb2.VideoInfo | Progress | FoundObject | Summary
