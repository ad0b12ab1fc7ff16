"""What is looked for and what is found, in the detector's own terms."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from shoppable.detector.apparel import Region
from shoppable.detector.boxes import Boxes, Floats, Indices, Mask

DEFAULT_MAX_DETECTIONS = 100


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a model proposes for one picture.

    Attributes:
        boxes: [N, 4]; whether in pixels of the input or in shares of the picture, the user says.
        scores: [N], 0..1.
        classes: [N], indices of the model's labels.
    """

    boxes: Boxes
    scores: Floats
    classes: Indices

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: Mask | Indices) -> Self:
        """Return those that a mask or a list of indices chooses."""
        return type(self)(self.boxes[chosen], self.scores[chosen], self.classes[chosen])


@dataclass(frozen=True, slots=True)
class Derivation:
    """What a detection was derived from."""

    region: Region
    label: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Detection:
    """One thing in one picture."""

    label: str
    category: str  # empty if not for sale
    for_sale: bool
    box: tuple[float, float, float, float]  # left, top, right, bottom as shares of the picture
    score: float  # 0..1; of this model only: scores of different models are on different scales
    model: str
    kind: str = ""  # as the taxonomy says
    derivation: Derivation | None = None  # None: a model saw it


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """What a caller asks for; the defaults are the contract's."""

    models: tuple[str, ...] = ()  # empty: all
    min_score: float | None = None  # None: each model's own
    categories: frozenset[str] = field(default_factory=frozenset)  # with all that are a part of them; empty: all
    include_not_for_sale: bool = False
    max_detections: int = DEFAULT_MAX_DETECTIONS
    derive_apparel_regions: bool = False
    model_versions: Mapping[str, str] = field(default_factory=dict)  # by model; those not named: the newest

    def wants(self, category: str, *, for_sale: bool) -> bool:
        """Whether things of this category are to be returned."""
        if not for_sale:
            return self.include_not_for_sale
        return not self.categories or category in self.categories
