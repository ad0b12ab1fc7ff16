"""What each model takes and gives: the contract that the services and the Triton configs rely on."""

from __future__ import annotations

from dataclasses import dataclass

INPUT_NAME = "images"


@dataclass(frozen=True)
class ModelContract:
    """Names and shapes of one model.

    The input is always `images`, UINT8 [N, input_size_px, input_size_px, 3], RGB; the output is FP32
    [N, *output_shape]. N is free, and a batch gives what its images give one by one.
    """

    name: str
    input_size_px: int
    output_name: str
    output_shape: tuple[int, ...]
    # Detectors see the whole frame with its aspect kept, centred on black; embedders a crop stretched to the square.
    letterboxed: bool

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The input's shape without the batch."""
        return (self.input_size_px, self.input_size_px, 3)


@dataclass(frozen=True)
class DetectorContract(ModelContract):
    """A detector's output is `candidates`, [N, K, 6], best first and not yet suppressed.

    A row is x1, y1, x2, y2 in pixels of the input, the score (0..1) and the class id (0..classes-1).
    """

    classes: int

    @property
    def candidates(self) -> int:
        """K: how many rows an image gets, always; weak rows fill up what is left."""
        return self.output_shape[0]


@dataclass(frozen=True)
class EmbedderContract(ModelContract):
    """An embedder's output is `embeddings`, [N, D], of L2 norm 1."""

    @property
    def width(self) -> int:
        """D: the length of an embedding."""
        return self.output_shape[0]


# Classes: the 80 of COCO, in COCO's order without the gaps.
DETECTOR_COCO = DetectorContract(
    name="detector_coco",
    input_size_px=512,
    output_name="candidates",
    output_shape=(100, 6),
    letterboxed=True,
    classes=80,
)

# Classes: the label map in the source package, in its order, without the background entry that opens it.
DETECTOR_WEARABLES = DetectorContract(
    name="detector_wearables",
    input_size_px=300,
    output_name="candidates",
    output_shape=(100, 6),
    letterboxed=True,
    classes=23,
)

# 1280: the Lite family keeps the head of EfficientNet-B0 at every size; 1408 is the width of EfficientNet-B2.
EMBEDDER = EmbedderContract(
    name="embedder",
    input_size_px=260,
    output_name="embeddings",
    output_shape=(1280,),
    letterboxed=False,
)
